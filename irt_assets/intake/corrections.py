"""Corrections of answers: scoring them by another key, or withdrawing them. Former values are kept in
`attempt_correction`.

The next night judges the answers again; then the days, weeks and open months that depend on them are stale and are
requested again. A closed month is not changed unless it is reopened. Corrections that an import brings are in
`intake.staging`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.common.wording import join_names
from irt_assets.intake.concerned_months import months_concerned
from irt_assets.intake.staging import correction_sql, lock_out_imports_and_posts
from irt_assets.responses.closing_records import ClosedMonth, read_closed
from irt_assets.responses.snapshot import current_snapshots
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, first_column, one_value

MAX_CHOICES_NAMED = 10
Reopen = Callable[[psycopg.Connection, Sequence[ClosedMonth]], None]
"""Called with the closed months that a correction may concern, to reopen them in its transaction."""


@dataclass(frozen=True)
class Correction:
    """Numbers of corrected answers and of their days, and the months that were computed from the former values.

    Attributes:
        stale_months: open months, which are computed again.
        reopened_months: the stale months that this correction has reopened.
        closed_months: closed months, for which the correction does not count.
    """

    answers: int
    days: int
    stale_months: tuple[str, ...]
    reopened_months: tuple[str, ...]
    closed_months: tuple[str, ...]


@dataclass(frozen=True)
class Rescoring(Correction):
    """A correction by another key.

    Attributes:
        with_choice: answers whose chosen option is stored, whether or not they changed.
        without_choice: answers without a stored option, which are not changed.
        right_before, right_after: right answers among the answers with a stored option.
    """

    with_choice: int
    without_choice: int
    right_before: int
    right_after: int


@dataclass(frozen=True)
class AnswerSelection:
    """Selection of answers: by item or by ids, with completed_at in [start, end). None: no limit in time."""

    item_id: str | None = None
    ids: list[str] | None = None
    start: datetime | None = None
    end: datetime | None = None


SELECTED_ANSWERS = """(r.item_id = %(item_id)s OR r.attempt_id = ANY(%(ids)s::text[]))
    AND r.completed_at >= coalesce(%(start)s, '-infinity'::timestamptz)
    AND r.completed_at < coalesce(%(end)s, 'infinity'::timestamptz)"""


def rescore(
    database: Database,
    selection: AnswerSelection,
    key: str,
    *,
    by: str,
    reason: str,
    dry_run: bool = False,
    reopen: Reopen | None = None,
) -> Rescoring:
    """Score answers by `key`. A key in the item's record is replaced by it, unless `selection` is limited in time.

    Raises PermanentFailure if nobody chose `key`, and for an item whose maximum score is above 1.
    """
    values = vars(selection) | {"key": key, "by": by, "reason": reason}
    with database.connect() as connection:
        lock_out_imports_and_posts(connection)
        if one_value(connection, "SELECT max_score > 1 FROM question WHERE item_id = %s", (selection.item_id,)):
            raise PermanentFailure(
                f"{selection.item_id} has a maximum score above 1, and a key distinguishes only right and wrong: "
                "import the answers with their new scores and a higher revision"
            )
        [(choices, answers, with_choice, before, after)] = connection.execute(
            f"""SELECT array_agg(DISTINCT response) FILTER (WHERE response IS NOT NULL), count(*), count(response),
                       count(response) FILTER (WHERE correct), count(response) FILTER (WHERE response = %(key)s)
                FROM response_log r WHERE {SELECTED_ANSWERS}""",
            values,
        ).fetchall()
        if key not in (choices or ()):
            chosen = join_names(sorted(choices or ()), MAX_CHOICES_NAMED) or "no choice is stored"
            raise PermanentFailure(f"no answer to {selection.item_id} chose {key!r}; choices: {chosen}")
        changed = f"""SELECT r.*, %(reason)s::text AS reason FROM response_log r
                      WHERE {SELECTED_ANSWERS} AND r.correct IS DISTINCT FROM (r.response = %(key)s)
                        AND r.response IS NOT NULL FOR UPDATE"""
        n = one_value(connection, correction_sql(changed, kind="rescore"), values)
        connection.execute(
            """UPDATE response_log r SET correct = (r.response = %(key)s), score = NULL, recorded_at = now()
               FROM attempt_correction c
               WHERE c.corrected_at = now() AND (r.attempt_id, r.completed_at) = (c.attempt_id, c.completed_at)""",
            values,
        )
        if selection.start is None and selection.end is None:
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
    database: Database,
    selection: AnswerSelection,
    *,
    by: str,
    reason: str,
    dry_run: bool = False,
    reopen: Reopen | None = None,
) -> Correction:
    """Withdraw answers from the log. Raises PermanentFailure if the log has no such answers."""
    with database.connect() as connection:
        lock_out_imports_and_posts(connection)
        n = withdraw_answers(connection, selection, by=by, reason=reason)
        if not n:
            raise PermanentFailure("the log has no such answers")
        done = _correction(connection, n, reopen)
        if dry_run:
            connection.rollback()
        return done


def withdraw_answers(connection: psycopg.Connection, selection: AnswerSelection, *, by: str, reason: str) -> int:
    """Withdraw answers in the transaction of `connection`, which holds the lock of imports. Returns their number."""
    changed = f"DELETE FROM response_log r WHERE {SELECTED_ANSWERS} RETURNING r.*, %(reason)s::text AS reason"
    values = vars(selection) | {"by": by, "reason": reason}
    return int(one_value(connection, correction_sql(changed, kind="withdraw"), values))


def remove_duplicate_rows(connection: psycopg.Connection) -> int:
    """Keep one of several rows with the same id and different times, which can only be inserted by SQL.

    The row with the highest revision is kept, or else the row that was recorded first. Only ids with a row of the last
    week are checked. Returns the number of ids that had several rows.
    """
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
    kept = correction_sql(others, kind="double", by="session_user").encode()
    return int(one_value(connection, kept, {"ids": ids}))


def _correction(connection: psycopg.Connection, answers: int, reopen: Reopen | None) -> Correction:
    """The correction of this transaction. Only months with a snapshot are listed; `reopen` reopens the closed ones."""
    days = first_column(
        connection,
        """SELECT DISTINCT to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM attempt_correction
           WHERE corrected_at = now()""",
    )
    months = months_concerned(connection, one_value(connection, "SELECT now()"), days)
    stored = months & current_snapshots(connection).keys()
    closed = read_closed(connection, stored)
    of_closed = tuple(sorted({closing.month for closing in closed}))
    if reopen is None:
        return Correction(answers, len(days), tuple(sorted(stored.difference(of_closed))), (), of_closed)
    reopen(connection, closed)
    return Correction(answers, len(days), tuple(sorted(stored)), of_closed, ())
