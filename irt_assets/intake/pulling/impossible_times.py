"""Times of PostgreSQL and MariaDB for which Python has no datetime.

These are `infinity` and years before 1 or after 9999, at which psycopg would refuse the whole batch, and times without
a valid day, such as MariaDB's zero date, which PyMySQL returns as text. They are read as the first or the last
datetime, at which nobody has answered, so that only their rows are refused.
"""

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader
from pymysql.connections import Connection
from pymysql.constants import FIELD_TYPE
from pymysql.converters import convert_date, convert_datetime

FIRST, LAST = datetime.min, datetime.max  # noqa: DTZ901 - for columns without a zone


def read_all_times(connection: psycopg.Connection) -> None:
    """Let a PostgreSQL connection read all times."""
    for name, loader in (("timestamptz", _Timestamptz), ("timestamp", _Timestamp), ("date", _Date)):
        connection.adapters.register_loader(name, loader)


class _AllTimes(Loader):
    """Mixin of a loader that reads other times as `first` or `last`."""

    first: Any = FIRST
    last: Any = LAST

    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)  # type: ignore[safe-super]
        except psycopg.DataError:
            text = bytes(data)
            return self.first if text.startswith(b"-") or text.endswith(b"BC") else self.last


class _Timestamptz(_AllTimes, TimestamptzLoader):
    first, last = FIRST.replace(tzinfo=UTC), LAST.replace(tzinfo=UTC)


class _Timestamp(_AllTimes, TimestampLoader):
    pass


class _Date(_AllTimes, DateLoader):
    first, last = FIRST.date(), LAST.date()


def read_zero_dates(connection: Connection) -> None:
    """Let a MariaDB connection read times without a valid day."""
    connection.decoders |= {FIELD_TYPE.DATETIME: _datetime, FIELD_TYPE.TIMESTAMP: _datetime, FIELD_TYPE.DATE: _date}


def _datetime(text: str) -> datetime:
    read = convert_datetime(text)
    return read if isinstance(read, datetime) else FIRST


def _date(text: str) -> Any:
    read = convert_date(text)
    return FIRST.date() if isinstance(read, str) else read
