"""Upkeep of a lake's files: finding faults, erasing a learner, and deleting files that are no longer needed."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from irt_assets.spark.lake import Progress, day_rows, on_files, rows_of_files, store_files
from resources.cluster.lake import SCHEMA, Lake, LakeFile, LakeManifest, schema_problem
from resources.failures import PermanentFailure

if TYPE_CHECKING:
    import duckdb

READER_GRACE = timedelta(days=1)
"""Longest time for which a reader may still read files that another manifest has replaced."""
MAX_NAMED = 5


@dataclass(frozen=True)
class Fault:
    """A fault of a day of a lake; `irt attempts check --json` prints it with these names."""

    day: str
    what: str


def faults(
    lake: Lake,
    since: datetime | None = None,
    until: datetime | None = None,
    progress: Progress = lambda *_: None,
) -> Iterator[Fault]:
    """Read every file of [since, until) and yield its faults, day by day.

    Faults are missing or damaged files, wrong columns, rows that differ from the manifest, and repeated ids.
    """
    import duckdb  # needed only to read files of a lake

    manifests = lake.manifests(since, until)
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(str(Path(folder, "ids"))) as ids:
        ids.execute("SET memory_limit = '1GB'")
        ids.execute("CREATE TABLE seen AS SELECT md5_number('') AS id, '' AS day LIMIT 0")
        for n, (day, manifest) in enumerate(manifests.items(), 1):
            problems = [Fault(day, problem) for file in manifest.files if (problem := _file_problem(lake, file))]
            if problems:
                yield from problems
            else:
                found = rows_of_files(lake, day, manifest.files)
                if found != day_rows(manifest):
                    yield Fault(
                        day,
                        f"its files contain {found.rows:,} attempts, not the {manifest.rows:,} of its manifest",
                    )
                _remember_ids(ids, lake, day, manifest.files)
            progress(n, len(manifests))
        yield from _ids_seen_twice(ids, lake, manifests)


def _file_problem(lake: Lake, file: LakeFile) -> str:
    try:
        with lake.local(file) as path:
            parquet = pq.ParquetFile(path)
            if problem := schema_problem(parquet.schema_arrow):
                return f"{file.path} {problem}"
            if parquet.metadata.num_rows != file.rows:
                return f"{file.path} has {parquet.metadata.num_rows:,} rows instead of {file.rows:,}"
    except PermanentFailure as failure:
        return str(failure)
    except (pa.ArrowInvalid, OSError) as error:
        return f"{file.path} is not a Parquet file ({str(error).splitlines()[0]})"
    return ""


def _remember_ids(ids: duckdb.DuckDBPyConnection, lake: Lake, day: str, files: Iterable[LakeFile]) -> None:
    """Store a hash of 128 bits of each id of a day."""
    for file in files:
        with lake.local(file) as path:
            ids.execute(
                "INSERT INTO seen SELECT md5_number(id), $1 FROM read_parquet($2, hive_partitioning=false)",
                (day, str(path)),
            )


def _ids_seen_twice(
    ids: duckdb.DuckDBPyConnection, lake: Lake, manifests: Mapping[str, LakeManifest]
) -> Iterator[Fault]:
    twice = "FROM (SELECT id, min(day) AS first, max(day) AS day FROM seen GROUP BY id HAVING count(*) > 1)"
    for first, day, n, examples in ids.execute(
        f"SELECT first, day, count(*), array_agg(id::text ORDER BY id)[:{MAX_NAMED}] {twice} GROUP BY 1, 2 ORDER BY 2"
    ).fetchall():
        with on_files(lake, manifests[day].files) as run:
            wanted = ", ".join(f"'{example}'" for example in examples)
            names = run.read(f"SELECT DISTINCT id FROM attempt WHERE md5_number(id)::text IN ({wanted}) ORDER BY id")
        where = "" if first == day else f" and on {first}"
        yield Fault(day, f"{n:,} ids occur more than once{where}, such as {', '.join(names['id'].to_pylist())}")


def attempts_of(lake: Lake, user_id: str) -> dict[str, int]:
    """Number of a learner's attempts in each file, by path; also in files that no manifest names. Reads every file."""
    named = {file.path: file for manifest in lake.manifests().values() for file in manifest.files}
    found = {}
    for path in (*named, *lake.find_unnamed()):
        with lake.local_unchecked(path) as file:
            # reads only the row groups that may contain the learner, as rows are sorted by learner
            n = int(ds.dataset(file).count_rows(filter=ds.field("user_id") == user_id))
        if n:
            found[path] = n
    return found


def erase_learner(lake: Lake, user_id: str) -> tuple[dict[str, int], int]:
    """Write the days that contain a learner again without the learner, and delete the files that contain the learner.
    Returns the attempts by day, and the number of deleted files that the bucket keeps as old versions.

    If it is killed, run it again: each day is either unchanged or without the learner.
    """
    attempts = attempts_of(lake, user_id)
    days: Counter[str] = Counter()
    for day, manifest in lake.manifests().items():
        affected = [file for file in manifest.files if file.path in attempts]
        if not affected:
            continue
        files = [file for file in manifest.files if file.path not in attempts]
        for file in affected:
            with lake.local(file) as path:
                files += store_files(lake, day, _rows_without(path, user_id))
            days[day] += attempts[file.path]
        rows = rows_of_files(lake, day, files)
        lake.commit(day, files, rows.data_hash, rows.judged)
    return dict(days), sum(lake.delete(path) for path in attempts)


def _rows_without(path: Path, user_id: str) -> Iterator[pa.Table]:
    for batch in ds.dataset(path, schema=SCHEMA).to_batches(filter=ds.field("user_id") != user_id):
        yield pa.Table.from_batches([batch])


def prune(lake: Lake) -> int:
    """Delete the files that no manifest names and that are older than a day. Returns their number."""
    before = datetime.now(UTC) - READER_GRACE
    unnamed = lake.find_unnamed(before)
    for path in unnamed:
        lake.delete(path)
    return len(unnamed) + lake.drop_unfinished(before)
