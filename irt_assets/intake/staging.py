"""The staging table of an import, a pull or a post, and the statements that merge it into the tables.

Every staged answer is valid by itself. It is compared here with the other staged answers and with the log. Its
*verdict* is the reason why it is not added; `duplicate` is not an error.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.copy import QueuedLibpqWriter
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from irt_assets.intake.report import ERASED, WITHDRAWN
from irt_assets.responses.erased import HASHED, names_of_erased
from irt_assets.scales.item_keys import DROPPED, RIGHT, Key
from resources.postgres.database import LOCK, advisory_lock, first_column, lock_key, one_value
from resources.postgres.log_months import INCOMING, fill_new_months, partition_of, partitions_of_log
from resources.tables import response_log

FORMER_COLUMNS = ", ".join(column.name for column in response_log.columns)


def correction_sql(changed: str, *, kind: str, by: str = "%(by)s", result: str = "count(DISTINCT attempt_id)") -> str:
    """SQL statement that runs `changed` and stores the rows that it returns as corrections.

    `changed` is SQL that changes or selects rows of the log, and returns the former rows with a `reason`. `how`: kind
    of correction. `by`: SQL of its author. `result`: SQL of the returned columns; by default the number of answers.
    """
    return f"""
        WITH changed AS ({changed}), kept AS (
            INSERT INTO attempt_correction ({FORMER_COLUMNS}, how, corrected_by, reason)
            SELECT {FORMER_COLUMNS}, '{kind}', {by}, reason FROM changed)
        SELECT {result} FROM changed"""


# Answers without an id are identified by learner, item and time, so that a longer export of the same log adds only
# new answers. The text of an epoch does not depend on the session's settings.
ATTEMPT_ID = r"""coalesce(given_id, md5(user_id || E'\x1f' || item_id
            || E'\x1f' || extract(epoch FROM completed_at - timestamptz '1970-01-01 00:00:00+00')::text))"""
CREATE = f"""
    CREATE TEMPORARY TABLE IF NOT EXISTS staged (
        source bigint NOT NULL, line bigint NOT NULL, given_id text,
        user_id text NOT NULL, item_id text NOT NULL, topic_id text, completed_at timestamptz NOT NULL,
        correct boolean, session_id text, form_id text, position bigint, started_at timestamptz,
        response text, response_time_ms bigint, hints_used bigint, mode text NOT NULL DEFAULT 'live',
        revision bigint NOT NULL DEFAULT 0, score smallint,
        attempt_id text NOT NULL GENERATED ALWAYS AS ({ATTEMPT_ID}) STORED
    ) ON COMMIT {{end}};
    CREATE TEMPORARY TABLE IF NOT EXISTS verdict (row_at tid, reason varchar(30)) ON COMMIT {{end}}
"""
LOG_COLUMNS = (
    "attempt_id, completed_at, user_id, item_id, session_id, form_id, position, started_at, correct, response,"
    " response_time_ms, hints_used, mode, revision, score"
)
WITHOUT_VERDICT = "NOT EXISTS (SELECT FROM verdict v WHERE v.row_at = s.ctid)"
ERASED_LEARNERS = f"""
    SELECT l.user_id, e.erasure_id, e.begun_at
    FROM (SELECT DISTINCT user_id FROM staged) l CROSS JOIN (SELECT DISTINCT salt FROM erasure) s
    JOIN erasure e ON e.salt = s.salt AND e.learner_hash = {HASHED.format(salt="s.salt", user_id="l.user_id")}
"""
JUDGE_ERASED = f"""
    SELECT s.ctid AS row_at, '{ERASED}' AS reason FROM staged s
    WHERE EXISTS (SELECT FROM erasure) AND user_id IN (SELECT user_id FROM ({ERASED_LEARNERS}) erased)
"""
JUDGE_UNKNOWN = (
    f"""
    SELECT s.ctid, 'unknown_item' FROM staged s
    WHERE NOT EXISTS (SELECT FROM question q WHERE q.item_id = s.item_id) AND {WITHOUT_VERDICT}
""",
    f"""
    SELECT s.ctid, 'unknown_learner' FROM staged s
    WHERE NOT EXISTS (SELECT FROM learner l WHERE l.user_id = s.user_id) AND {WITHOUT_VERDICT}
""",
)
SAME_SCORE = """(s.correct OR s.score IS NOT DISTINCT FROM {former} OR coalesce(s.score, {former}) = 0
    AND NOT EXISTS (SELECT FROM question q WHERE q.item_id = s.item_id AND q.max_score > 1))"""
"""SQL: whether two answers with the same `correct` have the same score. Full credit is a single score. If an item has
no partial credit, a wrong answer without a score is the same as a score of 0."""
JUDGE_AGAINST_LOG = f"""
    SELECT s.ctid, CASE WHEN NOT bool_or(r.stands) THEN '{WITHDRAWN}'
                        WHEN s.revision < max(r.revision) OR bool_or(
                            (r.revision, r.user_id, r.item_id, r.sent_at, r.correct) IS NOT DISTINCT FROM
                            (s.revision, s.user_id, s.item_id, s.completed_at, s.correct)
                            AND coalesce({SAME_SCORE.format(former="r.score")}, true)) THEN 'duplicate'
                        ELSE 'conflicting_duplicate' END
    FROM staged s JOIN (
        SELECT attempt_id, revision, user_id, item_id, coalesce(sent_at, completed_at) AS sent_at, correct, score,
               true AS stands FROM response_log
        UNION ALL
        SELECT attempt_id, revision, user_id, item_id, coalesce(sent_at, completed_at), correct, score, false
        FROM attempt_correction
    ) r ON r.attempt_id = s.attempt_id
    WHERE {WITHOUT_VERDICT} GROUP BY s.ctid, s.revision HAVING s.revision <= max(r.revision)
"""
JUDGE_WITHIN_INPUT = f"""
    SELECT row_at, CASE WHEN same OR lower THEN 'duplicate' ELSE 'conflicting_duplicate' END
    FROM (
        SELECT s.ctid AS row_at, row_number() OVER first > 1 AS later,
               s.revision < first_value(s.revision) OVER first AS lower,
               (s.user_id, s.item_id, s.completed_at, s.correct) IS NOT DISTINCT FROM
               (first_value(s.user_id) OVER first, first_value(s.item_id) OVER first,
                first_value(s.completed_at) OVER first, first_value(s.correct) OVER first)
               AND coalesce({SAME_SCORE.format(former="first_value(s.score) OVER first")}, true) AS same
        FROM staged s
        WHERE attempt_id IN (SELECT attempt_id FROM staged GROUP BY attempt_id HAVING count(*) > 1)
          AND {WITHOUT_VERDICT}
        WINDOW first AS (PARTITION BY attempt_id ORDER BY revision DESC, source, line, s.ctid)
    ) compared
    WHERE later
"""
ADD_ITEMS = """
    INSERT INTO question (item_id, topic_id)
    SELECT item_id, min(topic_id) FROM staged GROUP BY item_id ORDER BY item_id
    ON CONFLICT DO NOTHING
"""
ADD_LEARNERS = """
    INSERT INTO learner (user_id) SELECT DISTINCT user_id FROM staged ORDER BY user_id ON CONFLICT DO NOTHING
"""
DELETE_REPLACED = """DELETE FROM response_log r USING staged s
       WHERE r.attempt_id = s.attempt_id AND r.revision < s.revision
       RETURNING r.*, (%(sources)s::text[])[s.source + 1] AS reason, s.source"""
REPLACE_CORRECTED = correction_sql(
    DELETE_REPLACED, kind="import", by="session_user", result="source, count(DISTINCT attempt_id)"
)
ADD_ANSWERS = f"""
    INSERT INTO {{table}} ({LOG_COLUMNS}) SELECT {LOG_COLUMNS} FROM staged
    WHERE ctid >= format('(%%s,0)', %(start)s::int)::tid AND ctid < format('(%%s,0)', %(end)s::int)::tid
"""
OF_MONTHS = " AND to_char(completed_at AT TIME ZONE 'UTC', 'YYYY-MM') = ANY(%(months)s)"
USE_FORMER_IDS = """
    WITH former AS (
        SELECT *, row_number() OVER (PARTITION BY user_id, item_id ORDER BY length(attempt_id), attempt_id) AS n
        FROM (SELECT DISTINCT ON (attempt_id) attempt_id, user_id, item_id, at, stands
              FROM (SELECT attempt_id, user_id, item_id, coalesce(sent_at, completed_at) AS at, true AS stands
                    FROM response_log
                    UNION ALL
                    SELECT attempt_id, user_id, item_id, coalesce(sent_at, completed_at), false
                    FROM attempt_correction) every
              WHERE user_id IN (SELECT user_id FROM staged WHERE source = %(source)s)
                AND attempt_id ~ ('^' || %(file_id)s || '-[0-9]+$')
              ORDER BY attempt_id, stands DESC) log
    ), cells AS (
        SELECT ctid AS row_at, user_id, item_id,
               row_number() OVER (PARTITION BY user_id, item_id ORDER BY line, given_id) AS n
        FROM staged WHERE source = %(source)s AND starts_with(given_id, %(file_id)s)
    ), renamed AS (
        UPDATE staged s SET given_id = f.attempt_id, completed_at = f.at
        FROM cells c JOIN former f USING (user_id, item_id, n) WHERE s.ctid = c.row_at RETURNING 1)
    SELECT (SELECT count(*) FROM renamed), count(*) FILTER (WHERE f.stands AND f.n > c.n)
    FROM (SELECT user_id, item_id, max(n) AS n FROM cells GROUP BY 1, 2) c JOIN former f USING (user_id, item_id)
"""
"""Version 1.0 numbered the cells of a matrix by the columns that were items, so the same cell could get another id."""
REFUSALS = f"""
    SELECT s.source, s.line, v.reason,
           CASE v.reason WHEN 'unknown_item' THEN s.item_id WHEN 'unknown_learner' THEN s.user_id
                         WHEN '{ERASED}' THEN '' ELSE s.attempt_id END AS value
    FROM verdict v JOIN staged s ON s.ctid = v.row_at
    WHERE v.reason <> 'duplicate' ORDER BY s.source, s.line, s.ctid
"""
MARK_DROPPED = f"""UPDATE staged s SET mode = '{DROPPED}' FROM question q
    WHERE q.item_id = s.item_id AND q.meta->'key' = '[]' AND s.mode = 'live'"""
SCORE_BY_KEY = f"""
    UPDATE staged s
    SET correct = n.is_right, score = CASE WHEN s.correct IS NOT DISTINCT FROM n.is_right THEN s.score END
    FROM (SELECT t.ctid AS row_at,
                 coalesce({RIGHT.format(key="(q.meta->'key')", response="t.response")}, t.correct) AS is_right
          FROM staged t JOIN question q USING (item_id)
          WHERE q.item_id = ANY(%s) AND coalesce(t.response, t.correct::text) IS NOT NULL) n
    WHERE s.ctid = n.row_at"""
"""SQL: scores staged answers by the recorded keys of items, as a decision on the key would have scored them in the
log."""
DROP_JUDGED = "DELETE FROM staged s USING verdict v WHERE v.row_at = s.ctid"
RECENT_IDS = """
    SELECT attempt_id FROM {partition}
    WHERE recorded_at >= now() - interval '1 minute' AND recorded_at < now() OR recorded_at > now()
"""
"""SQL: ids of a month's answers that other transactions wrote, if they began after this one or in the minute before."""
KEEP_ONLY_RECENT_IDS = """
    DELETE FROM response_log WHERE attempt_id = ANY(%(ids)s) AND recorded_at = now();
    DELETE FROM staged WHERE attempt_id <> ALL(%(ids)s);
    DELETE FROM verdict
"""
POSTS = ("response_log", "posts")
"""Lock that posts share. While it is held exclusively, no post is in progress."""
IMPORTS = ("response_log", "imports")
"""Lock that imports share from their first row on. The closing of a month holds it exclusively."""
WAIT_FOR_POSTS_MS = 900
"""Time for which an import waits for posts before it tries again. It is shorter than PostgreSQL's deadlock_timeout, and
a post waits for even less: if each waits for the other, the post gives up first."""
COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_EPOCH = round(datetime(2000, 1, 1, tzinfo=UTC).timestamp()) * 10**6
CHUNK = 8_192  # pages of the staging table: 64 MB, about half a million answers, a few seconds


class Staging:
    """Temporary tables with the answers of sources, dropped at the end of the transaction of `connection`.

    `kind`: kind of the sources, as in the table `intake`.
    """

    each_alone = False  # see `clean.Limits`
    clock_ahead = 0
    _sources = 0

    def __init__(self, connection: psycopg.Connection, kind: str = "file") -> None:
        self._connection, self.kind = connection, kind
        connection.execute(f"SELECT pg_advisory_xact_lock_shared({LOCK})", (lock_key(*IMPORTS),))
        connection.execute("SET temp_buffers = '32MB'")
        connection.execute("SET LOCAL work_mem = '128MB'; SET LOCAL maintenance_work_mem = '128MB'")
        connection.execute(CREATE.format(end="DROP"))

    def add(self, source: int, tables: Iterator[pa.RecordBatch]) -> None:
        """Stage the cleaned answers of source number `source`. Each table is written while the next one is cleaned."""
        self._sources += 1
        first = next(tables, None)
        if first is None:
            return
        names = ["given_id" if name == "attempt_id" else name for name in first.schema.names]
        cursor = self._connection.cursor()
        command = f"COPY staged ({', '.join(names)}, source) FROM STDIN (FORMAT binary)"
        with cursor.copy(command, writer=QueuedLibpqWriter(cursor)) as copy:
            copy.write(COPY_HEAD)
            for answers in chain([first], tables):
                if answers.num_rows:
                    copy.write(copy_rows(answers.append_column("source", pa.repeat(source, answers.num_rows))))

    def lock(self) -> None:
        """Wait until no other import compares its answers with the log."""
        advisory_lock(self._connection, "response_log", "import")

    def score_by_keys(self, items: Sequence[str]) -> None:
        """Score the staged answers to `items` by the recorded keys. Answers without a choice keep their scores."""
        self._connection.execute(SCORE_BY_KEY, (items,))

    def use_former_ids(self, source: int, file_id: str) -> tuple[int, int]:
        """Give the cells of a matrix the ids and times under which version 1.0 stored them, if it did.

        Returns the number of these cells, and the number of further answers to their items that the log has from the
        same file.
        """
        self._connection.execute("ANALYZE staged (user_id)")
        found = self._connection.execute(USE_FORMER_IDS, {"source": source, "file_id": file_id}).fetchall()
        cells, surplus = found[0]
        return cells, surplus

    def judge(self, *, strict: bool) -> Counter[tuple[int, str]]:
        """Give a verdict to known answers and to answers of erased learners.

        If `strict`, also to answers of unknown items and learners. Returns the number of answers by source and verdict.
        """
        self._connection.execute(MARK_DROPPED)
        self._connection.execute("ANALYZE staged (attempt_id, user_id, item_id)")
        for judgement in (JUDGE_ERASED, *(JUDGE_UNKNOWN if strict else ()), JUDGE_AGAINST_LOG):
            self._judge_by(judgement)
        if self._ids_repeat():
            self._judge_by(JUDGE_WITHIN_INPUT)
        self._connection.execute("ANALYZE verdict")
        return self._verdicts()

    def _judge_by(self, judgement: str) -> None:
        self._connection.execute(f"INSERT INTO verdict {judgement}")

    def _verdicts(self) -> Counter[tuple[int, str]]:
        source = (
            "s.source FROM verdict v JOIN staged s ON s.ctid = v.row_at" if self._sources > 1 else "0 FROM verdict v"
        )
        found = self._connection.execute(f"SELECT count(*), v.reason, {source} GROUP BY 2, 3")
        return Counter({(source, reason): n for n, reason, source in found})

    def _ids_repeat(self) -> bool:
        """Whether two staged answers have the same id, or the same hash of their ids.

        Creating a unique index finds out in half the time of counting, and sorts numbers faster than texts.
        """
        try:
            with self._connection.transaction():
                self._connection.execute("CREATE UNIQUE INDEX ON staged (hashtextextended(attempt_id, 0))")
        except psycopg.errors.UniqueViolation:
            return True
        return False

    def erasures(self) -> list[str]:
        """The names of the erasures whose learners' answers are refused."""
        query = f"SELECT DISTINCT erasure_id, begun_at FROM ({ERASED_LEARNERS}) erased ORDER BY 1"
        return [f"erasure {number} of {at:%Y-%m-%d}" for number, at in self._connection.execute(query)]

    def refusals(self) -> Iterator[dict[str, Any]]:
        """Yield source (its number), line, reason and value of each refused answer, in order of sources and lines."""
        with self._connection.cursor(name="refusals", row_factory=dict_row) as cursor:
            cursor.itersize = 10_000
            yield from cursor.execute(REFUSALS)

    def drop_judged(self) -> None:
        """Delete the answers with a verdict from the staging table. Read `refusals` before."""
        self._connection.execute(DROP_JUDGED)

    def add_items_and_learners(self) -> tuple[int, int]:
        """Add the staged items and learners that are new. Returns the numbers of new items and new learners."""
        return self._connection.execute(ADD_ITEMS).rowcount, self._connection.execute(ADD_LEARNERS).rowcount

    def judge_posted_meanwhile(self, sources: list[str]) -> tuple[Counter[int], Counter[tuple[int, str]]] | None:
        """Remove the added answers that posts have stored meanwhile, and compare them with the posted answers.

        Posts wait from this call to the end of the transaction; call it after all steps that take long. Returns None if
        posts have stored none of the answers. Otherwise returns the numbers of posted answers that the import has
        corrected, by source, and of answers by source and verdict.
        """
        if self._recent_ids():
            self._connection.execute("CREATE INDEX ON staged USING hash (attempt_id)")
        wait_for_posts(self._connection)
        if not (recent := self._recent_ids()):
            return None
        staged = "SELECT DISTINCT attempt_id FROM staged WHERE attempt_id = ANY(%s)"
        if not (ids := first_column(self._connection, staged, (recent,))):
            return None
        for statement in KEEP_ONLY_RECENT_IDS.split(";"):
            self._connection.execute(statement, {"ids": ids})
        self._judge_by(JUDGE_AGAINST_LOG)
        verdicts = self._verdicts()
        self._connection.execute(DROP_JUDGED)
        corrected = self.replace_corrected(sources)
        self._connection.execute(f"INSERT INTO response_log ({LOG_COLUMNS}) SELECT {LOG_COLUMNS} FROM staged")
        return corrected, verdicts

    def _recent_ids(self) -> list[str]:
        """Ids of `RECENT_IDS`, except in months that this transaction has made, because others cannot see them yet."""
        partitions = set(partitions_of_log(self._connection)) - set(map(partition_of, self._made))
        queries = [RECENT_IDS.format(partition=f'"{name}"') for name in sorted(partitions)]
        return first_column(self._connection, " UNION ALL ".join(queries)) if queries else []

    def replace_corrected(self, sources: list[str]) -> Counter[int]:
        """Remove answers from the log if a higher revision is staged, and store them as corrections.

        Returns the number of answers by source.
        """
        found = self._connection.execute(f"{REPLACE_CORRECTED} GROUP BY source", {"sources": sources})
        return Counter(dict(found.fetchall()))

    def names_of_erased(self) -> Callable[[str], str]:
        """Function from a learner's id to the name of the erasure, or "" if the learner was not erased."""
        return names_of_erased(self._connection)

    def recorded_values(self, name: str) -> dict[str, Any]:
        """Item → value of `name` in its record, for the items that have it."""
        rows = self._connection.execute(
            "SELECT item_id, meta->%(name)s FROM question WHERE jsonb_exists(meta, %(name)s)", {"name": name}
        )
        return dict(rows.fetchall())

    def record(self, records: dict[str, dict[str, Key]]) -> None:
        """Merge `records` (item → key → value) into the items' records."""
        with self._connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE question SET meta = meta || %s WHERE item_id = %s AND NOT meta @> %s",
                [(Jsonb(record), item, Jsonb(record)) for item, record in records.items()],
            )

    def add_answers(self, months: set[str], report_share: Callable[[float], None]) -> None:
        """Add the staged answers to the log.

        `months`: contains at least the months of the answers. `report_share`: called with the share that is done.
        Learners are not made by the log's trigger but by `add_items_and_learners`, so that their posts need not wait.
        """
        self._connection.execute("SELECT set_config('irt.makes_learners', 'yes', true)")
        size = "SELECT pg_relation_size('staged') / current_setting('block_size')::int"
        pages = int(one_value(self._connection, size))
        with fill_new_months(self._connection, months) as new:
            self._made = set(new)
            targets = {INCOMING: set(new), "response_log": months - set(new)}
            mixed = OF_MONTHS if all(targets.values()) else ""
            for start in range(0, pages, CHUNK):
                for table, of_table in targets.items():
                    if of_table:
                        values = {"start": start, "end": start + CHUNK, "months": sorted(of_table)}
                        self._insert(ADD_ANSWERS.format(table=table) + mixed, values)
                report_share(min(1.0, (start + CHUNK) / pages))

    def _insert(self, statement: str, values: dict[str, Any]) -> None:
        """Run an INSERT. If a post has stored some of the rows meanwhile, run it again without them. ON CONFLICT takes
        longer, so it is not used at first.
        """
        try:
            with self._connection.transaction():
                self._connection.execute(statement, values)
        except psycopg.errors.UniqueViolation:
            self._connection.execute(f"{statement} ON CONFLICT DO NOTHING", values)


def lock_out_imports_and_posts(connection: psycopg.Connection) -> None:
    """Wait until no import and no post stores answers. New imports and posts wait for the end of the transaction."""
    advisory_lock(connection, "response_log", "import")
    wait_for_posts(connection)


def wait_for_posts(connection: psycopg.Connection) -> None:
    """Wait until no post is in progress. New posts wait for the end of the transaction."""
    before = one_value(connection, "SELECT current_setting('lock_timeout')")
    while True:
        with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = {WAIT_FOR_POSTS_MS}")
            advisory_lock(connection, *POSTS)
            connection.execute("SELECT set_config('lock_timeout', %s, true)", (before,))
            return


def copy_rows(answers: pa.RecordBatch) -> memoryview:
    """One or more rows in the binary format of COPY, in which the server need not parse times and numbers as in CSV.

    A row is the number of its cells, followed by the size (−1 if null) and the bytes of each cell, in big-endian.
    """
    cells = [pa.repeat(pa.scalar(len(answers.columns).to_bytes(2), pa.large_binary()), answers.num_rows)]
    for column in answers.columns:
        cells += _copy_cells(column)
    no_separator = pa.scalar(b"", pa.large_binary())
    return memoryview(pc.binary_join_element_wise(*cells, no_separator, null_handling="skip").buffers()[2])


def _copy_cells(column: pa.Array) -> list[pa.LargeBinaryArray]:
    """Sizes and bytes of a column of texts, booleans, whole numbers or times, to be joined without nulls."""
    if pa.types.is_string(column.type):
        sizes = np.asarray(pc.fill_null(pc.binary_length(column), -1)).astype(">i4")
        return [_bytes_of(sizes), column.cast(pa.large_binary())]
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    elif pa.types.is_timestamp(column.type):
        column = pc.subtract(column.cast(pa.int64()), COPY_EPOCH)
    form = np.dtype([("size", ">i4"), ("value", f">i{column.type.bit_width // 8}")])
    sized = np.empty(len(column), form)
    sized["size"] = form["value"].itemsize
    sized["value"] = pc.fill_null(column, 0)
    return [pc.if_else(pc.is_valid(column), _bytes_of(sized), _bytes_of(np.array(-1, ">i4"))[0])]


def _bytes_of(numbers: np.ndarray) -> pa.LargeBinaryArray:
    width = pa.binary(numbers.itemsize)
    return pa.Array.from_buffers(width, numbers.size, [None, pa.py_buffer(numbers)]).cast(pa.large_binary())
