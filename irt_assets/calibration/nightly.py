"""The nightly calibration: fit the 30 days that end with a day, link them, and measure everyone's θ at its end.

It is an early warning, and estimates parameters of items that have no published ones. Nothing is published from a
night, so a later run of the day replaces its fits.

Operators read the log's sentences: their wording is part of the requirements.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
import pyarrow.compute as pc

from irt_assets.abilities.batch import ScaleAbilities, judge_until, measure_at
from irt_assets.calibration.request import build_fit_request, calibrate, fit_spec_extras, nothing_scored_message
from irt_assets.calibration.scale_linking import LinkResult, link_to_scale
from irt_assets.common.partitions import day_bounds, day_of
from irt_assets.common.wording import sentences_by_scale
from irt_assets.engines import Calibrator
from irt_assets.gates.early_warning import EarlyWarning, read_warning
from irt_assets.gates.month_status import no_origin_error
from irt_assets.ledger import fits
from irt_assets.ledger.anchors import anchor_hash, read_anchors
from irt_assets.ledger.fit_spec import StagedSpec
from irt_assets.ledger.publications import in_force, items_published_by
from irt_assets.responses.scored_answers import judge_before
from irt_assets.responses.stored_window import JudgedWindow, share_for_run, stored_window
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import BreakdownError, Calibration, PsychometricsError
from resources.cluster.relational import on_postgres
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database, advisory_lock, one_value
from resources.version import code_version

WINDOW = timedelta(days=30)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NightOutcome:
    """Outcome of a night for a scale.

    Attributes:
        loaded: number of attempts of the window on the scale.
        quiet: why there was nothing to fit, which is not a failure; else "".
        error: why there is no fit on the bank's scale, or None if there is one or the night was quiet.
        raw: the fit before linking, or None without one.
        placed: the linking, or None without a fit.
        provisional: fitted items that have no published parameters.
        warning: comparison with the last month and the published values, or None without a fit on the bank's scale.
    """

    scale_id: str
    engine: str
    loaded: int
    quiet: str = ""
    error: Exception | None = None
    raw: Calibration | None = None
    placed: LinkResult | None = None
    provisional: tuple[str, ...] = ()
    warning: EarlyWarning | None = None


@dataclass(frozen=True)
class Night:
    """Outcomes of all scales in the window that ends with `day`, and everyone's θ at its end.

    `share` is the share of learners whose answers were fitted; below 1 they are a random sample.
    """

    day: str
    outcomes: list[NightOutcome]
    measured: list[ScaleAbilities]
    share: float = 1.0

    @property
    def failed(self) -> dict[str, str]:
        """Scale → why it has no fit on the bank's scale."""
        return {o.scale_id: fits.explanation(o.error) for o in self.outcomes if o.error is not None}

    @property
    def problem(self) -> Exception | None:
        """The error with which the night fails: a transient error of any scale, because a retry may help, or the
        permanent errors if no scale has a fit. None if the night succeeds."""
        errors = [o.error for o in self.outcomes if o.error is not None]
        transient = [error for error in errors if isinstance(error, TransientFailure)]
        if transient:
            return transient[0]
        if errors and not any(o.warning for o in self.outcomes):
            return PermanentFailure("; ".join(sentences_by_scale(self.failed)))
        return None


@dataclass(frozen=True)
class _NightFit:
    scale: Scale
    loaded: int
    raw: Calibration
    spec_extras: StagedSpec


def window_of(day: str) -> tuple[datetime, datetime]:
    """Start (inclusive) and end (exclusive) of the 30 days that end with `day`."""
    end = day_bounds(day)[1]
    return end - WINDOW, end


def calibrate_night(database: Database, day: str, run_id: str, build: Callable[[str], Calibrator]) -> Night:
    """Fit and link every scale with its own engine, store the fits, and measure everyone with the published set.

    Fits and θ are written in one transaction and replace the results of an earlier run of the day. A scale that fails
    keeps its earlier fit and does not hold the other scales. Raises PermanentFailure if the bank has no scale.
    """
    start, end = window_of(day)
    with database.connect() as connection:
        scales = read_scales(connection, day_bounds(day)[0])
        if not scales:
            raise PermanentFailure("the bank has no items: `irt import questions FILE`")
    judge_until(database, end)
    judge_before(database, start, scales)
    with database.connect() as connection:
        share = share_for_run(on_postgres(connection), database.settings.most_for_run, start, end)
        judged = stored_window(connection, start, end, scales, share=share)
    fitted = [_fit(database, judged, scale, start, end, build) for scale in scales.values()]
    with database.connect() as connection:
        advisory_lock(connection, "nightly_calibration", day)
        outcomes = [
            _write(connection, result, start, end, run_id) if isinstance(result, _NightFit) else result
            for result in fitted
        ]
        for outcome in outcomes:
            if outcome.quiet:
                fits.delete_fits(connection, outcome.scale_id, "nightly", start)
        measured = measure_at(connection, end, "nightly", run_id)
    night = Night(day, outcomes, measured, share)
    if night.failed:
        failed = "; ".join(f"{scale}: {why}" for scale, why in night.failed.items())
        _log.warning("IRT calibration failed: %s", failed)
    elif any(o.warning for o in outcomes):
        _log.info("IRT calibration completed successfully")
    return night


def _fit(
    database: Database,
    judged: JudgedWindow,
    scale: Scale,
    start: datetime,
    end: datetime,
    build: Callable[[str], Calibrator],
) -> _NightFit | NightOutcome:
    loaded = int(pc.sum(pc.equal(judged.table["scale_id"], scale.scale_id)).as_py() or 0)
    fields = {"scale_id": scale.scale_id}
    _log.info("Loaded %d observations from attempt VIEW", loaded, extra=fields)
    with database.connect() as connection:
        anchors = read_anchors(connection, scale.scale_id, scale.anchor_version)
        published = items_published_by(connection, scale.scale_id, end)
        request = build_fit_request(connection, judged.table, scale, start, anchors, published=published)
    _log.info("Loaded %d anchors/seeds from question.meta", len(anchors.item_ids) if anchors else 0, extra=fields)
    if request.responses.n_responses == 0:
        counts = {str(reason): n for reason, n in judged.judgements[scale.scale_id].counts.items()}
        quiet = nothing_scored_message(scale, _window_text(end), counts)
        _log.warning("%s", quiet, extra=fields)
        return NightOutcome(scale.scale_id, scale.engine, loaded, quiet=quiet)
    if anchors is None:
        return NightOutcome(scale.scale_id, scale.engine, loaded, error=no_origin_error(scale, _key(start, end)))
    try:
        with BreakdownError.explain(f"scale {scale.scale_id} could not be fitted"):
            made = calibrate(build(scale.engine), request, judged.data_hash)
            raw = made.calibration
            if not raw.convergence.converged:
                raise PsychometricsError(f"the fit of {_window_text(end)} did not converge: {raw.convergence.reason}")
            return _NightFit(scale, loaded, raw, fit_spec_extras(request, made))
    except (PsychometricsError, PermanentFailure, TransientFailure) as error:
        return NightOutcome(scale.scale_id, scale.engine, loaded, error=error)


def _write(
    connection: psycopg.Connection, fitted: _NightFit, start: datetime, end: datetime, run_id: str
) -> NightOutcome:
    """Link a fit and store it in place of the day's earlier fit."""
    scale, raw = fitted.scale, fitted.raw
    placed = link_to_scale(connection, scale, raw, _key(start, end))
    if placed.error is not None:
        return NightOutcome(scale.scale_id, scale.engine, fitted.loaded, error=placed.error, raw=raw, placed=placed)
    linking, linked = placed.linking, placed.linked
    assert linking is not None
    assert linked is not None
    constants = {"slope": round(linking.slope, 4), "intercept": round(linking.intercept, 4)}
    _log.info("Linking constants received: %s", constants, extra={"scale_id": scale.scale_id})
    published = in_force(connection, scale.scale_id, end).items
    provisional = tuple(
        item for item, known in zip(raw.item_ids, raw.estimated, strict=True) if known and item not in published
    )
    digest = anchor_hash(connection, scale.scale_id, scale.anchor_version)
    fits.delete_fits(connection, scale.scale_id, "nightly", start)
    fits.save_linked_fit(
        connection,
        fits.StagedFit(
            fit_id=fits.new_fit_id(f"night-{day_of(end - timedelta(days=1))}", scale.scale_id, scale.engine),
            month=_key(start, end),
            scale_id=scale.scale_id,
            engine=scale.engine,
            snapshot_hash="",
            spec=fits.model_spec(scale)
            | StagedSpec(eligibility=scale.rules.non_defaults(), never_published=provisional)
            | fitted.spec_extras,
            code_version=code_version(),
            fitted_at=one_value(connection, "SELECT now()"),
        ),
        raw,
        linked,
        linking,
        kind="nightly",
        window=(start, end),
        anchor_hash=digest,
        run_id=run_id,
    )
    written = fits.linked_fit(connection, scale.scale_id, "nightly", start, scale.engine)
    assert written is not None
    return NightOutcome(
        scale.scale_id,
        scale.engine,
        fitted.loaded,
        raw=raw,
        placed=placed,
        provisional=provisional,
        warning=read_warning(connection, scale, written, end),
    )


def _key(start: datetime, end: datetime) -> str:
    """The window in the notation of `irt scale init --origin`."""
    return f"{start:%Y-%m-%d}:{end:%Y-%m-%d}"


def _window_text(end: datetime) -> str:
    return f"the window of {WINDOW.days} days to {day_of(end - timedelta(days=1))}"
