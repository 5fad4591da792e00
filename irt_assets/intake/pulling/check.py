"""The check before a first pull: the faults of a source's rows, each with its consequence and its remedy.

Nothing is changed: the rows are staged, and the staging is rolled back.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
import pyarrow as pa

from irt_assets.common.wording import quantity
from irt_assets.intake.ingest import AnswerSource, ingest_answers, limits_of
from irt_assets.intake.mapping import Binding
from irt_assets.intake.pulling.pull import PullStaging, open_source, scoring_of
from irt_assets.intake.pulling.rows import Part
from irt_assets.intake.pulling.sources_file import PullSource
from irt_assets.intake.report import REMEDIES, ImportReport, RefusedRow
from irt_assets.intake.sources import TableSource
from resources.failures import PermanentFailure
from resources.postgres.database import Database, named_rows

SAMPLE = 500_000
"""Rows after which the check stops reading the last `DAYS` that have answers."""
DAYS = timedelta(days=31)
CONSEQUENCES = {
    "form_id": "every answer is practice: no session is an exam, and no item counts as left out in one",
    "session_id": "items that were left out in an exam are not found; A_t and S count no sessions",
    "position": "the order within an exam is that of the times; positions_do_not_change_difficulty is not tested",
    "started_at": "A_t counts its share of dwell as unknown (0.5)",
    "response": "drift reports do not compare distractors, and a key cannot be corrected after the fact",
    "response_time_ms": "no answer counts as a rapid guess; E_t is null, and features have no rt_median",
    "hints_used": "answers with hints count like others; A_t counts its share of hints as unknown (0.5)",
}
"""Consequence of each column that is always null."""
SESSIONS = """SELECT session_id FROM staged WHERE session_id IS NOT NULL GROUP BY session_id, user_id
    HAVING count(*) > 1 AND min(completed_at) = max(completed_at) AND count(position) = 0"""
UNTIMED = "coalesce(response_time_ms, 0) = 0"
FAULTS = {
    "attempt_id IN (SELECT attempt_id FROM staged GROUP BY 1 HAVING count(*) > 1)": (
        "have an id that occurs more than once",
        "one of them is imported, and the others are duplicates or refused",
        "build an id that identifies the answer permanently: SELECT exam_id || '/' || question_no AS id …",
    ),
    "response_time_ms = 0": (
        "have a time of 0 ms",
        "it lowers the item's median; unknown is null",
        "select: … nullif(time, 0) …",
    ),
    f"session_id IN ({SESSIONS})": (
        "are of a session with one time for all its answers and no position",
        "whether an item was left out or not reached cannot be determined",
        "map position, the order within the exam",
    ),
    f"""NOT correct AND {UNTIMED} AND (SELECT count(*) FILTER (WHERE NOT correct) > 0.95 * count(*)
        FROM staged WHERE {UNTIMED}) AND (SELECT avg(correct::int) > 0.1 FROM staged)""": (
        "have no time, and nearly all such answers are wrong",
        "correct is probably false where it is unknown: such items seem hard, and such learners weak",
        "select: … CASE WHEN answered THEN correct END AS correct …",
    ),
}
"""Conditions on staged answers, each with the fault, its consequence and its remedy."""
Note = Callable[[str], object]


@dataclass(frozen=True)
class Finding:
    """A fault. `row`: an answer that has it, as JSON. `statement`: the remedy, such as a part of a SELECT."""

    fault: str
    consequence: str
    statement: str
    row: str = ""


class _Staging(PullStaging):
    """Checks the answers before they are compared with the log."""

    def judge(self, *, strict: bool) -> Any:
        connection = self._connection
        nulls = ", ".join(f"count({column}) AS {column}" for column in CONSEQUENCES)
        [self.counts] = named_rows(connection, f"SELECT count(*) AS answers, {nulls} FROM staged")
        self.found = [*_staged_findings(connection, self.counts["answers"])]
        return super().judge(strict=strict)


def check(database: Database, source: PullSource, note: Note) -> list[Finding]:
    """Check the latest answers of a source. Returns the faults; `note` is called with lines on the rows and columns.

    Raises PermanentFailure if a column is missing or its type does not determine how times are read, and
    TransientFailure if the source cannot be reached.
    """
    if source.kind != "attempts":
        raise PermanentFailure(f"{source.name} has kind: {source.kind}, whose rows are checked when they are copied")
    with open_source(source, database) as reader:
        if reader.is_empty:
            return [Finding(f"{source.name} has no rows", "no month can be computed", f"check {source.location}")]
        reader.check_clocks()
        span = reader.span()
        if span.last is None:
            raise PermanentFailure(f"{source.name} has no answers with a time")
        start = span.last - DAYS
        parts, n = list[pa.RecordBatch](), 0
        for read in reader.read(Part(start=start)):
            parts.append(read.rows)
            if (n := n + len(read.rows)) >= SAMPLE:
                break
        note(f"{n:,} rows from {start:%Y-%m-%d} to {span.last:%Y-%m-%d} were checked")
        if source.revision is None:
            note("regraded rows are not noticed: no `revision: cursor`")
        return [*_row_findings(database, source, reader.binding, parts, note)]


def _row_findings(
    database: Database, source: PullSource, binding: Binding, parts: Sequence[pa.RecordBatch], note: Note
) -> Iterator[Finding]:
    """The faults for which an import refuses rows, then the faults that it cannot detect."""
    rows = TableSource(source.name, parts[0].schema.names, sum(map(len, parts)), lambda: iter(parts))
    reasons, examples = Counter[str](), dict[str, RefusedRow]()

    def refuse(refused: Iterable[RefusedRow]) -> None:
        for row in refused:
            reasons[row.reason] += 1
            examples.setdefault(row.reason, row)

    with database.connect() as connection:
        staging = _Staging(connection, 0)
        ingest_answers(
            connection,
            [AnswerSource(rows, binding.mapping, None)],
            ImportReport(),
            refuse,
            limits_of(connection, database.settings.irt_first_month, source.zone),
            scoring=scoring_of(connection, binding),
            staging=staging,
        )
        connection.rollback()
    for column, consequence in CONSEQUENCES.items():
        if not staging.counts[column]:
            note(f"{column} is always null: {consequence}")
    for reason, n in reasons.most_common():
        row = examples[reason]
        fix = REMEDIES.get(reason, f"correct {row.value!r} there, or name it in the mapping")
        yield Finding(f"{quantity(n, 'row')} would be refused: {reason}", "they are not in the log", fix, row.row)
    yield from staging.found


def _staged_findings(connection: psycopg.Connection, answers: int) -> Iterator[Finding]:
    for condition, (fault, consequence, statement) in FAULTS.items():
        row = "jsonb_strip_nulls(to_jsonb(s) - 'source' - 'line' - 'given_id')"
        query = f"SELECT count(*) AS n, min({row}::text) AS row FROM staged s WHERE {condition}"
        [found] = named_rows(connection, query)
        if found["n"]:
            sentence = f"{quantity(found['n'], 'answer')} of {answers:,} {fault}"
            yield Finding(sentence, consequence, statement, found["row"])
