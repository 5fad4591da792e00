"""A scale's model, priors and occasions for the months to come: a change and its effects.

Months before the first one keep their model, and published values stay. Later months that were fitted otherwise are
stale. A scale whose origin is a window has that window fitted again by the new model, and its anchors frozen again from
it: a month of one model cannot be linked to anchors of another. Anchors of the bank cannot be estimated again here, so
a change from or to a 3PL is refused if they do not suit it.

A preview is the change itself, rolled back. Does not belong here: the model of a window (see
`scales.scale_decisions`) and the causes that make a month stale (see `month_status`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, get_args

import psycopg

from irt_assets.calibration.request import build_fit_request, prior_on_b_message, weeks_problem
from irt_assets.common.partitions import Month
from irt_assets.common.wording import join_names
from irt_assets.decisions.origin import write_origin_fit
from irt_assets.decisions.origin_sources import FittedWindow, WindowSnapshot, fit_origin, require_guessing
from irt_assets.engines import Calibrator
from irt_assets.ledger import fits
from irt_assets.ledger.anchors import (
    anchor_hash,
    anchors_change_after,
    freeze_anchors,
    make_newest,
    next_version,
    read_anchors,
)
from irt_assets.ledger.month_state import months_made_with
from irt_assets.ledger.origin_fit import OriginFit, origin_fit, record_anchor_hash
from irt_assets.ledger.steps import last_done_month
from irt_assets.responses.scored_answers import judge_before
from irt_assets.responses.snapshot import CALIBRATION_COLUMNS, read_snapshot
from irt_assets.scales.rules import OCCASIONS
from irt_assets.scales.scale import Scale, initialised_scale, read_scales
from irt_assets.scales.scale_decisions import ACCEPTED, PRIORS, REFERENCE, Subject, read_decisions, record_decisions
from irt_psychometrics.items import Priors, ScaleModel, item_model
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, advisory_lock, one_value

MODELS: tuple[ScaleModel, ...] = get_args(ScaleModel)
MAX_NAMED = 10


@dataclass(frozen=True)
class RefrozenAnchors:
    """The version of an anchor set that a new fit of the origin window gives.

    Attributes:
        window: the origin window in words.
        kept: number of anchors in it.
        left_out: anchors of the previous version that are not in it, with the reason.
        mean_shift, largest_shift: shift of the b of the kept anchors, in units of θ; `largest_item` moves most.
    """

    version: int
    window: str
    kept: int
    left_out: Mapping[str, str]
    mean_shift: float
    largest_shift: float
    largest_item: str


@dataclass(frozen=True)
class DatedChange:
    """A decision on a scale from `first_month` on.

    Attributes:
        values: decided values by subject; empty if all are in force already.
        by_default: whether nobody named the first month.
        newest_decision: the number of the newest decision on the scale at the time of the preview.
    """

    scale_id: str
    first_month: str
    values: Mapping[Subject, str]
    by_default: bool = field(default=False, repr=False, kw_only=True)
    newest_decision: int = field(default=0, repr=False, kw_only=True)

    def require_unchanged(self, connection: psycopg.Connection, *, is_same: bool = True) -> None:
        """Raise PermanentFailure if the scale or its months have changed since the preview, or if not `is_same`."""
        is_same = is_same and newest_decision(connection, self.scale_id) == self.newest_decision
        if self.by_default and first_open_month(connection, self.scale_id) not in (None, self.first_month):
            is_same = False
        if not is_same:
            raise PermanentFailure(
                f"scale {self.scale_id} or its months have changed since the preview: nothing was decided. Run the "
                "command again"
            )


@dataclass(frozen=True)
class ModelChange(DatedChange):
    """A decision on a scale's model and priors, and its effects.

    Attributes:
        before, after: the scale in the first month.
        stale: months that have to be calibrated again.
        anchors: the new version of the anchor set, or None if the anchors stay.
        bank_anchors: whether the model changes while the anchors are the bank's.
    """

    before: Scale
    after: Scale
    stale: tuple[str, ...] = ()
    anchors: RefrozenAnchors | None = None
    bank_anchors: bool = False
    origin: OriginFit | None = field(default=None, repr=False)
    fitted: FittedWindow | None = field(default=None, repr=False)

    @property
    def lines(self) -> list[str]:
        """Text that a person reads before deciding."""
        before, after = _stored_values(self.before), _stored_values(self.after)
        changes = [f"{name} {before[name]} → {new}" for name, new in after.items() if before[name] != new]
        change = ", ".join(changes) or ", ".join(f"{subject} {value}" for subject, value in self.values.items())
        if not self.values:
            return [f"scale {self.scale_id}: these values already hold from {self.first_month} on"]
        stale = f"stale until calibrated again: {', '.join(self.stale)}" if self.stale else "no month becomes stale"
        return [
            f"scale {self.scale_id}: {change} from {self.first_month} on; months before stay as they are",
            *(_anchor_lines(self.anchors, self.after.model, self.first_month) if self.anchors else []),
            *(["the anchors are the bank's and keep their values"] if self.bank_anchors else []),
            f"{stale}; published values stay",
        ]


def _stored_values(scale: Scale) -> dict[Subject, str]:
    """The model, the priors and the occasions, as they are stored."""
    priors: dict[Subject, str] = {
        subject: Priors.text_of(getattr(scale.priors or Priors(), name)) for subject, name in PRIORS.items()
    }
    return {"model": scale.model, **priors, "occasions": scale.occasions}


def _anchor_lines(anchors: RefrozenAnchors, model: ScaleModel, first_month: str) -> list[str]:
    lines = [
        (
            f"the origin window, {anchors.window}, is fitted again as a {item_model(model).spoken}: {anchors.kept} of "
            f"{anchors.kept + len(anchors.left_out)} anchors are frozen again, as version {anchors.version}, for "
            f"months from {first_month} on; their b changes by {anchors.mean_shift:+.3f} on average and by "
            f"{anchors.largest_shift:+.3f} at most ({anchors.largest_item})"
        )
    ]
    lines += [f"  not an anchor any more: {item}: {why}" for item, why in list(anchors.left_out.items())[:MAX_NAMED]]
    more = len(anchors.left_out) - MAX_NAMED
    return [*lines, f"  … and {more} more"] if more > 0 else lines


def preview_model_change(
    database: Database,
    store: ObjectStore,
    scale_id: str,
    values: Mapping[Subject, str],
    first_month: str | None,
    *,
    calibrations_begin: str,
    build: Callable[[str], Calibrator],
) -> ModelChange:
    """Effects of deciding on `values` (subject → text) for months from `first_month` on. Writes nothing.

    If `first_month` is None, it is the month after the last one that is done or, if no month is done,
    `calibrations_begin`. `build` returns an engine by its name. An origin window is fitted here, with no transaction
    open.

    Raises PermanentFailure if the scale has no origin, if its fits or anchors do not support the values, or if its
    anchors already change in a later month. Raises PsychometricsError for a prior that cannot be read.
    """
    with database.connect() as connection:
        change = _requested_change(connection, scale_id, values, first_month, calibrations_begin)
        if change.values and change.after.model != change.before.model:
            change = _add_origin(connection, change)
    if not change.values:
        return change
    if change.origin is not None:
        engine = build(change.before.engine)
        change = replace(change, fitted=_refit_origin(database, store, change, engine))
    with database.connect() as connection, connection.transaction(force_rollback=True):
        return _write(connection, change, by="preview", reason="preview")


def decide_model_change(database: Database, change: ModelChange, *, by: str, reason: str) -> ModelChange:
    """Record that `by` decides on the previewed change, and freeze its anchors, in one transaction.

    Raises PermanentFailure if the state on which the preview is based has changed since.
    """
    with database.connect() as connection:
        advisory_lock(connection, "ledger", change.scale_id)
        is_same = read_scales(connection, Month(change.first_month).start)[change.scale_id] == change.before
        change.require_unchanged(connection, is_same=is_same)
        return _write(connection, change, by=by, reason=reason)


def accept_guessing(database: Database, scale_id: str, first_month: str, *, by: str, reason: str) -> None:
    """Record that `by` accepts, for months from `first_month` on, that learners guess while the model has no guessing.

    Raises PermanentFailure for a scale without an origin.
    """
    start = start_of(first_month)
    with database.connect() as connection:
        initialised_scale(connection, scale_id, start)
        record_decisions(connection, scale_id, {"guessing": ACCEPTED}, start, by=by, reason=reason)


def accept_misfit(
    database: Database, scale_id: str, first_month: str | None, calibrations_begin: str, *, by: str, reason: str
) -> None:
    """Record that `by` accepts the misfit of the scale's origin or, if `first_month` is given, the misfit of that
    month. Later months are then compared with it.

    Raises PermanentFailure for a scale without an origin, and for a month that has not been fitted.
    """
    start = start_of(first_month or calibrations_begin)
    with database.connect() as connection:
        scale = initialised_scale(connection, scale_id, start)
        if first_month and fits.latest_staged(connection, first_month, scale_id, scale.engine) is None:
            raise PermanentFailure(
                f"{first_month} of scale {scale_id} has not been fitted, so later months cannot be compared with it: "
                f"`irt calibrate --month {first_month}`"
            )
        value = ACCEPTED if first_month is None else REFERENCE
        record_decisions(connection, scale_id, {"misfit": value}, start, by=by, reason=reason)


def first_open_month(connection: psycopg.Connection, scale_id: str) -> str | None:
    """The month after the last one whose publication step is done. Returns None if no month is done."""
    last = last_done_month(connection, scale_id)
    return Month(last).next if last else None


def start_of(month: str) -> datetime:
    """The start of the first month of a decision. Raises PermanentFailure for text that is not a month."""
    try:
        return Month(month).start
    except ValueError:
        raise PermanentFailure(f"a decision on a scale holds from a month on, YYYY-MM; got {month!r}") from None


def newest_decision(connection: psycopg.Connection, scale_id: str) -> int:
    """The number of the newest decision on a scale, 0 without decisions."""
    return max((decision.decision_id for decision in read_decisions(connection, scale_id)), default=0)


def _requested_change(
    connection: psycopg.Connection,
    scale_id: str,
    values: Mapping[Subject, str],
    first_month: str | None,
    calibrations_begin: str,
) -> ModelChange:
    """The change without its effects. Its `values` contain only values that differ from the ones in force."""
    month = first_month or first_open_month(connection, scale_id) or calibrations_begin
    start = start_of(month)
    before = initialised_scale(connection, scale_id, start)
    requested = {subject: _parse(subject, value) for subject, value in values.items()}
    later = {d.subject for d in read_decisions(connection, scale_id) if d.effective_from > start}
    after = _apply_to_scale(before, requested)
    _require_parameters(after, month)
    now = _stored_values(before)
    new = {subject: value for subject, value in requested.items() if subject in later or value != now[subject]}
    newest = newest_decision(connection, scale_id)
    return ModelChange(scale_id, month, new, before, after, by_default=first_month is None, newest_decision=newest)


def _parse(subject: Subject, text: str) -> str:
    """A value as it is stored."""
    if subject == "model":
        if text not in MODELS:
            raise PermanentFailure(f"unknown model {text!r}; known models: {', '.join(MODELS)}")
        return text
    if subject == "occasions":
        if text not in OCCASIONS:
            raise PermanentFailure(f"occasions are {' or '.join(OCCASIONS)}, got {text!r}")
        return text
    return Priors.text_of(Priors.parse(PRIORS[subject], text))


def _apply_to_scale(scale: Scale, values: Mapping[Subject, str]) -> Scale:
    chosen: dict[str, Any] = {
        parameter: Priors.parse(parameter, values[subject])
        for subject, parameter in PRIORS.items()
        if subject in values
    }
    priors = replace(scale.priors or Priors(), **chosen)
    model: Any = values.get("model", scale.model)
    occasions: Any = values.get("occasions", scale.occasions)
    return replace(scale, model=model, priors=None if priors == Priors() else priors, occasions=occasions)


def _require_parameters(scale: Scale, month: str) -> None:
    """Raise PermanentFailure if a prior is on a parameter that the model, engine or assignment does not support."""
    priors, model = scale.priors or Priors(), item_model(scale.model).spoken
    if priors.a is not None and not item_model(scale.model).own_slopes:
        raise PermanentFailure(
            f"a prior on a needs free slopes, which the {model} of scale {scale.scale_id} in {month} does not have: "
            "set model=2pl or model=3pl, or prior_a=none, in the same command"
        )
    if priors.c is not None and not item_model(scale.model).guesses:
        raise PermanentFailure(
            f"a prior on c needs guessing, which the {model} of scale {scale.scale_id} in {month} does not have: "
            "set model=3pl, or prior_c=none, in the same command"
        )
    if scale.priors is not None and scale.engine != "em":
        raise PermanentFailure(
            f"scale {scale.scale_id} is published from {scale.engine}, which does not support priors "
            "of a scale: only em does"
        )
    if priors.b is not None and scale.rules.fit.assignment == "by_level":
        raise PermanentFailure(prior_on_b_message(scale.scale_id))
    if scale.occasions == "week" and (why := weeks_problem(scale)):
        raise PermanentFailure(why)


def _add_origin(connection: psycopg.Connection, change: ModelChange) -> ModelChange:
    """Adds the origin window that has to be fitted again and, for a bank's anchors, whether they fit the new model."""
    scale_id, before, after = change.scale_id, change.before, change.after
    start = Month(change.first_month).start
    kind = one_value(connection, "SELECT origin->>'kind' FROM calibration_scale WHERE scale_id = %s", (scale_id,))
    anchors = read_anchors(connection, scale_id, before.anchor_version)
    assert anchors is not None
    if kind == "bank":
        of_items = zip(anchors.item_ids, anchors.c.tolist(), anchors.curves.categories.tolist(), strict=True)
        guessing = {item: c for item, c, n in of_items if n == 2}
        if item_model(after.model).guesses:
            require_guessing(scale_id, guessing)
        elif item_model(before.model).guesses and any(guessing.values()):
            raise PermanentFailure(
                f"anchors of scale {scale_id} have c > 0 in the bank ("
                f"{join_names(sorted(item for item, c in guessing.items() if c > 0), 5)}): a "
                f"{item_model(after.model).spoken} month cannot be linked to them. Make a scale of its own whose "
                f"origin is a window (`irt scale init --scale NEW --model {after.model} --origin 2026-07`)"
            )
        return replace(change, bank_anchors=True)
    if later := anchors_change_after(connection, scale_id, start):
        raise PermanentFailure(
            f"the anchors of {scale_id} change from {later:%Y-%m} on: name that month or a later one (--from)"
        )
    origin = origin_fit(connection, scale_id)
    if origin is None:
        raise PermanentFailure(
            f"the fit of the origin window of scale {scale_id} is not in the database, so its anchors cannot be frozen "
            "again: restore it from a backup"
        )
    return replace(change, origin=origin)


def _refit_origin(database: Database, store: ObjectStore, change: ModelChange, engine: Calibrator) -> FittedWindow:
    origin = change.origin
    assert origin is not None
    table = read_snapshot(
        store,
        origin.snapshot,
        lambda problem: (
            f"the origin window of scale {change.scale_id} cannot be fitted again: {problem}. Restore the "
            "object store from a backup"
        ),
        CALIBRATION_COLUMNS,
    )
    judge_before(database, origin.window_start, {change.scale_id: change.after})
    with database.connect() as connection:
        request = build_fit_request(connection, table, change.after, origin.window_start, None)
    return fit_origin(engine, request, WindowSnapshot(origin.uri, origin.snapshot_hash, origin.data_hash))


def _write(connection: psycopg.Connection, change: ModelChange, *, by: str, reason: str) -> ModelChange:
    """Write the change in the caller's transaction. Returns the change with its effects."""
    start = Month(change.first_month).start
    record_decisions(connection, change.scale_id, change.values, start, by=by, reason=reason)
    for since in sorted({d.effective_from for d in read_decisions(connection, change.scale_id)}):
        if since > start:
            _require_parameters(read_scales(connection, since)[change.scale_id], f"{since:%Y-%m}")
    anchors = _refreeze(connection, change, start) if change.fitted else None
    return replace(change, anchors=anchors, stale=_stale_months(connection, change))


def _refreeze(connection: psycopg.Connection, change: ModelChange, start: datetime) -> RefrozenAnchors:
    """Write the fit of the origin window, and freeze from it the anchors of the version in force."""
    scale, origin, fitted = change.before, change.origin, change.fitted
    assert origin is not None
    assert fitted is not None
    old = read_anchors(connection, scale.scale_id, scale.anchor_version)
    assert old is not None
    window = (origin.window_start, origin.window_end)
    found = write_origin_fit(connection, scale.scale_id, window, scale.engine, scale.rules, fitted)
    kept = {item: found.anchors[item] for item in old.item_ids if item in found.anchors}
    left_out = {
        item: found.left_out.get(item, "it has no answers in the origin window")
        for item in old.item_ids
        if item not in kept
    }
    if len(kept) < scale.rules.publication.min_anchors:
        raise PermanentFailure(
            f"as a {item_model(change.after.model).spoken} the origin window of scale {scale.scale_id} leaves "
            f"{len(kept)} of {len(old.item_ids)} anchors, and linking needs {scale.rules.publication.min_anchors} "
            "(min_anchors): " + "; ".join(f"{item}: {why}" for item, why in left_out.items())[:1000]
        )
    version = next_version(connection, scale.scale_id)
    topics = dict(zip(old.item_ids, old.topics, strict=True))
    digest = freeze_anchors(
        connection, scale.scale_id, version, kept, topics, effective_from=start, fit=fitted.calibration
    )
    record_anchor_hash(connection, found.fit_id, digest)
    make_newest(connection, scale.scale_id, version)
    shifts = {item: kept[item].b - float(b) for item, b in zip(old.item_ids, old.b, strict=True) if item in kept}
    largest = max(shifts, key=lambda item: abs(shifts[item]))
    return RefrozenAnchors(
        version,
        f"{window[0]:%Y-%m-%d} to {window[1]:%Y-%m-%d}",
        len(kept),
        left_out,
        sum(shifts.values()) / len(shifts),
        shifts[largest],
        largest,
    )


def _stale_months(connection: psycopg.Connection, change: ModelChange) -> tuple[str, ...]:
    """Months from the first one on whose fit is of another model than theirs now, or linked to other anchors."""
    stale = []
    for month, (made_with, linked_to) in months_made_with(connection, change.before, change.first_month).items():
        scale = read_scales(connection, Month(month).start)[change.scale_id]
        frozen = anchor_hash(connection, scale.scale_id, scale.anchor_version)
        if fits.settings_difference(made_with, scale) or (linked_to is not None and linked_to != frozen):
            stale.append(month)
    return tuple(stale)
