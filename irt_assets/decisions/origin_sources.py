"""Sources of a scale's anchors: the bank's own parameters, or the answers of one window.

Reads or fits the anchors and rejects sources that cannot be used; `origin` writes them.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa

from irt_assets.calibration.request import FitRequest, build_fit_request, calibrate, fit_spec_extras
from irt_assets.common.wording import some_of
from irt_assets.engines import Calibrator
from irt_assets.gates import gates, model_gates
from irt_assets.gates.evidence import Evidence
from irt_assets.ledger import fits
from irt_assets.ledger.anchors import Anchors, Topics
from irt_assets.ledger.fit_spec import StagedSpec
from irt_assets.responses.proposed_window import proposed_window
from irt_assets.responses.scored_answers import judge_before
from irt_assets.responses.snapshot import CALIBRATION_COLUMNS, Snapshot, columns_with_scores, store_attempts
from irt_assets.responses.stored_window import share_for_run
from irt_assets.responses.window import without_ids
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import BreakdownError, Calibration, ItemParameters
from irt_psychometrics.items import MAX_SCORE, ItemRow, ScaleModel
from resources.cluster.relational import on_postgres
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore, key_part
from resources.postgres.database import Database
from resources.version import code_version


@dataclass(frozen=True, kw_only=True)
class OriginAnchors:
    """The anchors of an origin.

    Attributes:
        assumed: anchors whose errors are unknown and assumed.
        left_out: items that cannot be anchors, with the reasons.
        fit_id: fit of the origin window; "" if the origin is the bank.
    """

    anchors: Anchors
    left_out: dict[str, str]
    topics: Topics = field(default_factory=dict)
    assumed: Collection[str] = frozenset()
    fit_id: str = ""


def bank_anchors(connection: psycopg.Connection, scale_id: str) -> OriginAnchors:
    """Read the anchors of a scale from the bank: the items tagged `anchor` with usable parameters.

    Raises PermanentFailure if there are none.
    """
    rows = connection.execute(
        """SELECT item_id, topic_id, meta->'irt' FROM question
           WHERE scale_id = %s AND meta->'tags' @> '["anchor"]'::jsonb ORDER BY 1""",
        (scale_id,),
    ).fetchall()
    usable: Anchors = {}
    topics: Topics = {}
    assumed: set[str] = set()
    left_out: dict[str, str] = {}
    for item, topic, irt in rows:
        if not irt or irt.get("a") is None or irt.get("b") is None:
            left_out[item] = "tagged anchor, but its meta.irt has no a and b"
            continue
        try:
            values, is_assumed = _convert_metric(irt)
        except (TypeError, ValueError) as error:
            left_out[item] = f"its meta.irt is not a set of numbers ({error})"
            continue
        if problem := _anchor_problem(values):
            left_out[item] = problem
            continue
        usable[item] = values
        topics[item] = topic
        if is_assumed:
            assumed.add(item)
    if not usable:
        raise PermanentFailure(
            f"scale {scale_id} has no anchor with parameters ({len(rows)} items are tagged). Either tag items with "
            "\"anchor\" in question.meta->'tags' and give them meta->'irt' {a, b, …} (`irt import questions FILE`), "
            "or declare a window its origin: `irt scale init --origin 2026-07`"
        )
    return OriginAnchors(anchors=usable, topics=topics, assumed=assumed, left_out=left_out)


def _convert_metric(irt: dict[str, Any]) -> tuple[ItemRow, bool]:
    """The item's parameters with D = 1, and whether its errors are assumed."""
    names = ("a", "b", "c", "a_se", "b_se", "cov_ab")
    own = {name: float(irt[name]) for name in names if irt.get(name) is not None} | _score_parameters(irt)
    own = {"c": 0.0, "cov_ab": 0.0} | ItemRow.in_metric(own, float(irt.get("D") or 1.0))
    a, b, c = own["a"], own["b"], own["c"]
    further = {name: x for name, x in own.items() if name not in names}
    if "a_se" in own and "b_se" in own:
        return ItemRow(a, b, c, own["a_se"], own["b_se"], own["cov_ab"], further=further), False
    if not (a > 0 and 0 <= c < 1):
        return ItemRow(a, b, c, 0.0, 0.0, 0.0), True
    with np.errstate(invalid="ignore"):  # far from all learners P(1 − P) is 0, and errors are not finite
        item = ItemParameters.from_rows([""], [ItemRow(a, b, c, further=further)]).with_assumed_errors()
        errors = (float(x[0]) for x in (item.a_se, item.b_se, item.cov_ab))
        return ItemRow(a, b, c, *errors, further=further), True


def _score_parameters(irt: Mapping[str, Any]) -> dict[str, float]:
    """A scored item's parameters besides a and b, as in `ItemModel.stored_values`.

    Raises ValueError if they are incomplete.
    """
    most = int(irt.get("max_score") or 1)
    if most == 1:
        return {}
    if not 1 < most <= MAX_SCORE:
        raise ValueError(f"max_score is {most}, but items are scored up to {MAX_SCORE}")
    prefix = "w" if irt.get("model") == "grm" else "t"
    names = [f"{prefix}{k}" for k in range(most + 1)]
    known = {name: float(irt[name]) for name in names if irt.get(name) is not None}
    ends = [*known.values()][:1] + [*known.values()][-1:]
    if len(known) < 2 or any(abs(x) > 1e-9 for x in ends):
        raise ValueError(
            f"it is scored 0 to {most} and needs {names[0]} to {names[-1]} as well as a and b. Scores that nobody got "
            f"have no {prefix}, and the lowest and the highest score have {prefix} = 0"
        )
    errors = {f"{name}_se": float(irt[f"{name}_se"]) for name in known if irt.get(f"{name}_se") is not None}
    return {"max_score": float(most)} | known | errors


def _anchor_problem(item: ItemRow) -> str | None:
    """The reason why months cannot be linked to such an anchor. Returns None if they can."""
    a, b, c, a_se, b_se, cov_ab = item.with_errors
    if not a > 0:
        return f"a = {a:g} is not positive"
    if not 0 <= c < 1:
        return f"c = {c:g} is outside [0, 1)"
    if not np.isfinite([a, b, a_se, b_se, cov_ab]).all():
        return f"a = {a:g} and b = {b:g} carry no information on learners θ ~ N(0, 1), so it has no finite errors"
    if a_se < 0 or b_se <= 0:
        return f"its standard errors a_se = {a_se:g}, b_se = {b_se:g} are not positive"
    if cov_ab and abs(cov_ab) >= a_se * b_se:
        return f"cov_ab = {cov_ab:g} is not a covariance of a_se = {a_se:g} and b_se = {b_se:g}"
    return None


def require_guessing(scale_id: str, guessing: Mapping[str, float]) -> None:
    """Raise PermanentFailure if an anchor of the bank (item → c) has c = 0, as a 3PL cannot be linked to it."""
    if without := sorted(item for item, c in guessing.items() if c <= 0):
        raise PermanentFailure(
            f"{len(without)} of the {len(guessing)} anchors of scale {scale_id} have c = 0 in the bank "
            f"({some_of(without, 5)}): a 3PL month cannot be linked to values of "
            f"a model without guessing. {REMEDIES.format(scale=scale_id)}"
        )


REMEDIES = (
    "Make a scale of its own whose origin is a window (`irt scale init --scale NEW --model 3pl --origin 2026-07`), or "
    "keep the model and accept that learners guess (`irt scale accept guessing --scale {scale} --by NAME --reason …`)"
)


@dataclass(frozen=True)
class OriginWindow:
    """The period whose answers define a scale, the engine that fits them, and the store for their snapshot."""

    start: datetime
    end: datetime
    engine: Calibrator
    store: ObjectStore


@dataclass(frozen=True)
class WindowSnapshot:
    """The stored answers of an origin window.

    Attributes:
        uri: the file.
        digest: SHA-256 of the file.
        data_hash: hash of the answers.
    """

    uri: str
    digest: str
    data_hash: str


@dataclass(frozen=True)
class FittedWindow:
    """A window's fit and the snapshot of its answers, before they are written to the database."""

    calibration: Calibration
    spec_extras: StagedSpec
    snapshot: WindowSnapshot


def fit_window(
    database: Database, scale_id: str, window: OriginWindow, rules: Rules, model: ScaleModel
) -> FittedWindow:
    """Read the window's answers, store them, and fit them.

    No transaction is open while the engine runs, and only the responses are in memory. If the fit fails, the snapshot
    is pruned later like any snapshot without a fit. Raises PermanentFailure if the scale has no items, if the window
    has too many attempts or no scored response, if the fit does not converge, or if a set gate fails.
    """
    with database.connect() as connection:
        scales = read_scales(connection)
        if scale_id not in scales:
            raise PermanentFailure(
                f"no item belongs to scale {scale_id}; the bank has: {', '.join(scales) or 'no items'}"
            )
        scale = replace(scales[scale_id], rules=rules, model=model)
        if share_for_run(on_postgres(connection), database.settings.most_for_run, window.start, window.end) < 1:
            raise PermanentFailure(
                f"the window {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d} has more attempts than a run reads, "
                f"{database.settings.most_for_run:,}: name fewer days (`--origin FROM:TO`)"
            )
        judged = proposed_window(connection, window.start, window.end, scales | {scale_id: scale})
        judgement = judged.judgements[scale_id]
        counts = {str(reason): n for reason, n in judgement.counts.items()}
        if judgement.n_responses == 0:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts.items() if n) or "no attempts"
            most = max(judged.left_out[scale_id].values(), default=0)
            least = rules.eligibility.min_fitted_responses
            few = f" Items have at most {most} responses each, and are fitted from {least} on."
            raise PermanentFailure(
                f"the window {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d} has no scored response on scale "
                f"{scale_id} ({reasons}), so it cannot be its origin.{few if most else ''} Name another window "
                "(`irt scale init --origin`), or a smaller minimum (`irt scale init --set min_responses=…`)"
            )
    uri, digest = store_attempts(window.store, f"origin/{key_part(scale_id)}", without_ids(judged.table))
    table = judged.table.select(columns_with_scores(judged.table.column_names, CALIBRATION_COLUMNS))
    snapshot = WindowSnapshot(uri, digest, judged.data_hash)
    del judged
    pa.default_memory_pool().release_unused()
    judge_before(database, window.start, {scale_id: scale})
    with database.connect() as connection:
        request = build_fit_request(connection, table, scale, window.start, None)
    del table
    pa.default_memory_pool().release_unused()
    fitted = fit_origin(window.engine, request, snapshot)
    _require_gates(window, scale, fitted, counts)
    return fitted


def _require_gates(window: OriginWindow, scale: Scale, fitted: FittedWindow, counts: Mapping[str, int]) -> None:
    """Raise PermanentFailure if one of three set gates would hold a month with these answers.

    The gates test rejected answers, convergence and dimensionality. Guessing and misfit do not prevent an origin; they
    hold the scale's months until somebody decides.
    """
    name = f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
    kept, n = fitted.snapshot, sum(counts.values())
    snapshot = Snapshot(name, kept.digest, kept.uri, kept.data_hash, n, {scale.scale_id: dict(counts)}, {})
    calibration, now = fitted.calibration, datetime.now(UTC)
    staged = fits.StagedFit(
        fit_id="",
        month=name,
        scale_id=scale.scale_id,
        engine=calibration.engine,
        snapshot_hash=kept.digest,
        spec=fitted.spec_extras,
        code_version=code_version(),
        fitted_at=now,
    )
    evidence = Evidence(month=name, scale=scale, snapshot=snapshot, staged=staged, calibration=calibration)
    for judge in (gates.few_answers_are_rejected, gates.converged, model_gates.one_dimension):
        verdict = judge(evidence)
        if not verdict.passed:
            raise PermanentFailure(
                f"the window {name} cannot be the origin of scale {scale.scale_id}, whose months would be held for "
                f"the same reason ({judge.__name__}): {verdict.why}. Name another window (`irt scale init --origin`), "
                "or another rule (`irt scale init --set`)"
            )


def fit_origin(engine: Calibrator, request: FitRequest, snapshot: WindowSnapshot) -> FittedWindow:
    """Fit an origin window, and transform the fit so that its learners have a mean θ of 0 and an SD of 1.

    Raises PermanentFailure if the fit does not converge, and PsychometricsError if the engine cannot fit the window.
    """
    scale_id = request.scale.scale_id
    with BreakdownError.explain(f"the origin window of scale {scale_id} could not be fitted"):
        made = calibrate(engine, request, snapshot.data_hash)
        calibration = made.calibration
        c = calibration.convergence
        if not c.converged:
            raise PermanentFailure(f"the origin window of scale {scale_id} did not converge: {c.reason}")
        kept = fits.model_spec(request.scale) | fit_spec_extras(request, made)
    if (calibration.latent_mean, calibration.latent_sd) != (0.0, 1.0):  # a Rasch model's SD is free
        slope = 1 / calibration.latent_sd
        calibration = calibration.rescaled(slope, -slope * calibration.latent_mean)
    return FittedWindow(calibration, kept, snapshot)
