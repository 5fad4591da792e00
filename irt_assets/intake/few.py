"""A thousand answers at most, compared with the log by the statements of `staging` and without its temporary tables.

What belongs here: that staged answers are a parameter of each statement, and who waits for whom where several posts,
and an import, store the same answers at once.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from typing import Any

import psycopg
import pyarrow as pa

from irt_assets.intake.report import ERASED
from irt_assets.intake.staging import (
    ADD_ITEMS,
    ADD_LEARNERS,
    ATTEMPT_ID,
    JUDGE_AGAINST_LOG,
    JUDGE_ERASED,
    JUDGE_UNKNOWN,
    JUDGE_WITHIN_INPUT,
    LOGGED,
    POSTS,
    REPLACED,
    UNJUDGED,
    Beside,
    Staging,
    kept_as_corrections,
)
from resources.postgres.database import LOCK, lock_key

STAGED = f"""WITH staged AS MATERIALIZED (
    SELECT *, {ATTEMPT_ID} AS attempt_id FROM json_to_recordset(%(rows)s::json) AS given(
        ctid int, source bigint, line bigint, given_id text, user_id text, item_id text, topic_id text,
        completed_at timestamptz, correct boolean, session_id text, form_id text, position bigint,
        started_at timestamptz, response text, response_time_ms bigint, hints_used bigint, mode text,
        revision bigint, score smallint))"""
JUDGE_MONTH = f"""
    SELECT s.ctid, 'month_not_there' FROM staged s WHERE {UNJUDGED} AND NOT EXISTS (
        SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'response_log'::regclass AND c.relname = 'response_log_' ||
            to_char(least(s.completed_at, now()) AT TIME ZONE 'UTC', 'YYYY_MM'))
"""
BUCKETS = 512
"""Locks that ids share. A lock for each id would fill the table of locks, which all connections share."""
SHARE_POSTS = f"""SELECT pg_advisory_xact_lock_shared({LOCK.replace("%s", "%(posts)s")}),
    set_config('lock_timeout', '500ms', true), set_config('synchronous_commit', 'on', true)"""
"""The end of an import, or of a change of keys or maximum scores, is waited for with nothing in hand. From then on a
post waits for less than WAIT_FOR_POSTS_MS of the import: if each waits for the other, the post gives up and is sent
again. It is on disk when it commits, whatever the role's default."""
LOCK_IDS = f"""{STAGED}
    SELECT pg_advisory_xact_lock({LOCK.replace("%s", "%(ids)s")} # bucket) FROM (
        SELECT DISTINCT (hashtext(attempt_id) & {BUCKETS - 1})::bigint AS bucket FROM staged ORDER BY bucket) ordered
"""
CLAMPED = LOGGED.replace("completed_at", "least(completed_at, now())").replace("started_at", "least(started_at, now())")
ADD_FEW = f"""{STAGED}, items AS ({ADD_ITEMS}), learners AS ({ADD_LEARNERS})
    INSERT INTO response_log ({LOGGED}, sent_at)
    SELECT {CLAMPED}, CASE WHEN completed_at > now() THEN completed_at END FROM staged
"""


class Few(Staging):
    """Answers of a post, which begins before its keys and maximum scores are read, so that none of them changes until
    it commits. `outcomes`: by line, the id of each answer that was compared, and its verdict (`duplicate`, a
    reason, or none); `corrected`: ids that replaced an answer; `clock_ahead`: how many came with a time to come."""

    kind = "http"
    each_alone = True

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        connection.execute(SHARE_POSTS.encode(), {"posts": lock_key(*POSTS)})
        self._rows: list[dict[str, Any]] = []
        self._text = "[]"
        self._judged: list[tuple[dict[str, Any], str, str | None, bool]] = []
        self.outcomes: dict[int, tuple[str, str | None]] = {}
        self.corrected: set[str] = set()
        self.clock_ahead = 0

    def _run(self, statement: str, **values: Any) -> psycopg.Cursor[Any]:
        return self._connection.execute(statement.encode(), {"rows": self._text} | values)

    def _hold(self, rows: list[dict[str, Any]]) -> None:
        self._rows, self._text = rows, json.dumps(rows, default=str, ensure_ascii=False)

    def add(self, source: int, tables: Iterator[pa.RecordBatch]) -> None:
        rows = chain(self._rows, *(table.to_pylist() for table in tables))
        defaults = {"mode": "live", "revision": 0, "source": source}
        self._hold([defaults | row | {"given_id": row["attempt_id"], "ctid": n} for n, row in enumerate(rows)])

    def lock(self) -> None:
        """Each id is compared by one post at a time, in a fixed order; imports are not waited for."""
        self._run(LOCK_IDS, ids=lock_key("response_log", "ids"))

    def judge(self, *, strict: bool) -> Counter[tuple[int, str]]:
        judged = JUDGE_ERASED
        unknown = JUDGE_UNKNOWN if strict else ()
        for judgement in (*unknown, JUDGE_MONTH, JUDGE_AGAINST_LOG, JUDGE_WITHIN_INPUT):
            judged = (
                f"WITH verdict AS MATERIALIZED ({judged}) SELECT row_at, reason FROM verdict UNION ALL ({judgement})"
            )
        found = self._run(
            f"""{STAGED} SELECT s.ctid, s.attempt_id, v.reason, s.completed_at > now()
                FROM staged s LEFT JOIN ({judged}) v ON v.row_at = s.ctid ORDER BY s.ctid"""
        )
        self._judged = [(self._rows[place], *verdict) for place, *verdict in found]
        self.outcomes = {row["line"]: (attempt_id, reason) for row, attempt_id, reason, _ in self._judged}
        self.clock_ahead = sum(ahead for *_, reason, ahead in self._judged if reason is None)
        return Counter((row["source"], reason) for row, _, reason, _ in self._judged if reason is not None)

    def erasures(self) -> list[str]:
        return []  # whoever posts is told by row

    def refusals(self) -> Iterator[dict[str, Any]]:
        for row, attempt_id, reason, _ in self._judged:
            if reason not in (None, "duplicate"):
                value = {"unknown_item": row["item_id"], "unknown_learner": row["user_id"], ERASED: ""}
                shown = value.get(reason or "", attempt_id)
                yield {"source": row["source"], "line": row["line"], "reason": reason, "value": shown}

    def drop_judged(self) -> None:
        if any(reason is not None for *_, reason, _ in self._judged):
            self._hold([row for row, _, reason, _ in self._judged if reason is None])

    def replace_corrected(self, sources: list[str]) -> Counter[int]:
        statement = kept_as_corrections(REPLACED, how="import", by="session_user", result="DISTINCT attempt_id")
        changed = statement.strip().removeprefix("WITH")
        self.corrected = {row[0] for row in self._run(f"{STAGED}, {changed}", sources=sources)}
        return Counter({0: len(self.corrected)})

    def names_of_erased(self) -> Callable[[str], str]:
        """They are read when the first row is refused."""
        known = cache(super().names_of_erased)
        return lambda user_id: known()(user_id)

    def add_answers(self, months: set[str], report_share: Callable[[float], None]) -> None:  # noqa: ARG002
        self._run(ADD_FEW)

    def add_items_and_learners(self) -> tuple[int, int]:
        """They come with the answers, and are not counted: whoever posts is not told."""
        return 0, 0

    def judge_beside_posts(self, sources: list[str]) -> Beside | None:  # noqa: ARG002
        """None: no other post has had these ids since they were compared."""
        return None


def recorded_rules(connection: psycopg.Connection, items: list[str] | None = None) -> psycopg.Cursor[Any]:
    """By which rule an answer to each of these items, or to any, is right, where the item's record says so (see
    `AsRecorded`)."""
    these = "true" if items is None else "item_id = ANY(%(items)s)"
    return connection.execute(
        f"""SELECT item_id, meta->>'dichotomise', meta->>'key', max_score FROM question
            WHERE {these} AND (jsonb_exists(meta, 'dichotomise') OR jsonb_exists(meta, 'key') OR max_score > 1)
        """.encode(),
        {"items": items},
    )
