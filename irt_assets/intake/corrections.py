"""Corrections of answers: scoring them by another key, or withdrawing them. Former values are kept in
`attempt_correction`.

The days, weeks and open months that depend on the answers are stale at once and are requested again; the next night, or
a run before it, judges the answers again. A closed month is not changed unless it is reopened. Corrections that an
import brings are in `intake.staging`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from irt_assets.common.wording import join_names, quantity
from irt_assets.intake.concerned_months import months_concerned
from irt_assets.intake.staging import correction_sql, lock_out_imports_and_posts
from irt_assets.responses.closing_records import ClosedMonth, read_closed
from irt_assets.responses.snapshot import current_snapshots
from irt_assets.scales.item_keys import DROPPED, RIGHT, Key, key_in_words
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, first_column, named_rows, one_value

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

    @property
    def sentences(self) -> list[str]:
        """The numbers and months, as a person reads them."""
        found = [f"changed: {quantity(self.answers, 'answer')} of {quantity(self.days, 'day')}"]
        if self.reopened_months:
            found.append(f"reopened: {join_names(self.reopened_months)}")
        stale = join_names(self.stale_months)
        found.append(
            f"stale until calibrated again, by the daemon or irt calibrate: {stale}"
            if stale
            else "no open month becomes stale"
        )
        if self.closed_months:
            found.append(
                f"closed: {join_names(self.closed_months)}; the change does not count there unless you reopen them, "
                "with --reopen or later with irt month reopen or on the month's page"
            )
        return found


@dataclass(frozen=True)
class Rekeying(Correction):
    """A correction by another key.

    Attributes:
        former, key: the item's key before and after the correction; None: no key is recorded.
        counts: numbers of answers with and without a stored choice (with_choice, without_choice), and of the ones that
            become_right, become_wrong, count_no_more (because the item is dropped) or count_again.
    """

    item_id: str
    scale_id: str
    former: Key | None
    key: Key | None
    counts: dict[str, int]

    @property
    def change(self) -> str:
        """The former and the new key in words."""
        return f"{key_in_words(self.former)} → {key_in_words(self.key)}"

    @property
    def sentences(self) -> list[str]:
        numbers = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in self.counts.items() if n)
        return [f"key of {self.item_id}: {self.change}", f"answers: {numbers or 0}", *super().sentences]


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


RESCORED = f"""response_log r LEFT JOIN LATERAL (
      SELECT * FROM attempt_correction c
      WHERE (c.attempt_id, c.completed_at, c.revision) = (r.attempt_id, r.completed_at, r.revision)
        AND c.corrected_at >= %(undoes)s ORDER BY correction_id LIMIT 1) f ON f.recorded_at < %(undoes)s
    CROSS JOIN LATERAL (SELECT
      CASE WHEN f.attempt_id IS NOT NULL THEN f.correct
           WHEN r.recorded_at < %(undoes)s OR coalesce(r.response, r.correct::text) IS NULL THEN r.correct
           ELSE coalesce({RIGHT.format(key="%(key)s::jsonb", response="r.response")}, r.correct) END AS is_right,
      CASE WHEN %(key)s::jsonb = '[]' THEN replace(r.mode, 'live', '{DROPPED}')
           ELSE replace(r.mode, '{DROPPED}', 'live') END AS new_mode) n
    WHERE r.item_id = %(item_id)s"""
"""SQL: the answers to an item, with their scores and modes by a key. If a correction is undone (`undoes` is its time),
the answers of that time get the scores that they had before it, and later ones are scored by the key."""


def rekey_answers(
    connection: psycopg.Connection,
    item_id: str,
    key: Key | None,
    *,
    by: str,
    reason: str,
    undoes: datetime | None = None,
    reopen: Reopen | None = None,
) -> Rekeying:
    """Record the key of an item and score its answers by it, in the caller's transaction.

    `key`: None for no key, which leaves scores as they are. `undoes`: time of an earlier correction by a key; the
    answers of that time get the scores that they had before it.

    Raises PermanentFailure if the bank has no such item, its maximum score is above 1, or nobody chose an option of
    `key`.
    """
    item = connection.execute(
        "SELECT scale_id, meta->'key', max_score FROM question WHERE item_id = %s", (item_id,)
    ).fetchone()
    if item is None:
        raise PermanentFailure(f"the bank has no item {item_id!r}: ids are case-sensitive; see `irt items list`")
    scale_id, former, max_score = item
    if (max_score or 1) > 1:
        raise PermanentFailure(
            f"{item_id} has a maximum score above 1, and a key distinguishes only right and wrong: "
            "import the answers with their new scores and a higher revision"
        )
    recorded = None if key is None else Jsonb(key)
    values = {"item_id": item_id, "key": recorded, "undoes": undoes, "by": by, "reason": reason}
    [counts] = named_rows(
        connection,
        f"""SELECT count(r.response) AS with_choice, count(*) - count(r.response) AS without_choice,
                   count(*) FILTER (WHERE is_right AND NOT r.correct) AS become_right,
                   count(*) FILTER (WHERE r.correct AND NOT is_right) AS become_wrong,
                   count(*) FILTER (WHERE r.mode = 'live' AND new_mode <> 'live') AS count_no_more,
                   count(*) FILTER (WHERE new_mode = 'live' AND r.mode <> 'live') AS count_again,
                   array_agg(DISTINCT r.response) FILTER (WHERE r.response IS NOT NULL) AS choices
            FROM {RESCORED}""",
        values,
    )
    choices = counts.pop("choices") or ()
    options = [key] if isinstance(key, str) else key if isinstance(key, list) else []
    if unknown := [option for option in options if option not in choices and undoes is None]:
        chosen = join_names(sorted(choices), MAX_CHOICES_NAMED) or "no choice is stored"
        raise PermanentFailure(f"no answer to {item_id} chose {join_names(map(repr, unknown))}; choices: {chosen}")
    changed = f"""SELECT r.*, %(reason)s::text AS reason FROM {RESCORED}
                  AND (r.correct, r.mode) IS DISTINCT FROM (is_right, new_mode) FOR UPDATE OF r"""
    n = one_value(connection, correction_sql(changed, kind="rescore"), values)
    connection.execute(
        f"""UPDATE response_log l SET correct = is_right, mode = new_mode, recorded_at = now(),
                score = CASE WHEN l.correct IS NOT DISTINCT FROM is_right THEN l.score ELSE former_score END
            FROM (SELECT r.attempt_id, r.completed_at, is_right, new_mode, f.score AS former_score FROM {RESCORED}) s
            WHERE (l.attempt_id, l.completed_at) = (s.attempt_id, s.completed_at)
              AND (l.correct, l.mode) IS DISTINCT FROM (is_right, new_mode)""",
        values,
    )
    connection.execute(
        """UPDATE question SET meta = (meta - 'key') || jsonb_strip_nulls(jsonb_build_object('key', %(key)s::jsonb))
           WHERE item_id = %(item_id)s""",
        values,
    )
    done = vars(_correction(connection, n, reopen))
    return Rekeying(**done, item_id=item_id, scale_id=scale_id, former=former, key=key, counts=counts)


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
    # Verdicts are judged again before they are read, but whatever was made from them is stale from now on.
    connection.execute("UPDATE judged_day SET judged_at = clock_timestamp() WHERE day = ANY(%s::date[])", (days,))
    months = months_concerned(connection, one_value(connection, "SELECT now()"), days)
    stored = months & current_snapshots(connection).keys()
    closed = read_closed(connection, stored)
    of_closed = tuple(sorted({closing.month for closing in closed}))
    if reopen is None:
        return Correction(answers, len(days), tuple(sorted(stored.difference(of_closed))), (), of_closed)
    reopen(connection, closed)
    return Correction(answers, len(days), tuple(sorted(stored)), of_closed, ())
