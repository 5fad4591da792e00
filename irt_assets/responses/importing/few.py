"""A thousand answers at most, compared with the log by the statements of `staging` and without its temporary tables.

What belongs here: that staged answers are a parameter of each statement, and who waits for whom where several posts,
and an import, store the same answers at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pyarrow as pa

from irt_assets.responses.importing.report import ERASED
from irt_assets.responses.importing.staging import (
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
        revision bigint))"""
JUDGE_MONTH = f"""
    SELECT s.ctid, 'month_not_there' FROM staged s WHERE {UNJUDGED} AND NOT EXISTS (
        SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'response_log'::regclass AND c.relname = 'response_log_' ||
            to_char(least(s.completed_at, now()) AT TIME ZONE 'UTC', 'YYYY_MM'))
"""
BUCKETS = 128
"""Locks that ids share. A lock for each id would fill the table of locks, which all connections share."""
LOCK_IDS = f"""{STAGED}
    SELECT pg_advisory_xact_lock({LOCK.replace("%s", "%(key)s")} # bucket)
    FROM (SELECT DISTINCT (hashtext(attempt_id) & {BUCKETS - 1})::bigint AS bucket FROM staged ORDER BY bucket) ordered
"""
SHARE = f"SELECT pg_advisory_xact_lock_shared({LOCK}), set_config('lock_timeout', '500ms', true)"
"""The end of an import is waited for with nothing in hand. From then on a post waits for less than the import's
WAIT_FOR_POSTS_MS: where each waits for the other, the post gives up and is sent again."""
CLAMPED = LOGGED.replace("completed_at", "least(completed_at, now())").replace("started_at", "least(started_at, now())")
ADD_FEW = f"""
    , added AS (
        INSERT INTO response_log ({LOGGED}, sent_at)
        SELECT {CLAMPED}, CASE WHEN completed_at > now() THEN completed_at END FROM staged RETURNING sent_at)
    SELECT count(sent_at) FROM added
"""


class Few(Staging):
    """Answers of a post. `outcomes`: by line, the id of each answer that was compared, and its verdict (`duplicate`, a
    reason, or none); `corrected`: ids that replaced an answer; `clock_ahead`: how many came with a time to come."""

    kind = "http"

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._rows: list[dict[str, Any]] = []
        self._judged: list[tuple[dict[str, Any], str, str | None]] = []
        self.outcomes: dict[int, tuple[str, str | None]] = {}
        self.corrected: set[str] = set()
        self.clock_ahead = 0

    def _run(self, statement: str, **values: Any) -> psycopg.Cursor[Any]:
        rows = json.dumps(self._rows, default=str, ensure_ascii=False)
        return self._connection.execute(statement.encode(), {"rows": rows} | values)

    def add(self, source: int, tables: Iterator[pa.RecordBatch]) -> None:
        for table in tables:
            for row in table.to_pylist():
                defaults = {"mode": "live", "revision": 0, "ctid": len(self._rows), "source": source}
                self._rows.append(defaults | row | {"given_id": row["attempt_id"]})

    def lock(self) -> None:
        """Each id is compared by one post at a time, in a fixed order; imports are not waited for."""
        self._connection.execute(SHARE, (lock_key(*POSTS),))
        self._run(LOCK_IDS, key=lock_key("response_log", "ids"))

    def judge(self, *, strict: bool) -> Counter[str]:
        judged = JUDGE_ERASED
        unknown = JUDGE_UNKNOWN if strict else ()
        for judgement in (*unknown, JUDGE_MONTH, JUDGE_AGAINST_LOG, JUDGE_WITHIN_INPUT):
            judged = (
                f"WITH verdict AS MATERIALIZED ({judged}) SELECT row_at, reason FROM verdict UNION ALL ({judgement})"
            )
        found = self._run(
            f"""{STAGED} SELECT s.ctid, s.attempt_id, v.reason
                FROM staged s LEFT JOIN ({judged}) v ON v.row_at = s.ctid ORDER BY s.ctid"""
        )
        self._judged = [(self._rows[place], attempt_id, reason) for place, attempt_id, reason in found]
        self.outcomes = {row["line"]: (attempt_id, reason) for row, attempt_id, reason in self._judged}
        return Counter(reason for *_, reason in self._judged if reason is not None)

    def erasures(self) -> list[str]:
        return []  # whoever posts is told by row

    def refusals(self) -> Iterator[dict[str, Any]]:
        for row, attempt_id, reason in self._judged:
            if reason not in (None, "duplicate"):
                value = {"unknown_item": row["item_id"], "unknown_learner": row["user_id"], ERASED: ""}
                shown = value.get(reason or "", attempt_id)
                yield {"source": row["source"], "line": row["line"], "reason": reason, "value": shown}

    def drop_judged(self) -> None:
        self._rows = [row for row, _, reason in self._judged if reason is None]

    def replace_corrected(self, sources: list[str]) -> int:
        statement = kept_as_corrections(REPLACED, how="import", by="session_user", result="DISTINCT attempt_id")
        changed = statement.strip().removeprefix("WITH")
        self.corrected = {row[0] for row in self._run(f"{STAGED}, {changed}", sources=sources)}
        return len(self.corrected)

    def recorded(self, name: str) -> dict[str, str]:  # noqa: ARG002
        """None: a post is scored by the records themselves."""
        return {}

    def record(self, records: dict[str, dict[str, str]]) -> None:
        """Nothing new is known of items."""

    def add_answers(self, months: set[str], report_share: Callable[[float], None]) -> None:  # noqa: ARG002
        [(self.clock_ahead,)] = self._run(STAGED + ADD_FEW)

    def add_items_and_learners(self) -> tuple[int, int]:
        return self._run(STAGED + ADD_ITEMS).rowcount, self._run(STAGED + ADD_LEARNERS).rowcount

    def judge_beside_posts(self, sources: list[str]) -> Beside | None:  # noqa: ARG002
        """None: no other post has had these ids since they were compared."""
        return None


def recorded_rules(connection: psycopg.Connection, items: list[str] | None = None) -> dict[str, float]:
    """From how many points on an answer is right, of those of these items, or of all, whose record says so."""
    rules = connection.execute(
        "SELECT item_id, meta->>'dichotomise' FROM question"
        " WHERE (%(items)s::text[] IS NULL OR item_id = ANY(%(items)s)) AND jsonb_exists(meta, 'dichotomise')",
        {"items": items},
    )
    return {item: float(rule.partition("=")[2]) for item, rule in rules}
