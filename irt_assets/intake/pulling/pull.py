"""A pull: add the rows that a source has written since the last pull to the log.

Each transaction stores rows together with the place of the last one. A pull first reads the rows after its place. Then
it reads again from its place of ten minutes ago, because rows commit out of order, and counts only new ones.
The first pull reads day by day.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.partitions import day_bounds, day_of
from irt_assets.intake.cells import as_text
from irt_assets.intake.ingest import AnswerSource, ingest_answers, limits_of
from irt_assets.intake.mapping import Binding
from irt_assets.intake.max_scores import recorded_rules
from irt_assets.intake.pulling.pull_state import (
    OUT_OF_ORDER,
    Place,
    PullState,
    insert_state,
    pull_lock,
    read_state,
    record_stop,
    store_state,
)
from irt_assets.intake.pulling.rows import Part, ReadRows, SqlRows
from irt_assets.intake.pulling.sources_file import PullSource
from irt_assets.intake.report import ImportReport
from irt_assets.intake.scoring import AsRecorded
from irt_assets.intake.sources import TableSource
from irt_assets.intake.staging import Staging
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, one_value

BEFORE, FROM = "before", "from"
"""Names of the parts of a first pull before and after the days that the log accepts. Each part is read as a whole, and
its rows are refused one by one."""
BATCHES = 2
"""Batches per transaction. Too many bad scores in the first transaction stop the source."""
ReportProgress = Callable[[str], None]


def open_source(source: PullSource, database: Database) -> SqlRows:
    """Open a source. `database`: the platform's, which may also contain the source. Raises TransientFailure if the
    source cannot be reached."""
    if source.is_database:
        return SqlRows(source, database)
    from irt_assets.intake.pulling.parquet_folder import ParquetRows  # only this source needs DuckDB

    return ParquetRows(source)


class SourceStopped(PermanentFailure):
    """The source is not pulled until a person has corrected or accepted it."""


@dataclass
class Pull:
    """A pull of one source.

    Attributes:
        seconds: time limit; the next pull continues where this one stops. None: no limit.
        report_progress: called with lines about the progress of a first pull.
        report: counts of the rows.
        months: months (YYYY-MM) of the days that a first pull has read.
    """

    database: Database
    source: PullSource
    seconds: float | None = None
    report_progress: ReportProgress = lambda _line: None
    report: ImportReport = field(default_factory=ImportReport)
    months: set[str] = field(default_factory=set)
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._ends = None if self.seconds is None else self.clock() + self.seconds

    def run(self, *, newest_first: bool = False, accept: bool = False) -> ImportReport:
        """Pull new rows.

        `newest_first`: a first pull starts with the newest month. `accept`: accept the source's present columns, and
        resume a source that was stopped. Raises PullInProgress, SourceStopped, and TransientFailure if the source
        cannot be reached.
        """
        with pull_lock(self.database, self.source.name), open_source(self.source, self.database) as reader:
            state = self.load_state(reader, accept=accept)
            if state is None:
                return self.report
            if state.place.cursor is None:
                self._plan(reader, state, newest_first)
            if state.place.cursor is None:
                return self.report
            if state.first_pull is None or self._first_pull(reader, state):
                self._read_new_rows(reader, state)
        return self.report

    @property
    def in_time(self) -> bool:
        return self._ends is None or self.clock() < self._ends

    def load_state(self, reader: SqlRows, *, accept: bool = False) -> PullState | None:
        """State of the pull. Returns None if the source has no rows yet. Raises SourceStopped if the source was stopped
        or its columns have changed."""
        with self.database.connect() as connection:
            state = read_state(connection, self.source.name)
            if state is not None and state.stopped and not accept:
                raise SourceStopped(f"{self.source.name} was stopped: {state.stopped}")
            if reader.is_empty:
                return None
            reader.check_clocks()
            columns = reader.columns | {"zone": str(self.source.zone)}
            notices_regrading = self.source.revision is not None
            state = state or insert_state(connection, self.source.name, columns, notices_regrading)
            if accept:
                state.columns, state.stopped = columns, None
            before = state.columns
            changed = [name for name in {**before, **columns} if before.get(name) != columns.get(name)]
            state.notices_regrading = notices_regrading
            store_state(connection, state)
        if changed:
            was = "; ".join(f"{name} was {before.get(name)} and is {columns.get(name)}" for name in changed)
            self._stop(f"its columns have changed since the first pull: {was}")
        return state

    def _stop(self, why: str) -> None:
        record_stop(self.database, self.source.name, why)
        raise SourceStopped(
            f"{self.source.name} is stopped: {why}. Correct it there or in the file of sources; if it is right "
            f"already: irt pull {self.source.name} --accept"
        )

    # -- the first pull ----------------------------------------------------------------------------

    def _plan(self, reader: SqlRows, state: PullState, newest_first: bool) -> None:
        """List the days of the first pull, and set the place to the greatest cursor now: later rows come after it."""
        at, span = self._now(), reader.span()
        if span.first is None or span.last is None:
            return
        begin_log = datetime.fromisoformat(f"{self.database.settings.irt_first_month}-01").replace(tzinfo=UTC)
        first, last = max(span.first, begin_log), min(span.last, at)
        days = [day_of(first + timedelta(days=n)) for n in range((last.date() - first.date()).days + 1)]
        if newest_first:
            days.sort(key=lambda day: day[:7], reverse=True)  # stable: a month's days stay in order
        if span.first < begin_log:
            days.append(f"{BEFORE} {day_of(begin_log)}")
        if span.last.date() > at.date():
            days.append(f"{FROM} {day_of(at + timedelta(days=1))}")
        state.move(self._clamp(reader, Place(span.cursor), at), at)
        state.first_pull = {"days": days, "behind": None}
        self._store(state)

    def _first_pull(self, reader: SqlRows, state: PullState) -> bool:
        """Read the days that remain. Returns whether the first pull is complete."""
        first = state.first_pull
        assert first is not None
        started, done, total = time.monotonic(), 0, len(first["days"])
        while first["days"]:
            if not self.in_time:
                self._store(state)
                return False
            before, (start, end) = self.report.read, _bounds(first["days"][0])
            behind = Place(*first["behind"]) if first["behind"] else None
            for chunk in _chunks(reader.read(Part(behind=behind, start=start, end=end))):
                if not self.in_time:
                    return False
                first["behind"] = [*chunk[-1].last]
                self._store_rows(reader, state, chunk)
            done, first["behind"] = done + 1, None
            day = first["days"].pop(0)
            if day[0].isdigit():
                self.months.add(day[:7])
            if not first["days"]:
                state.first_pull, state.pulled_at = None, datetime.fromisoformat(state.stood[-1][0])
            if self.report.read > before or not first["days"]:
                self._store(state)
                took = time.monotonic() - started
                remaining = timedelta(seconds=round(took / done * (total - done)))
                self.report_progress(
                    f"{day}: {self.report.read:,} rows, {self.report.read / took:,.0f}/s, {remaining} left"
                )
        return True

    # -- from then on ------------------------------------------------------------------------------

    def _read_new_rows(self, reader: SqlRows, state: PullState) -> None:
        at, before = self._now(), state.place
        for chunk in _chunks(reader.read(Part(behind=before))):
            if not self.in_time:
                return
            state.move(self._clamp(reader, chunk[-1].last, at), at)
            self._store_rows(reader, state, chunk, again=before.key is None)
        if not self.in_time:
            return
        since = state.stood[0][1]
        if reader.cursor_clock is not None:
            since = min(since, before.cursor - OUT_OF_ORDER // timedelta(microseconds=1))
        again = state.again or {"behind": [since, None], "up_to": [*before], "at": at.isoformat()}
        for chunk in _chunks(reader.read(Part(behind=Place(*again["behind"]), up_to=Place(*again["up_to"])))):
            if not self.in_time:
                return
            state.again = again | {"behind": [*chunk[-1].last]}
            self._store_rows(reader, state, chunk, again=True)
        state.again, state.pulled_at = None, datetime.fromisoformat(again["at"])
        state.settle(state.pulled_at)
        self._store(state)

    def _clamp(self, reader: SqlRows, place: Place, at: datetime) -> Place:
        """The place, moved back to `at` if a writer's clock was ahead: other rows may still be written before it."""
        now = round(at.timestamp() * 1_000_000)
        return Place(now) if reader.cursor_clock is not None and place.cursor > now else place

    def _store(self, state: PullState) -> None:
        with self.database.connect() as connection:
            store_state(connection, state)

    def _now(self) -> datetime:
        with self.database.connect() as connection:
            at: datetime = one_value(connection, "SELECT now()")
        return at.astimezone(UTC)

    def _store_rows(self, reader: SqlRows, state: PullState, chunk: Sequence[ReadRows], *, again: bool = False) -> None:
        """Store rows together with the state of the pull. `again`: the rows may have been read before, so known rows
        are not counted."""
        refused_before = state.refused if again else {}
        rows = [_drop_refused(read.rows, refused_before, reader.identity) for read in chunk]
        source = TableSource(self.source.name, rows[0].schema.names, sum(map(len, rows)), lambda: iter(rows))
        with self.database.connect() as connection:
            report, refused = add_rows(connection, self.database, self.source, reader, source, state.number)
            bad = report.rejected["bad_score"] + report.rejected["max_score_unknown"]
            if not again and not self.report.read and bad > max(1, report.read / 100):
                connection.rollback()
                self._stop(
                    f"{bad:,} of its first {report.read:,} rows are bad_score or max_score_unknown: neither 0 nor 1. "
                    "If items have more points, map their scores as score and give the maximum (max_scores in the "
                    "mapping, max_score in the bank); or select right or wrong, or record from how many points on an "
                    "item is right (irt import attempts --dichotomise)"
                )
            if again:
                _count_only_new(connection, self.source.name)
            if refused:
                hashes = [one for read in rows for one in _hashes(read, reader.identity)]
                state.refuse(hashes[line - 1] for line in refused)
            store_state(connection, state)
        if again:
            report.read, report.duplicates = report.read - report.duplicates, 0
        self.report.include(report)


class PullStaging(Staging):
    """Staging of a pull. `day`: also find the answers of that day that this source once brought and that are not
    staged (`vanished`)."""

    each_alone = True

    def __init__(self, connection: psycopg.Connection, number: int, day: str | None = None) -> None:
        super().__init__(connection, "pull")
        connection.execute("SELECT set_config('irt.pull', %s, true)", (str(number),))
        self._number, self._day = number, day
        self.vanished: list[str] = []

    def judge(self, *, strict: bool) -> Any:
        if self._day is not None:
            start, end = day_bounds(self._day)
            found = self._connection.execute(
                """SELECT attempt_id FROM response_log r
                   WHERE pulled_from = %s AND completed_at >= %s AND completed_at < %s
                     AND NOT EXISTS (SELECT FROM staged s WHERE s.attempt_id = r.attempt_id)""",
                (self._number, start, end),
            )
            self.vanished = [row[0] for row in found]
        return super().judge(strict=strict)


def add_rows(
    connection: psycopg.Connection,
    database: Database,
    source: PullSource,
    reader: SqlRows,
    rows: TableSource,
    number: int,
    staging: PullStaging | None = None,
) -> tuple[ImportReport, list[int]]:
    """Add rows to the log. Returns the report, and the line numbers of the rows that would be refused again."""
    advisory_lock(connection, "response_log", "import")  # keys and maximum scores must not change
    report, lines = ImportReport(), list[int]()

    def refuse(refused: Iterable[Sequence[Any]]) -> None:
        lines.extend(row[1] for row in refused if row[2] != "time_in_future")

    ingest_answers(
        connection,
        [AnswerSource(rows, reader.binding.mapping, None)],
        report,
        refuse,
        limits_of(connection, database.settings.irt_first_month, source.zone),
        scoring=scoring_of(connection, reader.binding),
        staging=staging or PullStaging(connection, number),
    )
    return report, lines


def scoring_of(connection: psycopg.Connection, binding: Binding) -> AsRecorded:
    """Scoring of a source's answers. The bank's keys apply only if the source has the chosen options."""
    return AsRecorded.from_records(recorded_rules(connection), choices="response" in binding.columns)


def _bounds(part: str) -> tuple[datetime | None, datetime | None]:
    """Start and end of a part of the first pull: a day, all before a day, or all from a day on. None: no limit."""
    which, _, day = part.rpartition(" ")
    start, end = day_bounds(day)
    return {"": (start, end), BEFORE: (None, start), FROM: (start, None)}[which]


def _count_only_new(connection: psycopg.Connection, name: str) -> None:
    this_pull = "source = %s AND kind = 'pull' AND arrived_at = now()"
    connection.execute(f"UPDATE intake SET read = read - duplicates, duplicates = 0 WHERE {this_pull}", (name,))
    connection.execute(f"DELETE FROM intake WHERE {this_pull} AND read = 0", (name,))


def _chunks(reads: Iterator[ReadRows]) -> Iterator[list[ReadRows]]:
    while chunk := list(islice(reads, BATCHES)):
        yield chunk


def _hashes(rows: pa.RecordBatch, identity: Sequence[str]) -> list[str]:
    texts = [pc.fill_null(as_text(rows.column(rows.schema.names.index(name)), name), "") for name in identity]
    joined = pc.binary_join_element_wise(*texts, "\x1f")
    return [hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() for text in joined.to_pylist()]


def _drop_refused(rows: pa.RecordBatch, refused: dict[str, str], identity: Sequence[str]) -> pa.RecordBatch:
    """The rows, except rows that were refused before and have not been written again since."""
    if not refused:
        return rows
    return rows.filter(pa.array([row not in refused for row in _hashes(rows, identity)]))
