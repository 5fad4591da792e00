"""The lake: Parquet files with the whole log of answers and their verdicts, for Spark.

A lake is a folder or a prefix of a bucket. `month=YYYY-MM/day=YYYY-MM-DD` contains the files of a UTC day, each named
by its sha256; `_manifests/YYYY-MM-DD.json` lists the files of the day. The manifest is written last, and readers use
only files that a manifest lists. A day without attempts has a manifest too, which distinguishes an empty day from a
missing day. What does not belong here: the origin of the attempts, and their hashes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from resources.cluster.spark import path_for_spark
from resources.failures import PermanentFailure
from resources.files.object_store import BucketStore, FolderStore, ObjectStore
from resources.files.s3_failures import ObjectMissing
from resources.postgres.relations import LAKE_ATTEMPT, VERDICT_COLUMNS
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

FORMAT = 1
MANIFESTS = "_manifests"
SCHEMA: pa.Schema = LAKE_ATTEMPT.schema().to_pyarrow()
"""The columns of `attempt` and of its verdict. Times are in UTC, to the microsecond."""
SCHEMA_VERSION = sha256(str(SCHEMA).encode()).hexdigest()[:12]
SPARK_TYPES = {
    "string": "string",
    "bool": "boolean",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "timestamp[us, tz=UTC]": "timestamp",
}
OPTIONAL_COLUMNS = ("score", *VERDICT_COLUMNS)
"""Columns that files of earlier releases lack; they are read as null."""
EXPORT = "irt attempts export"
MANIFEST_READERS = 16
"""Number of manifests that are read concurrently: a bucket takes about 20 ms for each."""
MAX_NAMED = 5


@dataclass(frozen=True)
class LakeFile:
    """A Parquet file of a day; `path` is relative to the lake."""

    path: str
    sha256: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class LakeManifest:
    """The files of a day.

    Attributes:
        day: the UTC day, as YYYY-MM-DD.
        data_hash: order-independent hash of the rows, over all columns.
        judged: number of attempts that have a verdict.
    """

    day: str
    files: tuple[LakeFile, ...]
    data_hash: str
    judged: int
    exported_at: str
    schema_version: str = SCHEMA_VERSION
    format: int = FORMAT

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


class Lake:
    """Parquet files and their manifests in a store, below the folder `prefix`."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self.store, self.prefix = store, f"{prefix}/"

    @staticmethod
    def at(settings: Settings) -> Lake:
        """The lake that IRT_ATTEMPTS names. Raises PermanentFailure if it is unset or names anything else."""
        location = settings.irt_attempts
        if location is None:
            raise PermanentFailure("IRT_ATTEMPTS is not set: set it to the folder or the s3://BUCKET/PREFIX of a lake")
        if location.startswith("s3://"):
            bucket, _, prefix = location.removeprefix("s3://").strip("/").partition("/")
            if bucket and prefix:
                return Lake(BucketStore(bucket), prefix)
        elif (folder := Path(location)).is_absolute() and folder.name:
            return Lake(FolderStore(folder.parent), folder.name)
        elif "/" not in location:
            raise PermanentFailure(
                f"IRT_ATTEMPTS is {location!r}, which names a table: a table is a source that `irt "
                "pull` copies into the "
                "log. Set IRT_ATTEMPTS to the folder or s3://BUCKET/PREFIX to which `irt attempts export` writes the "
                "log, and name the table in IRT_PULL_SOURCES"
            )
        raise PermanentFailure(
            f"IRT_ATTEMPTS is {location!r}: set it to the absolute path of a folder, or to s3://BUCKET/PREFIX"
        )

    @property
    def name(self) -> str:
        """The lake's location, as in IRT_ATTEMPTS."""
        if isinstance(self.store, FolderStore):
            return f"{self.store.root}/{self.prefix}"
        return self.store.uri(self.prefix.rstrip("/"))

    # -- reading -------------------------------------------------------------------------------------

    def manifests(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, LakeManifest]:
        """The manifests of the days that overlap [since, until), by day, in order."""
        days = [day for day in self._committed() if _overlaps(day, since, until)]
        with ThreadPoolExecutor(MANIFEST_READERS) as pool:
            return dict(zip(days, pool.map(self._manifest, days), strict=True))

    def days(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, str]:
        """The hash of each day of [since, until) that has attempts, by day."""
        return {day: manifest.data_hash for day, manifest in self.manifests(since, until).items() if manifest.rows}

    def last_day(self) -> str | None:
        """The last day that has a manifest. Returns None if there is no manifest."""
        return max(self._committed(), default=None)

    def require_days(self, since: datetime, until: datetime) -> None:
        """Raise PermanentFailure if days of [since, until) have no manifest; the message names them.

        Days before the lake's first day, on which the log begins, and the current day are not required.
        """
        committed = self._committed()
        if not committed:
            raise PermanentFailure(
                f"IRT_ATTEMPTS names {self.name}, which is not a lake: it has no manifest in {MANIFESTS}. Set it to "
                f"another location, or write the log there: {EXPORT}"
            )
        over = min(until, datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
        required = days_between(since, over)
        missing = sorted({day for day in required if day >= committed[0]} - set(committed))
        if missing:
            more = f" and {len(missing) - MAX_NAMED} days more" if len(missing) > MAX_NAMED else ""
            raise PermanentFailure(
                f"the lake {self.name} has no manifest of {', '.join(missing[:MAX_NAMED])}{more}: "
                f"{EXPORT} --since {missing[0]} --until {missing[-1]}"
            )

    def require_judged(self, since: datetime, until: datetime) -> None:
        """Raise PermanentFailure if days of [since, until) have attempts without a verdict; the message names them."""
        days = [day for day, manifest in self.manifests(since, until).items() if manifest.judged < manifest.rows]
        if days:
            more = f" and {len(days) - MAX_NAMED} days more" if len(days) > MAX_NAMED else ""
            raise PermanentFailure(
                f"the lake {self.name} has attempts without verdicts on {', '.join(days[:MAX_NAMED])}{more}: run the "
                f"job judge_attempts, then `{EXPORT} --since {days[0]} --until {days[-1]}`. If PostgreSQL has dropped "
                "these days, first import their attempts again (`irt import attempts FILE`)"
            )

    def register(self, session: SparkSession, since: datetime | None = None, until: datetime | None = None) -> None:
        """Create the session's view `attempt` from the files of the days that overlap [since, until).

        Raises PermanentFailure if a day has no manifest, a file is missing or has changed, or a column has a different
        type. In a bucket, Spark checks the types; it reads s3:// as s3a://.
        """
        manifests = self.manifests(since, until)
        days = sorted(manifests)
        start = since or (day_start(days[0]) if days else datetime.now(UTC))
        self.require_days(start, until or (day_start(days[-1]) if days else start))
        files = [file for manifest in manifests.values() for file in manifest.files]
        for path, problem in self.find_damaged(files, types=isinstance(self.store, FolderStore)):
            raise PermanentFailure(f"the lake {self.name}: {path} {problem}. Write its day again: {EXPORT}")
        ddl = ", ".join(f"{field.name} {SPARK_TYPES[str(field.type)]}" for field in SCHEMA)
        rows = (
            session.read.schema(ddl)
            .option("mergeSchema", "false")
            .parquet(*(self._for_spark(manifest) for manifest in files))
            if files
            else session.createDataFrame([], ddl)
        )
        rows.select(*SCHEMA.names).createOrReplaceTempView("attempt")

    def find_damaged(
        self, files: Iterable[LakeFile], *, types: bool = False, content: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Yield the damaged files, each with the reason.

        A file is damaged if it is missing or its size differs from the manifest. With `types`, also if it cannot be
        read or its columns differ. With `content`, which reads all files, also if its sha256 differs.
        """
        by_month: dict[str, list[LakeFile]] = {}
        for file in files:
            by_month.setdefault(file.path.partition("/")[0], []).append(file)
        for month, expected in by_month.items():
            sizes = self.store.sizes(self.prefix + month)
            for file in expected:
                size = sizes.get(self.prefix + file.path)
                if size is None:
                    yield file.path, "is missing"
                elif size != file.bytes:
                    yield file.path, f"has {size:,} bytes instead of the {file.bytes:,} in its manifest"
                elif (problem := (self._type_problem(file) if types else None)) or (
                    problem := (self._content_problem(file) if content else None)
                ):
                    yield file.path, problem

    def _content_problem(self, file: LakeFile) -> str | None:
        try:
            with self.local(file):
                return None
        except PermanentFailure as error:
            return str(error)

    @contextmanager
    def local(self, file: LakeFile) -> Iterator[Path]:
        """Like `local_unchecked`, but raise PermanentFailure if the file is missing or its sha256 differs."""
        try:
            with self.local_unchecked(file.path) as path:
                with path.open("rb") as content:
                    digest = file_digest(content, "sha256").hexdigest()
                if digest != file.sha256:
                    raise PermanentFailure(
                        f"{file.path} has changed since it was written: its sha256 is {digest[:12]}…"
                    )
                yield path
        except ObjectMissing as error:
            raise PermanentFailure(f"{file.path} is missing") from error

    @contextmanager
    def local_unchecked(self, path: str) -> Iterator[Path]:
        """A local path of a file: the file itself in a folder, a temporary copy from a bucket.

        Raises ObjectMissing if it does not exist.
        """
        key = self.prefix + path
        if isinstance(self.store, FolderStore):
            self.store.size(key)  # raises ObjectMissing if it is missing
            yield self.store.root / key
            return
        with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
            for piece in self.store.stream(key):
                copy.write(piece)
            copy.flush()
            yield Path(copy.name)

    # -- writing -------------------------------------------------------------------------------------

    def store_file(self, day: str, path: Path) -> LakeFile:
        """Store a Parquet file of a day. Readers ignore it until a manifest names it."""
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        key = f"month={day[:7]}/day={day}/{digest}.parquet"
        self.store.put(self.prefix + key, path)
        return LakeFile(key, digest, pq.read_metadata(path).num_rows, path.stat().st_size)

    def commit(self, day: str, files: Sequence[LakeFile], data_hash: str, judged: int) -> LakeManifest:
        """Write the manifest of a day, which replaces its previous files by these."""
        manifest = LakeManifest(day, tuple(files), data_hash, judged, datetime.now(UTC).isoformat(timespec="seconds"))
        content = asdict(manifest) | {"rows": manifest.rows}
        self.store.put(f"{self.prefix}{MANIFESTS}/{day}.json", json.dumps(content, indent=1).encode())
        return manifest

    def find_unnamed(self, before: datetime | None = None) -> list[str]:
        """Paths of data files that no manifest names; if `before` is given, only of files written before it."""
        stored = list(self._all_files())  # listed before the manifests, or a day committed meanwhile would be lost
        named = {file.path for manifest in self.manifests().values() for file in manifest.files}
        return sorted(path for path, at in stored if path not in named and (before is None or at < before))

    def drop_unfinished(self, before: datetime) -> int:
        """Delete files that dead processes left unfinished before `before`. Returns their number."""
        return len(self.store.drop_unfinished(self.prefix.rstrip("/"), before))

    def delete(self, path: str) -> bool:
        """Delete a file. Returns whether the bucket keeps an old version of it."""
        return self.store.delete(self.prefix + path)

    def _committed(self) -> list[str]:
        names = (key.rpartition("/")[2] for key, _ in self.store.list(self.prefix + MANIFESTS))
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def _manifest(self, day: str) -> LakeManifest:
        key = f"{self.prefix}{MANIFESTS}/{day}.json"
        try:
            content = json.loads(self.store.get(key))
            if content["format"] != FORMAT:
                raise PermanentFailure(
                    f"{self.store.uri(key)} has format {content['format']}, but this release reads {FORMAT}"
                )
            files = tuple(LakeFile(**file) for file in content["files"])
            judged = content.get("judged", 0)  # earlier releases wrote no verdicts
            facts = content["data_hash"], judged, content["exported_at"], content["schema_version"]
            manifest = LakeManifest(content["day"], files, *facts)
            if manifest.day != day or manifest.rows != content["rows"]:
                raise ValueError("its day or its rows")
        except (ValueError, KeyError, TypeError) as error:
            raise PermanentFailure(
                f"{self.store.uri(key)} is not a manifest ({error}): delete it, then {EXPORT} --since {day} "
                f"--until {day}"
            ) from error
        return manifest

    def _all_files(self) -> Iterator[tuple[str, datetime]]:
        for key, written in self.store.list(self.prefix.rstrip("/")):
            path = key.removeprefix(self.prefix)
            if path.startswith("month=") and path.endswith(".parquet"):
                yield path, written

    def _type_problem(self, file: LakeFile) -> str:
        """The reason why a file of a folder cannot be read as attempts; empty if it can."""
        assert isinstance(self.store, FolderStore)
        try:
            schema = pq.read_schema(self.store.root / self.prefix / file.path)
        except (pa.ArrowInvalid, OSError) as error:
            return f"is not a Parquet file ({str(error).splitlines()[0]})"
        return schema_problem(schema)

    def _for_spark(self, file: LakeFile) -> str:
        if isinstance(self.store, FolderStore):
            return f"file://{self.name}{file.path}"  # unquoted: Spark does not decode %3D
        return path_for_spark(self.store.uri(self.prefix + file.path))


def lake_to_write(settings: Settings) -> Lake | None:
    """The lake that IRT_ATTEMPTS names. Returns None if it is unset."""
    return None if settings.irt_attempts is None else Lake.at(settings)


def schema_problem(schema: pa.Schema) -> str:
    """A text about the columns of a file that are missing or have a different type; empty if all columns are right."""
    problems = []
    for field in SCHEMA:
        index = schema.get_field_index(field.name)
        if index < 0:
            problems += [f"has no column {field.name}"] if field.name not in OPTIONAL_COLUMNS else []
        elif (stored_type := schema.field(index).type) != field.type:
            problems.append(f"has a column {field.name} of type {stored_type} instead of {field.type}")
    return ", ".join(problems)


def day_start(day: str) -> datetime:
    return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)


def days_between(since: datetime, until: datetime) -> list[str]:
    """The days (UTC) that overlap [since, until)."""
    first = since.astimezone(UTC).date()
    last = (until - timedelta(microseconds=1)).astimezone(UTC).date()
    return [str(first + timedelta(days=n)) for n in range((last - first).days + 1)]


def _overlaps(day: str, since: datetime | None, until: datetime | None) -> bool:
    start = day_start(day)
    return (until is None or start < until) and (since is None or start + timedelta(days=1) > since)
