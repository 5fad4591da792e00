"""The steps of a month, scale by scale: fit, link, publish.

A scale that fails does not hold the other scales: failures are returned together with the results. Each scale is
published from one engine, its own. Failures of other engines never hold it. What does not belong here: Dagster (see
`assets`) and the gates (see `gates`).
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
import psycopg
import pyarrow as pa

from irt_assets.calibration.publication import publish_ready_months
from irt_assets.calibration.request import (
    CalibrationResult,
    FitRequest,
    build_fit_request,
    calibrate,
    fit_spec_extras,
    nothing_scored_message,
    require_everybody,
    require_one_population,
)
from irt_assets.calibration.scale_linking import LinkResult, link_to_scale
from irt_assets.common.partitions import Month
from irt_assets.engines import Calibrator, Sampler, registry
from irt_assets.engines.em import EmEngine
from irt_assets.gates import misfit
from irt_assets.gates.month_status import is_fitted
from irt_assets.ledger import fits
from irt_assets.ledger.anchors import anchor_hash, read_anchors
from irt_assets.ledger.fit_spec import Draws, LinkingConstants, Sampling, StagedSpec
from irt_assets.ledger.month_state import Reference, find_reference
from irt_assets.ledger.publications import items_published_by
from irt_assets.ledger.steps import Step
from irt_assets.responses.closed_months import scales_of_month
from irt_assets.responses.closing_records import read_closed
from irt_assets.responses.scored_answers import judge_before
from irt_assets.responses.snapshot import (
    CALIBRATION_COLUMNS,
    Snapshot,
    read_for_run,
    sample_for_run,
    snapshot_for_scale,
    stored_rules,
)
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.spark.fit_location import choose_engine, count_items
from irt_psychometrics import BreakdownError, Calibration, PsychometricsError, Responses
from irt_psychometrics.itemfit import Observed
from resources.failures import PermanentFailure, is_transient
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, advisory_lock, database_settings
from resources.settings import Settings

SCORED_ITEMS_DRAWN = 6
"""Maximum number of scored items whose curves are drawn with a fit."""


@dataclass(frozen=True, kw_only=True)
class FitOutcome:
    """An engine's fit of a scale, or the reason why it does not exist.

    Attributes:
        own: whether the scale is published from this engine.
        spec: the staged spec.
        seconds: duration of the fit.
        summed: place where answers distributed over Spark were summed; "" if they were not.
        observed: observed proportions by ability of some scored items.
    """

    scale_id: str
    engine: str
    own: bool
    fit_id: str
    spec: StagedSpec
    calibration: Calibration | None
    error: str | None
    seconds: float
    summed: str = ""
    observed: Mapping[str, Observed] = field(default_factory=dict)


@dataclass(frozen=True)
class LinkOutcome:
    """A fit and its linking, or the reason why it is not on the bank's scale."""

    scale_id: str
    engine: str
    own: bool
    raw: Calibration | None = None
    placed: LinkResult | None = None
    error: str | None = None


Engines = dict[str, Callable[[], Calibrator]]
"""Factories of engines by name. A factory is called only when its engine is needed, because the engine may be
unavailable."""


def fit_month(
    database: Database,
    store: ObjectStore,
    month: str,
    engine: Calibrator,
    run_id: str | None,
    build: Callable[[str], Calibrator] | None = None,
    scales: Collection[str] | None = None,
) -> list[FitOutcome]:
    """Fit the scored responses of `scales` (None: all) with `engine` and with each scale's own engine; stage the fits.

    `build` returns the scales' engines by name; by default they are built from the settings. Raises PermanentFailure
    if no scale could be fitted with its own engine. The reasons are staged even then.
    """

    make = build or functools.partial(registry.build, settings=database.settings)

    def engines_of(scale: Scale) -> Engines:
        if scales is not None and scale.scale_id not in scales:
            return {}
        return {scale.engine: functools.partial(make, scale.engine)} | {engine.name: lambda: engine}

    outcomes = _fit(database, store, month, engines_of, (PsychometricsError, PermanentFailure), run_id)
    own = [o for o in outcomes if o.own]
    _require_one([o.error for o in own], [o.scale_id for o in own], month, "fitted")
    return outcomes


def fit_month_for_comparison(
    database: Database,
    store: ObjectStore,
    month: str,
    run_id: str | None,
    *,
    engine: str,
    scales: Collection[str] | None,
    build: Callable[[str], Calibrator],
) -> list[FitOutcome]:
    """Fit `scales` (None: all) with an engine from which they are not published, and stage the fits.

    Errors of building and running the engine are staged as reasons for missing fits, except transient ones.
    """

    def engines_of(scale: Scale) -> Engines:
        is_enabled = scale.engine != engine and (scales is None or scale.scale_id in scales)
        return {engine: functools.partial(build, engine)} if is_enabled else {}

    return _fit(database, store, month, engines_of, (Exception,), run_id)


def _fit(
    database: Database,
    store: ObjectStore,
    month: str,
    engines_of: Callable[[Scale], Engines],
    explained: tuple[type[Exception], ...],
    run_id: str | None,
) -> list[FitOutcome]:
    """Fit and stage. `explained` are the errors of an engine that become the reason for a missing fit."""
    with database.connect() as connection:
        scales = scales_of_month(connection, month)
        snapshots = {scale_id: snapshot_for_scale(connection, month, scale_id) for scale_id in scales}
        closed = {closing.scale_id for closing in read_closed(connection, [month])}
    judge_before(database, Month(month).start, scales)
    outcomes: list[FitOutcome] = []
    tables: dict[str, pa.Table] = {}
    attempts: list[FitAttempt] = []
    for scale in scales.values():
        engines = engines_of(scale)
        snapshot = snapshots[scale.scale_id]
        if snapshot is None:
            raise PermanentFailure(f"{month} has no snapshot: materialise scored_responses of {month} first")
        if scale.scale_id in closed:
            kept_fits = database.call(_read_closed_fits, snapshot, scale, engines)
            outcomes += kept_fits
            engines = {
                name: make for name, make in engines.items() if name not in {closing.engine for closing in kept_fits}
            }
        if not engines:
            continue
        if snapshot.snapshot_hash not in tables:
            tables[snapshot.snapshot_hash] = read_month(database.settings, store, snapshot)
        inputs = database.call(FitInputs.from_database, store, scale, snapshot, tables[snapshot.snapshot_hash])
        attempts += [inputs.fit(name, make, explained, store) for name, make in engines.items()]
    for attempt in attempts:
        if attempt.draws is not None:
            store.put(attempt.draws_key, attempt.draws)
    with database.connect() as connection:
        advisory_lock(connection, "item_calibration", month)
        outcomes += [attempt.stage(connection, run_id) for attempt in attempts]
    return outcomes


def read_month(settings: Settings, store: ObjectStore, snapshot: Snapshot) -> pa.Table:
    """Read the attempts of a snapshot from which its scales are fitted."""
    return read_for_run(store, snapshot, settings.most_for_run, CALIBRATION_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class FitInputs:
    """Inputs of a fit of a scale's month. `store` contains the snapshot."""

    settings: Settings
    store: ObjectStore
    scale: Scale
    snapshot: Snapshot
    request: FitRequest
    reference: Reference | None

    @classmethod
    def from_database(
        cls, connection: psycopg.Connection, store: ObjectStore, scale: Scale, snapshot: Snapshot, table: pa.Table
    ) -> Self:
        """Read the inputs. `table` contains the attempts from `read_month`."""
        settings, month, scale_id = database_settings(connection), snapshot.month, scale.scale_id
        start = Month(month).start
        drawn = sample_for_run(snapshot, settings.most_for_run, scale_id)
        everybody = count_items(settings, store, snapshot, scale_id) if drawn else None
        anchors = read_anchors(connection, scale_id, scale.anchor_version)
        published = items_published_by(connection, scale_id, start)
        return cls(
            settings=settings,
            store=store,
            scale=scale,
            snapshot=snapshot,
            request=build_fit_request(connection, table, scale, start, anchors, everybody, published),
            reference=find_reference(connection, scale, month),
        )

    def fit(
        self,
        name: str,
        make: Callable[[], Calibrator],
        explained: tuple[type[Exception], ...],
        references: ObjectStore,
    ) -> FitAttempt:
        """Fit with the engine `name`, which `make` builds.

        `explained` are errors that become the reason for a missing fit. `references` contains the snapshot of the
        reference.
        """
        scale, snapshot, request = self.scale, self.snapshot, self.request
        spec = fits.model_spec(scale) | StagedSpec(
            eligibility=stored_rules(scale.rules), scored_items=request.fitted_models
        )
        began, summed, draws = time.perf_counter(), "", None
        seen: Mapping[str, Observed] = {}
        outcome: CalibrationResult | Exception
        try:
            if request.responses.n_responses == 0:
                counts = snapshot.counts.get(scale.scale_id, {})
                raise PsychometricsError(nothing_scored_message(scale, snapshot.month, counts))
            engine = make()
            with BreakdownError.explain(f"scale {scale.scale_id} could not be fitted by {name}"):
                if isinstance(engine, Sampler):
                    require_one_population(name, request)
                    require_everybody(f"a scale of engine {name}", request)
                    sampled = engine.draw(request.responses, model=request.model, data_hash=snapshot.data_hash)
                    outcome, draws = CalibrationResult(sampled.calibration), sampled.parquet
                    spec |= StagedSpec(
                        draws=_draws(snapshot.month, draws),
                        sampling=Sampling.from_json(sampled.sampling, f"of {snapshot.month} by {name}"),
                    )
                else:
                    if isinstance(engine, EmEngine):
                        engine = choose_engine(
                            engine,
                            self.settings,
                            self.store,
                            snapshot,
                            scale.scale_id,
                            request.responses,
                            sampled=request.drawn_from is not None,
                        )
                    outcome = calibrate(engine, request, snapshot.data_hash)
                    summed = engine.summed if isinstance(engine, EmEngine) else ""
                spec |= fit_spec_extras(request, outcome)
                if name == scale.engine:
                    seen = _observed_scores(request.responses, outcome.calibration)
                if name == scale.engine and outcome.calibration.convergence.converged:
                    compared = misfit.compare_misfit(
                        references,
                        self.settings.most_for_run,
                        scale,
                        request.responses,
                        outcome.calibration,
                        spec.statistics,
                        self.reference,
                        guessing=outcome.guessing,
                    )
                    spec |= StagedSpec(misfit=compared)
        except explained as error:
            if is_transient(error):
                raise
            outcome = error
        return FitAttempt(
            scale=scale,
            snapshot=snapshot,
            engine=name,
            found=outcome if isinstance(outcome, Exception) else outcome.calibration,
            spec=spec,
            seconds=time.perf_counter() - began,
            summed=summed,
            observed=seen,
            draws=draws,
        )


@dataclass(frozen=True, kw_only=True)
class FitAttempt:
    """An engine's fit of a scale, or its error, before it is staged. `draws` are posterior draws as Parquet."""

    scale: Scale
    snapshot: Snapshot
    engine: str
    found: Calibration | Exception
    spec: StagedSpec
    seconds: float
    summed: str
    observed: Mapping[str, Observed]
    draws: bytes | None

    @property
    def draws_key(self) -> str:
        assert self.spec.draws is not None
        return self.spec.draws.uri

    def stage(self, connection: psycopg.Connection, run_id: str | None) -> FitOutcome:
        """Stage the fit, unless the latest staged fit is equal and so keeps its linking, publications and decisions."""
        scale_id, found, snapshot = self.scale.scale_id, self.found, self.snapshot
        before = fits.latest_staged(connection, snapshot.month, scale_id, self.engine)
        kept = before.fit_id if before and before.has_same_result(snapshot.snapshot_hash, found, self.spec) else None
        return FitOutcome(
            scale_id=scale_id,
            engine=self.engine,
            own=self.engine == self.scale.engine,
            fit_id=kept or fits.stage_fit(connection, snapshot, scale_id, self.engine, found, self.spec, run_id),
            spec=self.spec,
            calibration=None if isinstance(found, Exception) else found,
            error=fits.explanation(found) if isinstance(found, Exception) else None,
            seconds=self.seconds,
            summed=self.summed,
            observed=self.observed,
        )


def _read_closed_fits(
    connection: psycopg.Connection, snapshot: Snapshot, scale: Scale, engines: Collection[str]
) -> list[FitOutcome]:
    """Return the stored fits of a scale whose month is closed, as outcomes.

    Returns [] if the scale's rules, model or reference have changed since. Then the snapshot of the closed month is
    fitted again.
    """
    if not is_fitted(connection, snapshot, scale):
        return []
    staged = [fits.latest_staged(connection, snapshot.month, scale.scale_id, name) for name in engines]
    return [
        FitOutcome(
            scale_id=scale.scale_id,
            engine=fit.engine,
            own=fit.engine == scale.engine,
            fit_id=fit.fit_id,
            spec=fit.spec,
            calibration=fit.decode(),
            error=None,
            seconds=0.0,
        )
        for fit in staged
        if fit is not None and fit.error is None and fit.snapshot_hash == snapshot.snapshot_hash
    ]


def _observed_scores(responses: Responses, fit: Calibration) -> dict[str, Observed]:
    """Observed proportions of the scored items to draw: flagged items first, then items with the most answers."""
    scored = np.flatnonzero((responses.n_categories > 2) & fit.estimated)
    order = sorted(scored.tolist(), key=lambda j: (not fit.flags[j], -int(fit.n[j])))[:SCORED_ITEMS_DRAWN]
    items = [fit.item_ids[j] for j in order]
    if not items:
        return {}
    return Observed.by_ability(responses, fit.items, items, mean=fit.latent_mean, sd=fit.latent_sd)


def _draws(month: str, parquet: bytes) -> Draws:
    """Key and hash of posterior draws."""
    digest = hashlib.sha256(parquet).hexdigest()
    return Draws(uri=f"posterior_draws/{month}/{digest}.parquet", sha256=digest)


def link_month(database: Database, month: str, run_id: str | None) -> list[LinkOutcome]:
    """Link the month's latest fits of every scale to the bank's scale.

    These are the fit of the scale's own engine, and the fits of other engines to the present snapshot. Raises
    UnlinkedMonthError if no fit of a scale's own engine could be linked. The reasons are stored with the staged fits.
    """
    with database.connect() as connection:
        advisory_lock(connection, "linked_item_parameters", month)
        scales = scales_of_month(connection, month).values()
        outcomes = [outcome for scale in scales for outcome in link_scale(connection, scale, month, run_id)]
    own = [o for o in outcomes if o.own]
    _require_one([o.error for o in own], [o.scale_id for o in own], month, "linked", outcomes)
    return outcomes


def link_scale(connection: psycopg.Connection, scale: Scale, month: str, run_id: str | None) -> list[LinkOutcome]:
    """Link the month's latest fits of a scale to the bank's scale. The outcome of its own engine comes first."""
    snapshot = snapshot_for_scale(connection, month, scale.scale_id)
    own = _link_fit(connection, scale, scale.engine, month, run_id)
    engines = fits.engines_staged(connection, snapshot, scale.scale_id) if snapshot else []
    return [
        own,
        *(_link_comparison(connection, scale, name, month, run_id) for name in engines if name != scale.engine),
    ]


class UnlinkedMonthError(PermanentFailure):
    """No scale of the month could be linked. `outcomes` contain the reasons."""

    def __init__(self, message: str, outcomes: list[LinkOutcome]) -> None:
        super().__init__(message)
        self.outcomes = outcomes


def publish_month(
    database: Database, store: ObjectStore, month: str, unsettled: Collection[str], run_id: str | None
) -> dict[str, dict[str, Step]]:
    """Run the publication step of the month for every scale. Returns the steps taken, by scale and month."""
    with database.connect() as connection:
        return {
            scale.scale_id: publish_ready_months(connection, store, scale, month, unsettled, run_id)
            for scale in read_scales(connection).values()
        }


def _link_comparison(
    connection: psycopg.Connection, scale: Scale, engine: str, month: str, run_id: str | None
) -> LinkOutcome:
    """Link a fit that is not published. Only errors of the database are raised; it writes all or nothing."""
    try:
        with connection.transaction():
            return _link_fit(connection, scale, engine, month, run_id)
    except psycopg.Error:
        raise
    except Exception as error:  # noqa: BLE001 - a fit for comparison must not stop the run
        staged = fits.latest_staged(connection, month, scale.scale_id, engine)
        assert staged is not None
        fits.record_failed_linking(connection, staged, error, None)
        return LinkOutcome(scale.scale_id, engine, False, error=fits.explanation(error))


def _link_fit(connection: psycopg.Connection, scale: Scale, engine: str, month: str, run_id: str | None) -> LinkOutcome:
    outcome = LinkOutcome(scale.scale_id, engine, engine == scale.engine)
    staged = fits.latest_staged(connection, month, scale.scale_id, engine)
    raw = staged.decode() if staged else None
    if staged is None or raw is None:
        missing = f"{month} has no fit of scale {scale.scale_id}: materialise item_calibration"
        return replace(outcome, error=staged.error if staged else missing)
    if difference := fits.settings_difference(staged.spec, scale):
        return replace(outcome, error=f"{month} of scale {scale.scale_id}: {difference}: materialise item_calibration")
    placed = link_to_scale(connection, scale, raw, month)
    outcome = replace(outcome, raw=raw, placed=placed)
    linking, linked = placed.linking, placed.linked
    digest = anchor_hash(connection, scale.scale_id, scale.anchor_version)
    spec = staged.spec | StagedSpec(eligibility=fits.rules_of_a_linking(staged.spec, scale.rules))
    stored = fits.linked_fit(connection, scale.scale_id, "monthly", Month(month).start, engine)
    if stored and linked:
        now = (staged.fit_id, digest, fits.linked_spec(spec, linked, linking))
        if (stored.fit_id, stored.anchor_hash, stored.model_spec) == now:
            return outcome
    staged = fits.ensure_unlinked(connection, staged, run_id)
    if placed.error is not None:
        constants = LinkingConstants.from_linking(placed.linking) if placed.linking else None
        fits.record_failed_linking(connection, staged, placed.error, constants)
        before = f"{month} cannot be placed on scale {scale.scale_id}: " if placed.anchors else ""
        return replace(outcome, error=f"{before}{placed.error}")
    assert linking is not None
    assert linked is not None
    fits.save_linked_fit(
        connection,
        replace(staged, spec=spec, calibration=None),
        raw,
        linked,
        linking,
        kind="monthly",
        window=Month(month).bounds,
        anchor_hash=digest,
        run_id=run_id,
    )
    return outcome


def _require_one(
    errors: list[str | None],
    scales: list[str],
    month: str,
    action: str,
    outcomes: list[LinkOutcome] | None = None,
) -> None:
    if not scales:
        raise PermanentFailure("the bank has no items: `irt import questions FILE`")
    if any(error is None for error in errors):
        return
    messages = [str(error) for error in errors]
    message = (
        (messages[0] if month in messages[0] else f"{month}: {messages[0]}")
        if len(messages) == 1
        else f"no scale of {month} could be {action}: "
        + "; ".join(f"{scale}: {error}" for scale, error in zip(scales, messages, strict=True))
    )
    raise UnlinkedMonthError(message, outcomes) if outcomes is not None else PermanentFailure(message)
