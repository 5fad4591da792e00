"""Accept or reject proposals. Accepted values are published from a date on; rejected proposals are closed.

A decision is one transaction under the lock of the scale's ledger, so it is stored as a whole or not at all. If two
people decide at the same time, the second one sees the first decision. Rows are never changed or deleted: the last
publication whose `effective_from` has come is in force.

Decisions are undone in `release_undo`; `proposals` reads proposals, and `release_impact` computes their effect on
learners.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import psycopg

from irt_assets.common.partitions import month_of
from irt_assets.decisions.proposals import Proposal, Reference, State, find_proposals, superseded_reason
from irt_assets.ledger.decisions import record_release_decisions
from irt_assets.ledger.proposals import scales_proposed_for
from irt_assets.ledger.publications import Publication, publish
from irt_assets.responses.open_months import scales_with_changed_verdicts
from irt_assets.scales.scale_decisions import require_text
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock

MAX_LINES_SHOWN = 10


def next_month(now: datetime) -> datetime:
    """The start of the month after `now`, when a decision takes effect by default."""
    return month_of(now).end


def parse_start(day: str | None, now: datetime) -> datetime:
    """Midnight UTC of a day (YYYY-MM-DD), or the start of next month if there is no day.

    Raises PermanentFailure for other text.
    """
    return midnight(day, "effective-from") if day else next_month(now)


def midnight(day: str, option: str) -> datetime:
    """Midnight UTC of a day (YYYY-MM-DD). Raises PermanentFailure, which names the option, for other text."""
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        raise PermanentFailure(f"{option} must be a day such as 2026-11-01, got {day!r}") from None
    return datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC)


def accept(
    database: Database,
    references: Sequence[Reference],
    *,
    by: str,
    reason: str,
    effective_from: datetime | None,
    now: datetime,
    seen: Sequence[Proposal] = (),
) -> list[Proposal]:
    """Record that `by` accepted these proposals, and publish their values.

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
        Time from which the values are in force; None: the start of next month.
    now
        The current time.
    seen
        The proposals as they were shown to the person.

    Returns
    -------
    list of Proposal
        The proposals as they were before the decision.

    Raises
    ------
    PermanentFailure
        If proposals are not open, if two of them are for one item, if `effective_from` is not in the future, if an item
        already has a publication from that time or a later one, or if a proposal differs from the one in `seen`.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    since = effective_from or next_month(now)
    with database.connect() as connection:
        found = find_acceptable(connection, references, since, now)
        _require_unchanged(found, seen)
        record_release_decisions(connection, [p.subject for p in found], "accept", by, reason, since)
        publish(
            connection,
            [
                Publication(
                    p.scale_id,
                    p.item_id,
                    p.new,
                    effective_from=since,
                    rule="decision",
                    reason=reason,
                    anchor_hash=p.lineage["anchor_hash"],
                    data_hash=p.lineage["data_hash"],
                    month=p.window,
                    fit_id=p.fit_id,
                    decided_by=by,
                    replaces=p.replaces,
                )
                for p in found
            ],
        )
    return found


def find_acceptable(
    connection: psycopg.Connection, references: Sequence[Reference], since: datetime, now: datetime
) -> list[Proposal]:
    """The named proposals, if all can be accepted from `since` on. Raises PermanentFailure as `accept` does."""
    if since <= now:
        raise PermanentFailure(
            f"{since:%Y-%m-%d %H:%M} UTC is not in the future: θ reported since then would change. "
            f"The start of next month is {next_month(now):%Y-%m-%d}"
        )
    found = open_proposals(connection, references)
    problems = [
        f"{p.item_id} has a publication in force from {p.old_since:%Y-%m-%d}, which would end before this one of "
        f"{since:%Y-%m-%d} begins: name a later date"
        for p in found
        if _ends_before_it_begins(p, since)
    ]
    items = [p.item_id for p in found]
    problems += [f"{item} is named more than once" for item in sorted(set(items)) if items.count(item) > 1]
    if problems:
        raise PermanentFailure("nothing was accepted: " + "; ".join(problems))
    return found


def refuse_leaks(accepted: Iterable[Proposal], remedy: str) -> None:
    """Raise PermanentFailure, which names the items, if any item leaked.

    `remedy` is the part of the message that says how to accept a leaked item.
    """
    leaks = [str(p.reference) for p in accepted if p.is_leak]
    if leaks:
        raise PermanentFailure(
            f"{', '.join(leaks)} leaked: the new value measures who knows the answer, not who can solve it. Reject it, "
            f"or {remedy}"
        )


def reject(
    database: Database, references: Sequence[Reference], *, by: str, reason: str, seen: Sequence[Proposal] = ()
) -> list[Proposal]:
    """Record that `by` rejected these proposals. On any error, nothing is recorded. Published values do not change.

    Raises PermanentFailure, which names the proposals, if they are not open or differ from `seen` (see `accept`).
    """
    with database.connect() as connection:
        found = open_proposals(connection, references)
        _require_unchanged(found, seen)
        record_release_decisions(connection, [p.subject for p in found], "reject", by, reason, None)
    return found


def effect_of_reject(found: Sequence[Proposal]) -> str:
    """A sentence about the effect of rejecting these proposals."""
    kept = ", ".join(
        f"{p.item_id} stays at {p.old}" if p.old else f"{p.item_id} stays unpublished" for p in found[:MAX_LINES_SHOWN]
    )
    more = f" and {len(found) - MAX_LINES_SHOWN} more stay as they are" if len(found) > MAX_LINES_SHOWN else ""
    return f"{kept}{more}; no θ changes, and the proposals are closed"


def open_proposals(connection: psycopg.Connection, references: Sequence[Reference]) -> list[Proposal]:
    """The named proposals, with the ledgers of their scales locked until the transaction ends.

    Raises PermanentFailure, which names the proposals, if they cannot be decided on.
    """
    lock_ledgers(connection, references)
    found = find_proposals(connection, references)  # read under the lock
    problems = [
        superseded_reason(connection, p) if p.state is State.SUPERSEDED else f"{p.reference} was {p.decided}"
        for p in found
        if p.state is not State.OPEN
    ]
    if problems:
        raise PermanentFailure("nothing was decided: " + "; ".join(problems))
    return found


def changes_of_answers(connection: psycopg.Connection, found: Iterable[Proposal]) -> list[str]:
    """A sentence for each month of the proposals in which verdicts on answers have changed since the fit."""
    months = {proposal.window for proposal in found if not proposal.recalibrated}
    return [
        f"the answers of {month} have changed since: `irt calibrate --month {month}` first"
        for month in scales_with_changed_verdicts(connection, months)
    ]


def lock_ledgers(connection: psycopg.Connection, references: Sequence[Reference]) -> None:
    """Lock the scales of these proposals against other decisions until the transaction ends."""
    for scale_id in scales_proposed_for(connection, [reference.window for reference in references]):
        advisory_lock(connection, "ledger", scale_id)


def _require_unchanged(found: Sequence[Proposal], seen: Sequence[Proposal]) -> None:
    read = {p.reference: (p.fit_id, p.replaces) for p in seen}
    changed = [
        str(p.reference) for p in found if read.get(p.reference, (p.fit_id, p.replaces)) != (p.fit_id, p.replaces)
    ]
    if changed:
        raise PermanentFailure(
            f"nothing was decided: {', '.join(changed)} proposes or replaces values that differ from the values shown. "
            "Look at the evidence again"
        )


def _ends_before_it_begins(proposal: Proposal, since: datetime) -> bool:
    """Whether the published value would end before it begins.

    A value that an undo published may also end at the time at which it begins.
    """
    old = proposal.old_since
    return old is not None and (old > since or (old == since and proposal.old_rule != "undo"))
