"""What a person decides: accepted proposals go to the ledger from a date on, rejected ones are closed.

A decision is one transaction under the lock of the scale's ledger, so that it is there whole or not at all, and of two
people who decide at once the second sees what the first decided. Nothing here is ever changed or deleted: what is in
force at a time is the last publication with `effective_from` up to then, whoever asks and whenever.

Belongs here: accepting and rejecting proposals. Does not belong here: undoing it (see `release_undo`), what is known of
proposals (`proposals`), their effect on learners (`release_impact`) and the anchors (`anchor_versions`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import psycopg
from psycopg.rows import class_row

from irt_assets.calibration.proposals import Proposal, Reference, State, find_proposals, why_superseded
from irt_assets.partitions import month_bounds, month_of
from resources.database import Database, advisory_lock
from resources.failures import PermanentFailure
from resources.version import code_version

SAID = 10
LONGEST = 2_000
"""Most characters of a name or a reason: anything longer was pasted by mistake."""


def next_month(now: datetime) -> datetime:
    """The start of the month after `now`, when a decision takes effect by default."""
    return month_bounds(month_of(now))[1]


def in_force_since(day: str | None, now: datetime) -> datetime:
    """Midnight UTC of a day, YYYY-MM-DD; where none is named, `next_month`. Raises PermanentFailure for other text."""
    return midnight(day, "effective-from") if day else next_month(now)


def midnight(day: str, option: str) -> datetime:
    """UTC, of a day, YYYY-MM-DD. Raises PermanentFailure, naming the option, for other text."""
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        raise PermanentFailure(f"{option} wants a day like 2026-11-01, got {day!r}") from None
    return datetime(parsed.year, parsed.month, parsed.day, tzinfo=UTC)


def accept(
    database: Database,
    references: Sequence[Reference],
    *,
    by: str,
    reason: str,
    effective_from: datetime | None,
    now: datetime,
    run_id: str | None = None,
    seen: Sequence[Proposal] = (),
) -> list[Proposal]:
    """Record that `by` accepted these proposals, and publish them from `effective_from` (None: next month) on.

    All of them or none. Returns them as they were before. Raises PermanentFailure, naming each, for proposals that are
    not open, for two of one item, for a date that is not in the future of `now`, for an item that has a publication
    from that date on already, and for one of `seen`, which was shown to who decides, that has other values by now.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    since = effective_from or next_month(now)
    with database.connect() as connection:
        found = acceptable(connection, references, since, now)
        _require_as_seen(found, seen)
        record(connection, found, "accept", by, reason, since)
        _publish(connection, found, by, reason, since, run_id)
    return found


def acceptable(
    connection: psycopg.Connection, references: Sequence[Reference], since: datetime, now: datetime
) -> list[Proposal]:
    """The named proposals, if all can be accepted from `since` on. Raises as `accept` does."""
    if since <= now:
        raise PermanentFailure(
            f"{since:%Y-%m-%d %H:%M} UTC is not in the future: θ that were reported since would change after the fact. "
            f"The start of next month is {next_month(now):%Y-%m-%d}"
        )
    found = open_proposals(connection, references)
    problems = [_later(p, since) for p in found if _ends_before_it_begins(p, since)]
    items = [p.item_id for p in found]
    problems += [f"{item} is named more than once" for item in sorted(set(items)) if items.count(item) > 1]
    if problems:
        raise PermanentFailure("nothing was accepted: " + "; ".join(problems))
    return found


def refuse_leaks(accepted: Iterable[Proposal], way_out: str) -> None:
    """Raises PermanentFailure, naming those that leaked. `way_out`: how a person accepts one all the same."""
    leaks = [str(p.reference) for p in accepted if p.leaked]
    if leaks:
        raise PermanentFailure(
            f"{', '.join(leaks)} leaked: the new value says who knows the answer, not who can solve it. Reject it, or "
            f"{way_out}"
        )


def reject(
    database: Database, references: Sequence[Reference], *, by: str, reason: str, seen: Sequence[Proposal] = ()
) -> list[Proposal]:
    """Record that `by` rejected these proposals: they ask no more, and what is published stays. All of them or none.

    Raises PermanentFailure, naming each, for proposals that are not open, or of `seen` and changed (see `accept`).
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        found = open_proposals(connection, references)
        _require_as_seen(found, seen)
        record(connection, found, "reject", by, reason, None)
    return found


def effect_of_reject(found: Sequence[Proposal]) -> str:
    """What a reject does, in a sentence."""
    kept = ", ".join(
        f"{p.item_id} stays at {p.old}" if p.old else f"{p.item_id} stays unpublished" for p in found[:SAID]
    )
    more = f" and {len(found) - SAID} more stay as they are" if len(found) > SAID else ""
    return f"{kept}{more}; no θ changes, and the proposals are closed"


def open_proposals(connection: psycopg.Connection, references: Sequence[Reference]) -> list[Proposal]:
    """The proposals that are named, under the locks of their scales' ledgers until the transaction ends.

    Raises PermanentFailure, naming each, where they cannot be decided on.
    """
    lock_ledgers(connection, references)
    found = find_proposals(connection, references)  # read under the lock
    problems = [_closed(connection, p) for p in found if p.state is not State.OPEN]
    if problems:
        raise PermanentFailure("nothing was decided: " + "; ".join(problems))
    return found


def lock_ledgers(connection: psycopg.Connection, references: Sequence[Reference]) -> None:
    """Lock the scales of these proposals against other decisions until the transaction ends."""
    scales = connection.execute(
        "SELECT DISTINCT scale_id FROM item_parameter_proposal WHERE month = ANY(%s) ORDER BY 1",
        ([reference.window for reference in references],),
    ).fetchall()
    for (scale_id,) in scales:
        advisory_lock(connection, "ledger", scale_id)


def decisions(
    connection: psycopg.Connection, month: str, scale_id: str | None = None
) -> list[tuple[str, str, str, str, str, str]]:
    """What was decided on the month, newest first: on what, what, by whom, when, in force from when, why.

    scale_id: decisions on this scale alone; None: on every scale.
    """
    return connection.execute(
        """SELECT month || '/' || item_id, decision, decided_by, to_char(decided_at, 'YYYY-MM-DD HH24:MI'),
                  coalesce(to_char(effective_from, 'YYYY-MM-DD'), ''), reason
           FROM release_decision WHERE right(month, 7) = %s AND scale_id = coalesce(%s, scale_id)
           ORDER BY decision_id DESC""",
        (month, scale_id),
    ).fetchall()


@dataclass(frozen=True)
class Decision:
    """A line on what was decided.

    Attributes:
        what: accept, reject, undo, or drop_anchor, whose `window` is the first month without it.
        stands: whether it is of a proposal, and nothing was decided after it on that or accepted on the item.
    """

    window: str
    scale_id: str
    item_id: str
    what: str
    by: str
    reason: str
    effective_from: datetime | None
    at: datetime
    stands: bool


def newest_decisions(
    connection: psycopg.Connection, limit: int, *, month: str | None = None, scale_id: str | None = None
) -> list[Decision]:
    """The last decisions on that month and scale (None: on all), newest first."""
    with connection.cursor(row_factory=class_row(Decision)) as cursor:
        return cursor.execute(
            """SELECT month AS window, scale_id, item_id, decision AS what, decided_by AS by, reason, effective_from,
                      decided_at AS at,
                      decision IN ('accept', 'reject') AND NOT EXISTS (
                        SELECT FROM release_decision n
                        WHERE (n.scale_id, n.item_id) = (d.scale_id, d.item_id) AND n.decision_id > d.decision_id
                          AND (n.decision = 'accept' OR (n.month, n.fit_id) = (d.month, d.fit_id))) AS stands
               FROM release_decision d
               WHERE (%(month)s::text IS NULL OR right(month, 7) = %(month)s)
                 AND (%(scale)s::text IS NULL OR scale_id = %(scale)s)
               ORDER BY decision_id DESC LIMIT %(limit)s""",
            {"month": month, "scale": scale_id, "limit": limit},
        ).fetchall()


def require_text(what: str, text: str) -> str:
    """A name or a reason without space around it. Raises PermanentFailure where it says nothing, or is not text."""
    stripped = text.strip()
    if not any(character.isalnum() for character in stripped):
        raise PermanentFailure(f"a decision needs a {what}, got {text!r}: others will want to know")
    if len(stripped) > LONGEST or any(not c.isprintable() and c not in "\n\t" for c in stripped):
        raise PermanentFailure(f"the {what} must be text of at most {LONGEST:,} printable characters")
    return stripped


def record(
    connection: psycopg.Connection,
    found: Sequence[Proposal],
    decision: str,
    by: str,
    reason: str,
    since: datetime | None,
) -> None:
    """Write one decision on each of these proposals."""
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO release_decision
                 (month, scale_id, item_id, fit_id, decision, decided_by, reason, effective_from)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
            [(p.window, p.scale_id, p.item_id, p.fit_id, decision, by, reason, since) for p in found],
        )


def _require_as_seen(found: Sequence[Proposal], seen: Sequence[Proposal]) -> None:
    read = {p.reference: (p.fit_id, p.replaces) for p in seen}
    other = [str(p.reference) for p in found if read.get(p.reference, (p.fit_id, p.replaces)) != (p.fit_id, p.replaces)]
    if other:
        raise PermanentFailure(
            f"nothing was decided: {', '.join(other)} proposes or replaces other values than those that were shown. "
            "Look at the evidence again"
        )


def _closed(connection: psycopg.Connection, proposal: Proposal) -> str:
    if proposal.state is State.SUPERSEDED:
        return why_superseded(connection, proposal)
    return f"{proposal.reference} was {proposal.decided}"


def _ends_before_it_begins(proposal: Proposal, since: datetime) -> bool:
    """Whether the old value would end before it begins. A value that an undo published may."""
    old = proposal.old_since
    return old is not None and (old > since or (old == since and proposal.old_rule != "undo"))


def _later(proposal: Proposal, since: datetime) -> str:
    assert proposal.old_since is not None
    return (
        f"{proposal.item_id} has a publication in force from {proposal.old_since:%Y-%m-%d}, which would end before "
        f"this one of {since:%Y-%m-%d} begins: name a later date"
    )


def _publish(
    connection: psycopg.Connection,
    found: Sequence[Proposal],
    by: str,
    reason: str,
    since: datetime,
    run_id: str | None,
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, a, b, c, a_se, b_se, cov_ab, effective_from, month, fit_id, rule, decided_by,
                  reason, replaces, data_hash, anchor_hash, code_version, run_id)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'decision', %s, %s, %s, %s, %s, %s, %s)""",
            [
                (p.scale_id, p.item_id, p.new.a, p.new.b, p.new.c, p.new.a_se, p.new.b_se, p.cov_ab, since)
                + (p.window, p.fit_id, by, reason, p.replaces)
                + (p.lineage["data_hash"], p.lineage["anchor_hash"], code_version(), run_id)
                for p in found
            ],
        )
