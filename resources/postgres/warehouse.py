"""Bulk reads and writes of PostgreSQL: a query to a frame, a frame to rows of a table.

What does not belong here: queries (see the packages of `irt_assets`), and tables (see the registry).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import psycopg
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from psycopg import sql
from psycopg.pq import ExecStatus
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from resources.failures import PermanentFailure
from resources.postgres.database import advisory_lock

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pandera

CHUNK_BYTES = 2**25  # bytes of CSV parsed at once
ROWS_PER_WRITE = 50_000  # rows written as CSV at once
UTC_TIME = pa.timestamp("us", "UTC")
JSON_OIDS = (114, 3802)
BYTEA_OID = 17
ARROW_BY_OID = {
    16: pa.bool_(),
    20: pa.int64(),
    21: pa.int64(),
    23: pa.int64(),
    700: pa.float64(),
    701: pa.float64(),
    1082: pa.date32(),
    1114: pa.timestamp("us"),
    1184: UTC_TIME,
    1700: pa.float64(),
}

Query = str | sql.Composable
Params = Sequence[Any] | Mapping[str, Any]


def read_arrow(connection: psycopg.Connection, query: Query, params: Params = ()) -> pa.Table:
    """The rows of `query`, a SELECT whose `%s` or `%(name)s` are replaced by `params`.

    Integers are int64, numeric is float64, timestamptz is in UTC to the microsecond, json(b) and all types without an
    entry in ARROW_BY_OID are text. NULL is null and never an empty text.
    """
    table, _ = _read(connection, query, params)
    return table


def read_parts(connection: psycopg.Connection, query: Query, params: Params = ()) -> Iterator[pa.Table]:
    """Like `read_arrow`, but yield tables of some tens of MB, for rows that do not fit in memory; bytea is text.

    The connection must not be used otherwise until all tables have been read.
    """
    yield from _parts(connection, query, params)[1]


def read_frame(connection: psycopg.Connection, query: Query, params: Params = ()) -> pd.DataFrame:
    """Like `read_arrow`, but as a pandas frame.

    Its types are Int64 and boolean (with <NA>), float64 and text (with NaN), datetime64[us, UTC] and `datetime.date`.
    json(b) becomes dicts and lists; select `column::text` to get text.
    """
    import pandas as pd  # here, because it takes half a second

    table, json_columns = _read(connection, query, params)
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame = table.to_pandas(types_mapper=nullable.get)
    for name in json_columns:
        values = [None if text is None else json.loads(text) for text in table[name].to_pylist()]
        frame[name] = pd.Series(values, dtype=object, index=frame.index)
    return frame


def append(connection: psycopg.Connection, table: sa.Table, frame: pd.DataFrame) -> int:
    """COPY the rows of `frame` into `table`, in the caller's transaction. Returns the number of rows.

    Columns that are nullable or have a default may be missing. dict and list are written to jsonb; NaN becomes NULL.
    Raises PermanentFailure with all problems of the frame, before anything is written.
    """
    return copy_arrow(connection, table.name, _check_frame(table, frame))


def append_parts(connection: psycopg.Connection, table: sa.Table, frames: Iterable[pd.DataFrame]) -> int:
    """Like `append`, in one COPY of frames that have the same columns and need not fit in memory together.

    `frames` must not use the connection after the first frame, because the COPY is running.
    """
    return _copy_parts(connection, table.name, (_check_frame(table, frame) for frame in frames if len(frame)))


def copy_arrow(connection: psycopg.Connection, table: str, rows: pa.Table) -> int:
    """COPY the rows of an Arrow table into the columns of the same names, in the caller's transaction and unchecked.

    Returns the number of rows.
    """
    return _copy_parts(connection, table, iter([rows] if len(rows) else []))


def replace(connection: psycopg.Connection, table: sa.Table, owned: Mapping[str, object], frame: pd.DataFrame) -> int:
    """Replace the rows whose columns equal `owned` (None: NULL) by `frame`, in one transaction.

    Other writers of the same rows wait until the caller's transaction ends. Returns the number of new rows. Raises
    PermanentFailure, before anything is written, if the frame has problems or contains rows that are not `owned`.
    """
    if not owned:
        raise ValueError(f"replace in {table.name} needs the values of the rows to be replaced")
    rows = _check_frame(table, frame, owned)
    lock_rows(connection, table, owned)
    condition = sql.SQL(" AND ").join(
        sql.SQL("{} IS NULL").format(sql.Identifier(name))
        if value is None
        else sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
        for name, value in owned.items()
    )
    connection.execute(sql.SQL("DELETE FROM {} WHERE {}").format(sql.Identifier(table.name), condition))
    return copy_arrow(connection, table.name, rows)


def lock_rows(connection: psycopg.Connection, table: sa.Table, key_values: Mapping[str, object]) -> None:
    """Make other writers of these rows wait until the caller's transaction ends.

    This is for callers that read the rows before they replace them.
    """
    advisory_lock(connection, table.name, *(f"{name}={value}" for name, value in sorted(key_values.items())))


def frame_schema(table: sa.Table) -> pandera.DataFrameSchema:
    """The registry's requirements on a frame for `table`: NULLs, ranges, and the columns.

    Columns that the server computes must be missing.
    """
    import pandera.pandas as pandera  # here, because it takes half a second

    columns = {}
    for column in table.columns:
        if column.computed is not None:
            continue
        checks = []
        if (low := column.info.get("ge")) is not None:
            checks.append(pandera.Check.ge(low))
        if (high := column.info.get("le")) is not None:
            checks.append(pandera.Check.le(high))
        columns[column.name] = pandera.Column(
            checks=checks,
            nullable=bool(column.nullable),
            required=not (column.nullable or column.server_default is not None or column.identity is not None),
        )
    return pandera.DataFrameSchema(columns, strict=True, name=table.name)


# -- reading ---------------------------------------------------------------------------------------


def _read(connection: psycopg.Connection, query: Query, params: Params) -> tuple[pa.Table, list[str]]:
    description, parts = _parts(connection, query, params)
    table = pa.concat_tables(parts)
    for column in description:
        if column.type_code == BYTEA_OID:
            values = [None if value is None else bytes.fromhex(value[2:]) for value in table[column.name].to_pylist()]
            position = table.column_names.index(column.name)
            table = table.set_column(position, column.name, pa.array(values, pa.binary()))
    return table, [column.name for column in description if column.type_code in JSON_OIDS]


def _parts(
    connection: psycopg.Connection, query: Query, params: Params
) -> tuple[Sequence[psycopg.Column], Iterator[pa.Table]]:
    """The columns of a query, and an iterator of Arrow tables of about CHUNK_BYTES of CSV; the first table is empty."""
    text = psycopg.ClientCursor(connection).mogrify(query, params or None)  # type: ignore[arg-type]
    # This returns no row and only plans the query. It also opens the transaction of the raw COPY below.
    described = connection.execute(f"SELECT * FROM ({text}\n) AS described LIMIT 0")
    description = described.description or []
    names = [column.name for column in description]
    if len(set(names)) < len(names):
        raise ValueError(f"the query gives two columns one name: {names}")
    schema = pa.schema([(column.name, ARROW_BY_OID.get(column.type_code, pa.string())) for column in description])
    read = pa.csv.ReadOptions(column_names=names, block_size=2 * CHUNK_BYTES)
    parse = pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)
    convert = pa.csv.ConvertOptions(
        column_types=schema,
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
        true_values=["t"],
        false_values=["f"],
    )

    def parts() -> Iterator[pa.Table]:
        yield schema.empty_table()
        for chunk in _copy_out(connection, f"COPY ({text}\n) TO STDOUT (FORMAT csv)"):
            yield pa.csv.read_csv(pa.BufferReader(chunk), read, parse, convert)

    return description, parts()


def _copy_out(connection: psycopg.Connection, statement: str) -> Iterator[bytearray]:
    """Yield the output of COPY TO STDOUT in pieces of complete rows.

    It calls libpq directly: psycopg's loop takes five times as long (3.5 s instead of 0.6 s per million rows).
    """
    libpq, encoding = connection.pgconn, connection.info.encoding
    started = libpq.exec_(statement.encode(encoding))
    if started.status != ExecStatus.COPY_OUT:
        raise psycopg.errors.error_from_result(started, encoding=encoding)
    chunk = bytearray()
    size = 0
    try:
        while size >= 0:
            size, row = libpq.get_copy_data(0)
            if size > 0:
                chunk += row
            if len(chunk) >= CHUNK_BYTES:
                yield chunk
                chunk = bytearray()
    finally:
        if size >= 0:  # the reader has stopped early: make the connection usable again
            connection.cancel()
            while libpq.get_copy_data(0)[0] >= 0:
                pass
        results = list(iter(libpq.get_result, None))
    for result in results:
        if result is not None and result.status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(result, encoding=encoding)
    if chunk:
        yield chunk


# -- writing ---------------------------------------------------------------------------------------


def _copy_parts(connection: psycopg.Connection, table: str, parts: Iterator[pa.Table]) -> int:
    first = next(parts, None)  # before the COPY begins: it may be read by the same connection
    if first is None:
        return 0
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, first.column_names))
    )
    written = 0
    with connection.cursor().copy(statement) as copy:
        for rows in chain([first], parts):
            for start in range(0, len(rows), ROWS_PER_WRITE):
                part = io.BytesIO()
                pa.csv.write_csv(rows.slice(start, ROWS_PER_WRITE), part, pa.csv.WriteOptions(include_header=False))
                copy.write(part.getvalue())
            written += len(rows)
    return written


def _check_frame(table: sa.Table, frame: pd.DataFrame, owned: Mapping[str, object] | None = None) -> pa.Table:
    """The frame as Arrow columns of the table's types. Raises PermanentFailure with all problems of the frame."""
    if frame.empty:
        return pa.table({})
    problems = _schema_problems(table, frame)
    columns = {}
    for column in table.columns:
        if column.name not in frame.columns:
            continue
        try:
            columns[column.name] = _as_arrow(column, frame[column.name])
        except (ValueError, TypeError, OverflowError) as error:  # Arrow's own errors are ValueErrors
            problems.append(f"column {column.name}: {str(error).splitlines()[0]}")
    for name, value in (owned or {}).items():
        if name not in frame.columns:
            problems.append(f"column {name} is missing: its value must be {value!r} in every row")
            continue
        is_owned = frame[name].isna() if value is None else (frame[name] == value).fillna(value=False)
        if not is_owned.all():
            foreign = frame.loc[~is_owned, name]
            problems.append(f"column {name}: {len(foreign)} rows are not {value!r}, e.g. {foreign.iloc[0]!r}")
    if problems:
        lines = "\n- ".join(problems)
        raise PermanentFailure(
            f"{len(frame)} rows do not fit table {table.name}; nothing was written:\n- {lines}\n"
            "The columns are described in resources/tables.py."
        )
    return pa.table(columns)


def _schema_problems(table: sa.Table, frame: pd.DataFrame) -> list[str]:
    from pandera.errors import SchemaErrors  # as in `frame_schema`

    try:
        frame_schema(table).validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
    else:
        return []
    problems = []
    for (column, check), group in cases.groupby(["column", "check"], sort=False, dropna=False):
        first = group.iloc[0]
        match check:
            case "column_in_dataframe":
                problems += [f"column {name} is missing" for name in group["failure_case"]]
            case "column_in_schema":
                problems += [f"column {name} is not in the table" for name in group["failure_case"]]
            case "not_nullable":
                problems.append(f"column {column}: {len(group)} rows have no value, the first is row {first['index']}")
            case _:
                value, row = first["failure_case"], first["index"]
                problems.append(f"column {column}: {len(group)} rows fail {check}, e.g. {value!r} in row {row}")
    return problems


def _as_arrow(column: sa.Column[Any], values: pd.Series) -> pa.Array:
    """The values in the column's type. Raises TypeError for text in a numeric column, or a time without a zone."""
    if isinstance(column.type, JSONB):
        return pa.array([None if _is_missing(value) else _json(value) for value in values], pa.string())
    array = pa.Array.from_pandas(values)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    stored, is_type = array.type, pa.types
    if is_type.is_dictionary(stored):
        array = array.dictionary_decode()
        stored = array.type
    text = is_type.is_string(stored) or is_type.is_large_string(stored)
    number = is_type.is_integer(stored) or is_type.is_floating(stored)
    accepted, arrow_type = {
        sa.Text: (text, pa.string()),
        sa.SmallInteger: (number, pa.int16()),
        sa.Integer: (number, pa.int32()),
        sa.BigInteger: (number, pa.int64()),
        sa.Double: (number, pa.float64()),
        sa.Boolean: (is_type.is_boolean(stored), pa.bool_()),
        sa.Date: (is_type.is_date(stored) or is_type.is_timestamp(stored), pa.date32()),
        TIMESTAMP: (is_type.is_timestamp(stored) and stored.tz is not None, UTC_TIME),
        sa.LargeBinary: (is_type.is_binary(stored), pa.binary()),
    }[type(column.type)]
    if not accepted and not is_type.is_null(stored):
        zone = ", with its zone" if arrow_type == UTC_TIME else ""
        raise TypeError(f"holds {'text' if text else stored}, expected {column.type}{zone}")
    if arrow_type == pa.binary():
        return pa.array([None if value is None else "\\x" + value.hex() for value in array.to_pylist()], pa.string())
    return array.cast(arrow_type)


def _is_missing(value: object) -> bool:
    import pandas as pd  # here, because it takes half a second

    return value is None or value is pd.NA or (isinstance(value, float) and value != value)


def _json(value: object) -> str:
    """Strict JSON, as jsonb requires. Raises ValueError if the value contains NaN or infinity."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    """Convert NumPy's scalars and arrays to Python's. Raises TypeError for other types."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} {value!r} is not JSON")
