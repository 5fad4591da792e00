"""Times of PostgreSQL for which Python has no datetime: `infinity`, and years before 1 or after 9999.

They are read as the first or the last datetime, at which nobody has answered, so that only their rows are refused;
psycopg would refuse the whole batch.
"""

from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.abc import Buffer
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader

FIRST, LAST = datetime.min, datetime.max  # noqa: DTZ901 - for columns without a zone


def read_all_times(connection: psycopg.Connection) -> None:
    for name, loader in (("timestamptz", _Timestamptz), ("timestamp", _Timestamp), ("date", _Date)):
        connection.adapters.register_loader(name, loader)


def _beyond(data: Buffer) -> datetime:
    text = bytes(data)
    return FIRST if text.startswith(b"-") or text.endswith(b"BC") else LAST


class _Timestamptz(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except psycopg.DataError:
            return _beyond(data).replace(tzinfo=UTC)


class _Timestamp(TimestampLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except psycopg.DataError:
            return _beyond(data)


class _Date(DateLoader):
    def load(self, data: Buffer) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return _beyond(data).date()
