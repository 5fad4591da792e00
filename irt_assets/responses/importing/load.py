"""Importing a log of answers: files are streamed through `clean` into `staging`, all in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import chain
from pathlib import Path

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.responses.importing.clean import Cleaner, Limits, Refused, item_columns
from irt_assets.responses.importing.mapping import AUTO, Mapping, bind_attempts, load_mapping, unknown_header
from irt_assets.responses.importing.readers import open_source
from irt_assets.responses.importing.report import ImportReport, RejectFile
from irt_assets.responses.importing.sources import Batch, Source, plain_rows
from irt_assets.responses.importing.staging import Staging
from irt_assets.responses.importing.times import ZoneNeeded, zone_named
from resources.database import Database, advisory_lock
from resources.failures import PermanentFailure

Progress = Callable[[int, int | None], None]


def import_attempts(
    database: Database,
    files: Sequence[Path],
    *,
    mapping: str | Path = AUTO,
    zone: str | None = None,
    at: date | None = None,
    strict: bool = False,
    dry_run: bool = False,
    first_month: str,
    reject_dir: Path,
    progress: Progress | None = None,
) -> ImportReport:
    """Import answers: all of `files` or, on any error, nothing.

    `mapping`: a preset's name, a mapping file, or "auto"; `zone`: IANA name, for times that carry none; `at`:
    the day of a log that has no times; `strict`: unknown items and learners are refused instead of added;
    `first_month` ("2026-07"): earlier answers are refused; `dry_run`: everything but the commit;
    `progress(done, total)`: in rows, each counted when read and again when stored.
    Raises PermanentFailure where the files or the arguments are at fault; the message says the way out.
    """
    if zone is not None and zone_named(zone) is None:
        raise PermanentFailure(f"--zone {zone}: unknown. Give an IANA name, such as Europe/Berlin or UTC.")
    rules = load_mapping(mapping)
    inputs = [_Input(open_source(Path(file)), rules, at) for file in files]
    rows = sum(given.source.rows for given in inputs)
    tell = progress or (lambda _done, _total: None)
    report = ImportReport()
    with RejectFile(reject_dir, Path(files[0])) as rejects, database.connect() as connection:
        limits = _limits(connection, first_month, zone, at)
        staging = Staging(connection)
        months: set[str] = set()
        read = 0
        for number, given in enumerate(inputs):
            with staging.copying(number) as stage:
                for batch, answers in given.answers(limits, report, rejects):
                    stage(answers)
                    days = pc.unique(pc.floor_temporal(answers["completed_at"], unit="month"))
                    months.update(f"{day:%Y-%m}" for day in days.to_pylist())
                    read += batch.rows.num_rows
                    tell(read, 2 * rows)
        advisory_lock(connection, "response_log", "import")
        verdicts = staging.judge(strict=strict)
        _write_refusals(staging, inputs, rejects)
        report.duplicates = verdicts.pop("duplicate", 0)
        report.rejected.update(verdicts)
        report.accepted = report.read - report.duplicates - report.rejected.total()
        if report.accepted:
            report.new_items, report.new_learners = staging.add_items_and_learners()
            staging.add_answers(months, lambda share: tell(rows + int(share * rows), 2 * rows))
        if dry_run:
            connection.rollback()
        report.reject_file = rejects.path
    tell(2 * rows, 2 * rows)
    return report


class _Input:
    """A file and how to read it. Raises PermanentFailure where its header or its times do not fit."""

    def __init__(self, source: Source, rules: Mapping | None, at: date | None) -> None:
        self.source = source
        self.name = str(source.path)
        self._guessed = rules is None
        self._binding = bind_attempts(rules, self.name, source.columns)
        self._mapping = self._binding.mapping
        times = "/".join(self._binding.columns.get("completed_at", ()))
        if not times and at is None:
            raise PermanentFailure(
                f"{self.name} has no times ({self._mapping.name}: no column is completed_at). Give its day with --at"
                " DATE, such as --at 2026-10-01, and the order of its rows is kept within that day; or name the"
                " column of times in a mapping file."
            )
        if times and at is not None:
            raise PermanentFailure(f"{self.name} has times (column {times}): leave --at out.")

    def answers(
        self, limits: Limits, report: ImportReport, rejects: RejectFile
    ) -> Iterator[tuple[Batch, pa.RecordBatch]]:
        """Each batch and its sound answers; the others are counted and written."""
        kind = "preset" if self._mapping.preset else "mapping"
        report.notes.append(f"{self.name}: {self.source.kind}, {self.source.encoding}, {kind} {self._mapping.name}")
        batches, items = self._batches(report)
        file_id = self.source.sha256[:16] if limits.start is not None else ""
        cleaner = Cleaner(self._binding, limits, file_id, items)
        for batch in batches:
            try:
                cleaned = cleaner.clean(batch)
            except ZoneNeeded as error:
                raise PermanentFailure(
                    f"{self.name}: times without a zone, such as {error.example}. Say which zone they are in:"
                    " --zone Europe/Berlin, for example, or --zone UTC. Times that carry a zone keep theirs."
                ) from error
            report.read += cleaned.read + len(batch.bad)
            report.rejected.update(bad.reason for bad in batch.bad)
            report.rejected.update(cleaned.refused.reasons)
            rejects.add((self.name, bad.line, bad.reason, bad.value, bad.raw) for bad in batch.bad)
            self.refuse(batch, cleaned.refused, rejects)
            yield batch, cleaned.answers

    def refuse(self, batch: Batch, refused: Refused, rejects: RejectFile) -> None:
        rows = plain_rows(batch.rows.take(pa.array(refused.places)))
        lines = batch.lines[refused.places].tolist()
        refusals = zip(lines, refused.reasons, refused.values, rows, strict=True)
        rejects.add((self.name, line, reason, value, self.source.raw(row)) for line, reason, value, row in refusals)

    def _batches(self, report: ImportReport) -> tuple[Iterator[Batch], list[str]]:
        """The file's batches and, of a matrix, the columns that are items; the first batch tells which."""
        batches = self.source.batches()
        if self._mapping.wide is None or (first := next(batches, None)) is None:
            return batches, []
        items, aside = item_columns(self._binding, first)
        if self._guessed and len(items) <= len(aside):
            raise unknown_header(self.name, self.source.columns, "no preset fits, and it is no matrix of 0/1 scores")
        if not items:
            raise PermanentFailure(
                f"{self.name}: no column is an item with scores 0/1, true/false or empty. Columns:"
                f" {', '.join(self.source.columns)}. Name the items in a mapping file (wide: {{items: 'item_*'}})."
            )
        report.notes.append(f"{self.name}: {len(items)} items, {items[0]} … {items[-1]}")
        if aside:
            report.notes.append(f"{self.name}: not items, left out: {', '.join(aside)}")
        return chain([first], batches), items


def _limits(connection: psycopg.Connection, first_month: str, zone: str | None, at: date | None) -> Limits:
    now: datetime = connection.execute("SELECT now()").fetchall()[0][0]
    first = datetime.fromisoformat(f"{first_month}-01").replace(tzinfo=UTC)
    if at is None:
        return Limits(_micros(first), _micros(now), zone)
    start = datetime(at.year, at.month, at.day, tzinfo=UTC)
    if not first <= start <= now:
        raise PermanentFailure(f"--at {at}: wanted is a day from {first.date()} (the first month) to {now.date()}.")
    return Limits(_micros(first), _micros(now), zone, _micros(start))


def _write_refusals(staging: Staging, inputs: Sequence[_Input], rejects: RejectFile) -> None:
    """Read the files once more for the rows that the database refused, if there are any."""
    refusals = staging.refusals()
    pending = next(refusals, None)
    for number, given in enumerate(inputs):
        if pending is None or pending[0] != number:
            continue
        for batch in given.source.batches():
            lines, reasons, values = [], [], []
            last = batch.lines.max(initial=0)
            while pending is not None and pending[0] == number and pending[1] <= last:
                _, line, reason, value = pending
                lines.append(line)
                reasons.append(reason)
                values.append(value)
                pending = next(refusals, None)
            places = np.searchsorted(batch.lines, np.array(lines, dtype=np.int64))
            given.refuse(batch, Refused(places, reasons, values), rejects)


def _micros(time: datetime) -> int:
    return round(time.timestamp() * 1_000_000)
