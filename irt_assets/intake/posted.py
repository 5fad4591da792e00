"""Answers that a program posts: parse the text of a request, store its attempts, and return a result for each.

This module checks the form of a row before its values are read, and defines the locks with which posts and imports
store the same answers at once. What does not belong here: HTTP (see `services.theta_api`), and checks that files need,
too (see `ingest`).
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from psycopg.rows import dict_row

from irt_assets.intake import xapi
from irt_assets.intake.clean import NAMES
from irt_assets.intake.ingest import AnswerSource, ingest_answers, limits_of
from irt_assets.intake.jsonlines import as_cell, parse_json
from irt_assets.intake.mapping import ATTEMPT_COLUMNS, Mapping
from irt_assets.intake.max_scores import recorded_rules
from irt_assets.intake.report import REMEDIES, ImportReport, InvalidRow, with_learner_id
from irt_assets.intake.scoring import AsRecorded
from irt_assets.intake.sources import BadRow, Batch, Source
from irt_assets.intake.staging import (
    ADD_ITEMS,
    ADD_LEARNERS,
    CREATE,
    DELETE_REPLACED,
    JUDGE_AGAINST_LOG,
    JUDGE_ERASED,
    JUDGE_WITHIN_INPUT,
    LOG_COLUMNS,
    MARK_DROPPED,
    POSTS,
    REFUSALS,
    WITHOUT_VERDICT,
    Staging,
    correction_sql,
)
from irt_psychometrics.cells import Cells, MaxScores
from resources.postgres.database import LOCK, first_column, lock_key

MAX_ROWS = 1_000
MAX_LINES = 10 * MAX_ROWS  # including empty lines
CLOCKS_AHEAD = timedelta(minutes=5)
REQUIRED_FIELDS = ("user_id", "item_id", "completed_at")
SENDER_REMEDIES = REMEDIES | {
    **xapi.REMEDIES,
    "bad_json": "Each attempt is one JSON object, in JSON lines on a line of its own.",
    "unknown_field": "Send only the fields that the page lists: a misspelt one would be lost.",
    "missing_field": "Send user_id, item_id, completed_at, and correct or score, null if the item was not answered.",
    "bad_time": "Write times as 2026-11-20T08:00:31.250Z, with a zone.",
    "bad_score": "Send correct as true or false, 1 or 0, null if the item was not answered, and score as a whole "
    "number from 0.",
    "max_score_unknown": "The bank has no maximum score for the item: irt import questions, with the columns "
    "item_id,max_score. Then send the answer again.",
    "score_above_max": "The item's max_score in the bank is lower: correct the score, or max_score in the bank.",
    "score_contradicts": "correct must be true only for full credit, the item's max_score: leave it out.",
    "time_in_future": "Check the clock and the zone: a clock may be at most five minutes ahead.",
    "missing_user": "Send the learner's id as user_id.",
    "missing_item": "Send the item's id as item_id.",
    "erased_learner": "The learner was erased and cannot return: stop sending these answers.",
    "conflicting_duplicate": "The log has a different answer with this attempt_id. If this one corrects it, send it "
    "with a higher revision; otherwise, give it an id of its own.",
    "id_too_long": "An id may have at most 600 bytes.",
    "bad_character": "A text must not contain the character NUL.",
    "completed_before_started": "started_at must not be after completed_at.",
    "missing_response": "The item is scored by the key in its record: send the option that was chosen as response.",
    "bad_response_time": "Send whole milliseconds from 0, or null if the time is unknown.",
    "bad_position": "Send a whole number from 1.",
    "bad_hints": "Send a whole number from 0, or null if it is unknown.",
    "bad_revision": "Send a whole number from 0.",
    "bad_mode": "Send live or sandbox.",
    "month_not_there": "The log has no such month yet: create it with irt import attempts.",
}
"""Reason → remedy for the author of the program."""
DELETE_VOIDED = """DELETE FROM response_log r WHERE attempt_id = ANY(%(ids)s)
            RETURNING r.*, 'voided by an xAPI statement' AS reason"""
KNOWN_IDS = """SELECT attempt_id FROM response_log WHERE attempt_id = ANY(%(ids)s)
           UNION SELECT attempt_id FROM attempt_correction WHERE attempt_id = ANY(%(ids)s)"""

STAGED_COLUMNS = (
    "source bigint, line bigint, given_id text, user_id text, item_id text, topic_id text, completed_at timestamptz,"
    " correct boolean, session_id text, form_id text, position bigint, started_at timestamptz, response text,"
    " response_time_ms bigint, hints_used bigint, mode text, revision bigint, score smallint"
)
STAGED_NAMES = ", ".join(column.split()[0] for column in STAGED_COLUMNS.split(", "))
STAGE = f"""INSERT INTO staged ({STAGED_NAMES})
            SELECT {STAGED_NAMES} FROM json_to_recordset(%(rows)s::json) AS given({STAGED_COLUMNS})"""
"""INSERT and not COPY, because the statements run in a pipeline, which cannot COPY."""
SHARE_POSTS = f"""SELECT pg_advisory_xact_lock_shared({LOCK}),
    set_config('lock_timeout', '500ms', true), set_config('synchronous_commit', 'on', true),
    set_config('irt.makes_learners', 'yes', true)"""
"""First statement of a post.

It waits for the end of an import, or of a change of keys or maximum scores, while the post holds no locks yet. Later,
the post waits for a lock for less than the WAIT_FOR_POSTS_MS of imports: if a post and an import wait for each other,
the post gives up and is sent again. `synchronous_commit` writes the post to disk at its commit, whatever the role's
default."""
BUCKETS = 512
"""Number of locks that all ids share. A lock for each id would fill PostgreSQL's table of locks."""
LOCK_IDS = f"""
    SELECT pg_advisory_xact_lock({LOCK} # bucket) FROM (
        SELECT DISTINCT (hashtext(attempt_id) & {BUCKETS - 1})::bigint AS bucket FROM staged ORDER BY bucket) ordered
"""
JUDGE_MONTH = f"""
    SELECT s.ctid, 'month_not_there' FROM staged s WHERE {WITHOUT_VERDICT} AND NOT EXISTS (
        SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'response_log'::regclass AND c.relname = 'response_log_' ||
            to_char(least(s.completed_at, now()) AT TIME ZONE 'UTC', 'YYYY_MM'))
"""
VERDICTS = """SELECT s.source, s.line, s.attempt_id, v.reason, s.completed_at > now()
            FROM staged s LEFT JOIN verdict v ON v.row_at = s.ctid"""
CLAMPED_COLUMNS = LOG_COLUMNS.replace("completed_at", "least(completed_at, now())").replace(
    "started_at", "least(started_at, now())"
)
ADD_POSTED = f"""WITH items AS ({ADD_ITEMS}), learners AS ({ADD_LEARNERS})
                 INSERT INTO response_log ({LOG_COLUMNS}, sent_at)
                 SELECT {CLAMPED_COLUMNS}, CASE WHEN completed_at > now() THEN completed_at END FROM staged"""
REPLACE_POSTED = correction_sql(DELETE_REPLACED, kind="import", by="session_user", result="DISTINCT attempt_id")


class UnreadablePost(Exception):
    """The body cannot be read as attempts; the message says why. `too_many`: it has more attempts or lines than
    allowed."""

    def __init__(self, reason: str, *, too_many: bool = False) -> None:
        super().__init__(reason)
        self.too_many = too_many


@dataclass(frozen=True)
class StoredPost:
    """Result of a post. `results`: the result of each attempt, in the order sent."""

    report: ImportReport
    results: list[dict[str, str]]


class Post(Source):
    """The attempts of a request. The line of an attempt is its position, from 1.

    `statements`: how to read names, if the request contains xAPI statements. `voided`: position → id of the attempt
    that the statement voids. Raises UnreadablePost if the body cannot be read, or has no or too many attempts.
    """

    kind = "post"

    def __init__(self, sender: str, body: bytes, *, lines: bool, statements: xapi.Naming | None = None) -> None:
        super().__init__(Path(sender))
        self._sender = sender
        rows = _rows(body, lines, alone=statements is not None)
        if not rows:
            raise UnreadablePost("it contains no attempt")
        _check_number(rows)
        self._results: dict[int, tuple[bool | None, float | None]] = {}
        attempts = {
            position: _read_attempt(row, position)
            if statements is None
            else _attempt_from_statement(row, position, statements, self._results)
            for position, row in enumerate(rows, start=1)
        }
        self._bad = [row for row in attempts.values() if isinstance(row, BadRow)]
        self._sound = {position: row for position, row in attempts.items() if isinstance(row, dict)}
        self.voided = {
            position: row.attempt_id for position, row in attempts.items() if isinstance(row, xapi.VoidedStatement)
        }
        named = {name for row in self._sound.values() for name in row} | {*REQUIRED_FIELDS, "correct"}
        self.columns = [name for name in ATTEMPT_COLUMNS if name in named]
        self.rows = len(rows)

    @property
    def name(self) -> str:
        return self._sender

    @property
    def items(self) -> list[str]:
        named = {str(row["item_id"]) for row in self._sound.values()}
        return sorted(item for item in named if "\0" not in item)

    def batches(self) -> Iterator[Batch]:
        schema = pa.schema([(name, pa.string()) for name in self.columns])
        rows = pa.RecordBatch.from_pylist([*self._sound.values()], schema)
        yield Batch(rows, np.array([*self._sound], dtype=np.int64), self._bad)

    def read_results(self, maxima: MaxScores) -> None:
        """Read the results of statements, whose points are shares of their items' maximum scores in the bank."""
        for position, (correct, share) in self._results.items():
            if (row := self._sound.get(position)) is None:
                continue
            try:
                result = xapi.result_of(correct, share, maxima[str(row["item_id"])])
            except InvalidRow as refusal:
                attempt_id = self._sound.pop(position)["attempt_id"]
                raw = json.dumps({"id": attempt_id}) if attempt_id else ""
                self._bad.append(BadRow(position, refusal.reason, refusal.value, raw))
            else:
                row.update(zip(("correct", "score"), map(as_cell, result), strict=True))
        if any(row.get("score") for row in self._sound.values()):
            self.columns = [name for name in ATTEMPT_COLUMNS if name in {*self.columns, "score"}]

    def refuse_voids(self, known: Collection[str]) -> None:
        """Refuse the statements that void an attempt that is neither in `known` nor in this post."""
        own_ids = {row.get("attempt_id") for row in self._sound.values()}
        for position, attempt_id in [*self.voided.items()]:
            if attempt_id not in known and attempt_id not in own_ids:
                self._bad.append(BadRow(position, "nothing_to_void", self.voided.pop(position), ""))

    @property
    def is_empty(self) -> bool:
        """Whether the post has no attempts to store or refuse."""
        return not self._sound and not self._bad

    def raw(self, row: dict[str, Any]) -> str:
        return json.dumps({name: value for name, value in row.items() if value is not None}, ensure_ascii=False)


class PostStaging(Staging):
    """Staging tables of a post.

    Create it before the keys and maximum scores are read: its lock keeps them unchanged until the post commits. The
    tables stay with the connection, empty, because creating them takes as long as the rest of a small post.

    Attributes:
        outcomes: line → id and verdict of each answer that was compared; the verdict is `duplicate`, a reason, or None.
        corrected: ids of answers that replaced an earlier one.
        clock_ahead: number of stored answers with a time in the future.
    """

    kind = "http"
    each_alone = True

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection
        self._run(SHARE_POSTS, lock_key(*POSTS))
        for statement in CREATE.format(end="DELETE ROWS").split(";"):
            self._run(statement)
        self.outcomes: dict[int, tuple[str, str | None]] = {}
        self.corrected: set[str] = set()

    def _run(self, statement: str, *values: Any) -> psycopg.Cursor[Any]:
        return self._connection.execute(statement, values)

    def add(self, source: int, tables: Iterator[pa.RecordBatch]) -> None:
        defaults = {"mode": "live", "revision": 0, "source": source}
        sound = chain.from_iterable(table.to_pylist() for table in tables)
        rows = [defaults | row | {"given_id": row["attempt_id"]} for row in sound]
        self._connection.execute(STAGE, {"rows": json.dumps(rows, default=str, ensure_ascii=False)})

    def lock(self) -> None:
        """Let only one post at a time compare an id. Locks are taken in a fixed order; imports are not waited for."""
        self._run(LOCK_IDS, lock_key("response_log", "ids"))

    def judge(self, *, strict: bool) -> Counter[tuple[int, str]]:  # noqa: ARG002
        self._run(MARK_DROPPED)
        for judgement in (JUDGE_ERASED, JUDGE_MONTH, JUDGE_AGAINST_LOG, JUDGE_WITHIN_INPUT):
            self._judge_by(judgement)
        judged = self._run(VERDICTS).fetchall()
        self.outcomes = {line: (attempt_id, reason) for _, line, attempt_id, reason, _ in judged}
        self.clock_ahead = sum(ahead for *_, reason, ahead in judged if reason is None)
        return Counter((source, reason) for source, _, _, reason, _ in judged if reason is not None)

    def refusals(self) -> Iterator[dict[str, Any]]:
        if any(reason not in (None, "duplicate") for _, reason in self.outcomes.values()):
            yield from self._connection.cursor(row_factory=dict_row).execute(REFUSALS)

    def replace_corrected(self, sources: list[str]) -> Counter[int]:
        changed = self._connection.execute(REPLACE_POSTED, {"sources": sources})
        self.corrected = {attempt_id for (attempt_id,) in changed}
        return Counter({0: len(self.corrected)})

    def names_of_erased(self) -> Callable[[str], str]:
        """Override that reads the erasures only when a row is refused."""
        known = cache(super().names_of_erased)
        return lambda user_id: known()(user_id)

    def add_answers(self, months: set[str], report_share: Callable[[float], None]) -> None:  # noqa: ARG002
        self._run(ADD_POSTED)

    def add_items_and_learners(self) -> tuple[int, int]:
        """Return (0, 0): `add_answers` adds them, and they are not counted, because a post's results omit them."""
        return 0, 0

    def judge_posted_meanwhile(self, sources: list[str]) -> None:
        """Override that does nothing, because no other post can have stored these ids since they were compared."""


def store_post(connection: psycopg.Connection, post: Post, *, first_month: str) -> StoredPost:
    """Store a post's attempts, and withdraw the attempts that it voids, in the transaction of `connection`.

    The transaction is on disk when its commit returns. Raises the errors of `ingest_answers`.
    """
    report, staging = ImportReport(), PostStaging(connection)
    refused: dict[int, tuple[str, str]] = {}
    scoring = AsRecorded() if post.is_empty else AsRecorded.from_records(recorded_rules(connection, post.items))
    post.read_results(scoring.maxima)
    given = AnswerSource(post, Mapping(name="post", columns={name: (name,) for name in post.columns}), None)
    ids = [*post.voided.values()]
    if ids:
        post.refuse_voids(first_column(connection, KNOWN_IDS, {"ids": ids}))
    if not post.is_empty:
        ingest_answers(
            connection,
            [given],
            report,
            lambda rows: refused.update({line: (reason, value) for _, line, reason, value, _ in rows}),
            limits_of(connection, first_month, ahead=CLOCKS_AHEAD),
            scoring=scoring,
            staging=staging,
        )
    results = [*map(partial(_result, refused, staging), range(1, post.rows + 1))]
    if ids:
        withdrawing = correction_sql(DELETE_VOIDED, kind="withdraw", result="DISTINCT attempt_id")
        withdrawn = first_column(connection, withdrawing, {"ids": ids, "by": post.name})
        for position, attempt_id in post.voided.items():
            result = "withdrawn" if attempt_id in withdrawn else "duplicate"
            results[position - 1] = {"result": result, "attempt_id": attempt_id}
    return StoredPost(report, results)


def _result(refused: dict[int, tuple[str, str]], staging: PostStaging, line: int) -> dict[str, str]:
    if line not in refused and line not in staging.outcomes:
        return {"result": "left_out"}
    if line in refused:
        reason, value = refused[line]
        remedy = SENDER_REMEDIES.get(reason, "See the reasons on the page for answers by HTTP.")
        return {"result": "rejected", "reason": reason, "value": value, "what_to_do": remedy}
    attempt_id, verdict = staging.outcomes[line]
    result = "corrected" if verdict is None and attempt_id in staging.corrected else verdict or "accepted"
    return {"result": result, "attempt_id": attempt_id}


def _rows(body: bytes, lines: bool, *, alone: bool) -> list[Any]:
    """Parse a body. A line that is not JSON becomes a BadRow. `alone`: a single attempt may come without an array.

    Raises UnreadablePost if the body is not UTF-8, has too many lines or, unless `lines`, is not an array.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise UnreadablePost("it is not UTF-8") from None
    if lines:
        if (count := text.count("\n")) > MAX_LINES:
            raise UnreadablePost(f"it contains {count:,} lines", too_many=True)
        filled = [line for line in text.split("\n") if line.strip()]
        _check_number(filled)
        return [_parse_line(line) for line in filled]
    try:
        parsed = parse_json(text)
    except ValueError as error:
        raise UnreadablePost(str(error)) from None
    if alone and isinstance(parsed, dict):
        return [parsed]
    if not isinstance(parsed, list):
        raise UnreadablePost("it is not an array of attempts")
    return parsed


def _check_number(rows: list[Any]) -> None:
    if len(rows) > MAX_ROWS:
        raise UnreadablePost(f"it contains {len(rows):,} attempts", too_many=True)


def _parse_line(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        return BadRow(0, "bad_json", str(error), line)


def _read_attempt(row: Any, position: int) -> dict[str, str | None] | BadRow:
    """The attempt's fields as text, or a BadRow with the reason to refuse it."""
    if isinstance(row, BadRow):
        return BadRow(position, row.reason, row.value, row.raw)
    found = _cells(row)
    return found if isinstance(found, dict) else BadRow(position, *found, _raw(row))


def _raw(row: Any) -> str:
    """Return the row as JSON, after a learner's id that is a number, because JSON may write it with other digits."""
    user_id = row.get("user_id") if isinstance(row, dict) else None
    return with_learner_id(json.dumps(row, ensure_ascii=False), getattr(user_id, "digits", None))


def _cells(row: Any) -> dict[str, str | None] | tuple[str, str]:
    """The attempt's fields as text without white space around it. If a field is wrong, returns the reason and value."""
    if not isinstance(row, dict):
        return "bad_json", "not a JSON object"
    if unknown := [name for name in row if name not in ATTEMPT_COLUMNS]:
        return "unknown_field", unknown[0]
    try:
        texts = {name: as_cell(value) for name, value in row.items()}
    except ValueError as error:
        return "bad_json", str(error)
    if isinstance(row.get("score"), bool):
        return "bad_score", str(texts["score"])
    cells = {
        name: None if text is None else Cells.visible(text.strip()) if name in NAMES else text.strip()
        for name, text in texts.items()
    }
    missing = [name for name in REQUIRED_FIELDS if not cells.get(name)] + ["correct"] * (
        not {"correct", "score"} & row.keys()
    )
    return ("missing_field", missing[0]) if missing else cells


def _attempt_from_statement(
    row: Any, position: int, naming: xapi.Naming, results: dict[int, tuple[bool | None, float | None]]
) -> dict[str, str | None] | BadRow | xapi.VoidedStatement | None:
    """`xapi.attempt_of` with fields as text, or a BadRow. The result is added to `results`.

    Only the id of a refused statement is kept, because an erasure could not find a learner in a whole statement.
    """
    if not isinstance(row, dict):
        return BadRow(position, "bad_json", "not a JSON object", "")
    try:
        attempt = xapi.attempt_of(row, naming)
    except InvalidRow as refusal:
        return BadRow(
            position,
            refusal.reason,
            refusal.value,
            json.dumps({"id": row["id"]}) if isinstance(row.get("id"), str) else "",
        )
    if not isinstance(attempt, dict):
        return attempt
    results[position] = attempt["correct"], attempt.pop("share")
    return _read_attempt(attempt, position)
