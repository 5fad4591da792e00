"""Recalibration: fit several months together, using each item's answers since it last changed, and propose the values.

Every learner-month is a person with its own ability, and each month has its own mean and SD of θ, so learning between
two months does not make items look easier. If drift analysis found that an item changed, its answers from before the
change are dropped, so its estimate describes the item as it is now. The other items determine θ for these answers. The
fit is linked to the frozen anchors like the fit of a month, and its items pass the item gates of a month.

`release` decides on the proposals.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.calibration.request import CalibrationResult, FitRequest, fit_spec_extras
from irt_assets.calibration.scale_linking import link_to_scale
from irt_assets.calibration.testlets import bank_testlets
from irt_assets.common.partitions import Month, months_between
from irt_assets.engines.em import EmEngine
from irt_assets.gates import gates
from irt_assets.ledger import fits
from irt_assets.ledger.anchors import anchor_hash, read_anchors
from irt_assets.ledger.cited_fits import snapshot_of_fit
from irt_assets.ledger.fit_spec import StagedSpec
from irt_assets.ledger.proposals import NewProposal, append_proposals
from irt_assets.ledger.steps import steps
from irt_assets.responses.facts import KEY
from irt_assets.responses.snapshot import CALIBRATION_COLUMNS, Snapshot, read_snapshot, sample_for_run, store_attempts
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.scale import Scale, initialised_scale
from irt_assets.scales.scored_models import models_in_bank
from irt_psychometrics import BreakdownError, Calibration, Responses
from irt_psychometrics.estimation import Shape
from irt_psychometrics.linking import Linking
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore, key_part
from resources.postgres.database import Database, advisory_lock
from resources.version import code_version

KIND = "pooled"
"""The `kind` of its fits in `mirt_fit_meta`."""


@dataclass(frozen=True, kw_only=True)
class Recalibration:
    """Result of a recalibration.

    Attributes:
        window: FIRST:LAST month, the window of its proposals.
        months: months that were pooled.
        passed_over: months that were not pooled, with the reasons.
        changed: items whose answers count only from a time on, with this time.
        n_persons, n_responses: numbers of learner-months and of responses in the fit.
        proposed: items with a proposal.
        held: items that an item gate holds back, with the reasons.
    """

    window: str
    scale_id: str
    fit_id: str
    months: tuple[str, ...]
    passed_over: Mapping[str, str]
    changed: Mapping[str, datetime]
    n_persons: int
    n_responses: int
    proposed: tuple[str, ...]
    held: Mapping[str, list[str]]


def recalibrate(
    database: Database,
    store: ObjectStore,
    scale_id: str,
    first: str,
    last: str,
    items: Collection[str] = (),
    threads: int | None = None,
) -> Recalibration:
    """Fit the green months from `first` to `last` together, and propose the items' values.

    Parameters
    ----------
    database, store
        The database, and the store of snapshots.
    scale_id
        The scale.
    first, last
        First and last month.
    items
        The items to propose; empty: all items but the anchors.
    threads
        Number of threads; None: all processors.

    Returns
    -------
    Recalibration
        The result. Proposals and the fit are stored.

    Raises
    ------
    PermanentFailure
        If no month is green, if the scale's engine is not em, if its items are assigned by level or its persons are
        learner-weeks, if the fit does not converge or the anchors cannot link it, if `items` have no or too few
        answers, or if its inputs change during the fit.
    """
    window, months = f"{first}:{last}", _months(first, last)
    with database.connect() as connection:
        basis = _read_basis(connection, scale_id, months)
        anchors = read_anchors(connection, scale_id, basis.scale.anchor_version)
        testlets, in_bank = bank_testlets(connection, scale_id), models_in_bank(connection, scale_id)
    scale, snapshots, changed = basis.scale, basis.snapshots, basis.changed
    basis.require_snapshots(window, database.settings.most_for_run)
    scored = (_read_scored_answers(store, month_snapshot, scale_id) for month_snapshot in snapshots)
    table = pool_answers(pa.concat_tables(scored, promote_options="default"), changed)
    responses, persons = scored_responses_of(table, scale_id)
    responses, left_out = _drop_rare_items(responses, scale.rules.eligibility.min_fitted_responses)
    _require(items, responses, left_out)
    uri, digest = store_attempts(store, f"recalibration/{key_part(scale_id)}", table)
    data_hash = hashlib.sha256("\n".join(month_snapshot.data_hash for month_snapshot in snapshots).encode()).hexdigest()
    snapshot = Snapshot(window, digest, uri, data_hash, table.num_rows, {}, {})
    n = np.bincount(responses.item, minlength=responses.n_items)
    enough = [scale.min_published_responses(most) for most in (responses.n_categories - 1).tolist()]
    few = np.array(responses.item_ids)[n < enough]
    request = FitRequest(
        scale=scale,
        responses=responses,
        provisional=tuple(few.tolist()),
        left_out=left_out,
        earlier=None,
        anchors=anchors,
        testlets=testlets,
        in_bank=in_bank,
    )
    groups = [str(person).partition("/")[0] for person in persons] if len(snapshots) > 1 else None
    with BreakdownError.explain(f"{window} could not be fitted"):
        raw, spec = _fit(request, basis, snapshot, groups, items, threads)
    with database.connect() as connection:
        linked, linking = _link(connection, scale, raw, window)
    with database.connect() as connection:
        advisory_lock(connection, "ledger", scale_id)
        basis.require_same(_read_basis(connection, scale_id, months), window)
        staged = _stage(connection, snapshot, scale, raw, spec)
        fits.save_linked_fit(
            connection,
            staged,
            raw,
            linked,
            linking,
            kind=KIND,
            window=(Month(first).start, Month(last).end),
            anchor_hash=basis.anchor_hash,
            run_id=None,
        )
        requested = tuple(items) or tuple(i for i in responses.item_ids if anchors is None or i not in anchors.item_ids)
        proposed, held = _propose(connection, scale, window, staged.fit_id, requested, changed)
    return Recalibration(
        window=window,
        scale_id=scale_id,
        fit_id=staged.fit_id,
        months=tuple(month_snapshot.month for month_snapshot in snapshots),
        passed_over=basis.passed_over,
        changed={item: since for item, since in changed.items() if item in responses.item_ids},
        n_persons=responses.n_persons,
        n_responses=responses.n_responses,
        proposed=proposed,
        held=held,
    )


@dataclass(frozen=True)
class _Basis:
    """Inputs of a recalibration besides the answers, as they were in the database at the time of the fit."""

    scale: Scale
    anchor_hash: str
    snapshots: list[Snapshot]
    passed_over: dict[str, str]
    changed: dict[str, datetime]
    shape: Shape

    def require_snapshots(self, window: str, most: int | None) -> None:
        """Raise PermanentFailure if no month can be pooled, or if a month has more than `most` attempts."""
        if not self.snapshots:
            raise PermanentFailure(
                f"no month of {window} is green: " + "; ".join(f"{m} {w}" for m, w in self.passed_over.items())
            )
        if large := [
            snapshot.month for snapshot in self.snapshots if sample_for_run(snapshot, most, self.scale.scale_id)
        ]:
            raise PermanentFailure(
                f"months that are fitted together are read whole, and {', '.join(large)} has more attempts than a run "
                f"reads, {most:,}: name other months"
            )

    def require_same(self, now: "_Basis", window: str) -> None:
        """Raise PermanentFailure, which names the changes, if the inputs have changed since the fit began.

        The reasons in `passed_over` may change.
        """
        changes = {
            "the scale's settings": replace(now.scale, anchor_version=self.scale.anchor_version) != self.scale,
            "the anchors": now.anchor_hash != self.anchor_hash,
            "the answers from which its months are published": now.snapshots != self.snapshots,
            "the items that drift shows to have changed": now.changed != self.changed,
            "the distribution of ability in its months": now.shape != self.shape,
        }
        if found := [subject for subject, has_changed in changes.items() if has_changed]:
            raise PermanentFailure(
                f"while {window} was being fitted, {' and '.join(found)} changed: nothing was proposed, run it again"
            )


def _fit(
    request: FitRequest,
    basis: _Basis,
    snapshot: Snapshot,
    groups: list[str] | None,
    items: Collection[str],
    threads: int | None,
) -> tuple[Calibration, StagedSpec]:
    """Fit the pooled answers. Returns the fit and its spec. The guessing of `items` is estimated again.

    Raises PermanentFailure if the fit does not converge.
    """
    raw = EmEngine(threads).calibrate(
        request.responses,
        model=request.model,
        data_hash=snapshot.data_hash,
        priors=request.priors(),
        groups=groups,
        reference=None if groups is None else min(groups),
        latent=basis.shape.latent,
        testlets=request.testlets_used,
        guessing={item: c for item, c in request.guessing.items() if item not in items},
        **request.step_arguments,
    )
    if not raw.convergence.converged:
        raise PermanentFailure(f"the fit of {snapshot.month} did not converge: {raw.convergence.reason}")
    of_window = StagedSpec(
        eligibility=basis.scale.rules.non_defaults(),
        snapshot=snapshot.uri,
        pooled={month_snapshot.month: month_snapshot.snapshot_hash for month_snapshot in basis.snapshots},
        passed_over=basis.passed_over,
        answers_from={item: since.isoformat() for item, since in basis.changed.items()},
    )
    more = fit_spec_extras(request, CalibrationResult(raw, groups, basis.shape))
    return raw, fits.model_spec(basis.scale) | of_window | more


def _stage(
    connection: psycopg.Connection, snapshot: Snapshot, scale: Scale, raw: Calibration, spec: StagedSpec
) -> fits.StagedFit:
    return fits.StagedFit(
        fit_id=fits.stage_fit(connection, snapshot, scale.scale_id, scale.engine, raw, spec, None),
        month=snapshot.month,
        scale_id=scale.scale_id,
        engine=scale.engine,
        snapshot_hash=snapshot.snapshot_hash,
        spec=spec,
        code_version=code_version(),
        fitted_at=datetime.now(UTC),
    )


def _link(connection: psycopg.Connection, scale: Scale, raw: Calibration, window: str) -> tuple[Calibration, Linking]:
    """The fit on the scale, and its linking. Raises PermanentFailure if the anchors cannot link it."""
    placed = link_to_scale(connection, scale, raw, window)
    if placed.linking is None or placed.linked is None:
        raise PermanentFailure(f"{window} cannot be placed on scale {scale.scale_id}: {placed.error}")
    if placed.disagreement:
        diagnosis = placed.linking.diagnosis or "which of them moved is unknown"
        raise PermanentFailure(f"the anchors do not carry {window}: {placed.disagreement}; {diagnosis}")
    return placed.linked, placed.linking


def _read_basis(connection: psycopg.Connection, scale_id: str, months: Sequence[str]) -> _Basis:
    first, last = months[0], months[-1]
    scale = _scale(connection, scale_id, Month(last).start)
    snapshots, passed_over = _snapshots(connection, scale_id, months)
    return _Basis(
        scale,
        anchor_hash(connection, scale_id, scale.anchor_version),
        snapshots,
        passed_over,
        last_item_changes(connection, scale_id, first, last),
        _common_shape(connection, scale, [snapshot.month for snapshot in snapshots]),
    )


def _common_shape(connection: psycopg.Connection, scale: Scale, months: Sequence[str]) -> Shape:
    """The distribution of θ: a histogram for each month if any month is fitted with one."""
    linked = {
        month: fits.linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
        for month in months
    }
    having = [month for month, fit in linked.items() if fit is not None and fit.model_spec.latent_shape == "histogram"]
    if having:
        return Shape("histogram", f"θ is taken as a histogram in each month, as in the fit of {', '.join(having)}")
    return Shape("normal", "θ is taken as normal in each month, as in their own fits")


def last_item_changes(connection: psycopg.Connection, scale_id: str, first: str, last: str) -> dict[str, datetime]:
    """The times of the items' last changes; earlier answers are answers to a different version of the item.

    The time follows from the last drift alert that was opened up to `last`. If the alert was closed up to `last`, it is
    the start of the month that closed it. Otherwise it is the day on which a leak began, or the start of the month that
    opened the alert. Items without a change after the start of `first` are absent.
    """
    rows = connection.execute(
        """SELECT DISTINCT ON (l.item_id) l.item_id, l.opened_month, l.closed_month, d.details->'change'->>'onset'
           FROM drift_alerts l
           LEFT JOIN item_drift d ON (d.scale_id, d.item_id, d.month) = (l.scale_id, l.item_id, l.opened_month)
           WHERE l.scale_id = %s AND l.opened_month <= %s ORDER BY l.item_id, l.opened_month DESC""",
        (scale_id, last),
    ).fetchall()
    begins = Month(first).start
    found = {}
    for item, opened, closed, onset in rows:
        since = Month(opened).start
        if closed is not None and closed <= last:
            since = Month(closed).start
        elif onset is not None:
            since = max(since, datetime.fromisoformat(onset).replace(tzinfo=UTC))
        if since > begins:
            found[item] = since
    return found


def pool_answers(table: pa.Table, changed: Mapping[str, datetime]) -> pa.Table:
    """The scored answers without answers to items from before they `changed`. Each learner-month is a person."""
    items = pa.array(list(changed), pa.string())
    since = pa.array(list(changed.values()), pa.timestamp("us", "UTC"))
    position = pc.index_in(table["item_id"], items)
    before = pc.less(pc.cast(table["completed_at"], pa.timestamp("us", "UTC")), pc.take(since, position))
    table = table.filter(pc.invert(pc.fill_null(before, False)))
    month = pc.strftime(table["completed_at"], format="%Y-%m")
    person = pc.binary_join_element_wise(month, table[KEY].cast(pa.string()), "/")
    return table.set_column(table.schema.get_field_index(KEY), KEY, person)


def _months(first: str, last: str) -> list[Month]:
    try:
        months = list(months_between(first, Month(last)))
    except ValueError as error:
        raise PermanentFailure(f"a recalibration needs two months: {error}") from None
    if not months:
        raise PermanentFailure(f"--from {first} lies after --to {last}")
    return months


def _scale(connection: psycopg.Connection, scale_id: str, window_start: datetime) -> Scale:
    scale = initialised_scale(connection, scale_id, window_start)
    if scale.engine != "em":
        raise PermanentFailure(f"scale {scale_id} is published from {scale.engine}; only em fits several months as one")
    if scale.rules.fit.assignment == "by_level":
        raise PermanentFailure(
            f"items of scale {scale_id} are assigned by level, so its months cannot be pooled: decide on what months "
            "propose"
        )
    if scale.occasions == "week":
        raise PermanentFailure(
            f"learners' weeks are the persons of scale {scale_id}, and months that are fitted together have learners' "
            "months: decide on what months propose"
        )
    return scale


def _snapshots(
    connection: psycopg.Connection, scale_id: str, months: Collection[str]
) -> tuple[list[Snapshot], dict[str, str]]:
    """The snapshot of each month that can be pooled, and the reasons why the other months cannot."""
    known = steps(connection, scale_id)
    found, passed_over = [], {}
    for month in months:
        step = known.get(month)
        if step is None or step.state != "done":
            passed_over[month] = f"is {step.state}: {step.why}" if step else "has not been through its publication step"
            continue
        snapshot = snapshot_of_fit(connection, step.fit_id, month) if step.fit_id else None
        if snapshot is None:
            passed_over[month] = "no longer has a snapshot"
        else:
            found.append(snapshot)
    return found, passed_over


def _read_scored_answers(store: ObjectStore, snapshot: Snapshot, scale_id: str) -> pa.Table:
    table = read_snapshot(store, snapshot, columns=CALIBRATION_COLUMNS)
    table = table.set_column(table.schema.get_field_index(KEY), KEY, table[KEY].cast(pa.string()))
    return table.filter(pc.and_(pc.is_null(table["reason"]), pc.equal(table["scale_id"], scale_id)))


def _drop_rare_items(responses: Responses, least: int) -> tuple[Responses, dict[str, int]]:
    """Drop items with too few responses for a fit. Returns the remaining responses, and the dropped items with their
    numbers of responses."""
    n = np.bincount(responses.item, minlength=responses.n_items)
    left_out = {item: int(k) for item, k in zip(responses.item_ids, n, strict=True) if k < least}
    return (responses.of_items(n >= least), left_out) if left_out else (responses, left_out)


def _require(items: Collection[str], responses: Responses, left_out: Mapping[str, int]) -> None:
    problems = [
        f"{item} has {left_out[item]} answers since it changed, too few to be fitted"
        if item in left_out
        else f"{item} was not answered"
        for item in items
        if item not in responses.item_ids or item in left_out
    ]
    if problems:
        raise PermanentFailure("nothing was recalibrated: " + "; ".join(problems))


def _propose(
    connection: psycopg.Connection,
    scale: Scale,
    window: str,
    fit_id: str,
    requested: Collection[str],
    changed: Mapping[str, datetime],
) -> tuple[tuple[str, ...], dict[str, list[str]]]:
    first, last = window.split(":")
    linked = fits.linked_fit(connection, scale.scale_id, KIND, Month(first).start, scale.engine)
    assert linked is not None
    held = {item: gates.item_problems(linked.items[item], scale.rules) for item in requested}
    proposed, values = tuple(item for item in requested if not held[item]), linked.values
    append_proposals(
        connection,
        [
            NewProposal(
                month=window,
                scale_id=scale.scale_id,
                item_id=item,
                fit_id=fit_id,
                values=values[item],
                why=f"recalibrated on {_since_in_words(changed.get(item), first)} to {last}",
            )
            for item in proposed
        ],
    )
    return proposed, {item: problems for item, problems in held.items() if problems}


def _since_in_words(changed: datetime | None, first: str) -> str:
    return f"its answers from {changed:%Y-%m-%d}, when it changed," if changed else f"all answers from {first}"
