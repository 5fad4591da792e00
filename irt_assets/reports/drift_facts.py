"""Read the content of a drift report on a month of a scale from tables, and observed proportions from the snapshot.

A month of the origin window that has no fit of its own is reported with the fit of the window.

Nothing is tested or estimated here: if a table has no rows of the month yet, the report says "not tested".
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, NamedTuple

import psycopg

from irt_assets.abilities.batch import MeasuredLearners, read_measured_learners
from irt_assets.abilities.group_page import read_groups
from irt_assets.abilities.groups import Row
from irt_assets.blocks import value_with_error
from irt_assets.calibration.linking_history import LinkedMonth, read_history
from irt_assets.common.partitions import Month
from irt_assets.common.wording import natural_order
from irt_assets.decisions.origin import OriginSummary, read_origin
from irt_assets.decisions.proposals import Proposal as Change, latest_waiting, open_changes, proposals
from irt_assets.decisions.release import next_month
from irt_assets.decisions.release_impact import Impact, impact
from irt_assets.drift import rows
from irt_assets.drift.alerts import first_seen
from irt_assets.drift.blocks import categories_in_words
from irt_assets.drift.rows import AlertRow, DifRow, DriftRow, InformationRow
from irt_assets.drift.uncompared_months import not_judged_reason
from irt_assets.gates.anchor_shifts import AnchorShift, anchor_shifts
from irt_assets.gates.coverage import coverage_gaps, read_bank
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.item_analysis.stored import read_items
from irt_assets.ledger.anchors import anchor_items, read_anchors
from irt_assets.ledger.decisions import Decision, decisions_on_month
from irt_assets.ledger.fit_spec import Spread
from irt_assets.ledger.fits import latest_staged
from irt_assets.ledger.fitted_items import NOT_FITTED, FittedItem, items_of_fit
from irt_assets.ledger.linked_windows import LinkedFitRecord, linked_origin, linkings_of
from irt_assets.ledger.origin_fit import overlapping_origin
from irt_assets.ledger.proposals import proposals_by_reason
from irt_assets.ledger.publications import ItemInForce, publications_in_force
from irt_assets.ledger.steps import Step, step_of
from irt_assets.reports.classical_blocks import key_warnings
from irt_assets.reports.drift_actions import Evidence, Proposal, propose
from irt_assets.responses.snapshot import FIT_COLUMNS, Snapshot, read_for_run, snapshot_for_scale, snapshot_of
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.item_status import item_status
from irt_assets.scales.scale import Scale
from irt_psychometrics import ItemParameters, Responses
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.items import ItemRow
from resources.files.object_store import ObjectStore
from resources.postgres.database import database_settings, one_value


@dataclass(frozen=True, kw_only=True)
class ItemFindings(FittedItem):
    """A month's findings about an item. `published` are its values in force, which apply from `since` on."""

    item_id: str
    topic: str | None
    is_anchor: bool
    published: ItemRow | None
    since: datetime | None
    drift: DriftRow | None
    observed: Observed | None


@dataclass(frozen=True, kw_only=True)
class Item(ItemFindings):
    """An item in the month. `history` is its drift over the last months, oldest first."""

    history: tuple[DriftRow, ...]
    evidence: Evidence
    proposal: Proposal | None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Content of a report on a month of a scale.

    Attributes:
        not_compared: why drift was not tested; "" if it was.
        items: items by id.
        fit: linked fit of the month, or of the origin window.
        linkings: linked fits, oldest first, including `fit`.
        dif_attributes: rows of `dif_analysis` on attributes as a whole.
        dif: rows of `dif_analysis` on items.
        step: publication step of the month.
        proposed: reason → number of items that publication only proposes.
        in_force: number of items in force at the month's start, or at the origin window's end.
        bank_size: number of items of the scale.
        origin: the origin window if the report is on it.
        measured: the learners that the window measured; only read for its report.
        key_warnings: the items whose key an option beats, each with a sentence.
        open_decisions: the month's proposals that wait for a decision.
        effect: effect on learners of accepting all of them.
        groups: rows of `group_ability`.
    """

    month: str
    scale: Scale
    state: MonthState
    not_compared: str
    items: dict[str, Item]
    fit: LinkedFitRecord | None
    linkings: tuple[LinkedFitRecord, ...]
    dif_attributes: tuple[DifRow, ...]
    dif: tuple[DifRow, ...]
    information: dict[str, InformationRow]
    alerts: tuple[AlertRow, ...]
    decisions: tuple[Decision, ...]
    step: Step | None
    proposed: dict[str, int]
    snapshot: Snapshot | None
    in_force: int
    bank_size: int = 0
    origin: OriginSummary | None = None
    measured: MeasuredLearners | None = None
    key_warnings: tuple[str, ...] = ()
    open_decisions: tuple[Change, ...] = ()
    effect: Impact | None = None
    linking_warnings: tuple[str, ...] = ()
    linking_history: tuple[LinkedMonth, ...] = ()
    anchor_shifts: tuple[AnchorShift, ...] = ()
    groups: tuple[Row, ...] = ()

    @property
    def month_before(self) -> LinkedFitRecord | None:
        """The last linked fit before the month."""
        earlier = [linked for linked in self.linkings if linked.month < self.month]
        return earlier[-1] if earlier else None

    @property
    def n_compared(self) -> int:
        return sum(item.drift is not None for item in self.items.values())


def gather(connection: psycopg.Connection, store: ObjectStore, month: str, scale: Scale, state: MonthState) -> Facts:
    """Read the report's content. `state` is from `gates.month_status`. Raises ValueError if `month` is not a month."""
    if origin := _origin_of(connection, scale, month):
        return _gather_origin(connection, store, month, scale, state, origin)
    start = Month(month).start
    linkings = linkings_of(connection, scale, month)
    fit = next((linked for linked in linkings if linked.month == month), None)
    history = rows.read_histories(connection, scale, month)
    information = {row.item_id: row for row in rows.read_information(connection, scale, month)}
    red = not_judged_reason(connection, scale, month)
    if red:  # results stored before it turned red rest on another linking
        history = {item: before for item, past in history.items() if (before := [r for r in past if r.month != month])}
        information = {}
    dif = rows.read_dif(connection, scale, month)
    step = step_of(connection, scale.scale_id, month)
    in_force = {item.item_id: item for item in publications_in_force(connection, scale.scale_id, start)}
    snapshot = snapshot_for_scale(connection, month, scale.scale_id)
    held = step.held if step else {}
    items = _items(connection, scale, month, fit, linkings, _TestRows(history, information, dif), in_force, held)
    if fit is not None and snapshot is not None and snapshot.snapshot_hash == fit.snapshot_hash:
        items = _add_observed(connection, store, scale, snapshot, fit, items)
    waiting = tuple(
        change
        for change in latest_waiting(proposals(connection, items=[*items]))
        if change.scale_id == scale.scale_id and change.window[-7:] == month
    )
    changes = open_changes(waiting)
    anchors = read_anchors(connection, scale.scale_id, scale.anchor_version) if fit else None
    now = {name: item.values for name, item in items.items() if item.values}
    bank, max_error = read_bank(connection, scale.scale_id, start), scale.rules.warnings.warn_linking_error
    gaps = coverage_gaps(fit.constants, bank, scale.model, max_error) if fit else []
    return Facts(
        month=month,
        scale=scale,
        state=state,
        not_compared=red
        or ("" if any(item.drift for item in items.values()) else _why_not(connection, scale, state, fit, in_force)),
        items=items,
        fit=fit,
        linkings=linkings,
        dif_attributes=tuple(row for row in dif if not row.item_id),
        dif=tuple(row for row in dif if row.item_id),
        information=information,
        alerts=tuple(rows.read_alerts(connection, scale, month)),
        decisions=tuple(decisions_on_month(connection, scale.scale_id, month, fit.fit_id if fit else None)),
        step=step,
        proposed=proposals_by_reason(connection, scale.scale_id, month, fit.fit_id if fit else None),
        snapshot=snapshot,
        in_force=len(in_force),
        bank_size=_bank_size(connection, scale),
        groups=tuple(read_groups(connection, scale.scale_id, month)),
        key_warnings=key_warnings(read_items(connection, scale.scale_id, month, form_id="")),
        open_decisions=waiting,
        effect=impact(connection, scale, changes, next_month(datetime.now(UTC))) if changes else None,
        anchor_shifts=tuple(anchor_shifts(anchors, now, fit.constants)) if anchors and fit else (),
        linking_history=tuple(read_history(connection, scale, month)),
        linking_warnings=tuple(dict.fromkeys([*fit.constants.warnings, *gaps])) if fit else (),
    )


def _origin_of(connection: psycopg.Connection, scale: Scale, month: str) -> OriginSummary | None:
    """Read the scale's origin window. Returns None if the month is outside it or has a fit of its own."""
    if overlapping_origin(connection, scale.scale_id, *Month(month).bounds) is None:
        return None
    staged = latest_staged(connection, month, scale.scale_id, scale.engine)
    return read_origin(connection, scale.scale_id) if staged is None else None


def _gather_origin(
    connection: psycopg.Connection,
    store: ObjectStore,
    month: str,
    scale: Scale,
    state: MonthState,
    origin: OriginSummary,
) -> Facts:
    """Read the content for the window: its fit, the items that it published and left out, and their DIF."""
    fit = linked_origin(connection, scale)
    assert fit is not None
    dif = rows.read_dif(connection, scale, month)
    since = publications_in_force(connection, scale.scale_id, origin.window.window_end)
    in_force = {item.item_id: item for item in since}
    held = {item: (why,) for item, why in origin.left_out.items()}
    items = _items(connection, scale, month, fit, (fit,), _TestRows({}, {}, dif), in_force, held)
    return Facts(
        month=month,
        scale=scale,
        state=state,
        not_compared=f"drift is a change since the origin window, and {month} is part of it",
        items=_add_observed(connection, store, scale, origin.window.snapshot, fit, items),
        fit=fit,
        linkings=(fit,),
        dif_attributes=tuple(row for row in dif if not row.item_id),
        dif=tuple(row for row in dif if row.item_id),
        information={},
        alerts=(),
        decisions=tuple(decisions_on_month(connection, scale.scale_id, month, fit.fit_id)),
        step=None,
        proposed={},
        snapshot=snapshot_of(connection, month, fit.snapshot_hash),
        in_force=len(in_force),
        bank_size=_bank_size(connection, scale),
        groups=tuple(read_groups(connection, scale.scale_id, month)),
        origin=origin,
        measured=read_measured_learners(connection, scale.scale_id, origin.window.window_end),
        key_warnings=key_warnings(read_items(connection, scale.scale_id, month, form_id="")),
    )


def _bank_size(connection: psycopg.Connection, scale: Scale) -> int:
    return one_value(connection, "SELECT count(*) FROM question WHERE scale_id = %s", (scale.scale_id,))


def _add_observed(
    connection: psycopg.Connection,
    store: ObjectStore,
    scale: Scale,
    snapshot: Snapshot,
    fit: LinkedFitRecord,
    items: dict[str, Item],
) -> dict[str, Item]:
    """Add observed proportions to the items that have a proposal. `snapshot` is the one that was fitted."""
    wanted = [i for i, item in items.items() if item.proposal is not None and item.values is not None]
    if not wanted:
        return items
    table = read_for_run(store, snapshot, database_settings(connection).most_for_run, FIT_COLUMNS, (scale.scale_id,))
    responses, _ = scored_responses_of(table, scale.scale_id)
    curves = {name: item.values for name, item in items.items()}
    observed = observed_of(responses, curves, fit.spec.latent, wanted)
    return items | {i: replace(items[i], observed=observed.get(i)) for i in wanted}


class _TestRows(NamedTuple):
    """Rows of the month's tests: each item's drift up to the month, its information, and DIF."""

    history: dict[str, list[DriftRow]]
    information: dict[str, InformationRow]
    dif: Iterable[DifRow]


def _items(
    connection: psycopg.Connection,
    scale: Scale,
    month: str,
    fit: LinkedFitRecord | None,
    linkings: Sequence[LinkedFitRecord],
    tested: _TestRows,
    in_force: dict[str, ItemInForce],
    held: Mapping[str, Sequence[str]],
) -> dict[str, Item]:
    """Items of the fit or of the month's drift, and items that were held back, in natural order of their ids."""
    of_fit = items_of_fit(connection, fit.fit_id) if fit else {}
    topics: dict[str, str | None] = dict(
        connection.execute("SELECT item_id, topic_id FROM question WHERE scale_id = %s", (scale.scale_id,)).fetchall()
    )
    anchors, out = anchor_items(connection, scale), item_status(connection)
    large: dict[str, list[str]] = {}
    for test in tested.dif:
        if test.large:
            large.setdefault(test.item_id, []).append(f"{test.attribute}: {test.focal_group}")
    suspects = fit.constants.suspects if fit else {}
    found = {}
    drifted = {i for i, past in tested.history.items() if past[-1].month == month}
    for name in sorted(of_fit.keys() | drifted | held.keys(), key=natural_order):
        past = tested.history.get(name, [])
        drift = past[-1] if past and past[-1].month == month else None
        fitted = of_fit.get(name, NOT_FITTED)
        trend = drift.details.get("trend") if drift else None
        published = in_force.get(name)
        known = fitted.values or (published.values if published else None)
        evidence = Evidence(
            severity=drift.severity if drift else "none",
            kind=drift.kind if drift else None,
            onset=first_seen((r.month, r.severity, r.details) for r in reversed(past))
            if drift and drift.details.get("change", {}).get("onset")
            else None,
            months_flagged=_count_consecutive(reversed([r.severity != "none" for r in past])) if drift else 0,
            trend=(trend["b_a_month"], trend["q"]) if trend and None not in (trend["b_a_month"], trend["q"]) else None,
            categories=categories_in_words(drift.categories) if drift else "",
            is_anchor=name in anchors,
            moved_against=suspects[name].shown if name in suspects else "",
            months_dropped=_months_dropped(name, fitted.n, scale, fit, linkings),
            flags=fitted.flags,
            groups_with_large_dif=tuple(large.get(name, ())),
            information_lost=name in tested.information and tested.information[name].flagged,
            held=tuple(held.get(name, ())),
            flat=_flat(fitted.values),
            withdrawn=out[name].sentence if name in out and out[name].is_withdrawn else "",
            has_key=known is None or known.max_score == 1,
        )
        found[name] = Item(
            item_id=name,
            topic=topics.get(name),
            is_anchor=name in anchors,
            published=published.values if published else None,
            since=published.effective_from if published else None,
            values=fitted.values,
            n=fitted.n or (drift.details.get("proportion_correct", {}).get("n", 0) if drift else 0),
            statistics=fitted.statistics,
            flags=fitted.flags,
            history=tuple(past),
            drift=drift,
            evidence=evidence,
            proposal=propose(evidence),
            observed=None,
        )
    return found


def _flat(values: ItemRow | None) -> str:
    """The slope with its standard error if 0 is within two standard errors, else ""."""
    if values is None or values.a_se is None or values.a > 2 * values.a_se:
        return ""
    return f"a = {value_with_error(values.a, values.a_se)}"


def _months_dropped(
    item: str, n: int, scale: Scale, fit: LinkedFitRecord | None, linkings: Sequence[LinkedFitRecord]
) -> int:
    """Number of months in a row, up to this one, in which linking left the anchor out.

    Returns 0 if the month has too few answers to show that the anchor moved.
    """
    if fit is None or n < scale.rules.linking.min_anchor_responses:
        return 0
    return _count_consecutive(item in linked.constants.anchors_dropped for linked in reversed(linkings))


def _count_consecutive(newest_first: Iterable[bool]) -> int:
    return len([*takewhile(bool, newest_first)])


def observed_of(
    responses: Responses, curves: Mapping[str, ItemRow | None], latent: Spread, wanted: Collection[str]
) -> dict[str, Observed]:
    """Return `Observed.by_ability` of the wanted items, with the curves of a month."""
    items = ItemParameters.from_rows(responses.item_ids, [curves.get(name) for name in responses.item_ids])
    return Observed.by_ability(responses, items, wanted, mean=latent.mean, sd=latent.sd)


def _why_not(
    connection: psycopg.Connection,
    scale: Scale,
    state: MonthState,
    fit: LinkedFitRecord | None,
    in_force: dict[str, Any],
) -> str:
    """Why no item of the month was compared, and the remedy."""
    month = state.month
    if state.state is State.ORIGIN:
        return f"it is {state.why}"
    if fit is None:
        staged = latest_staged(connection, month, scale.scale_id, scale.engine)
        if staged is None:
            return f"{month} has not been fitted: `irt calibrate --month {month}`"
        return f"{month} has no linked fit: {staged.error or 'materialise linked_item_parameters'}"
    if not in_force:
        return f"no item had published parameters on {Month(month).start:%Y-%m-%d}: there is nothing to compare with"
    if not fit.converged:
        return f"the fit of {month} did not converge"
    return f"it has not been judged yet: materialise item_drift of {month}"
