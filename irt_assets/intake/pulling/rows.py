"""The rows of a source that is read with SQL, in batches: by cursor and key, or by day.

This module contains the statements, for any database that SQLAlchemy or DuckDB can reach, and the conversion of cells
to Arrow. The state of a pull is in `pull_state`, and the import of the rows in `pull`.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from itertools import chain
from types import TracebackType
from typing import Any, Self

import psycopg
import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from irt_assets.intake.cells import as_text
from irt_assets.intake.mapping import Binding, TimeRules, bind_attempts
from irt_assets.intake.pulling.clocks import Clock, clock_of
from irt_assets.intake.pulling.impossible_times import read_all_times, read_zero_dates
from irt_assets.intake.pulling.pull_state import Place
from irt_assets.intake.pulling.sources_file import Cursor, PullSource
from irt_assets.intake.times import EARLIEST, LATEST, MISSING, parse_times
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database

BATCH, BATCHES = 50_000, 10
PLAIN_TYPES = (str, bool, int, float, datetime)
SESSION_SETTINGS = {
    "postgresql": "SET TIME ZONE 'UTC'; SET lock_timeout = '2s'; SET statement_timeout = '5min'",
    "mysql": "SET time_zone = '+00:00'",
    "mariadb": "SET time_zone = '+00:00'",
}
MARIADB_TIMESTAMP, MARIADB_BIT = "TIMESTAMP", "BIT"


@dataclass(frozen=True)
class ReadRows:
    """A batch of rows, and the place of the last one."""

    rows: pa.RecordBatch
    last: Place


@dataclass(frozen=True)
class Part:
    """Selection of rows: after one place and up to another, and with an answer in [start, end). None: no limit."""

    behind: Place | None = None
    up_to: Place | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True)
class Span:
    """Times of the first and the last answer, and the greatest cursor. All are None if there are no answers."""

    first: datetime | None
    last: datetime | None
    cursor: Any


class TableLocked(TransientFailure):
    """Another session has locked the source's table: the next pull reads it."""


class SqlRows:
    """A source, read over a connection of its own. Only `erase` changes anything there.

    Raises TransientFailure if the source cannot be reached, and PermanentFailure if it lacks columns that the file of
    sources names.
    """

    holds_locks = False
    """Whether a statement locks the table until its rows have been read, so that others may have to wait."""

    def __init__(self, source: PullSource, database: Database | None = None) -> None:
        """`database`: the platform's, needed for a source in it."""
        self.source = source
        self._rules = source.rules
        self._open(database)

    @property
    def cursor(self) -> Cursor:
        assert self.source.cursor is not None
        return self.source.cursor

    def _open(self, database: Database | None) -> None:
        url = sa.make_url("postgresql+psycopg://") if self.source.is_here else self.source.url
        options: dict[str, Any] = {}
        if self.source.is_here:
            assert database is not None
            options = {"creator": database.open}
        elif url.drivername.partition("+")[0] in SESSION_SETTINGS:
            options = {"connect_args": {"connect_timeout": 10}}
        try:
            self._engine = sa.create_engine(url, poolclass=NullPool, **options)
        except (sa.exc.ArgumentError, ImportError):  # the dialect or its driver is not installed
            raise PermanentFailure(
                f"{self.source.name}: no driver for {url.drivername} is installed: install the Python package of that "
                "driver, or name a different one in the address, such as postgresql:// or mysql://"
            ) from None
        self.holds_locks = self._engine.dialect.name == "postgresql"
        try:
            self._connection = self._engine.connect()
            if self._engine.dialect.driver == "psycopg":
                read_all_times(self._connection.connection.driver_connection)  # type: ignore[arg-type]
            if self._engine.dialect.driver == "pymysql":
                read_zero_dates(self._connection.connection.driver_connection)
            if in_utc := SESSION_SETTINGS.get(self._engine.dialect.name):
                self._connection.exec_driver_sql(in_utc)
        except sa.exc.DBAPIError as error:
            raise self._failure(error) from None

    def _failure(self, error: sa.exc.DBAPIError) -> TransientFailure | PermanentFailure:
        if isinstance(error.orig, psycopg.errors.LockNotAvailable):
            return TableLocked(f"{self.source.name}: its table is locked: the next pull reads it")
        if self.source.is_here and isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            return PermanentFailure(
                f"{self.source.name}: {error.orig.diag.message_primary}: the administrator must run the statements "
                "that irt db roles --own-table SCHEMA.TABLE prints"
            )
        kind = (
            TransientFailure if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) else PermanentFailure
        )
        return kind(f"{self.source.name}: {self.source.location} cannot be read: {str(error.orig).strip()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._connection.close()
        self._engine.dispose()

    # -- columns -----------------------------------------------------------------------------------

    @cached_property
    def _column_types(self) -> dict[str, str]:
        """Type of every column of the table or the SELECT."""
        return self._describe(sa.select(sa.text("*")).select_from(self._relation([])).where(sa.false()))

    def _describe(self, statement: sa.Select[Any]) -> dict[str, str]:
        try:
            with self._connection.execute(statement) as result:
                described = {column[0]: self._type_name(column) for column in result.cursor.description}
            self._connection.commit()
        except sa.exc.DBAPIError as error:
            raise self._failure(error) from None
        return described

    def _type_name(self, column: Any) -> str:
        if self._engine.dialect.driver != "pymysql":
            return str(getattr(column, "type_display", column[1]))
        codes = vars(self._engine.dialect.dbapi.constants.FIELD_TYPE)  # type: ignore[union-attr]
        return next((name for name, code in codes.items() if code == column[1]), str(column[1]))

    def _relation(self, names: Sequence[str]) -> sa.FromClause:
        if self.source.table is not None:
            schema, _, table = self.source.table.rpartition(".")
            return sa.table(table, *map(sa.column, names), schema=schema or None)
        query = str(self.source.select).strip().rstrip(";").replace(":", r"\:")
        return sa.text(query).columns(*(sa.column(name) for name in names or ["*"])).subquery("pulled")

    @cached_property
    def binding(self) -> Binding:
        columns = [*self._column_types, *["revision"] * (self.source.revision is not None)]
        for name in (self.cursor.column, self.cursor.key):
            if name not in self._column_types:
                raise PermanentFailure(f"{self.source.name}: the cursor names {name!r}; columns: {', '.join(columns)}")
        if self.source.revision and "revision" in self._column_types:
            raise PermanentFailure(f"{self.source.name} has a column revision: leave `revision: cursor` out")
        return bind_attempts(self._rules, self.source.name, columns)

    @property
    def columns(self) -> dict[str, str]:
        """Types of the columns that the mapping and the cursor use."""
        rules = self.binding.mapping
        read = chain(*self.binding.columns.values(), rules.skip_rows_where, (rules.time.zone_column, rules.time.order))
        wanted = {*read, self.cursor.column, self.cursor.key}
        return {name: type_ for name, type_ in self._column_types.items() if name in wanted}

    @property
    def batch_columns(self) -> list[str]:
        """The columns of the batches."""
        return [*self.columns, *["revision"] * (self.source.revision is not None)]

    @property
    def zone(self) -> str | None:
        """The zone of times without a zone."""
        return self.source.zone or self.binding.mapping.time.zone

    @property
    def time_column(self) -> str:
        """The column with the time of the answer, by which days are read and counted."""
        names = self.binding.columns.get("completed_at", ())
        if len(names) != 1:
            raise PermanentFailure(f"{self.source.name}: the mapping names one column of times as completed_at")
        return names[0]

    @cached_property
    def _table(self) -> sa.FromClause:
        return self._relation([*self.columns])

    @property
    def _time(self) -> sa.ColumnElement[Any]:
        return self._table.c[self.time_column]

    # -- clocks ------------------------------------------------------------------------------------

    @cached_property
    def _sample(self) -> Sequence[Any]:
        """Time and cursor of any row that has both; (None, None) if there is no such row."""
        time, cursor = self._time, self._table.c[self.cursor.column]
        some = sa.select(time, cursor).where(time.is_not(None), cursor.is_not(None)).limit(1)
        found = [row for rows in self._fetch(some) for row in rows]  # read to the end, which frees the connection
        return found[0] if found else (None, None)

    @property
    def is_empty(self) -> bool:
        return self._sample[1] is None

    def _clock_of(self, name: str, value: Any, unit: str | None) -> Clock | None:
        subject = f"{self.source.name}: {name} ({self.columns[name]})"
        return clock_of(value, subject, unit, self.zone, in_utc=self.columns[name] == MARIADB_TIMESTAMP)

    @property
    def clock(self) -> Clock:
        """How `completed_at` is written. Raises PermanentFailure if it does not contain times."""
        name = self.time_column
        clock = self._clock_of(name, self._sample[0], self.binding.mapping.time.unit)
        if clock is None:
            raise PermanentFailure(
                f"{self.source.name}: {name} is {self.columns[name]}, and days are counted by it: it has to be a time "
                "(CAST it in a SELECT), or a number with time: {unit: s} or {unit: ms} in the mapping"
            )
        return clock

    @property
    def cursor_clock(self) -> Clock | None:
        """How the cursor is written, or None if it does not contain times."""
        clock = self._clock_of(self.cursor.column, self._sample[1], self.cursor.unit)
        if clock is None and self.source.revision:
            raise PermanentFailure(
                f"{self.source.name}: {self.cursor.column} cannot be the revision, because it contains no times; "
                "if it counts seconds or milliseconds, set unit: s or unit: ms"
            )
        return clock

    def _place(self, cursor: Any, key: Any) -> Place:
        if (clock := self.cursor_clock) is not None:
            cursor = clock.micros(cursor)
        return Place(_storable(cursor), _storable(key))

    def cursor_value(self, cursor: Any, *, early: bool = False) -> Any:
        """A place's cursor as the source writes it. `early`: use the earlier time if that local time occurs twice."""
        clock = self.cursor_clock
        if clock is None:
            return cursor
        if clock.unit is not None:
            return cursor * clock.unit // 1_000_000
        at = at_micros(cursor)
        return clock.not_after(at) if early else clock.to_source_time(at)

    # -- rows --------------------------------------------------------------------------------------

    def check_clocks(self) -> None:
        """Raise PermanentFailure if it is unknown how times are written. The source must not be empty."""
        _ = self.clock, self.cursor_clock

    @property
    def identity(self) -> list[str]:
        """The columns that identify a row in its present version."""
        return [self.cursor.column, self.cursor.key]

    def span(self) -> Span:
        """Span of the answers. The source must not be empty."""
        time, cursor = self._time, self._table.c[self.cursor.column]
        clock, where = self.clock, self._where(Part())
        statement = sa.select(sa.func.min(time), sa.func.max(time), sa.func.max(cursor)).where(*where)
        [[(first, last, greatest)]] = self._fetch(statement)
        if first is None:
            return Span(None, None, None)
        first, last = (at_micros(clock.micros(value)) for value in (first, last))
        return Span(first, last, self._place(greatest, None).cursor)

    def read(self, part: Part) -> Iterator[ReadRows]:
        """Yield the rows of a part, in the order of cursor and key.

        Each statement is limited, because some drivers read a result to its end even if it is abandoned. PostgreSQL's
        statement is read completely, which releases its lock, before its rows are yielded.
        """
        cursor, key = self._table.c[self.cursor.column], self._table.c[self.cursor.key]
        indices = [[*self.columns].index(name) for name in (self.cursor.column, self.cursor.key)]
        most, n = BATCH if self.holds_locks else BATCHES * BATCH, -1
        while n:
            ordered = sa.select(*self._table.c).where(*self._where(part)).order_by(cursor, key).limit(most)
            n = 0
            parts = self._fetch(ordered)
            for rows in [*parts] if self.holds_locks else parts:
                n += len(rows)
                part = replace(part, behind=self._place(*(rows[-1][index] for index in indices)))
                assert part.behind is not None
                yield ReadRows(self._arrow(rows), part.behind)
            n = n if n == most else 0

    def _where(self, part: Part) -> Iterator[sa.ColumnElement[bool]]:
        cursor, key = self._table.c[self.cursor.column], self._table.c[self.cursor.key]
        if part.behind is not None:
            value = self.cursor_value(part.behind.cursor, early=part.behind.key is None)
            yield cursor >= value
            if part.behind.key is not None:
                yield sa.or_(cursor > value, key > part.behind.key)
        if part.up_to is not None:
            yield cursor <= self.cursor_value(part.up_to.cursor)
        if start := max(filter(None, (part.start, self.source.start)), default=None):
            yield self._time >= self.clock.to_source_time(start)
        if part.end is not None:
            yield self._time < self.clock.to_source_time(part.end)

    def count_days(self, bounds: Sequence[datetime]) -> list[int]:
        """Number of rows of each day. `bounds`: the starts of the days, and the end of the last one."""
        time, clock = self._time, self.clock
        whens = [(time < clock.to_source_time(end), n) for n, end in enumerate(bounds[1:])]
        days = sa.select(sa.case(*whens).label("day")).where(*self._where(Part(start=bounds[0], end=bounds[-1])))
        numbered = days.subquery("days")
        counted = sa.select(numbered.c.day, sa.func.count()).group_by(numbered.c.day)
        found = {int(day): int(n) for rows in self._fetch(counted) for day, n in rows}
        return [found.get(n, 0) for n in range(len(bounds) - 1)]

    def existing_ids(self, ids: Sequence[str]) -> set[str]:
        """The ids that the source has on any day. Empty unless the mapping names a single column of ids."""
        names = self.binding.columns.get("attempt_id", ())
        if len(names) != 1:
            return set()
        column = self._table.c[names[0]]
        found = set[str]()
        for start in range(0, len(ids), 1000):
            some = self._typed_ids(names[0], ids[start : start + 1000])
            found |= {str(row[0]) for rows in self._fetch(sa.select(column).where(column.in_(some))) for row in rows}
        return found

    def _typed_ids(self, name: str, ids: Sequence[str]) -> list[Any]:
        """Ids in the type of a column, without ids that the type cannot hold."""
        if "INT" in self._column_types[name].upper() or "LONG" in self._column_types[name]:
            return [int(text) for text in ids if text.isdigit()]
        return [*ids]

    # -- the table as a whole ----------------------------------------------------------------------

    def read_text_table(self, known: Collection[str]) -> pa.Table:
        """All rows as text, with the columns that the mapping names or, without a mapping, the columns in `known`."""
        wanted = {*chain(*self._rules.columns.values())} if self._rules else {*known} & self._column_types.keys()
        if lacking := wanted - self._column_types.keys():
            there = ", ".join(self._column_types)
            raise PermanentFailure(f"{self.source.name}: no column is called {min(lacking)}; columns: {there}")
        names = [name for name in self._column_types if name in wanted]
        empty = pa.table({name: pa.array([], pa.string()) for name in names})
        read = self._fetch(sa.select(*self._relation(names).c))
        return pa.concat_tables([empty, *(self._texts(names, rows) for rows in read)])

    def _texts(self, names: Sequence[str], rows: Sequence[Any]) -> pa.Table:
        columns = zip(names, zip(*rows, strict=True), strict=True)
        return pa.table({name: as_text(_cells(values, self._column_types[name]), name) for name, values in columns})

    def count_rows_of(self, user_id: str) -> int:
        """The number of a learner's rows, by the column that the mapping names as user_id."""
        if self.source.kind == "learner":
            names: Sequence[str] = self._rules.columns["user_id"] if self._rules else ("user_id",)
        else:
            names = self.binding.columns["user_id"]
        if len(names) != 1 or names[0] not in self._column_types:
            raise PermanentFailure(f"{self.source.name}: the mapping names one column as user_id")
        column = self._relation(names).c[names[0]]
        count = sa.select(sa.func.count()).where(column.in_(self._typed_ids(names[0], [user_id])))
        try:
            return int(self._connection.execute(count).scalar_one())
        except sa.exc.DBAPIError as error:
            raise self._failure(error) from None

    def erase(self, user_id: str) -> None:
        """Run the DELETE of a learner. Raises PermanentFailure if it fails or leaves rows; then nothing is deleted."""
        assert self.source.erase is not None
        _ = self._column_types  # read before the DELETE, because reading them commits
        try:
            self._connection.exec_driver_sql(self.source.erase, {"user_id": user_id})
        except sa.exc.DBAPIError as error:
            raise PermanentFailure(
                f"{self.source.name}: {self.source.erase} fails: {str(error.orig).strip()}. Nothing was deleted: "
                "correct it in the file of sources, or erase the learner there, then here again"
            ) from None
        if n := self.count_rows_of(user_id):
            raise PermanentFailure(
                f"{self.source.name}: {self.source.erase} leaves {n:,} rows of the learner: nothing was deleted"
            )
        self._connection.commit()

    def _fetch(self, statement: sa.Select[Any]) -> Iterator[Sequence[Any]]:
        """Yield the rows in batches as the server sends them. The connection is busy until the last one."""
        try:
            streaming = self._connection.execution_options(stream_results=True, yield_per=BATCH)
            result = streaming.execute(statement)
            try:
                yield from result.partitions()
            finally:
                result.close()
            self._connection.commit()
        except sa.exc.DBAPIError as error:
            raise self._failure(error) from None

    def _arrow(self, rows: Sequence[Any]) -> pa.RecordBatch:
        columns = zip(self.columns.items(), zip(*rows, strict=True), strict=True)
        cells = {name: _cells(values, type_) for (name, type_), values in columns}
        if self.source.revision:
            written = cells[self.cursor.column]
            texts = written if pa.types.is_timestamp(written.type) else as_text(written, self.cursor.column)
            micros = parse_times(texts, TimeRules(unit=self.cursor.unit), self.zone, None)
            cells["revision"] = pa.array(micros, mask=micros == MISSING)
        return pa.record_batch(cells)


def _cells(values: Sequence[Any], type_name: str) -> pa.Array:
    """A column of Python values as Arrow. Values that are not plain, such as dictionaries, become text."""
    first = next((value for value in values if value is not None), None)
    if type_name == MARIADB_BIT:
        values = [None if value is None else int.from_bytes(value) for value in values]
    elif first is not None and not isinstance(first, PLAIN_TYPES):
        values = [*map(_text, values)]
    try:
        cells = pa.array(values, pa.string() if first is None else None)
    except (pa.ArrowException, OverflowError):
        cells = pa.array([*map(_text, values)], pa.string())
    if type_name == MARIADB_TIMESTAMP and pa.types.is_timestamp(cells.type):
        return cells.cast(pa.timestamp("us", "UTC"))
    return cells


def _text(value: Any) -> str | None:
    """A value as text; decimals without trailing zeros."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, bytes):
        return value.hex()
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _storable(value: Any) -> Any:
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return int(value)
    return value if isinstance(value, int | float | str | None) else str(value)


def at_micros(micros: int) -> datetime:
    """Time from microseconds since 1970, limited to the range that times of answers can have."""
    micros = min(max(micros, EARLIEST), LATEST)
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
