"""Read proposals with their evidence, and find the proposals that need a person's decision. Nothing here writes.

`publication` and `recalibration` make proposals, `release` decides on them, and `release_impact` computes the effect on
learners.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.ledger.decisions import DecisionSubject, decisions_on_drift
from irt_assets.ledger.proposals import newest_windows_of, read_proposals
from irt_assets.ledger.steps import step_of, steps_of_month
from irt_assets.scales.item_status import Status, item_status
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics import ItemParameters
from irt_psychometrics.items import ItemRow
from resources.failures import PermanentFailure

REFERENCE = re.compile(r"(\d{4}-\d{2}(?::\d{4}-\d{2})?)/(.+)", re.DOTALL)
ALL_ITEMS = "all"
"""The item in a reference that means all items of the window that need a decision."""
KINDS_THAT_NEED_MORE = {
    "leak": "the item appears to have leaked: replace it; parameters estimated from leaked answers should not be "
    "published",
    "wrong key": "its key is wrong: correct the key first; the parameters describe the wrong answer",
    "easier: drift or leak": "it may have leaked: response times are needed to find out",
}
"""Kinds of change that new parameters alone do not fix, with the reason."""


class State(StrEnum):
    """The state of a proposal. Only open proposals can be decided on.

    A newer proposal of the same window and item supersedes a proposal. All proposals of a month are superseded by the
    month's next fit, which judges every item again. They also count as superseded as long as the month's publication
    step is not done. A recalibration supersedes only proposals of the same window for the items that it proposes.
    """

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


class Reference(NamedTuple):
    """The name of a proposal, written WINDOW/ITEM. The window is a month, or FIRST:LAST for a recalibration."""

    window: str
    item_id: str

    def __str__(self) -> str:
        return f"{self.window}/{self.item_id}"


@dataclass(frozen=True)
class Proposal:
    """A proposal with its evidence.

    Attributes:
        window: the month of the proposal, or FIRST:LAST of a recalibration (if `recalibrated`).
        new: the proposed values.
        n: number of responses to the item in the fit.
        why: the reason why a person decides.
        recalibrated: whether the proposal comes from a recalibration.
        anchor: whether the item is an anchor of the scale.
        outdated: whether the published value comes from a later window, or from a window that ends with the proposal's
            month (unless the proposal is a recalibration). Also true if somebody has since decided on a proposal for
            the item from the same or a later month.
        old: values of the item's last publication, which the proposal would replace, or None if the item was never
            published.
        old_since, old_rule: start and rule of this publication.
        replaces: id of this publication.
        wabc: area between the curves of `new` and `old`, 0 to 1, or None without `old`.
        window_end: end of the window.
        drift: severity, delta_b and change (kind, onset, …) in the window's last month; empty if drift was not tested.
            The onset is the earliest one since the item's open drift alert.
        dif: a sentence for each DIF finding of medium or high size, or of ETS class C, or None if DIF was not tested.
        fit: infit, outfit, rmsd and flags, as stored with the fit.
        lineage: hashes of the answers and anchors, and the time of the proposal.
        superseded: whether the proposal is superseded, or would be if there were no decision on it.
        withdrawn: date, person and reason if the item is withdrawn; empty if it is in use. A withdrawn item does not
            need a decision.
        decided: outcome, person, date and reason of the last decision on the proposal, which can be an undo; empty if
            there is none.
        settled: the reason why an open proposal does not need a decision; empty if it does. Either a later green month
            agrees with the published value and not with the proposed one, or the proposed value comes from a leak that
            was rejected.
    """

    window: str
    scale_id: str
    item_id: str
    fit_id: str
    new: ItemRow
    n: int | None
    why: str
    state: State
    recalibrated: bool
    anchor: bool
    outdated: bool
    old: ItemRow | None
    old_since: datetime | None
    old_rule: str | None
    replaces: int | None
    wabc: float | None
    window_end: datetime | None
    drift: Mapping[str, Any] = field(default_factory=dict)
    dif: tuple[str, ...] | None = None
    fit: Mapping[str, Any] = field(default_factory=dict)
    lineage: Mapping[str, Any] = field(default_factory=dict)
    superseded: bool = False
    withdrawn: str = ""
    decided: str = ""
    settled: str = ""

    @property
    def reference(self) -> Reference:
        return Reference(self.window, self.item_id)

    @property
    def subject(self) -> DecisionSubject:
        """The subject that a decision on the proposal records."""
        return DecisionSubject(self.window, self.scale_id, self.item_id, self.fit_id)

    @property
    def severity(self) -> str:
        """Severity of the item's drift: none, medium, high or not tested."""
        return str(self.drift.get("severity", "not tested"))

    @property
    def kind(self) -> str:
        """Kind of the change, if the item drifted."""
        return str((self.drift.get("change") or {}).get("kind", "")) if self.severity not in ("none", "") else ""

    @property
    def is_leak(self) -> bool:
        return self.kind == "leak"

    @property
    def state_in_words(self) -> str:
        """The proposal's state in words: the decision on it, or why no decision is needed."""
        return self.decided or self.settled or self.state

    @property
    def needs_decision(self) -> bool:
        """Whether somebody should decide on the proposal.

        Only open proposals that are not outdated, withdrawn or settled need a decision. They need it if nothing is
        published for the item, if it was recalibrated, or if it drifted and the proposed curve differs from the
        published one.
        """
        if self.state is not State.OPEN or self.outdated or self.withdrawn or self.settled:
            return False
        moved = self.severity in ("medium", "high") and (self.wabc or 0.0) > ItemParameters.MEDIUM_WABC
        return self.old is None or self.recalibrated or moved

    @property
    def cautions(self) -> tuple[str, ...]:
        """Warnings to read before accepting the proposal."""
        found = [f"{self.kind}: {KINDS_THAT_NEED_MORE[self.kind]}"] if self.kind in KINDS_THAT_NEED_MORE else []
        found += [f"the item is {self.withdrawn}"] if self.withdrawn else []
        onset = (self.drift.get("change") or {}).get("onset")
        if onset and not self.recalibrated and str(onset) > f"{self.window}-01":
            found.append(
                f"it changed on {onset}, so this estimate mixes answers from before and after: "
                f"`irt release recalibrate --from {self.window} --to {self.window} --item {shlex.quote(self.item_id)}`"
            )
        if self.anchor:
            found.append(
                "it is an anchor: scoring would use the new value, linking its frozen one, until "
                f"`irt release drop-anchors {shlex.quote(self.item_id)}`"
            )
        return tuple(found)


def parse_reference(text: str) -> Reference:
    """Parse WINDOW/ITEM. Raises PermanentFailure for other text."""
    found = REFERENCE.fullmatch(text.strip())
    if found is None:
        raise PermanentFailure(
            f"{text!r} names no proposal: write MONTH/ITEM (2026-09/A21), FIRST:LAST/ITEM for a recalibration, or "
            f"MONTH/{ALL_ITEMS} for all that need a decision (`irt release list --all` names every proposal)"
        )
    return Reference(*found.groups())


def proposals(
    connection: psycopg.Connection,
    *,
    windows: Iterable[str] | None = None,
    items: Iterable[str] | None = None,
    scale_id: str | None = None,
    may_ask: bool = False,
) -> list[Proposal]:
    """Proposals of the windows, items and scale (None: all), ordered by window and item, the latest fit last.

    may_ask: return only the proposals that can need a decision.
    """
    rows = read_proposals(connection, windows=windows, items=items, scale_id=scale_id, may_ask=may_ask)
    areas = _areas(rows, read_scales(connection))
    use = item_status(connection)
    return [_proposal(row, area, use.get(row["item_id"])) for row, area in zip(rows, areas, strict=True)]


def waiting_proposals(
    connection: psycopg.Connection, scale_id: str | None = None, items: Iterable[str] | None = None
) -> list[Proposal]:
    """The `latest_waiting` proposals of the scale and items (None: all)."""
    return latest_waiting(proposals(connection, items=items, scale_id=scale_id, may_ask=True))


def latest_waiting(found: Iterable[Proposal]) -> list[Proposal]:
    """The latest proposal of each item that needs a decision, by scale, largest change first."""
    latest: dict[tuple[str, str], Proposal] = {}
    for proposal in found:
        key = proposal.scale_id, proposal.item_id
        if proposal.needs_decision and (key not in latest or _age(latest[key]) <= _age(proposal)):
            latest[key] = proposal
    return sorted(latest.values(), key=lambda p: (p.scale_id, -(2.0 if p.wabc is None else p.wabc), p.item_id))


def open_changes(found: Iterable[Proposal]) -> dict[str, ItemRow]:
    """Proposed values of the proposals that can still be accepted, by item."""
    return {p.item_id: p.new for p in found if p.state is State.OPEN}


def _age(proposal: Proposal) -> tuple[str, datetime]:
    return proposal.window[-7:], proposal.lineage["created_at"]


def find_proposals(connection: psycopg.Connection, references: Iterable[Reference]) -> list[Proposal]:
    """The named proposals without repetitions.

    Raises PermanentFailure if a proposal does not exist, or if `all` is used for a window without proposals that need a
    decision.
    """
    distinct = list(dict.fromkeys(references))
    named = [reference for reference in distinct if reference.item_id != ALL_ITEMS]
    of_name: dict[Reference, list[Proposal]] = {}
    if named:
        windows, items = ({reference[k] for reference in named} for k in (0, 1))
        for proposal in proposals(connection, windows=windows, items=items):
            of_name.setdefault(proposal.reference, []).append(proposal)
    waiting = waiting_proposals(connection) if len(named) < len(distinct) else []
    found: dict[Reference, Proposal] = {}
    for reference in distinct:
        if reference.item_id == ALL_ITEMS:
            of_window = [p for p in waiting if p.window == reference.window]
            if not of_window:
                raise PermanentFailure(
                    f"no proposal of {reference.window} needs a decision: see `irt release list --all`"
                )
            found |= {p.reference: p for p in of_window}
        elif reference in of_name:
            found[reference] = max(
                of_name[reference],
                key=lambda candidate: (
                    candidate.state is State.OPEN,
                    bool(candidate.decided),
                    candidate.lineage["created_at"],
                ),
            )  # the open proposal, or else the last one with a decision
        else:
            raise PermanentFailure(
                f"there is no proposal {reference}: {_missing_proposal_reason(connection, reference)}"
            )
    if not found:
        raise PermanentFailure("no proposal is named: `irt release list` shows those that need a decision")
    return list(found.values())


def superseded_reason(connection: psycopg.Connection, proposal: Proposal) -> str:
    """The reason why a superseded proposal without a newer proposal of the same name cannot be decided on."""
    step = step_of(connection, proposal.scale_id, proposal.window)
    state, why = (step.state, step.why) if step else ("not published yet", "see `irt status`")
    if step and state == "done" and step.fit_id == proposal.fit_id:
        return (
            f"{proposal.reference} cannot be decided on: {proposal.window} was fitted again, and its publication "
            f"step has not run since. Run `irt calibrate --month {proposal.window}`"
        )
    if state != "done":
        return f"{proposal.reference} cannot be decided on while {proposal.window} is {state} ({why})"
    held = step.held.get(proposal.item_id) if step else None
    again = f"{proposal.reference} was superseded when {proposal.window} was calibrated again, and its newest run"
    return f"{again} holds the item back: {'; '.join(held)}" if held else f"{again} proposes nothing for the item"


def _missing_proposal_reason(connection: psycopg.Connection, reference: Reference) -> str:
    window, item = reference
    if connection.execute("SELECT 1 FROM question WHERE item_id = %s", (item,)).fetchone() is None:
        return f"the bank has no item {item!r} (ids are case-sensitive)"
    of_month = steps_of_month(connection, window)
    held = next((step.held[item] for step in of_month if item in step.held), None)
    if held is not None:
        return f"{item} was held back: {'; '.join(held)}. A longer window may help: `irt release recalibrate`"
    if known := newest_windows_of(connection, item):
        return f"of {item} there are proposals of {', '.join(known)}"
    if not of_month:
        return f"{window} has not been through its publication step: see `irt status`"
    return f"{window} is {of_month[0].state} ({of_month[0].why}), and proposed nothing for {item}"


_DECISION_STATES = {"accept": State.ACCEPTED, "reject": State.REJECTED}


def _areas(rows: list[dict[str, Any]], scales: Mapping[str, Scale]) -> list[float | None]:
    """Area between each row's proposed and published curves, over its scale's population.

    It is None if nothing is published.
    """
    found: list[float | None] = [None] * len(rows)
    for scale in scales.values():
        of_scale = [k for k, row in enumerate(rows) if row["scale_id"] == scale.scale_id and row["old_a"] is not None]
        ids = [rows[k]["item_id"] for k in of_scale]
        new, old = (
            ItemParameters.from_rows(ids, (ItemRow.from_row(rows[k], prefix) for k in of_scale))
            for prefix in ("", "old_")
        )
        for k, area in zip(of_scale, new.wabc(old, scale.mu, scale.sigma), strict=True):
            found[k] = float(area)
    return found


def _proposal(row: dict[str, Any], area: float | None, use: Status | None) -> Proposal:
    new, old = ItemRow.from_row(row), ItemRow.if_known(row, "old_")
    state = _DECISION_STATES.get(row["decision"], State.SUPERSEDED if row["superseded"] else State.OPEN)
    decided = ""
    if row["decision"]:
        undone = row["decision"] == "undo"
        outcome = f"{state} again: the decision was undone" if undone else state
        since = f", in force from {row['decided_from']:%Y-%m-%d}" if row["decided_from"] and not undone else ""
        decided = f"{outcome} by {row['decided_by']} on {row['decided_at']:%Y-%m-%d %H:%M} UTC{since}: {row['reason']}"
    found = Proposal(
        window=row["month"],
        scale_id=row["scale_id"],
        item_id=row["item_id"],
        fit_id=row["fit_id"],
        new=new,
        n=row["n_responses"],
        why=row["why"],
        state=state,
        recalibrated=row["kind"] == "pooled",
        anchor=row["anchor"],
        outdated=bool(row["outdated"]),
        old=old,
        old_since=row["old_since"],
        old_rule=row["old_rule"],
        replaces=row["publication_id"],
        wabc=area,
        window_end=row["window_end"],
        drift={name: row[name] for name in ("severity", "delta_b", "change")} if row["severity"] else {},
        dif=None
        if row["dif"] is None
        else tuple(_dif_in_words(dif) for dif in row["dif"] if dif["size"] in ("medium", "high") or dif["ets"] == "C"),
        fit={name: row[name] for name in ("infit", "outfit", "rmsd")} | {"flags": row["flags"] or []},
        lineage={name: row[name] for name in ("data_hash", "anchor_hash", "created_at")},
        superseded=row["superseded"],
        withdrawn=use.sentence if use and use.is_withdrawn else "",
        decided=decided,
    )
    return replace(found, settled=_settled_reason(row, new, old, use)) if found.needs_decision else found


def _settled_reason(row: Mapping[str, Any], new: ItemRow, old: ItemRow | None, use: Status | None) -> str:
    later, leak = row["later"], row["rejected_leak"]
    estimate = ItemRow.from_row(later) if later and old else None
    if estimate and old and (row["no_drift"] or estimate.agrees_with(old)) and not estimate.agrees_with(new):
        return f"contradicted by {row['later_month']}"
    in_use_since = leak and (use is None or use.decided_at < datetime.fromisoformat(leak["decided_at"]))
    if in_use_since and ItemRow.from_row(leak).agrees_with(new):
        return f"the leak of {leak['month']} that {leak['decided_by']} rejected"
    return ""


def _dif_in_words(found: Mapping[str, Any]) -> str:
    size = f" {found['size']}" if found["size"] in ("medium", "high") else ""
    q = "" if found["q"] is None else f", q = {found['q']:.2g}"
    ets = f", ETS {found['ets']}" if found["ets"] else ""
    return f"DIF{size} for {found['attribute']} = {found['group']}{q}{ets}"


def settled_items(connection: psycopg.Connection, month: str) -> dict[tuple[str, str], str]:
    """The month's items whose drift needs no decision, with the reasons.

    The reason is a decision on a proposal (with its month), a proposal of this month that is settled, or the item's
    withdrawal. A decision counts if the proposal's month found the drift with the same or a higher severity, and if the
    wABC has grown by at most `ItemParameters.MEDIUM_WABC` since. A rejection counts until a different value comes into
    force, and an acceptance until its value is in force.
    """
    proposed = proposals(connection, windows=[month], may_ask=True)
    withdrawn = connection.execute(
        """SELECT q.scale_id, w.item_id, w.since, w.decided_by
           FROM item_withdrawal w JOIN question q USING (item_id) WHERE w.until IS NULL"""
    ).fetchall()
    return (
        {(p.scale_id, p.item_id): p.settled for p in proposed if p.settled}
        | decisions_on_drift(connection, month, Month(month).start, grown=ItemParameters.MEDIUM_WABC)
        | {(scale, item): f"withdrawn from {since:%Y-%m-%d} on by {by}" for scale, item, since, by in withdrawn}
    )
