"""The origin of a scale: its frozen anchor set, and `initialise`, which is the only thing that makes one.

A scale starts from the bank's own parameters on the items tagged `anchor`, or from one window that is
declared its origin. Both publish their values with the rule `origin` from the first month on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import numpy as np
import psycopg
from psycopg.rows import dict_row

from irt_assets.calibration import fits, gates, model_gates
from irt_assets.calibration.evidence import Evidence
from irt_assets.calibration.misfit import eigenvalue_ratio, misfit_in_words
from irt_assets.calibration.request import FitRequest, build_fit_request, calibrate, fit_spec_extras
from irt_assets.engines import Calibrator
from irt_assets.engines.registry import installed
from irt_assets.partitions import month_bounds
from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.errors import breakdowns_explained
from irt_assets.psychometrics.core.models import Calibration, Floats
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.fit.misfit import LARGEST_RATIO
from irt_assets.psychometrics.linking.linking import assumed_errors, covariance_ab
from irt_assets.responses.scales import ASSIGNMENT, Scale, kept_in_thresholds, read_scales, rules_from_settings
from irt_assets.responses.snapshot import Snapshot, store_attempts
from irt_assets.responses.window import judged_window, scored_responses_of
from irt_assets.wording import some_of
from resources.database import Database, advisory_lock
from resources.failures import PermanentFailure
from resources.object_store import ObjectStore
from resources.settings import get_settings
from resources.version import code_version

MOST_WITH_COVARIANCES = 300
"""Anchors of a set that is kept with all their covariances: 360,000 numbers."""
_COLUMNS = ("a", "b", "c", "a_se", "b_se", "cov_ab")
AnchorValues = tuple[float, float, float, float, float, float]
Anchors = dict[str, AnchorValues]
Topics = dict[str, str | None]


@dataclass(frozen=True)
class OriginWindow:
    """The time whose answers define a scale, what fits them, and where their snapshot is kept."""

    start: datetime
    end: datetime
    engine: Calibrator
    store: ObjectStore


@dataclass(frozen=True)
class Origin:
    """What initialising a scale did.

    Attributes:
        with_guessing: anchors of the bank with c > 0 on a scale without guessing.
        shape: of an origin window, what em took for the distribution of θ and why; None where nothing judged it.
        guessing: whether learners of the origin window guess, on a scale without guessing.
        misfit: of an origin window, what of its answers does not follow the model, a sentence on each statistic.
        misfit_holds: whether that has to be accepted before a month is green.
    """

    scale_id: str
    anchors: int
    published: int
    errors_assumed: int
    left_out: dict[str, str]
    with_guessing: int = 0
    shape: str | None = None
    guessing: bool = False
    misfit: tuple[str, ...] = ()
    misfit_holds: bool = False


def read_anchors(connection: psycopg.Connection, scale_id: str, version: int) -> AnchorSet | None:
    """The frozen anchors of a scale; None where it has not been initialised."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT * FROM anchor_set WHERE scale_id = %s AND version = %s ORDER BY item_id", (scale_id, version)
        ).fetchall()
    return _anchor_set(scale_id, rows)


def read_every_anchor(connection: psycopg.Connection, scale_id: str, version: int) -> AnchorSet | None:
    """The anchors of all versions of the set up to `version`, each with its newest values; None where the scale has not
    been initialised."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            """SELECT DISTINCT ON (item_id) * FROM anchor_set WHERE scale_id = %s AND version <= %s
               ORDER BY item_id, version DESC""",
            (scale_id, version),
        ).fetchall()
    return _anchor_set(scale_id, rows)


def _anchor_set(scale_id: str, rows: list[dict[str, Any]]) -> AnchorSet | None:
    if not rows:
        return None
    return AnchorSet(
        scale_id=scale_id,
        version=str(max(row["version"] for row in rows)),
        item_ids=tuple(row["item_id"] for row in rows),
        topics=tuple(row["topic_id"] for row in rows),
        errors_assumed=np.array([row["errors_assumed"] for row in rows]),
        cov=_joint(rows),
        **{name: np.array([row[name] for row in rows], dtype=float) for name in _COLUMNS},
    )


def _joint(rows: list[dict[str, Any]]) -> Floats | None:
    """Shape (2K, 2K): covariance of all anchors' (a, b), 0 between those of two fits; None where any has none."""
    if any(row["cov"] is None for row in rows):
        return None
    joint = np.zeros((len(rows), 2, len(rows), 2))
    for j, one in enumerate(rows):
        for k, other in enumerate(rows):
            if one["version"] == other["version"] and other["item_id"] in one["cov"]:
                joint[j, :, k] = np.reshape(one["cov"][other["item_id"]], (2, 2))
    return joint.reshape(2 * len(rows), 2 * len(rows))


def covariances(fit: Calibration, items: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """The covariance of (a, b) of each of `items` with each other, row by row, as `anchor_set.cov` keeps it.

    Empty where the fit has no joint covariance, and for more than MOST_WITH_COVARIANCES items.
    """
    if fit.joint_cov is None or len(items) > MOST_WITH_COVARIANCES:
        return {}
    place = {item: j for j, item in enumerate(fit.item_ids)}
    blocks = covariance_ab(fit.select([place[item] for item in items])).reshape(len(items), 2, len(items), 2)
    return {
        one: {other: blocks[j, :, k].ravel().tolist() for k, other in enumerate(items)} for j, one in enumerate(items)
    }


def hash_of_anchors(anchors: Mapping[str, Sequence[float]]) -> str:
    """The hash of item → (a, b, c, a_se, b_se, cov_ab), whatever their order."""
    return hashlib.sha256(json.dumps(anchors, sort_keys=True).encode()).hexdigest()


def anchor_hash(connection: psycopg.Connection, scale_id: str, version: int) -> str | None:
    """The hash under which the anchor set was frozen."""
    row = connection.execute(
        "SELECT anchor_hash FROM anchor_set WHERE scale_id = %s AND version = %s LIMIT 1", (scale_id, version)
    ).fetchone()
    return row[0] if row else None


def anchors_change_after(connection: psycopg.Connection, scale_id: str, start: datetime) -> datetime | None:
    """The time from which the newest version of the anchor set holds if that is later than `start`, else None."""
    row = connection.execute(
        "SELECT max(effective_from) FROM anchor_set WHERE scale_id = %s HAVING max(effective_from) > %s",
        (scale_id, start),
    ).fetchone()
    return row[0] if row else None


def initialise(
    database: Database,
    scale_id: str,
    *,
    first_month: str,
    mu: float = 0.0,
    sigma: float = 1.0,
    model: Model = "2pl",
    thresholds: dict[str, Any] | None = None,
    engine: str = "em",
    window: OriginWindow | None = None,
) -> Origin:
    """Freeze the anchors of a scale and publish their values from `first_month` on.

    With `window`, the answers of that time are fitted by `model` and become the origin; without, the
    bank's parameters of the items tagged `anchor` are. `engine` is the one whose fits are published; with `window` it
    is the window's. Raises PermanentFailure where the scale has an origin already, where nothing can serve as one,
    where the engine is not installed, or where a 3PL would be linked to anchors of the bank without guessing.
    """
    engine = window.engine.name if window else engine
    given = thresholds or {}
    chosen = {"latent": "auto"} if engine == "em" and given.get("assignment") != "by_level" else {}
    rules = rules_from_settings(chosen | {"new_misfit": "hold"} | given)
    rules.require_effect()
    if absence := installed(engine, get_settings()):
        raise PermanentFailure(f"scale {scale_id} cannot be published from {engine}: {absence}")
    if not (sigma > 0 and np.isfinite([mu, sigma]).all()):
        raise PermanentFailure(f"the population N({mu:g}, {sigma:g}²) of scale {scale_id} needs an SD above 0")
    with database.connect() as connection:
        _require_none(connection, scale_id)
    fitted = None if window is None else _fit_window(database, scale_id, window, rules, model)
    with database.connect() as connection:
        advisory_lock(connection, "scale", scale_id)
        _require_none(connection, scale_id)
        if window is None or fitted is None:
            anchors, topics, assumed, left_out = _bank_anchors(connection, scale_id)
            if model == "3pl":
                require_guessing(scale_id, {item: values[2] for item, values in anchors.items()})
            origin: dict[str, Any] = {"kind": "bank"}
            lineage: dict[str, Any] = {"fit_id": None, "data_hash": None, "reason": "bank parameters of an anchor"}
        else:
            anchors, topics, left_out, lineage = _window_anchors(connection, scale_id, window, rules, fitted)
            assumed = set()
            origin = {"kind": "window", "start": window.start.isoformat(), "end": window.end.isoformat()}
        connection.execute(
            """INSERT INTO calibration_scale
                 (scale_id, origin, mu, sigma, model, engine, assignment, thresholds, latent, new_misfit)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            (
                scale_id,
                json.dumps(origin),
                mu,
                sigma,
                model,
                engine,
                ASSIGNMENT[rules.assignment],
                json.dumps(kept_in_thresholds(rules)),
                rules.latent,
                rules.new_misfit,
            ),
        )
        fit = fitted.calibration if fitted else None
        digest = freeze_anchors(connection, scale_id, 1, anchors, topics, assumed, fit=fit)
        with connection.cursor() as cursor:
            cursor.executemany(
                """INSERT INTO item_parameter_publication
                     (scale_id, item_id, a, b, c, a_se, b_se, cov_ab, effective_from, fit_id, rule, reason, data_hash,
                      anchor_hash, code_version)
                   VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'origin', %s, %s, %s, %s)""",
                [
                    (scale_id, item, *values, month_bounds(first_month)[0], lineage["fit_id"], lineage["reason"])
                    + (lineage["data_hash"], digest, code_version())
                    for item, values in sorted(anchors.items())
                ],
            )
        if window is not None:
            note_anchors(connection, lineage["fit_id"], digest)
    with_guessing = sum(values[2] > 0 for values in anchors.values()) if model != "3pl" else 0
    done = Origin(scale_id, len(anchors), len(anchors), len(assumed), left_out, with_guessing)
    if fitted is None:
        return done
    shape, statistics = fitted.spec_extras["shape"], fitted.spec_extras["fit_statistics"]["set"]
    if shape:
        done = replace(done, shape=shape["why"], guessing=shape["guessing"])
    ratio = eigenvalue_ratio(statistics)
    holds = rules.new_misfit == "hold" and ratio is not None and ratio > LARGEST_RATIO
    return replace(done, misfit=tuple(misfit_in_words(statistics)), misfit_holds=holds)


def freeze_anchors(
    connection: psycopg.Connection,
    scale_id: str,
    version: int,
    anchors: Anchors,
    topics: Topics,
    assumed: Collection[str] = (),
    effective_from: datetime | None = None,
    fit: Calibration | None = None,
) -> str:
    """Write a version of the anchor set, for windows from `effective_from` on (None: from the origin on); its hash.

    `assumed`: the items whose errors are assumed. `fit`: on the bank's scale, that all values come from.
    """
    digest = hash_of_anchors(anchors)
    together = {} if fit is None else covariances(fit, sorted(anchors))
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO anchor_set (scale_id, version, item_id, a, b, c, a_se, b_se, cov_ab, errors_assumed,
                                       topic_id, anchor_hash, effective_from, cov)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)""",
            [
                (scale_id, version, item, *values, item in assumed, topics[item], digest, effective_from)
                + (json.dumps(together[item]) if together else None,)
                for item, values in sorted(anchors.items())
            ],
        )
    return digest


def note_anchors(connection: psycopg.Connection, fit_id: str, digest: str) -> None:
    """Record with the fit of an origin window which anchor set was frozen from it."""
    connection.execute("UPDATE mirt_fit_meta SET anchor_hash = %s WHERE fit_id = %s", (digest, fit_id))


def require_guessing(scale_id: str, guessing: Mapping[str, float]) -> None:
    """Raises PermanentFailure where an anchor of the bank (item → c) has c = 0: a 3PL cannot be linked to it."""
    if without := sorted(item for item, c in guessing.items() if c <= 0):
        raise PermanentFailure(
            f"{len(without)} of the {len(guessing)} anchors of scale {scale_id} have c = 0 in the bank "
            f"({some_of(without, 5)}): a 3PL month cannot be linked to values of "
            f"a model without guessing. {WAYS_OUT.format(scale=scale_id)}"
        )


WAYS_OUT = (
    "Make a scale of its own whose origin is a window (`irt scale init --scale NEW --model 3pl --origin 2026-07`), or "
    "keep the model and accept that learners guess (`irt scale accept guessing --scale {scale} --by NAME --reason …`)"
)


def _require_none(connection: psycopg.Connection, scale_id: str) -> None:
    row = connection.execute("SELECT initialised_at FROM calibration_scale WHERE scale_id = %s", (scale_id,)).fetchone()
    if row:
        raise PermanentFailure(
            f"scale {scale_id} was initialised on {row[0]:%Y-%m-%d}; an origin is declared once, "
            "as every published number refers to it"
        )


def _bank_anchors(connection: psycopg.Connection, scale_id: str) -> tuple[Anchors, Topics, set[str], dict[str, str]]:
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
            values, is_assumed = _at_our_metric(irt)
        except (TypeError, ValueError) as error:
            left_out[item] = f"its meta.irt is not a set of numbers ({error})"
            continue
        if problem := _anchor_problem(*values):
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
    return usable, topics, assumed, left_out


def _at_our_metric(irt: dict[str, Any]) -> tuple[AnchorValues, bool]:
    """(a, b, c, a_se, b_se, cov_ab) with D = 1, and whether the errors had to be assumed."""
    metric = float(irt.get("D") or 1.0)
    a, b, c = float(irt["a"]) * metric, float(irt["b"]), float(irt.get("c") or 0.0)
    if irt.get("a_se") is not None and irt.get("b_se") is not None:
        cov_ab = float(irt.get("cov_ab") or 0.0) * metric
        return (a, b, c, float(irt["a_se"]) * metric, float(irt["b_se"]), cov_ab), False
    if not (a > 0 and 0 <= c < 1):
        return (a, b, c, 0.0, 0.0, 0.0), True
    with np.errstate(invalid="ignore"):  # far from everyone P(1 − P) is 0: no information, not finite
        a_se, b_se, cov_ab = (float(x[0]) for x in assumed_errors(a, b, c))
    return (a, b, c, a_se, b_se, cov_ab), True


def _anchor_problem(a: float, b: float, c: float, a_se: float, b_se: float, cov_ab: float) -> str | None:
    """Why nothing can be linked to an anchor with these values; every month would fail on it."""
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


@dataclass(frozen=True)
class WindowSnapshot:
    """The stored answers of an origin window. `digest`: sha256 of the file. `left_out`: item → its responses, too few
    to be fitted."""

    uri: str
    digest: str
    data_hash: str
    left_out: dict[str, int]


@dataclass(frozen=True)
class FittedWindow:
    """A window's fit and the snapshot of its answers, not written yet."""

    calibration: Calibration
    spec_extras: dict[str, Any]
    snapshot: WindowSnapshot


def _fit_window(database: Database, scale_id: str, window: OriginWindow, rules: Rules, model: Model) -> FittedWindow:
    """Read the window and store its answers, then fit it: no transaction is open while the engine runs, and nothing but
    the responses is in memory. A snapshot that came to nothing is pruned as any that no fit names.
    """
    with database.connect() as connection:
        scales = read_scales(connection)
        if scale_id not in scales:
            raise PermanentFailure(
                f"no item belongs to scale {scale_id}; the bank has: {', '.join(scales) or 'no items'}"
            )
        scale = replace(scales[scale_id], rules=rules, model=model)
        judged = judged_window(connection, window.start, window.end, {scale_id: scale})
        responses, _ = scored_responses_of(judged.table, scale_id)
        if responses.n_responses == 0:
            counts = judged.judgements[scale_id].counts
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in counts.items() if n) or "no attempts"
            most = max(judged.left_out[scale_id].values(), default=0)
            few = f" Items have at most {most} responses each, and are fitted from {rules.min_fitted_responses} on."
            raise PermanentFailure(
                f"the window {window.start:%Y-%m-%d} to {window.end:%Y-%m-%d} has no scored response on scale "
                f"{scale_id} ({reasons}), so it cannot be its origin.{few if most else ''} Name another window "
                "(--origin), or a smaller minimum (--set min_responses=…)"
            )
        request = build_fit_request(connection, judged.table, scale, window.start, None)
    counts = {str(reason): n for reason, n in judged.judgements[scale_id].counts.items()}
    uri, digest = store_attempts(window.store, f"origin/{quote(scale_id, safe='')}", judged.table)
    data_hash, left_out = judged.data_hash, judged.left_out[scale_id]
    del judged, responses
    fitted = fit_origin(window.engine, request, WindowSnapshot(uri, digest, data_hash, left_out))
    _require_gates(window, scale, fitted, counts)
    return fitted


def _require_gates(window: OriginWindow, scale: Scale, fitted: FittedWindow, counts: Mapping[str, int]) -> None:
    """Raises PermanentFailure where a set gate would hold a month with such answers. Guessing and misfit do not stop an
    origin: they hold its months until somebody decides."""
    name = f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d}"
    kept, n = fitted.snapshot, sum(counts.values())
    snapshot = Snapshot(name, kept.digest, kept.uri, kept.data_hash, n, {scale.scale_id: dict(counts)}, {})
    calibration, now = fitted.calibration, datetime.now(UTC)
    spec = fits.model_spec(scale) | fitted.spec_extras
    staged = fits.StagedFit(
        "", name, scale.scale_id, calibration.engine, kept.digest, None, None, None, spec, code_version(), now
    )
    evidence = Evidence(name, scale, snapshot, None, staged, calibration, None)
    for judge in (gates.few_answers_are_rejected, gates.converged, model_gates.one_dimension):
        verdict = judge(evidence)
        if not verdict.passed:
            raise PermanentFailure(
                f"the window {name} cannot be the origin of scale {scale.scale_id}, whose months would be held for as "
                f"much ({judge.__name__}): {verdict.why}. Name another window (--origin), or another rule (--set …)"
            )


def fit_origin(engine: Calibrator, request: FitRequest, snapshot: WindowSnapshot) -> FittedWindow:
    """The fit of an origin window, with θ of its learners at mean 0 and SD 1 whatever the model.

    Raises PermanentFailure where it does not converge, PsychometricsError where the engine cannot fit it.
    """
    scale_id = request.scale.scale_id
    with breakdowns_explained(f"the origin window of scale {scale_id} could not be fitted"):
        made = calibrate(engine, request, snapshot.data_hash)
        calibration = made.calibration
        c = calibration.convergence
        if not c.converged:
            raise PermanentFailure(f"the origin window of scale {scale_id} did not converge: {c.reason}")
        kept = fit_spec_extras(request, made)
    if (calibration.latent_mean, calibration.latent_sd) != (0.0, 1.0):  # a Rasch model's SD is free
        slope = 1 / calibration.latent_sd
        calibration = calibration.rescaled(slope, -slope * calibration.latent_mean)
    return FittedWindow(calibration, kept, snapshot)


def _window_anchors(
    connection: psycopg.Connection, scale_id: str, window: OriginWindow, rules: Rules, fitted: FittedWindow
) -> tuple[Anchors, Topics, dict[str, str], dict[str, Any]]:
    """Write the fit, and what of it may be an anchor. Raises PermanentFailure where these are too few to link to, and
    where the bank has changed since."""
    fit_id, usable, left_out = write_origin_fit(
        connection, scale_id, (window.start, window.end), window.engine.name, rules, fitted
    )
    if len(usable) < rules.min_anchors:
        raise PermanentFailure(
            f"the origin window of scale {scale_id} leaves {len(usable)} anchors, and no month could be linked to "
            f"fewer than {rules.min_anchors} (min_anchors): name a window with more answers (--origin), or another "
            "rule (--set …); left out are " + "; ".join(f"{item}: {why}" for item, why in left_out.items())[:1000]
        )
    topics: Topics = dict(
        connection.execute(
            "SELECT item_id, topic_id FROM question WHERE scale_id = %s AND item_id = ANY(%s)",
            (scale_id, list(usable)),
        ).fetchall()
    )
    if gone := sorted(usable.keys() - topics.keys()):
        raise PermanentFailure(
            f"while the origin window was being fitted, these items left scale {scale_id}: {', '.join(gone[:10])}; "
            "nothing was written: run it again"
        )
    lineage = {"fit_id": fit_id, "data_hash": fitted.snapshot.data_hash, "reason": "the scale's origin window"}
    return usable, topics, left_out, lineage


def write_origin_fit(
    connection: psycopg.Connection,
    scale_id: str,
    window: tuple[datetime, datetime],
    engine: str,
    rules: Rules,
    fitted: FittedWindow,
) -> tuple[str, Anchors, dict[str, str]]:
    """Write the fit of an origin window in place of an earlier one; its id, the items that pass the item gates, and the
    others with the reason. Raises PermanentFailure where no item passes."""
    fit_id = fits.new_fit_id("origin", scale_id, engine)
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    fits.save_linked_fit(
        connection,
        fit_id,
        fitted.calibration,
        fitted.calibration,
        None,
        kind="origin",
        scale_id=scale_id,
        window=window,
        snapshot_hash=fitted.snapshot.digest,
        anchor_hash="",
        spec={"eligibility": rules.changed(), "snapshot": fitted.snapshot.uri} | fitted.spec_extras,
        fitted_at=row[0],
        fit_code_version=code_version(),
        run_id=None,
    )
    connection.execute(
        "UPDATE mirt_fit_meta SET calibration = %s WHERE fit_id = %s", (fits.encode(fitted.calibration), fit_id)
    )
    linked = fits.linked_fit(connection, scale_id, "origin", window[0], engine)
    assert linked is not None
    problems = {item: gates.item_problems(params, rules) for item, params in linked.items.items()}
    usable: Anchors = {
        item: (params["a"], params["b"], params["c"], params["a_se"], params["b_se"], params["cov_ab"])
        for item, params in linked.items.items()
        if not problems[item]
    }
    if not usable:
        first = next((f": {item}: {'; '.join(found)}" for item, found in problems.items()), "")
        most = max((params["n"] for params in linked.items.values()), default=0)
        needed = rules.min_published_responses(fitted.calibration.model)
        rule = "min_responses" if needed == rules.min_responses else "min_responses_3pl"
        most_text = (
            f". They have at most {most} responses each, and {needed} are needed ({rule})" if most < needed else ""
        )
        raise PermanentFailure(
            f"no item of the origin window of scale {scale_id} passes the item gates{first}{most_text}"
        )
    left_out = {item: "; ".join(found) for item, found in problems.items() if found}
    few = fitted.snapshot.left_out.items()
    left_out |= {item: f"{n} responses are fewer than {rules.min_fitted_responses}" for item, n in few}
    return fit_id, usable, left_out
