"""Undo a decision on a proposal by a new decision: the earlier values are published again, and the proposal is open.

Rows are only ever added to the ledger and the decisions. If several publications begin at the same time, the last one
counts, so values that are undone before their first day never come into force. Values in force stay in force until a
future date, because θ that has been reported with them would change otherwise.

`anchor_versions` restores dropped anchors.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg

from irt_assets.decisions.deciding import require_same_basis
from irt_assets.decisions.proposals import (
    ALL_ITEMS,
    Proposal,
    Reference,
    State,
    find_proposals,
    proposals,
    superseded_reason,
)
from irt_assets.decisions.release import lock_ledgers, next_month
from irt_assets.decisions.release_impact import Impact, impact
from irt_assets.ledger.decisions import last_standing_decision, record_release_decisions, window_accepted_after
from irt_assets.ledger.publications import Publication, publications_of, publish
from irt_assets.scales.scale import read_scales
from irt_assets.scales.scale_decisions import require_text
from irt_psychometrics.items import ItemRow
from resources.failures import PermanentFailure
from resources.postgres.database import Database


@dataclass(frozen=True)
class Undo:
    """Effect of undoing the decision on a proposal.

    Attributes:
        proposal: the proposal before the undo.
        basis: the decision that is undone and the values that return, in words, as `ledger.decision_rows.Plan.basis`.
        restored: the values that the accept had replaced, or None if a reject is undone, which changed no value.
        since: first day of the restored values, or None if a reject is undone.
        never_in_force: whether the accepted values never come into force.
        restores: the publication with the restored values.
        replaces: the id of the item's last publication.
    """

    proposal: Proposal
    basis: Mapping[str, str]
    restored: ItemRow | None = None
    since: datetime | None = None
    never_in_force: bool = False
    restores: Publication | None = None
    replaces: int | None = None

    @property
    def sentence(self) -> str:
        """A sentence that a person reads before and after deciding."""
        name, item = self.proposal.reference, self.proposal.item_id
        if self.restored is None or self.since is None:
            return f"{name} needs a decision again; no θ changes"
        never = (
            f"{self.proposal.new} never comes into force" if self.never_in_force else f"until then {self.proposal.new}"
        )
        return (
            f"{name}: {item} is at {self.restored} from {self.since:%Y-%m-%d} on, {never}; the proposal is open again"
        )


def preview(
    connection: psycopg.Connection, references: Sequence[Reference], *, effective_from: datetime | None, now: datetime
) -> list[Undo]:
    """Compute the effect of undoing the decisions on these proposals. Raises the PermanentFailure of `undo`."""
    named = list(dict.fromkeys(references))
    found, problems = [], []
    for reference in named:
        try:
            found.append(_preview_one(connection, reference, effective_from, now))
        except PermanentFailure as failure:
            problems.append(str(failure))
    items = [reference.item_id for reference in named]
    problems += [f"{item} is named more than once" for item in sorted(set(items)) if items.count(item) > 1]
    if problems or not named:
        raise PermanentFailure(f"nothing was undone: {'; '.join(problems) or 'no proposal is named'}")
    return found


def effects(connection: psycopg.Connection, found: Sequence[Undo]) -> list[Impact]:
    """Effect of the restored values on the last month's learners, for each scale and date."""
    scales = read_scales(connection)
    changes: dict[tuple[str, datetime], dict[str, ItemRow]] = {}
    for undone in found:
        if undone.restored is not None and undone.since is not None:
            of_date = changes.setdefault((undone.proposal.scale_id, undone.since), {})
            of_date[undone.proposal.item_id] = undone.restored
    return [impact(connection, scales[scale], changed, since) for (scale, since), changed in sorted(changes.items())]


def undo(
    database: Database,
    references: Sequence[Reference],
    *,
    by: str,
    reason: str,
    effective_from: datetime | None = None,
    now: datetime,
    seen: Sequence[Undo] | None = None,
) -> list[Undo]:
    """Record that `by` undoes the decisions on these proposals, and publish the values that accepts had replaced.

    On any error, nothing is recorded.

    Parameters
    ----------
    database
        The database.
    references
        The proposals.
    by, reason
        Name of the person who decides, and the reason.
    effective_from
        Time from which the earlier values are in force again. None: the first time at which no reported θ changes,
        which is the first day of the accepted values if it has not come yet, otherwise the start of next month, but not
        before the item's last publication.
    now
        The current time.
    seen
        The preview that the person has seen.

    Returns
    -------
    list of Undo
        The effect on each proposal.

    Raises
    ------
    PermanentFailure
        If a proposal is undecided, if its decision is already undone, if a later proposal for the item was accepted, if
        a rejected item has been proposed again, if an accepted item had no earlier publication, or if `effective_from`
        is not in the future or is before the item's last publication, or if a decision or value differs from `seen`.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        lock_ledgers(connection, references)
        found = preview(connection, references, effective_from=effective_from, now=now)
        require_same_basis(_basis_of(found if seen is None else seen), _basis_of(found))
        for undone in found:
            record_release_decisions(connection, [undone.proposal.subject], "undo", by, reason, undone.since)
            if undone.restores is not None and undone.since is not None:
                again = replace(
                    undone.restores,
                    rule="undo",
                    effective_from=undone.since,
                    decided_by=by,
                    reason=reason,
                    replaces=undone.replaces,
                )
                publish(connection, [again])
    return found


def _basis_of(found: Sequence[Undo]) -> dict[str, str]:
    return {part: state for undone in found for part, state in undone.basis.items()}


def _preview_one(
    connection: psycopg.Connection, reference: Reference, effective_from: datetime | None, now: datetime
) -> Undo:
    if reference.item_id == ALL_ITEMS:
        raise PermanentFailure(f"{reference} cannot be undone as a whole: name each item")
    proposal, decision_id = _find_decided(connection, reference)
    basis = {f"the decision on {reference}": f"{proposal.decided} (release decision {decision_id})"}
    if later := window_accepted_after(connection, proposal.scale_id, proposal.item_id, decision_id):
        after = Reference(later, proposal.item_id)
        raise PermanentFailure(f"after {reference}, {after} was accepted: undo {after} first")
    if proposal.state is State.REJECTED:
        if find_proposals(connection, [reference])[0].state is State.OPEN:
            raise PermanentFailure(f"{reference} is open: its month has proposed it again since it was rejected")
        if proposal.superseded:
            raise PermanentFailure(superseded_reason(connection, proposal))
        return Undo(proposal, basis)
    return _undo_accept(connection, proposal, basis, effective_from, now)


def _find_decided(connection: psycopg.Connection, reference: Reference) -> tuple[Proposal, int]:
    """The named proposal with the last decision that stands, and the id of the decision.

    Raises PermanentFailure if no decision on it stands.
    """
    standing = last_standing_decision(connection, reference.window, reference.item_id)
    if standing is None:
        proposal = find_proposals(connection, [reference])[0]
        raise PermanentFailure(
            f"{reference} is {proposal.decided}" if proposal.decided else f"{reference} has not been decided on yet"
        )
    fit_id, decision_id = standing
    named = proposals(connection, windows=[reference.window], items=[reference.item_id])
    return next(p for p in named if p.fit_id == fit_id), decision_id


def _undo_accept(
    connection: psycopg.Connection,
    proposal: Proposal,
    basis: Mapping[str, str],
    effective_from: datetime | None,
    now: datetime,
) -> Undo:
    item = proposal.item_id
    ledger = publications_of(connection, proposal.scale_id, item)
    last = ledger[-1]
    standing: list[Publication] = []
    for publication in ledger:
        if publication.rule == "undo":
            standing.pop()
        else:
            standing.append(publication)
    *before, accepted = standing
    if not before:
        raise PermanentFailure(
            f"nothing was published for {item} before {proposal.reference}, so there is nothing to go back to: "
            f"`irt items withdraw {shlex.quote(item)}` takes it out of use"
        )
    to_come = accepted.effective_from > now
    since = effective_from or max(accepted.effective_from if to_come else next_month(now), last.effective_from)
    if since <= now:
        raise PermanentFailure(f"{since:%Y-%m-%d %H:%M} UTC is not in the future: θ reported since then would change")
    if since < last.effective_from:
        raise PermanentFailure(
            f"{item} has a publication in force from {last.effective_from:%Y-%m-%d}, which would end the value that "
            f"begins on {since:%Y-%m-%d}: name that date or a later one"
        )
    restored = before[-1]
    returns = f"{restored.values} from {since:%Y-%m-%d} on, in place of publication {last.publication_id}"
    return Undo(
        proposal,
        {**basis, f"the earlier value of {item}": returns},
        restored.values,
        since,
        to_come and since == accepted.effective_from,
        restored,
        last.publication_id,
    )
