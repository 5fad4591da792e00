"""What is wrong with a company's own rows as a log, what follows from it, and what would mend it.

It reads, and runs none of the statements that it names. What does not belong here: the mapping (see `own_tables`).
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import psycopg

from irt_assets.common.partitions import month_of
from irt_assets.common.wording import counted
from resources.postgres.database import named_rows, one_value
from resources.postgres.guest_reads import GUEST_MS, set_limits
from resources.postgres.own_log import answers_query

SAMPLE = 1_000_000
"""Rows that are looked at where all of them would take longer than COUNT_S."""
COUNT_S, LOOK_S = 20, 10
"""Seconds that counting all rows, and each further look, may take: together less than a minute."""
MONTHS_READ = 13
"""A month is read with twelve months before it, in which repeats are looked for."""
MOVES = re.compile(r"updat|modif|chang|record|now\(\)|current_timestamp", re.I)
WINDOW = re.compile(r"\bover \(|\bover \w|\browid\b|\bctid\b", re.I)
WORD = re.compile(r"\w+")
WRONG = {
    "coalesce(id, '') = ''": ("id", "without an id", "nothing says which answer is which"),
    "coalesce(user_id, '') = ''": ("user_id", "without a user_id", "they all belong to one learner, who is nobody"),
    "coalesce(item_id, '') = ''": ("item_id", "without an item_id", "they belong to no item"),
    "completed_at IS NULL": ("completed_at", "without a completed_at", "they are in no month, and count nowhere"),
    "completed_at > now() + interval '5 minutes'": ("completed_at", "in the future", "they count in a month to come"),
    "recorded_at IS NULL": ("recorded_at", "without a recorded_at", "they are not found when they are late"),
    "coalesce(mode, '') NOT IN ('live', 'sandbox')": ("mode", "in a mode that is none", "they never count"),
    "response_time_ms < 0": ("response_time_ms", "with a time below 0", "they count as rapid guesses"),
    "score < 0": ("score", "with a score that is not a whole number from 0 on", "they are unusable"),
    "score > 1 AND item_id NOT IN (SELECT q.item_id FROM question q WHERE q.max_score > 1)": (
        "score",
        "with a score above 1 to items of which the bank has no max_score",
        "they count by correct alone: irt import questions, with the columns item_id,max_score",
    ),
    "response_time_ms = 0": ("response_time_ms", "with a time of 0 ms", "it lowers the item's median; unknown is null"),
}
"""Conditions of wrong answers: their column, what they are, what follows."""
UNKNOWN = {
    "correct": ("false", "what was not answered, or not marked, counts as wrong; unknown is null"),
    "response_time_ms": ("0", "it lowers the item's median, and rapid guesses hide behind it; unknown is null"),
}
WITHOUT = {
    "form_id": "every answer is practice: no session is an exam, and nothing counts as left out in one",
    "session_id": "what was left out in an exam is not found; A_t and S count no sessions",
    "position": "the order within an exam is that of the times; positions_do_not_change_difficulty is not tested",
    "started_at": "A_t counts its share of dwell as unknown (0.5)",
    "response": "drift reports do not compare distractors, and a key cannot be corrected after the fact",
    "response_time_ms": "no answer is taken for a rapid guess; E_t is null, and features have no rt_median",
    "hints_used": "answers with hints count like others; A_t counts its share of hints as unknown (0.5)",
}
"""What is off where a column is null."""
FIRST_KEY = """SELECT format('%%I.%%I', nspname, t.relname), pg_get_indexdef(indexrelid, 1, true)
    FROM pg_index JOIN pg_class c ON c.oid = indexrelid JOIN pg_class t ON t.oid = indrelid
      JOIN pg_namespace n ON n.oid = t.relnamespace WHERE c.relname = %s"""
UNTIMED = "coalesce(response_time_ms, 0) = 0"
Note = Callable[[str], object]


@dataclass(frozen=True)
class Finding:
    """`row`: an answer that shows it, as JSON. `statement`: SQL for the company's administrator, or what to type."""

    what: str
    consequence: str
    statement: str
    row: str = ""


class Look:
    """One look at a mapping, in a transaction of `connection`; `query` gives the columns `given`."""

    def __init__(self, connection: psycopg.Connection, query: str, given: Sequence[str]) -> None:
        self.connection = connection
        self.answers = f"({answers_query(query, given)}) a"
        connection.execute(f"CREATE TEMPORARY VIEW looked_at AS {query}".encode())
        set_limits(connection, GUEST_MS)
        connection.execute("SET LOCAL work_mem = '256MB'; SET LOCAL jit = off")

    @cached_property
    def views(self) -> dict[str, str]:
        """The views that the mapping reads, with their definitions."""
        rows = self.connection.execute(
            """SELECT DISTINCT format('%I.%I', nspname, relname), pg_get_viewdef(c.oid)
               FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class = 'looked_at'::regclass
                 JOIN pg_class c ON c.oid = d.refobjid AND c.oid <> w.ev_class AND relkind IN ('v', 'm')
                 JOIN pg_namespace n ON n.oid = relnamespace WHERE d.refclassid = 'pg_class'::regclass ORDER BY 1"""
        )
        return dict(rows.fetchall())

    def definition(self, column: str) -> str:
        """What a column of ours is made of, through the mapping and the views that it reads."""
        made, names = column, {column}
        for definition in [
            one_value(self.connection, "SELECT pg_get_viewdef('looked_at'::regclass)"),
            *self.views.values(),
        ]:
            for line in definition.splitlines():  # a column each, the outer ones first
                text = re.sub(r"^.*\bSELECT ", "", line.strip()).rstrip(",;")
                inner, _, name = text.rpartition(" AS ")
                name = (name or text.rpartition(".")[2]).strip('"')
                if name in names:
                    made = (inner or text).join(re.split(rf'(?:\w+\.)?"?\b{name}\b"?', made))
                    names |= set(WORD.findall(inner or text))
        return made

    def within(self, seconds: int, query: str) -> list[dict[str, Any]] | None:
        """The rows of a query; None if they take longer."""
        try:
            with self.connection.transaction(force_rollback=True):
                self.connection.execute(f"SET LOCAL statement_timeout = '{seconds}s'".encode())
                return named_rows(self.connection, query.encode())
        except psycopg.errors.QueryCanceled:
            return None

    def tables_read(self, condition: str) -> Iterator[tuple[str, bool]]:
        """Tables that are read for the answers of a condition, by an index wherever there is one, and whether all of a
        table is: without an index, or through all of one that begins with another column."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute("SET LOCAL enable_seqscan = off")
            query = f"EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM {self.answers} WHERE {condition}"
            plans = [one_value(self.connection, query.encode())[0]["Plan"]]
        for plan in plans:
            plans += plan.get("Plans", [])
            if "Relation Name" in plan:
                yield f"{plan['Schema']}.{plan['Relation Name']}", plan["Node Type"] == "Seq Scan"
            if "Index Name" in plan:
                for table, key in self.connection.execute(FIRST_KEY, (plan["Index Name"],)).fetchall():
                    yield table, _bare(key) not in _bare(plan.get("Index Cond", ""))

    def example(self, relation: str, condition: str) -> str:
        found = self.within(
            LOOK_S, f"SELECT jsonb_strip_nulls(to_jsonb(a)) AS row FROM {relation} WHERE {condition} LIMIT 1"
        )
        return json.dumps(found[0]["row"], ensure_ascii=False) if found else ""


def check(connection: psycopg.Connection, query: str, given: Sequence[str], note: Note) -> list[Finding]:
    """Everything found; what was measured goes to `note`. The caller's transaction has to be rolled back."""
    look = Look(connection, query, given)
    found = [*_of_definitions(look)]
    sample = look.answers
    try:
        rows = look.within(COUNT_S, _counts(sample))
        if rows is None:
            note(f"the answers are too many to count in {COUNT_S} s: {SAMPLE:,} of them were looked at")
            sample = f"(SELECT * FROM {look.answers} LIMIT {SAMPLE}) a"
            rows = look.within(COUNT_S, _counts(sample))
    except (psycopg.DataError, psycopg.errors.LockNotAvailable) as error:
        return [
            *found,
            Finding(f"the answers cannot be read: {error}", "nothing can be made of them", "irt connect log …"),
        ]
    if not rows or rows[0]["last"] is None:
        why = "there are no answers of the past" if rows else f"{SAMPLE:,} answers take longer than {COUNT_S} s to read"
        return [*found, Finding(why, "no month can be made", "irt connect log …")]
    counts = rows[0]
    note(f"{counts['answers']:,} answers from {counts['first']} to {counts['last']}")
    note(
        f"{counts['false'] / counts['answers']:.0%} are wrong, {counts['untimed'] / counts['answers']:.0%} have no time"
    )
    for column, consequence in WITHOUT.items():
        if not counts[column]:
            note(f"{column} is always null: {consequence}")
    found += [*_of_rows(look, sample, counts), *_of_ids(look, note)]
    if "session_id" in given and "position" not in given:
        found += _of_order(look, sample)
    return [*found, *_of_reading(look, counts, given, note)]


def _of_definitions(look: Look) -> Iterator[Finding]:
    """What the columns are made of tells what no row does."""
    for column, (value, consequence) in UNKNOWN.items():
        if re.search(rf"\bcoalesce\(.*\b{value}\b", look.definition(column), re.I):
            yield Finding(
                f"{column} is {value} where it is unknown: {look.definition(column)}", consequence, _map(column)
            )
    if MOVES.search(moving := look.definition("completed_at")):
        yield Finding(
            f"completed_at moves when the row is written again: {moving}",
            "a regraded answer leaves its day and month; it has to be when it was answered",
            _map("completed_at"),
        )
    if numbered := [
        name for name, text in {**look.views, "the mapping": look.definition("id")}.items() if WINDOW.search(text)
    ]:
        yield Finding(
            f"{', '.join(numbered)} numbers rows with a window function",
            "it reads every row to give one month, and a number is another when rows come or go: no id is made of it",
            _map("id"),
        )
    if look.views:
        tables = ", ".join(sorted({name for name, _ in look.tables_read("TRUE")}))
        yield Finding(
            f"{', '.join(look.views)} is a view",
            "what it makes of the rows is not seen here, and it may change",
            f"map the table and not the view: irt connect log {tables}, or --sql FILE",
        )


def _of_rows(look: Look, sample: str, counts: Mapping[str, Any]) -> Iterator[Finding]:
    for number, (condition, (column, what, consequence)) in enumerate(WRONG.items()):
        if n := counts[f"wrong{number}"]:
            what = f"{counted(n, 'answer')} of {counts['answers']:,} {what}"
            yield Finding(what, consequence, _map(column), look.example(sample, condition))
    share = counts["wrong_untimed"] / max(counts["untimed"], 1)
    if share > 0.95 and counts["false"] < 0.9 * counts["answers"]:
        yield Finding(
            f"{share:.0%} of the answers without a time are wrong",
            "correct is probably false where it is unknown: such items seem hard, and such learners weak",
            _map("correct"),
            look.example(sample, f"NOT correct AND {UNTIMED}"),
        )


def _of_ids(look: Look, note: Note) -> Iterator[Finding]:
    number = "hashtextextended(id, 0)"  # numbers are sorted faster than texts
    more = look.within(COUNT_S, f"SELECT count(id) - count(DISTINCT {number}) AS n FROM {look.answers}")
    if more is None:
        note(f"whether an id stands twice was not found within {COUNT_S} s")
    elif more[0]["n"]:
        twice = f"SELECT min(id) FROM {look.answers} GROUP BY {number} HAVING count(*) > 1 LIMIT 1"
        yield Finding(
            f"an id stands more than once: there are {more[0]['n']:,} answers more than ids",
            "an answer counts twice, or one is taken for another",
            _map("id"),
            look.example(look.answers, f"id = ({twice})"),
        )


def _of_order(look: Look, sample: str) -> Iterator[Finding]:
    sessions = f"""SELECT session_id, min(completed_at) = max(completed_at) AS at_once FROM {sample}
                   WHERE session_id IS NOT NULL GROUP BY session_id, user_id HAVING count(*) > 1"""
    query = f"SELECT count(*) AS n, count(*) FILTER (WHERE at_once) AS at_once FROM ({sessions}) s"
    for row in look.within(LOOK_S, query) or []:
        if row["at_once"] > 0.05 * row["n"]:
            yield Finding(
                f"{row['at_once']:,} of {row['n']:,} sessions have one time for all their answers",
                "the order within them is unknown: whether an item was left out or not reached cannot be determined",
                _map("position"),
                look.example(sample, f"session_id = (SELECT session_id FROM ({sessions}) s WHERE at_once LIMIT 1)"),
            )


def _of_reading(look: Look, counts: Mapping[str, Any], given: Sequence[str], note: Note) -> Iterator[Finding]:
    """Whether a month, a learner and what is new are read by indexes, and how long they take."""
    latest = month_of(counts["last"])
    start, end = (latest.previous if counts["first"] < latest.start else latest).bounds
    month = f"completed_at >= '{start}' AND completed_at < '{end}'"
    user = psycopg.sql.Literal(counts["somebody"]).as_string(look.connection)
    learner = f"user_id = {user} AND completed_at >= '{counts['last'] - timedelta(days=365)}'"
    reads = {
        "a month": (month, ["completed_at"], "every month reads all answers, and a night as well"),
        "a learner": (learner, ["user_id", "completed_at"], "θ after a session waits until all answers are read"),
    }
    if "recorded_at" in given:
        new = f"recorded_at >= '{counts['last']}'"
        reads["what is new"] = (new, ["recorded_at"], "the look for late answers reads all of them, every ten minutes")
    for what, (condition, columns, consequence) in reads.items():
        for table in [name for name, is_whole in look.tables_read(condition) if is_whole][:1]:
            indexed = ", ".join(_indexed(look.definition(column)) for column in columns)
            statement = f"CREATE INDEX CONCURRENTLY ON {table} ({indexed});"
            yield Finding(f"{what} is read by reading all of {table}", consequence, statement)
        began = time.monotonic()
        read = look.within(LOOK_S, f"SELECT sum(length(a::text)) FROM {look.answers} WHERE {condition}")
        took = time.monotonic() - began
        lasts = f"{took * 1000:.0f} ms" if read else f"more than {LOOK_S} s"
        with_look_back = f"; with its look-back about {took * MONTHS_READ:,.0f} s" if what == "a month" else ""
        note(f"{what}: {lasts} to read{with_look_back}")


def _counts(sample: str) -> str:
    cells = [f"count(*) FILTER (WHERE {condition}) AS wrong{number}" for number, condition in enumerate(WRONG)]
    cells += [f"count({column}) AS {column}" for column in WITHOUT]
    return f"""
        SELECT count(*) AS answers, min(user_id) AS somebody, count(*) FILTER (WHERE NOT correct) AS false,
               min(completed_at) AS first, max(completed_at) FILTER (WHERE completed_at <= now()) AS last,
               count(*) FILTER (WHERE {UNTIMED}) AS untimed,
               count(*) FILTER (WHERE NOT correct AND {UNTIMED}) AS wrong_untimed, {", ".join(cells)}
        FROM {sample}"""


def _bare(expression: str) -> str:
    """An expression as it is the same in a condition and in an index."""
    return re.sub(r'\b\w+\.(?=[\w"])|::\w+|[()\s]', "", expression)


def _indexed(expression: str) -> str:
    """An expression in the columns of one table, as an index has it."""
    bare = re.sub(r'\b\w+\.(?=[\w"])', "", expression)
    return bare if re.fullmatch(r'\w+|"[^"]+"', bare) else f"({bare})"


def _map(column: str) -> str:
    return f"irt connect log … --map {column}=…"
