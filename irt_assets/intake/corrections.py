"""Answers that change: scored again by another key, or withdrawn; what they were is kept in `attempt_correction`.

The next night judges them again, and then days, weeks and open months that rest on them are stale and requested again.
A closed month stays as it is unless it is reopened. What does not belong here: corrections that come with an import
(see `intake.staging`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.common.wording import listed
from irt_assets.intake.concerned_months import months_concerned
from irt_assets.intake.staging import kept_as_corrections, lock_out_imports_and_posts
from irt_assets.responses.closing_records import ClosedMonth, read_closed
from irt_assets.responses.snapshot import current_snapshots
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, first_column, one_value

MOST_CHOICES_NAMED = 10
Reopen = Callable[[psycopg.Connection, Sequence[ClosedMonth]], None]
"""Opens the closed months that a correction may concern, in its transaction."""


@dataclass(frozen=True)
class Correction:
    """Answers that were changed or withdrawn, their days, and the months that were made with what they were.

    Attributes:
        stale_months: the open ones, which are made again.
        reopened_months: those of them that were closed until now.
        closed_months: those for which the change does not count.
    """

    answers: int
    days: int
    stale_months: tuple[str, ...]
    reopened_months: tuple[str, ...]
    closed_months: tuple[str, ...]


@dataclass(frozen=True)
class Rescoring(Correction):
    """`with_choice`: answers whose chosen option is stored, changed or not; the others are left as they are."""

    with_choice: int
    without_choice: int
    right_before: int
    right_after: int


@dataclass(frozen=True)
class Answers:
    """The answers to an item, or those with the ids, with completed_at in [start, end); None: no limit."""

    item_id: str | None = None
    ids: list[str] | None = None
    start: datetime | None = None
    end: datetime | None = None


OF_ANSWERS = """(r.item_id = %(item_id)s OR r.attempt_id = ANY(%(ids)s::text[]))
    AND r.completed_at >= coalesce(%(start)s, '-infinity'::timestamptz)
    AND r.completed_at < coalesce(%(end)s, 'infinity'::timestamptz)"""


def rescore(
    database: Database,
    which: Answers,
    key: str,
    *,
    by: str,
    reason: str,
    dry_run: bool = False,
    reopen: Reopen | None = None,
) -> Rescoring:
    """Right is who chose `key`. An item that records its key records this one, unless the answers are those of a time.

    Raises PermanentFailure where nobody chose `key`, and for an item with more than right and wrong.
    """
    values = vars(which) | {"key": key, "by": by, "reason": reason}
    with database.connect() as connection:
        lock_out_imports_and_posts(connection)
        if one_value(connection, "SELECT max_score > 1 FROM question WHERE item_id = %s", (which.item_id,)):
            raise PermanentFailure(
                f"{which.item_id} is scored from 0 to more than 1, and a key says only right and wrong: import the "
                "answers with their new scores and a higher revision"
            )
        [(choices, answers, with_choice, before, after)] = connection.execute(
            f"""SELECT array_agg(DISTINCT response) FILTER (WHERE response IS NOT NULL), count(*), count(response),
                       count(response) FILTER (WHERE correct), count(response) FILTER (WHERE response = %(key)s)
                FROM response_log r WHERE {OF_ANSWERS}""",
            values,
        ).fetchall()
        if key not in (choices or ()):
            chosen = listed(sorted(choices or ()), MOST_CHOICES_NAMED) or "none, as none is stored"
            raise PermanentFailure(f"no answer to {which.item_id} chose {key!r}; chosen were: {chosen}")
        changed = f"""SELECT r.*, %(reason)s::text AS reason FROM response_log r
                      WHERE {OF_ANSWERS} AND r.correct IS DISTINCT FROM (r.response = %(key)s)
                        AND r.response IS NOT NULL FOR UPDATE"""
        n = one_value(connection, kept_as_corrections(changed, how="rescore"), values)
        connection.execute(
            """UPDATE response_log r SET correct = (r.response = %(key)s), score = NULL, recorded_at = now()
               FROM attempt_correction c
               WHERE c.corrected_at = now() AND (r.attempt_id, r.completed_at) = (c.attempt_id, c.completed_at)""",
            values,
        )
        if which.start is None and which.end is None:
            connection.execute(
                """UPDATE question SET meta = meta || jsonb_build_object('key', %(key)s::text)
                   WHERE item_id = %(item_id)s AND jsonb_exists(meta, 'key')""",
                values,
            )
        done = Rescoring(
            **vars(_correction(connection, n, reopen)),
            with_choice=with_choice,
            without_choice=answers - with_choice,
            right_before=before,
            right_after=after,
        )
        if dry_run:
            connection.rollback()
        return done


def withdraw(
    database: Database, which: Answers, *, by: str, reason: str, dry_run: bool = False, reopen: Reopen | None = None
) -> Correction:
    """Take answers out of the log. Raises PermanentFailure where there are none."""
    with database.connect() as connection:
        lock_out_imports_and_posts(connection)
        n = take_out(connection, which, by=by, reason=reason)
        if not n:
            raise PermanentFailure("the log has no such answers")
        done = _correction(connection, n, reopen)
        if dry_run:
            connection.rollback()
        return done


def take_out(connection: psycopg.Connection, which: Answers, *, by: str, reason: str) -> int:
    """Withdraw answers in the transaction of `connection`, which holds the lock of imports; how many."""
    changed = f"DELETE FROM response_log r WHERE {OF_ANSWERS} RETURNING r.*, %(reason)s::text AS reason"
    values = vars(which) | {"by": by, "reason": reason}
    return int(one_value(connection, kept_as_corrections(changed, how="withdraw"), values))


def keep_one_of_each(connection: psycopg.Connection) -> int:
    """Keep one of the rows with one id at several times, which only SQL can insert: that with the highest revision, or
    else the one that was recorded first. Only ids with a row of the last week are looked up. Returns the number of ids
    that had several rows."""
    advisory_lock(connection, "response_log", "import")
    ids = first_column(
        connection,
        """SELECT attempt_id FROM response_log
           WHERE attempt_id IN (SELECT attempt_id FROM response_log WHERE recorded_at >= now() - interval '7 days')
           GROUP BY attempt_id HAVING count(*) > 1""",
    )
    if not ids:
        return 0
    others = """
        DELETE FROM response_log r USING response_log one
        WHERE one.attempt_id = r.attempt_id AND r.attempt_id = ANY(%(ids)s)
          AND (-one.revision, one.recorded_at, one.completed_at) < (-r.revision, r.recorded_at, r.completed_at)
        RETURNING r.*, 'another row with this id is in the log' AS reason"""
    kept = kept_as_corrections(others, how="double", by="session_user").encode()
    return int(one_value(connection, kept, {"ids": ids}))


def _correction(connection: psycopg.Connection, answers: int, reopen: Reopen | None) -> Correction:
    """The correction of this transaction, with the months with a snapshot that it may concern; `reopen` opens the
    closed ones."""
    days = first_column(
        connection,
        """SELECT DISTINCT to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM attempt_correction
           WHERE corrected_at = now()""",
    )
    months = months_concerned(connection, one_value(connection, "SELECT now()"), days)
    made = months & current_snapshots(connection).keys()
    closed = read_closed(connection, made)
    of_closed = tuple(sorted({one.month for one in closed}))
    if reopen is None:
        return Correction(answers, len(days), tuple(sorted(made.difference(of_closed))), (), of_closed)
    reopen(connection, closed)
    return Correction(answers, len(days), tuple(sorted(made)), of_closed, ())
