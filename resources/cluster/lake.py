"""Where Spark finds the whole log of answers: a lake of Parquet files, or a table of Spark's catalogue.

A lake is a folder or a prefix of a bucket. Under `month=YYYY-MM/day=YYYY-MM-DD` are the files of a UTC day, each named
by its sha256; `_manifests/YYYY-MM-DD.json` names the files that make the day. It is written last, and readers see only
what manifests name. A day without attempts has a manifest too, so that an empty day is not a missing one. What does not
belong here: where the attempts come from, and how they are hashed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from resources.cluster.spark import path_for_spark
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore, ObjectStore, bucket_store
from resources.files.s3_failures import NothingThere
from resources.postgres.relations import ATTEMPT
from resources.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FORMAT = 1
MANIFESTS = "_manifests"
SCHEMA: pa.Schema = ATTEMPT.schema().to_pyarrow()
"""The columns of `attempt`. Times are in UTC, to the microsecond."""
SCHEMA_VERSION = sha256(str(SCHEMA).encode()).hexdigest()[:12]
SPARK_TYPES = {
    "string": "string",
    "bool": "boolean",
    "int16": "smallint",
    "int32": "int",
    "int64": "bigint",
    "timestamp[us, tz=UTC]": "timestamp",
}
WIDER = {("int", "bigint"), ("smallint", "int"), ("smallint", "bigint"), ("tinyint", "smallint"), ("int", "smallint")}
"""Types of a table's column that hold nothing that the column of `attempt` cannot hold; no score needs more."""
OPTIONAL = ("score",)
"""What files and tables from before there were scores lack: null."""
EXPORT = "irt attempts export"
AT_ONCE = 16
"""Manifests read at a time: a bucket takes some 20 ms for each."""
MOST_NAMED = 5


@dataclass(frozen=True)
class LakeFile:
    """A Parquet file of a day; `path` is relative to the lake."""

    path: str
    sha256: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What makes a day (UTC, YYYY-MM-DD). `data_hash`: the hash of its rows over all columns, in any order."""

    day: str
    files: tuple[LakeFile, ...]
    data_hash: str
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
    def at(settings: Settings) -> Lake | CatalogTable:
        """What IRT_ATTEMPTS names. Raises PermanentFailure where it is unset, or neither a lake nor a table."""
        place = settings.irt_attempts
        if place is None:
            raise PermanentFailure(
                "IRT_ATTEMPTS is not set: set it to the folder or the s3://BUCKET/PREFIX of a lake, or to a table of "
                "Spark's catalogue"
            )
        if place.startswith("s3://"):
            bucket, _, prefix = place.removeprefix("s3://").strip("/").partition("/")
            if bucket and prefix:
                return Lake(bucket_store(bucket, settings), prefix)
        elif (folder := Path(place)).is_absolute() and folder.name:
            return Lake(FolderStore(folder.parent), folder.name)
        elif "/" not in place and "://" not in place:
            return CatalogTable(place)
        raise PermanentFailure(
            f"IRT_ATTEMPTS is {place!r}: set it to the absolute path of a folder, to s3://BUCKET/PREFIX, or to a table "
            "of Spark's catalogue such as catalog.db.attempt"
        )

    @property
    def schema(self) -> pa.Schema:
        return SCHEMA

    @cached_property
    def name(self) -> str:
        """The lake as IRT_ATTEMPTS names it."""
        if isinstance(self.store, FolderStore):
            return f"{self.store.root}/{self.prefix}"
        return self.store.uri(self.prefix.rstrip("/"))

    # -- reading -------------------------------------------------------------------------------------

    def manifests(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, Manifest]:
        """The manifests of the days that overlap [since, until), by day, in order."""
        wanted = [day for day in self._committed() if _overlaps(day, since, until)]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return dict(zip(wanted, pool.map(self._manifest, wanted), strict=True))

    def days(self, since: datetime | None = None, until: datetime | None = None) -> dict[str, str]:
        """The hash of each day of [since, until) that has attempts, by day."""
        return {day: one.data_hash for day, one in self.manifests(since, until).items() if one.rows}

    def last_day(self) -> str | None:
        """The last day that has a manifest; None where no day has."""
        return max(self._committed(), default=None)

    def require_days(self, since: datetime, until: datetime) -> None:
        """Raises PermanentFailure that names the days of [since, until) which have no manifest.

        Not required are days before the lake's first one, with which the log begins, and the day that is not over.
        """
        committed = self._committed()
        if not committed:
            raise PermanentFailure(
                f"IRT_ATTEMPTS names {self.name}, where there is no lake: no manifest is in {MANIFESTS}. Set it to "
                f"another place, or write the log there: {EXPORT}"
            )
        over = min(until, datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
        wanted = days_between(since, over)
        missing = sorted({day for day in wanted if day >= committed[0]} - set(committed))
        if missing:
            more = f" and {len(missing) - MOST_NAMED} days more" if len(missing) > MOST_NAMED else ""
            raise PermanentFailure(
                f"the lake {self.name} has no manifest of {', '.join(missing[:MOST_NAMED])}{more}: "
                f"{EXPORT} --since {missing[0]} --until {missing[-1]}"
            )

    def register(self, session: SparkSession, since: datetime | None = None, until: datetime | None = None) -> None:
        """Make the session's view `attempt` from the files of the days that overlap [since, until), and no others.

        Raises PermanentFailure that names a day without a manifest, a file that is missing or is not as it was
        written, and a column of another type. In a bucket the types are left to Spark, which reads s3:// as s3a://.
        """
        manifests = self.manifests(since, until)
        days = sorted(manifests)
        start = since or (day_start(days[0]) if days else datetime.now(UTC))
        self.require_days(start, until or (day_start(days[-1]) if days else start))
        files = [file for one in manifests.values() for file in one.files]
        for path, problem in self.damaged(files, types=isinstance(self.store, FolderStore)):
            raise PermanentFailure(f"the lake {self.name}: {path} {problem}. Write its day again: {EXPORT}")
        ddl = ", ".join(f"{field.name} {SPARK_TYPES[str(field.type)]}" for field in SCHEMA)
        rows = (
            session.read.schema(ddl).option("mergeSchema", "false").parquet(*(self._for_spark(one) for one in files))
            if files
            else session.createDataFrame([], ddl)
        )
        rows.select(*SCHEMA.names).createOrReplaceTempView("attempt")

    def damaged(
        self, files: Iterable[LakeFile], *, types: bool = False, content: bool = False
    ) -> Iterator[tuple[str, str]]:
        """Files that are missing or of another size, with `types` unreadable or of other columns, with `content` (which
        reads them) of another sha256, and why."""
        by_month: dict[str, list[LakeFile]] = {}
        for file in files:
            by_month.setdefault(file.path.partition("/")[0], []).append(file)
        for month, wanted in by_month.items():
            there = self.store.sizes(self.prefix + month)
            for file in wanted:
                size = there.get(self.prefix + file.path)
                if size is None:
                    yield file.path, "is missing"
                elif size != file.bytes:
                    yield file.path, f"has {size:,} bytes and not {file.bytes:,}, as its manifest says"
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
        """As `local_as_it_is`. Raises PermanentFailure where the file is missing, or its sha256 is another."""
        try:
            with self.local_as_it_is(file.path) as path:
                with path.open("rb") as content:
                    digest = file_digest(content, "sha256").hexdigest()
                if digest != file.sha256:
                    raise PermanentFailure(f"{file.path} is not as it was written: its sha256 is {digest[:12]}…")
                yield path
        except NothingThere as error:
            raise PermanentFailure(f"{file.path} is missing") from error

    @contextmanager
    def local_as_it_is(self, path: str) -> Iterator[Path]:
        """A file as this machine reads it: of a folder itself, of a bucket a copy. Raises NothingThere."""
        key = self.prefix + path
        if isinstance(self.store, FolderStore):
            self.store.size(key)  # raises where it is missing
            yield self.store.root / key
            return
        with tempfile.NamedTemporaryFile(suffix=".parquet") as copy:
            for piece in self.store.stream(key):
                copy.write(piece)
            copy.flush()
            yield Path(copy.name)

    # -- writing -------------------------------------------------------------------------------------

    def store_file(self, day: str, path: Path) -> LakeFile:
        """Store a Parquet file of a day. Nobody sees it before a manifest names it."""
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        key = f"month={day[:7]}/day={day}/{digest}.parquet"
        self.store.put(self.prefix + key, path)
        return LakeFile(key, digest, pq.read_metadata(path).num_rows, path.stat().st_size)

    def commit(self, day: str, files: Sequence[LakeFile], data_hash: str) -> Manifest:
        """Make these files the day, in place of those that were."""
        made = Manifest(day, tuple(files), data_hash, datetime.now(UTC).isoformat(timespec="seconds"))
        content = asdict(made) | {"rows": made.rows}
        self.store.put(f"{self.prefix}{MANIFESTS}/{day}.json", json.dumps(content, indent=1).encode())
        return made

    def unnamed(self, before: datetime | None = None) -> list[str]:
        """Paths of data files that no manifest names, only those written before `before` if it is given."""
        found = list(self._all_files())  # before the manifests are read, or a day committed meanwhile would be lost
        named = {file.path for one in self.manifests().values() for file in one.files}
        return sorted(path for path, at in found if path not in named and (before is None or at < before))

    def drop_unfinished(self, before: datetime) -> int:
        """Delete what processes that are gone left half written before `before`; how many files."""
        return len(self.store.drop_unfinished(self.prefix.rstrip("/"), before))

    def delete(self, path: str) -> bool:
        """Delete a file; whether the bucket keeps an old version of it."""
        return self.store.delete(self.prefix + path)

    def _committed(self) -> list[str]:
        names = (key.rpartition("/")[2] for key, _ in self.store.list(self.prefix + MANIFESTS))
        return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))

    def _manifest(self, day: str) -> Manifest:
        key = f"{self.prefix}{MANIFESTS}/{day}.json"
        try:
            content = json.loads(self.store.get(key))
            if content["format"] != FORMAT:
                raise PermanentFailure(
                    f"{self.store.uri(key)} is of format {content['format']}, this release reads {FORMAT}"
                )
            files = tuple(LakeFile(**file) for file in content["files"])
            named = content["data_hash"], content["exported_at"], content["schema_version"]
            found = Manifest(content["day"], files, *named)
            if found.day != day or found.rows != content["rows"]:
                raise ValueError("its day or its rows")
        except (ValueError, KeyError, TypeError) as error:
            raise PermanentFailure(
                f"{self.store.uri(key)} is not a manifest ({error}): delete it, then {EXPORT} --since {day} "
                f"--until {day}"
            ) from error
        return found

    def _all_files(self) -> Iterator[tuple[str, datetime]]:
        for key, written in self.store.list(self.prefix.rstrip("/")):
            path = key.removeprefix(self.prefix)
            if path.startswith("month=") and path.endswith(".parquet"):
                yield path, written

    def _type_problem(self, file: LakeFile) -> str:
        """Why a file of a folder cannot be read as attempts, or nothing."""
        assert isinstance(self.store, FolderStore)
        try:
            found = pq.read_schema(self.store.root / self.prefix / file.path)
        except (pa.ArrowInvalid, OSError) as error:
            return f"is not a Parquet file ({str(error).splitlines()[0]})"
        return schema_problem(found)

    def _for_spark(self, file: LakeFile) -> str:
        if isinstance(self.store, FolderStore):
            return f"file://{self.name}{file.path}"  # as it is: Spark does not decode %3D
        return path_for_spark(self.store.uri(self.prefix + file.path))


def lake_that_we_write(settings: Settings) -> Lake | None:
    """The lake that IRT_ATTEMPTS names; None where it is unset, or names a table, which others write."""
    if settings.irt_attempts is None:
        return None
    place = Lake.at(settings)
    return place if isinstance(place, Lake) else None


@dataclass(frozen=True)
class CatalogTable:
    """A table of Spark's catalogue that holds the whole log; who writes it is not our concern."""

    name: str

    def register(self, session: SparkSession, since: datetime | None = None, until: datetime | None = None) -> None:
        """Make the session's view `attempt` from the table's columns, by their names, of [since, until). A null
        `correct` of an answer with a score is whether that is the `max_score` of the session's view `question`.

        Raises PermanentFailure where there is no such table, or a column is missing or of another type.
        """
        from pyspark.sql import functions as f  # an extra

        rows = self._table(session)
        problems = self._problems(dict(rows.dtypes))
        if problems:
            raise PermanentFailure(
                f"IRT_ATTEMPTS names the table {self.name}, which is not the relation `attempt`: "
                f"{'; '.join(problems)}. Set it to a view that has these columns"
            )
        if "score" in rows.columns:
            most = session.table("question").select("item_id", f.coalesce("max_score", f.lit(1)).alias("of_item"))
            full = f.col("score") == f.coalesce("of_item", f.lit(1))
            rows = rows.join(f.broadcast(most), "item_id", "left").withColumn("correct", f.coalesce("correct", full))
        for name in {*OPTIONAL} - {*rows.columns}:
            rows = rows.withColumn(name, f.lit(None))
        rows = rows.select(*(f.col(one.name).cast(SPARK_TYPES[str(one.type)]).alias(one.name) for one in SCHEMA))
        if since is not None:
            rows = rows.filter(f.col("completed_at") >= f.lit(since))
        if until is not None:
            rows = rows.filter(f.col("completed_at") < f.lit(until))
        rows.createOrReplaceTempView("attempt")

    def days(self, since: datetime | None = None, until: datetime | None = None) -> None:
        """None: a table keeps no hashes of its days."""

    def _table(self, session: SparkSession) -> DataFrame:
        from pyspark.errors import AnalysisException, ParseException  # an extra

        try:
            rows = session.table(self.name)
            rows.columns  # noqa: B018 - Spark Connect looks for the table only now
        except (AnalysisException, ParseException) as error:
            raise PermanentFailure(
                f"IRT_ATTEMPTS names the table {self.name}, which Spark does not find in its catalogue: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return rows

    def _problems(self, found: dict[str, str]) -> Iterable[str]:
        problems = []
        for field in SCHEMA:
            wanted, there = SPARK_TYPES[str(field.type)], found.get(field.name)
            if there is None:
                problems += [f"column {field.name} is missing"] if field.name not in OPTIONAL else []
            elif there != wanted and (there, wanted) not in WIDER:
                problems.append(f"column {field.name} is {there}, expected {wanted}")
        return problems


def schema_problem(found: pa.Schema) -> str:
    """Which columns of a file are not those of `attempt`; empty where all are."""
    problems = []
    for field in SCHEMA:
        place = found.get_field_index(field.name)
        if place < 0:
            problems += [f"has no column {field.name}"] if field.name not in OPTIONAL else []
        elif (there := found.field(place).type) != field.type:
            problems.append(f"has a column {field.name} of type {there} and not {field.type}")
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
