"""Close months in the nightly run, and reopen them by a person's decision.

`responses.closed_months` reads the state in which a month closed and the changes since.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import psycopg

from irt_assets.common.partitions import Month, months_between
from irt_assets.common.wording import some_of
from irt_assets.intake.silence import silent_sources
from irt_assets.intake.staging import IMPORTS
from irt_assets.ledger import closings
from irt_assets.ledger.decision_rows import DecisionRow, Kind, Plan
from irt_assets.ledger.month_state import latest_attempt
from irt_assets.responses.closing_records import ClosedMonth, read_closed, read_states
from irt_assets.responses.open_months import scales_to_compare, scales_with_changed_verdicts
from irt_assets.responses.snapshot import Snapshot, current_snapshots, lock_month, settings_differ
from irt_assets.responses.verdicts import days_that_differ
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale, read_scales
from resources.failures import PermanentFailure
from resources.postgres.database import LOCK, Database, lock_key, one_value

MAX_NAMED = 5


def close_months(database: Database, now: datetime) -> list[ClosedMonth]:
    """Count the changes to closed months, and close the months that can be closed now.

    A month of a scale closes when `late_days` have passed since its end. It stays open if its results do not use all
    current answers, or if an import, a first pull or an overdue source may still add answers. Each month is closed in
    its own transaction. Returns the months that closed, one for each scale.
    """
    found: list[ClosedMonth] = []
    with database.connect() as connection:
        closings.recount_changes(connection)
        closed = {(closing.month, closing.scale_id) for closing in read_closed(connection)}
        scales = read_scales(connection)
        silences = silent_sources(connection, database.settings, now).values()
        overdue_since = min((closing.since for closing in silences if closing), default=now)
        candidates = {
            month: due
            for month, snapshot in current_snapshots(connection).items()
            if Month(month).end <= overdue_since
            and (
                due := {*_due_scales(snapshot, scales, now)}
                - {scale for closed_month, scale in closed if closed_month == month}
            )
        }
    for month, due in candidates.items():
        with database.connect() as connection:
            lock_month(connection, month)  # before the imports' lock: imports must not wait until a snapshot is stored
            if not _intake_is_idle(connection):
                break
            found += _close(connection, month, due)
    return found


def _due_scales(snapshot: Snapshot, scales: dict[str, Scale], now: datetime) -> list[str]:
    """Scales with answers in the snapshot whose `late_days` have passed since the end of the month."""
    usual = Rules().answers.late_days  # for answers to items that are not in the bank, which belong to no scale
    late_days = {scale_id: scale.rules.answers.late_days for scale_id, scale in scales.items()}
    return [
        scale_id
        for scale_id, counts in snapshot.counts.items()
        if any(counts.values()) and Month(snapshot.month).end + timedelta(days=late_days.get(scale_id, usual)) <= now
    ]


def _intake_is_idle(connection: psycopg.Connection) -> bool:
    """Whether no import is running and no first pull is unfinished. New imports wait for the end of the transaction."""
    locks = (lock_key(*IMPORTS), lock_key("inbox"))
    return all(one_value(connection, f"SELECT pg_try_advisory_xact_lock({LOCK})", (key,)) for key in locks) and not (
        one_value(connection, "SELECT EXISTS (SELECT FROM pull_source WHERE first_pull IS NOT NULL)")
    )


def _close(connection: psycopg.Connection, month: str, due: Collection[str]) -> list[ClosedMonth]:
    """Close the month for the scales in `due` whose results use all current answers."""
    snapshot = current_snapshots(connection)[month]
    closed = {closing.scale_id for closing in read_closed(connection, [month])}
    newest, scales = read_scales(connection), read_scales(connection, Month(month).start)
    start, end = Month(month).bounds
    differing = scales_with_changed_verdicts(connection, [month]).get(month, set())
    if days_that_differ(connection, start.date(), end.date()):  # answers have arrived since the nightly run judged
        differing = scales_to_compare(connection, month, snapshot.counts, newest, closed)
    due = {*due} - differing
    made = [scale_id for scale_id in due if _is_up_to_date(connection, snapshot, scale_id, scales.get(scale_id))]
    new = closings.close_month(connection, snapshot, made)
    return [closing for closing in read_closed(connection, [month]) if closing.scale_id in new]


def _is_up_to_date(connection: psycopg.Connection, snapshot: Snapshot, scale_id: str, scale: Scale | None) -> bool:
    """Whether the scale's results come from the snapshot, and the snapshot's answers were judged by the current rules.

    The results are the latest fit, or the latest error of a fit. A scale that does not exist (None) needs no results.
    """
    if scale is None:
        return True
    staged = latest_attempt(connection, snapshot.month, scale_id, scale.engine)
    is_fitted = staged is not None and staged.snapshot_hash == snapshot.snapshot_hash
    return is_fitted and not settings_differ(snapshot.rules.get(scale_id, {}), scale.rules, "eligibility")


@dataclass(frozen=True)
class MonthRange:
    """The months from `first` to `last` (None: `first` alone)."""

    first: str
    last: str | None = None


class ReopenMonths(Kind):
    """Reopen the closed months of a `MonthRange`, of all scales."""

    name = closings.REOPEN
    value = closings.Reopened
    subject = "month"
    why_no_undo = "the nightly run closes a reopened month again"

    def plan(self, connection: psycopg.Connection, request: MonthRange) -> Plan:
        closed = _closed_among(connection, request.first, request.last or request.first)
        return Plan(
            entries=[closings.reopening(record) for record in closed],
            sentences=(),
            basis={
                f"{record.month} ({record.scale_id})": f"closed on {record.since:%Y-%m-%d %H:%M:%S.%f}"
                for record in closed
            },
            effects=lambda connection: _effects_of_reopening(connection, closed),
        )

    def lock(self, connection: psycopg.Connection, plan: Plan) -> None:
        for month in sorted({entry.window for entry in plan.entries if entry.window}):
            lock_month(connection, month)

    def apply(self, connection: psycopg.Connection, decisions: Sequence[DecisionRow]) -> None:
        closings.mark_reopened(connection, decisions)


REOPEN_MONTHS = ReopenMonths()


def _closed_among(connection: psycopg.Connection, first: str, last: str) -> list[ClosedMonth]:
    """Read the closed months from `first` to `last`. Raises PermanentFailure if all are open."""
    if last < first:
        raise PermanentFailure(f"{first} is after {last}: name the earlier month first")
    months = [*months_between(first, last)]
    if closed := read_closed(connection, months):
        return closed
    of_months = f"{first} is not" if first == last else f"no month from {first} to {last} is"
    reopened = sorted({f"{one.decided_by} reopened {one.month}" for one in read_states(connection, months)})
    raise PermanentFailure(
        f"{of_months} closed: there is nothing to reopen" + (f" ({some_of(reopened, MAX_NAMED)})" if reopened else "")
    )


def _effects_of_reopening(connection: psycopg.Connection, closed: Sequence[ClosedMonth]) -> list[str]:
    """Count the changed answers of closed months, and name the months that will be recomputed."""
    scales, lines, stale = read_scales(connection), [], set()
    for month in sorted({record.month for record in closed}):
        of_month = [record for record in closed if record.month == month]
        came = closings.count_changes(connection, month, of_month)
        for record in of_month:
            counted, scale = replace(record, came=came[record.scale_id]), scales.get(record.scale_id)
            lines.append(
                f"{month} ({record.scale_id}) closed on {record.since:%Y-%m-%d}; "
                f"{counted.sentence or 'no answer has changed since'}"
            )
            if counted.changes or (scale and settings_differ(record.rules, scale.rules, "eligibility")):
                stale.add(month)
    again = f"to be calibrated again, by the daemon at most once a night: {', '.join(sorted(stale))}"
    return [*lines, again if stale else "nothing has to be calibrated again, and the next night closes it again"]
