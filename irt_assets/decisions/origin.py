"""Initialise a scale: freeze its first anchor set, and publish the anchors' values. No other code creates a scale.

The anchors' values are the bank's own parameters of the items tagged `anchor`, or estimates from one window that is
declared the origin (see `origin_sources`). They are published with the rule `origin` from the first month on.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from irt_assets.common.partitions import Month
from irt_assets.common.wording import natural_order
from irt_assets.decisions.origin_sources import (
    FittedWindow,
    OriginAnchors,
    OriginWindow,
    bank_anchors,
    fit_window,
    require_guessing,
)
from irt_assets.engines.registry import obstacle
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.gates import gates
from irt_assets.gates.misfit import misfit_in_words
from irt_assets.gates.model_gates import MAX_RATIO, eigenvalue_ratio
from irt_assets.ledger import fits
from irt_assets.ledger.anchors import Anchors, Topics, freeze_anchors
from irt_assets.ledger.encoding import encode
from irt_assets.ledger.fit_spec import SetStatistics, StagedSpec
from irt_assets.ledger.origin_fit import OriginFit, origin_fit, record_anchor_hash
from irt_assets.ledger.publications import Publication, publish
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale, rules_from_settings, store_scale
from irt_assets.scales.scale_decisions import Acceptable
from irt_psychometrics.estimation import Shape
from irt_psychometrics.items import ScaleModel, item_model
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, one_value
from resources.version import code_version


@dataclass(frozen=True)
class Origin:
    """Result of initialising a scale.

    Attributes:
        anchors: number of anchors.
        published: number of published items.
        errors_assumed: number of anchors whose errors are assumed.
        left_out: items that cannot be anchors, with the reasons.
        with_guessing: number of anchors with c > 0 on a scale whose model has no guessing.
        shape: reason for the choice of the distribution of θ in an origin window, or None if there was no choice.
        guessing: whether learners of the origin window guess although the scale's model has no guessing.
        misfit: sentences about statistics by which the answers of an origin window do not follow the model.
        misfit_holds: whether somebody has to accept the misfit before a month can be green.
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


def initialise(
    database: Database,
    scale_id: str,
    *,
    first_month: str,
    mu: float = 0.0,
    sigma: float = 1.0,
    model: ScaleModel = DEFAULT_MODEL,
    thresholds: dict[str, Any] | None = None,
    engine: str = "em",
    window: OriginWindow | None = None,
) -> Origin:
    """Freeze the anchors of a scale and publish their values from `first_month` on.

    Parameters
    ----------
    database
        The database.
    scale_id
        The scale.
    first_month
        First month in which the values are in force.
    mu, sigma
        Mean and SD of the scale's population, sigma > 0.
    model
        The default model of the scale's items.
    thresholds
        Rules of the scale that differ from the defaults.
    engine
        Name of the engine whose fits are published; not used if `window` is given.
    window
        The window whose answers become the origin, with its engine. None: the origin is the bank's parameters of the
        items tagged `anchor`.

    Returns
    -------
    Origin
        The numbers of anchors and published items, and warnings.

    Raises
    ------
    PermanentFailure
        If the scale already has an origin, if there are no usable anchors, if the engine is not installed, if sigma is
        not positive, or if months fitted with a 3PL would be linked to bank anchors without guessing.
    """
    engine = window.engine.name if window else engine
    given = thresholds or {}
    chosen = {"latent": "auto"} if engine == "em" and given.get("assignment") != "by_level" else {}
    rules = rules_from_settings(chosen | {"new_misfit": "hold"} | given)
    rules.require_effect()
    if absence := obstacle(engine, database.settings):
        raise PermanentFailure(f"scale {scale_id} cannot be published from {engine}: {absence}")
    if not (sigma > 0 and np.isfinite([mu, sigma]).all()):
        raise PermanentFailure(f"the population N({mu:g}, {sigma:g}²) of scale {scale_id} needs an SD above 0")
    with database.connect() as connection:
        _require_none(connection, scale_id)
    fitted = None if window is None else fit_window(database, scale_id, window, rules, model)
    with database.connect() as connection:
        advisory_lock(connection, "scale", scale_id)
        _require_none(connection, scale_id)
        if window is None or fitted is None:
            found = bank_anchors(connection, scale_id)
            if item_model(model).has_parameter("c"):
                require_guessing(scale_id, {item: row.c for item, row in found.anchors.items() if row.max_score == 1})
            origin: dict[str, Any] = {"kind": "bank"}
            lineage: dict[str, Any] = {"fit_id": None, "data_hash": None, "reason": "bank parameters of an anchor"}
        else:
            found = _window_anchors(connection, scale_id, window, rules, fitted)
            lineage = {"fit_id": found.fit_id, "data_hash": fitted.snapshot.data_hash}
            lineage |= {"reason": "the scale's origin window"}
            origin = {"kind": "window", "start": window.start.isoformat(), "end": window.end.isoformat()}
        store_scale(connection, Scale(scale_id, mu, sigma, model, engine, rules), origin)
        fit = fitted.calibration if fitted else None
        anchors = found.anchors
        digest = freeze_anchors(connection, scale_id, 1, anchors, found.topics, found.assumed, fit=fit)
        publish(
            connection,
            [
                Publication(
                    scale_id,
                    item,
                    values,
                    effective_from=Month(first_month).start,
                    rule="origin",
                    anchor_hash=digest,
                    **lineage,
                )
                for item, values in sorted(anchors.items())
            ],
        )
        if window is not None:
            record_anchor_hash(connection, found.fit_id, digest)
    with_guessing = sum(values.c > 0 for values in anchors.values()) if not item_model(model).has_parameter("c") else 0
    done = Origin(scale_id, len(anchors), len(anchors), len(found.assumed), found.left_out, with_guessing)
    if fitted is None:
        return done
    shape, statistics = fitted.spec_extras.shape, fitted.spec_extras.statistics
    passed = _let_pass(shape, statistics, rules)
    if shape:
        done = replace(done, shape=shape.why, guessing="guessing" in passed)
    if statistics is None:
        return done
    return replace(done, misfit=tuple(misfit_in_words(statistics)), misfit_holds="misfit" in passed)


def _let_pass(shape: Shape | None, statistics: SetStatistics | None, rules: Rules) -> tuple[Acceptable, ...]:
    """Find the subjects that an origin window lets pass, but that hold its months until a person accepts them."""
    ratio = eigenvalue_ratio(statistics)
    found: dict[Acceptable, bool] = {
        "guessing": shape is not None and shape.guessing,
        "misfit": rules.publication.new_misfit == "hold" and ratio is not None and ratio > MAX_RATIO,
    }
    return tuple(subject for subject, holds in found.items() if holds)


def _require_none(connection: psycopg.Connection, scale_id: str) -> None:
    row = connection.execute("SELECT initialised_at FROM calibration_scale WHERE scale_id = %s", (scale_id,)).fetchone()
    if row:
        raise PermanentFailure(
            f"scale {scale_id} was initialised on {row[0]:%Y-%m-%d}; an origin is declared once, "
            "as every published number refers to it"
        )


def _window_anchors(
    connection: psycopg.Connection, scale_id: str, window: OriginWindow, rules: Rules, fitted: FittedWindow
) -> OriginAnchors:
    """Write the fit of an origin window. Returns the anchors with their topics.

    Raises PermanentFailure if there are fewer anchors than `min_anchors`, or if anchors left the scale during the fit.
    """
    found = write_origin_fit(connection, scale_id, (window.start, window.end), window.engine.name, rules, fitted)
    if len(found.anchors) < rules.publication.min_anchors:
        raise PermanentFailure(
            f"the origin window of scale {scale_id} leaves {len(found.anchors)} anchors, and no month could be linked "
            f"to fewer than {rules.publication.min_anchors} (min_anchors): `irt scale init --scale {scale_id}` takes a "
            "window with more answers (--origin FROM:TO), or another rule (--set …); left out: "
            + "; ".join(f"{item}: {why}" for item, why in found.left_out.items())[:1000]
        )
    topics: Topics = dict(
        connection.execute(
            "SELECT item_id, topic_id FROM question WHERE scale_id = %s AND item_id = ANY(%s)",
            (scale_id, list(found.anchors)),
        ).fetchall()
    )
    if missing := sorted(found.anchors.keys() - topics.keys()):
        raise PermanentFailure(
            f"while the origin window was being fitted, these items left scale {scale_id}: {', '.join(missing[:10])}; "
            "nothing was written: run it again"
        )
    return replace(found, topics=topics)


def write_origin_fit(
    connection: psycopg.Connection,
    scale_id: str,
    window: tuple[datetime, datetime],
    engine: str,
    rules: Rules,
    fitted: FittedWindow,
) -> OriginAnchors:
    """Write the fit of an origin window, which replaces an earlier one. Returns the items that pass the item gates.

    Raises PermanentFailure if no item passes.
    """
    fit = fits.StagedFit(
        fit_id=fits.new_fit_id("origin", scale_id, engine),
        month="origin",
        scale_id=scale_id,
        engine=engine,
        snapshot_hash=fitted.snapshot.digest,
        calibration=encode(fitted.calibration),
        spec=StagedSpec(eligibility=rules.non_defaults(), snapshot=fitted.snapshot.uri) | fitted.spec_extras,
        code_version=code_version(),
        fitted_at=one_value(connection, "SELECT now()"),
    )
    fits.save_linked_fit(
        connection,
        fit,
        fitted.calibration,
        fitted.calibration,
        None,
        kind="origin",
        window=window,
        anchor_hash="",
        run_id=None,
    )
    linked = fits.linked_fit(connection, scale_id, "origin", window[0], engine)
    assert linked is not None
    left_out = items_left_out(linked, rules)
    usable: Anchors = {item: values for item, values in linked.values.items() if item not in left_out}
    if not usable:
        first = next((f": {item}: {why}" for item, why in left_out.items()), "")
        most = max((item.n for item in linked.items.values()), default=0)
        needed = max(map(rules.eligibility.min_published_responses, fitted.calibration.models))
        three_parameters = rules.eligibility.min_responses_3pl
        rule = "min_responses" if needed == rules.eligibility.min_responses else "min_responses_3pl"
        instead = ". Or use the model 2pl, and accept that learners guess" if needed == three_parameters else ""
        most_text = (
            f". They have at most {most} responses each, and {needed} are needed ({rule}). "
            f"`irt scale init --scale {scale_id} --origin {_days(window)} --model {fitted.spec_extras.model} "
            f"--set {rule}=N` requires fewer, like this `--set` of `irt demo`, and values are less certain{instead}"
            if most < needed
            else ""
        )
        raise PermanentFailure(
            f"no item of the origin window of scale {scale_id} passes the item gates{first}{most_text}"
        )
    return OriginAnchors(anchors=usable, left_out=left_out, fit_id=fit.fit_id)


def _days(window: tuple[datetime, datetime]) -> str:
    """The window in the form of `irt scale init --origin`."""
    start, end = window
    after = end + timedelta(days=1) - timedelta(microseconds=1)  # rounds up to whole days
    return f"{start:%Y-%m-%d}:{after:%Y-%m-%d}"


@dataclass(frozen=True)
class OriginSummary:
    """The stored fit of an origin window.

    Attributes:
        window: the window.
        fit: the fit on the scale.
        left_out: items that the fit did not publish, with the reasons.
    """

    window: OriginFit
    fit: fits.LinkedFit
    left_out: dict[str, str]

    @property
    def published_items(self) -> list[str]:
        """The items whose values the fit published."""
        return [item for item in self.fit.items if item not in self.left_out]

    @property
    def let_pass(self) -> tuple[Acceptable, ...]:
        """Acceptables that the window let pass, but that hold its months until a person accepts them."""
        spec = self.fit.model_spec
        return _let_pass(spec.shape, spec.fit_statistics, Rules.from_settings(spec.eligibility))

    @property
    def in_words(self) -> list[str]:
        """Sentences about the distribution of θ and the fit's statistics of misfit."""
        spec = self.fit.model_spec
        sentences = [spec.shape.why] if spec.shape else []
        return sentences + (misfit_in_words(spec.fit_statistics) if spec.fit_statistics else [])


def read_origin(connection: psycopg.Connection, scale_id: str) -> OriginSummary | None:
    """Read the fit of a scale's origin window. Returns None if the scale's anchors come from the bank."""
    window = origin_fit(connection, scale_id)
    if window is None:
        return None
    fit = fits.linked_fit(connection, scale_id, "origin", window.window_start, window.engine)
    assert fit is not None
    return OriginSummary(window, fit, items_left_out(fit, Rules.from_settings(fit.model_spec.eligibility)))


def items_left_out(fit: fits.LinkedFit, rules: Rules) -> dict[str, str]:
    """The items that an origin window's fit did not publish, with the reasons."""
    problems = {item: "; ".join(gates.item_problems(fitted, rules)) for item, fitted in fit.items.items()}
    least, few = rules.eligibility.min_fitted_responses, fit.model_spec.left_out
    problems |= {item: f"{n} responses are fewer than {least}" for item, n in few.items()}
    return {item: problems[item] for item in sorted(problems, key=natural_order) if problems[item]}
