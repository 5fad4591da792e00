"""The log in a lake: export of PostgreSQL's attempts and verdicts day by day, and comparison of the two.

If a day's verdicts change, its hash changes, so the next export writes it again.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq

from irt_assets.common.partitions import day_bounds
from irt_assets.responses.answers import attempts_with_verdicts
from irt_assets.responses.row_hash import LATER_COLUMNS, row_hash, sums_by
from resources.cluster.lake import (
    EXPORT,
    OPTIONAL_COLUMNS,
    SCHEMA,
    SPARK_TYPES,
    Lake,
    LakeFile,
    LakeManifest,
    days_between,
)
from resources.cluster.relational import Run, on_duckdb, on_postgres
from resources.failures import PermanentFailure
from resources.postgres import warehouse
from resources.postgres.database import Database, advisory_lock, one_value
from resources.postgres.relations import VERDICT_COLUMNS

ROWS_OF_FILE = 2_000_000
KEEP_FOR = timedelta(days=366)
"""PostgreSQL keeps answers for at least this long, even if the lake has them."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class DayRows:
    """Numbers of a day's rows and of its rows with a verdict, and a hash over all columns of a lake."""

    rows: int
    judged: int
    data_hash: str


NO_ROWS = DayRows(0, 0, sha256(b"0 0 0").hexdigest())


@dataclass
class ExportResult:
    """Result of an export: days written and skipped, rows and bytes written. `refused`: lines about days that were not
    changed."""

    written: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """A day that differs between the lake and PostgreSQL. `lake` is None if the lake has no manifest of the day."""

    day: str
    lake: DayRows | None
    log: DayRows

    def __str__(self) -> str:
        if self.lake is None:
            return f"{self.day}: no manifest in the lake, {self.log.rows:,} attempts in PostgreSQL"
        if self.lake.rows == self.log.rows:
            return f"{self.day}: {self.lake.rows:,} attempts in both, but they or their verdicts differ"
        return f"{self.day}: {self.lake.rows:,} attempts in the lake, {self.log.rows:,} in PostgreSQL"


def rows_by_day(run: Run, since: datetime, until: datetime) -> dict[str, DayRows]:
    """Counts and hash of the attempts of [since, until) by day (UTC). Days without attempts are absent."""
    attempts = attempts_with_verdicts(since, until, in_lake=run.backend is not on_postgres)
    # A null verdict adds nothing, so that days written by earlier releases have the hashes of their manifests.
    hashes = row_hash(attempts, sorted(SCHEMA.names), (*LATER_COLUMNS, *VERDICT_COLUMNS))
    hashed = attempts.select("learner_key", day=attempts.completed_at.date().cast("string"), h=hashes)
    return {
        day: DayRows(int(sums.split()[0]), judged, sha256(sums.encode()).hexdigest())
        for day, sums, judged in sums_by(run, hashed, "day", judged="count(learner_key)")
    }


def compare_days(
    connection: psycopg.Connection, lake: Lake, since: datetime | None = None, until: datetime | None = None
) -> list[Difference]:
    """The days of [since, until), two midnights, whose count or hash in the manifests differs from PostgreSQL's.

    The default is the last 366 days, which PostgreSQL keeps, up to yesterday. Days before the first answer in either
    are left out.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    until = until or today
    since = since or until - KEEP_FOR
    log = rows_by_day(on_postgres(connection), since, until)
    manifests = lake.manifests(since, until)
    first = min((*log, *manifests), default=None)
    found = []
    for day in days_between(since, until):
        in_lake = day_rows(manifests[day]) if day in manifests else None
        wanted = log.get(day, NO_ROWS)
        if first is not None and day >= first and in_lake != wanted:
            found.append(Difference(day, in_lake, wanted))
    return found


# -- export ------------------------------------------------------------------------------------------


def export_days(
    database: Database,
    lake: Lake,
    since: str | None = None,
    until: str | None = None,
    *,
    replace: bool = False,
    progress: Progress = lambda *_: None,
) -> ExportResult:
    """Write the days that differ between the lake and PostgreSQL to the lake.

    A day is committed by its manifest, after its files have been read back. A day of which the lake has more attempts
    than PostgreSQL is not changed, because PostgreSQL may have dropped them.

    Args:
        since, until: first and last day (YYYY-MM-DD, inclusive); by default the day of the first answer and yesterday.
        replace: write also the days of which the lake has more attempts. The lake's files are read, and days whose
            files have changed since they were written are written again.
        progress: called with the number of days done and the total.
    """
    first, last = _span(database, since, until)
    days = days_between(day_bounds(first)[0], day_bounds(last)[1]) if first and last and first <= last else []
    done = ExportResult()
    for month in dict.fromkeys(day[:7] for day in days):
        _export_month(database, lake, [day for day in days if day[:7] == month], replace, done, progress, len(days))
    return done


def _span(database: Database, since: str | None, until: str | None) -> tuple[str, str]:
    yesterday = str(datetime.now(UTC).date() - timedelta(days=1))
    for name, day in (("--since", since), ("--until", until)):
        if day is not None:
            try:
                day_bounds(day)
            except ValueError as error:
                raise PermanentFailure(f"{name} must be a day, YYYY-MM-DD, got {day!r}") from error
    last = until or yesterday
    if since is None:
        first = database.call(one_value, "SELECT (min(completed_at) AT TIME ZONE 'UTC')::date FROM attempt")
        since = str(first or "")
    if since and since > last:
        raise PermanentFailure(f"there is no day from {since} to {last}: set other days with --since and --until")
    return since, last


def _export_month(
    database: Database,
    lake: Lake,
    days: list[str],
    replace: bool,
    done: ExportResult,
    progress: Progress,
    total: int,
) -> None:
    start, end = day_bounds(days[0])[0], day_bounds(days[-1])[1]
    with database.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        advisory_lock(connection, "lake", lake.name)
        log = rows_by_day(on_postgres(connection), start, end)
        manifests = lake.manifests(start, end)
        named = [file for manifest in manifests.values() for file in manifest.files]
        lost = {path for path, _ in lake.find_damaged(named, content=replace)}
        for day in days:
            wanted, manifest = log.get(day, NO_ROWS), manifests.get(day)
            is_whole = manifest is not None and not any(file.path in lost for file in manifest.files)
            if manifest is not None and is_whole and day_rows(manifest) == wanted:
                done.skipped.append(day)
            elif manifest is not None and manifest.rows > wanted.rows and not replace:
                done.refused.append(
                    f"{day}: the lake has {manifest.rows:,} attempts and PostgreSQL {wanted.rows:,}. PostgreSQL may "
                    f"have dropped some; if the lake is wrong: {EXPORT} --since {day} --until {day} --replace"
                )
            else:
                files = _write_day(connection, lake, day, wanted)
                lake.commit(day, files, wanted.data_hash, wanted.judged)
                done.written.append(day)
                done.rows += wanted.rows
                done.bytes += sum(file.bytes for file in files)
            progress(len(done.written) + len(done.skipped) + len(done.refused), total)


def _write_day(connection: psycopg.Connection, lake: Lake, day: str, wanted: DayRows) -> list[LakeFile]:
    """Store the day's attempts in files and read them back. Raises PermanentFailure if their rows are not `wanted`."""
    if wanted == NO_ROWS:
        return []
    attempts = on_postgres.sql(attempts_with_verdicts(*day_bounds(day), in_lake=False))
    query = f'SELECT * FROM ({attempts}) a ORDER BY user_id COLLATE "C", completed_at, id COLLATE "C"'
    files = list(store_files(lake, day, warehouse.read_parts(connection, query)))
    found = rows_of_files(lake, day, files)
    if found != wanted:
        raise PermanentFailure(
            f"{day}: {wanted.rows:,} attempts were read from PostgreSQL, but the written files contain {found.rows:,}, "
            f"or other attempts; the day is unchanged in the lake. Export it again"
        )
    return files


# -- the files of a day ------------------------------------------------------------------------------


def store_files(lake: Lake, day: str, parts: Iterable[pa.Table]) -> Iterator[LakeFile]:
    """Write sorted rows to files of at most ROWS_OF_FILE rows. Each file is stored as soon as it is full."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "attempts.parquet")
        writer, written = None, 0
        try:
            for part in parts:
                for start in range(0, part.num_rows, ROWS_OF_FILE):
                    rows = part.select(SCHEMA.names).slice(start, ROWS_OF_FILE).cast(SCHEMA)
                    if writer is not None and written + rows.num_rows > ROWS_OF_FILE:
                        writer.close()
                        yield lake.store_file(day, path)
                        writer, written = None, 0
                    writer = writer or pq.ParquetWriter(path, SCHEMA, compression="zstd")
                    writer.write_table(rows)
                    written += rows.num_rows
            if writer is not None:
                writer.close()
                yield lake.store_file(day, path)
        finally:
            if writer is not None:
                writer.close()


def day_rows(manifest: LakeManifest) -> DayRows:
    return DayRows(manifest.rows, manifest.judged, manifest.data_hash)


@contextmanager
def on_files(lake: Lake, files: Iterable[LakeFile]) -> Iterator[Run]:
    """Provide queries over the files as the relation `attempt`. Raises PermanentFailure as `Lake.local` does."""
    import duckdb

    with ExitStack() as stack:
        paths = [str(stack.enter_context(lake.local(file))) for file in files]
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        connection = stack.enter_context(duckdb.connect(config={"temp_directory": folder, "memory_limit": "1GB"}))
        connection.execute("SET threads = 2")
        run = on_duckdb(connection)
        rows = connection.from_parquet(paths, hive_partitioning=False, union_by_name=True)
        kinds = {
            name: SPARK_TYPES[str(SCHEMA.field(name).type)] for name in OPTIONAL_COLUMNS if name not in rows.columns
        }
        lacking = [f"NULL::{kind} AS {name}" for name, kind in kinds.items()]
        rows.project(", ".join(["*", *lacking])).create_view("attempt")
        yield run


def rows_of_files(lake: Lake, day: str, files: Iterable[LakeFile]) -> DayRows:
    """Counts and hash of the rows in a day's files. If some rows are of other days, the hash equals no day's.

    Raises PermanentFailure as `Lake.local` does.
    """
    files = list(files)
    if not files:
        return NO_ROWS
    with on_files(lake, files) as run:
        found = rows_by_day(run, *day_bounds(day))
        others = run.read("SELECT count(*) AS n FROM attempt")["n"][0].as_py() - found.get(day, NO_ROWS).rows
    rows = found.get(day, NO_ROWS)
    if others:
        return replace(rows, rows=rows.rows + others, data_hash=f"{rows.data_hash} and {others} rows of other days")
    return rows
