"""What is wrong with the rows of a company's own tables as a log, what follows from it, and what would mend it.

It reads, and runs none of the statements that it names. What does not belong here: the mapping (see `own_tables`).
"""

from __future__ import annotations

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
from resources.postgres.database import named_rows, one_value, records
from resources.postgres.own_log import GUEST_MS, answers_query

SAMPLE = 1_000_000
"""Rows that are looked at where all of them would take too long."""
COUNT_S, LOOK_S = 20, 10
"""Seconds that counting all rows, and each further look, may take: together less than a minute."""
MONTHS_READ = 13
"""A month is read with twelve months before it, in which repeats are looked for."""
NOTABLE = 0.01
MOVES = re.compile(r"updat|modif|chang|record|now\(\)|current_timestamp", re.I)
UNKNOWN_AS = re.compile(r"\bcoalesce\(.*\b(false|0)\b", re.I)
WORD = re.compile(r"\w+")
WINDOW = re.compile(r"\bover \(|\bover \w|\browid\b|\bctid\b", re.I)


@dataclass(frozen=True)
class Finding:
    """`row`: an answer that shows it, as JSON. `statement`: SQL for the company's administrator, or what to type."""

    what: str
    consequence: str
    row: str = ""
    statement: str = ""


@dataclass(frozen=True)
class Wrong:
    """Rows `a` for which `condition` holds are wrong, from a share of `beyond` on."""

    condition: str
    what: str
    consequence: str
    remedy: str
    beyond: float = 0.0


WRONG = (
    Wrong("coalesce(id, '') = ''", "without an id", "such answers cannot be told from each other", "id"),
    Wrong(
        "coalesce(user_id, '') = ''", "without a user_id", "they belong to nobody, and add a learner to fits", "user_id"
    ),
    Wrong("coalesce(item_id, '') = ''", "without an item_id", "they belong to no item", "item_id"),
    Wrong("completed_at IS NULL", "without a completed_at", "they are in no month, and count nowhere", "completed_at"),
    Wrong(
        "completed_at > now() + interval '5 minutes'", "in the future", "they count in a month to come", "completed_at"
    ),
    Wrong(
        "recorded_at IS NULL", "without a recorded_at", "such answers are never found when they are late", "recorded_at"
    ),
    Wrong("coalesce(mode, '') NOT IN ('live', 'sandbox')", "in a mode that is none", "they never count", "mode"),
    Wrong(
        "response_time_ms = 0",
        "with a response_time_ms of 0",
        "0 is a time: unknown is null, else such answers lower the item's median and hide rapid guesses",
        "response_time_ms",
        NOTABLE,
    ),
    Wrong("response_time_ms < 0", "with a time below 0", "they count as rapid guesses", "response_time_ms"),
)
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


@dataclass(frozen=True)
class Source:
    """A relation that the mapping reads: `kind` and `definition` (of a view) as the server has them."""

    name: str
    kind: str
    definition: str | None


class Look:
    """One look at a mapping, in a transaction of `connection`; `query` gives the columns `given`."""

    def __init__(self, connection: psycopg.Connection, query: str, given: Sequence[str]) -> None:
        self.connection = connection
        self.given = set(given)
        self.answers = f"({answers_query(query, given)}) a"
        connection.execute(f"CREATE TEMPORARY VIEW looked_at AS {query}".encode())
        connection.execute(
            f"SET LOCAL lock_timeout = {GUEST_MS['lock_timeout']}; SET LOCAL work_mem = '256MB'".encode()
        )

    @cached_property
    def sources(self) -> list[Source]:
        return records(
            self.connection,
            Source,
            """SELECT DISTINCT format('%I.%I', nspname, relname) AS name, relkind::text AS kind,
                      CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition
               FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid AND w.ev_class = 'looked_at'::regclass
                 JOIN pg_class c ON c.oid = d.refobjid AND c.oid <> w.ev_class
                 JOIN pg_namespace n ON n.oid = relnamespace
               WHERE d.refclassid = 'pg_class'::regclass ORDER BY 1""",
        )

    @cached_property
    def tables(self) -> list[str]:
        """The tables at the bottom of everything that is read."""
        return sorted(
            {f"{node['Schema']}.{node['Relation Name']}" for node in self.plan("TRUE") if "Relation Name" in node}
        )

    def definition(self, column: str) -> str:
        """What a column of ours is made of, through the mapping and the views that it reads."""
        own = one_value(self.connection, "SELECT pg_get_viewdef('looked_at'::regclass)")
        made, names = column, {column}
        for definition in [own, *(source.definition for source in self.sources if source.definition)]:
            for name, expression in _cells(definition):
                if name in names:
                    made = expression.join(re.split(rf'(?:\w+\.)?"?\b{name}\b"?', made))
                    names |= set(WORD.findall(expression))
        return made

    def within(self, seconds: float, query: str) -> list[dict[str, Any]] | None:
        """The rows of a query; None if they take longer."""
        try:
            with self.connection.transaction(force_rollback=True):
                self.connection.execute(f"SET LOCAL statement_timeout = '{seconds}s'".encode())
                return named_rows(self.connection, query.encode())
        except psycopg.errors.QueryCanceled:
            return None

    def plan(self, condition: str) -> list[dict[str, Any]]:
        """The steps of reading the answers of a condition by indexes, where there are any that fit."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute("SET LOCAL enable_seqscan = off; SET LOCAL jit = off")
            query = f"EXPLAIN (VERBOSE, FORMAT JSON) SELECT * FROM {self.answers} WHERE {condition}"
            return list(_steps(one_value(self.connection, query.encode())[0]["Plan"]))


def check(
    connection: psycopg.Connection, query: str, given: Sequence[str], note: Callable[[str], object]
) -> list[Finding]:
    """Everything found; what was measured goes to `note`. The caller's transaction has to be rolled back."""
    look = Look(connection, query, given)
    found = [*_of_definitions(look)]
    try:
        sample = look.answers
        n = look.within(COUNT_S, _counts(sample))
        if n is None:
            sample = f"(SELECT * FROM {look.answers} LIMIT {SAMPLE}) a"
            n = look.within(COUNT_S, _counts(sample))
            note(f"there are too many answers to count in {COUNT_S} s: the first {SAMPLE:,} were looked at")
    except (psycopg.DataError, psycopg.errors.LockNotAvailable) as error:
        return [*found, Finding(f"the answers cannot be read: {error}", "nothing can be made of them")]
    if n is None:
        return [*found, Finding(f"{SAMPLE:,} answers take longer than {COUNT_S} s", "a month takes hours to read")]
    counts = n[0]
    if counts["last"] is None:
        return [*found, Finding("there are no answers of the past", "nothing can be made of them")]
    note(f"{counts['answers']:,} answers from {counts['first']} to {counts['last']}")
    found += [*_of_rows(look, sample, counts), *_of_ids(look, note), *_of_order(look, sample)]
    for column, consequence in WITHOUT.items():
        if not counts[column]:
            note(f"{column} is always null: {consequence}")
    return [*found, *_of_reading(look, counts, note)]


def _of_definitions(look: Look) -> Iterator[Finding]:
    """What the columns are made of tells what no row does."""
    views = [source for source in look.sources if source.definition]
    for column, (unknown, what) in {
        "correct": ("false", "an answer that was not given, or not marked, counts as wrong"),
        "response_time_ms": ("0", "0 is a time: it lowers the item's median, and rapid guesses hide behind it"),
    }.items():
        made = look.definition(column)
        if (match := UNKNOWN_AS.search(made)) and match[1].lower() == unknown:
            yield Finding(
                f"{column} is {unknown} where it is unknown: {made}", f"{what}; unknown is null", statement=_map(column)
            )
    moving = look.definition("completed_at")
    if MOVES.search(moving):
        yield Finding(
            f"completed_at moves when the row is written again: {moving}",
            "a regraded answer leaves its day and month, and both are made again; it has to be when it was answered",
            statement=_map("completed_at"),
        )
    windows = [view.name for view in views if WINDOW.search(view.definition or "")]
    windows += ["the mapping"] if WINDOW.search(look.definition("id")) else []
    if windows:
        yield Finding(
            f"{', '.join(windows)} numbers rows with a window function",
            "it reads every row to give one month, and a number is another when rows come or go: no id is made of it",
            statement=_map("id"),
        )
    if views:
        yield Finding(
            f"{', '.join(view.name for view in views)} is a view",
            "what it makes of the rows is not seen here, and it may change; it has to be as quick as its table",
            statement=f"map the table and not the view: irt connect log {', '.join(look.tables)}, or --sql FILE",
        )


def _of_rows(look: Look, sample: str, counts: Mapping[str, Any]) -> Iterator[Finding]:
    n = counts["answers"]
    for number, wrong in enumerate(WRONG):
        share = counts[f"wrong{number}"] / n
        if share > wrong.beyond:
            yield Finding(
                f"{counted(counts[f'wrong{number}'], 'answer')} of {n:,} {wrong.what}",
                wrong.consequence,
                _example(look, sample, wrong.condition),
                _map(wrong.remedy),
            )
    unknown, known = (
        counts["wrong_untimed"] / max(counts["untimed"], 1),
        counts["wrong_timed"] / max(counts["timed"], 1),
    )
    if counts["untimed"] > NOTABLE * n and unknown > 0.95 and known < 0.9:
        yield Finding(
            f"{unknown:.0%} of the answers without a time are wrong, and {known:.0%} of the others",
            "correct is probably false where it is unknown: such items seem hard, and such learners weak",
            _example(look, sample, "NOT correct AND coalesce(response_time_ms, 0) = 0"),
            _map("correct"),
        )
    elif counts["unanswered"] < n and counts["false"] / (n - counts["unanswered"]) > 0.8:
        yield Finding(
            f"{counts['false'] / (n - counts['unanswered']):.0%} of the answers are wrong",
            "correct may be false where it is unknown",
            _example(look, sample, "NOT correct"),
            _map("correct"),
        )


def _of_ids(look: Look, note: Callable[[str], object]) -> Iterator[Finding]:
    of_id = "hashtextextended(id, 0)"  # numbers are sorted faster than texts
    ids = look.within(COUNT_S, f"SELECT count(id) - count(DISTINCT {of_id}) AS more FROM {look.answers}")
    if ids is None:
        note(f"whether an id stands twice was not found within {COUNT_S} s")
    elif ids[0]["more"]:
        query = f"SELECT min(id) AS id FROM {look.answers} GROUP BY {of_id} HAVING count(*) > 1 LIMIT 1"
        rows = look.within(COUNT_S, query)
        yield Finding(
            f"an id stands more than once: there are {ids[0]['more']:,} answers more than ids",
            "an answer counts twice, or one is taken for another",
            _example(look, look.answers, f"id = {_literal(look, rows[0]['id'])}") if rows else "",
            _map("id"),
        )


def _of_order(look: Look, sample: str) -> Iterator[Finding]:
    if {"session_id", "position"} <= look.given or "session_id" not in look.given:
        return
    together = look.within(
        LOOK_S,
        f"""SELECT count(*) AS sessions, count(*) FILTER (WHERE first = last) AS at_once, min(session_id) AS session_id
            FROM (SELECT session_id, min(completed_at) AS first, max(completed_at) AS last FROM {sample}
                  WHERE session_id IS NOT NULL GROUP BY session_id, user_id HAVING count(*) > 1) s""",
    )
    for row in together or []:
        if row["at_once"] > 0.05 * row["sessions"]:
            yield Finding(
                f"{row['at_once']:,} of {row['sessions']:,} sessions have one time for all their answers",
                "the order within them is unknown: what was left out cannot be told from what was not reached",
                _example(look, sample, f"session_id = {_literal(look, row['session_id'])}"),
                "irt connect log … --map position=THE_NUMBER_OF_THE_ANSWER_IN_ITS_SESSION",
            )


def _of_reading(look: Look, counts: Mapping[str, Any], note: Callable[[str], object]) -> Iterator[Finding]:
    """Whether a month, a learner and what is new are read by indexes, and how long it takes."""
    latest = month_of(counts["last"])
    start, end = (latest.previous if counts["first"] < latest.start else latest).bounds
    user = _literal(look, counts["somebody"])
    month = f"completed_at >= '{start}' AND completed_at < '{end}'"
    learner = f"user_id = {user} AND completed_at >= '{counts['last'] - timedelta(days=365)}'"
    reads = {
        "a month": (month, ["completed_at"], "every month reads all answers, and a night as well"),
        "a learner": (learner, ["user_id", "completed_at"], "θ after a session takes as long as reading all answers"),
    }
    if "recorded_at" in look.given:
        new = f"recorded_at >= '{counts['last']}'"
        reads["what is new"] = (new, ["recorded_at"], "the look for late answers reads all of them, every ten minutes")
    for what, (condition, columns, consequence) in reads.items():
        whole = [node for node in look.plan(condition) if node["Node Type"] == "Seq Scan"]
        for node in whole[:1]:
            expressions = ", ".join(_indexed(look.definition(column)) for column in columns)
            yield Finding(
                f"{what} is read by reading all of {node['Schema']}.{node['Relation Name']}",
                consequence,
                statement=f"CREATE INDEX CONCURRENTLY ON {node['Schema']}.{node['Relation Name']} ({expressions});",
            )
    for what, (condition, factor) in {
        "a month with its look-back": (month, MONTHS_READ),
        "a learner": (learner, 1),
    }.items():
        began = time.monotonic()
        read = look.within(LOOK_S, f"SELECT sum(length(a::text)) FROM {look.answers} WHERE {condition}")
        took = (time.monotonic() - began) * factor
        lasts = f"{took / 60:.1f} minutes" if factor > 1 else f"{took * 1000:.0f} ms"
        note(f"{what} is read in about {lasts}" if read else f"{what} takes more than {LOOK_S} s to read")


def _counts(sample: str) -> str:
    cells = [f"count(*) FILTER (WHERE {wrong.condition}) AS wrong{number}" for number, wrong in enumerate(WRONG)]
    cells += [f"count({column}) AS {column}" for column in WITHOUT]
    untimed = "coalesce(response_time_ms, 0) = 0"
    return f"""
        SELECT count(*) AS answers, min(user_id) AS somebody,
               min(completed_at) AS first, max(completed_at) FILTER (WHERE completed_at <= now()) AS last,
               count(*) FILTER (WHERE correct IS NULL) AS unanswered, count(*) FILTER (WHERE NOT correct) AS false,
               count(*) FILTER (WHERE {untimed}) AS untimed, count(*) FILTER (WHERE NOT ({untimed})) AS timed,
               count(*) FILTER (WHERE NOT correct AND {untimed}) AS wrong_untimed,
               count(*) FILTER (WHERE NOT correct AND NOT ({untimed})) AS wrong_timed, {", ".join(cells)}
        FROM {sample}"""


def _example(look: Look, sample: str, condition: str) -> str:
    found = look.within(LOOK_S, f"SELECT jsonb_strip_nulls(to_jsonb(a)) AS row FROM {sample} WHERE {condition} LIMIT 1")
    return json.dumps(found[0]["row"], ensure_ascii=False) if found else ""


def _cells(definition: str) -> Iterator[tuple[str, str]]:
    """The columns in a view's definition, the outer ones first, and what each is made of, as the server writes it."""
    for line in definition.splitlines():
        text = re.sub(r"^.*\bSELECT ", "", line.strip()).rstrip(",;")
        made, _, name = text.rpartition(" AS ")
        yield (name or text.rpartition(".")[2]).strip('"'), made or text


def _indexed(expression: str) -> str:
    """An expression in the columns of one table, as an index has it."""
    bare = re.sub(r'\b\w+\.(?=[\w"])', "", expression)
    return bare if re.fullmatch(r'\w+|"[^"]+"', bare) else f"({bare})"


def _map(column: str) -> str:
    return f"irt connect log … --map {column}=…"


def _literal(look: Look, value: str) -> str:
    return psycopg.sql.Literal(value).as_string(look.connection)


def _steps(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _steps(below)
