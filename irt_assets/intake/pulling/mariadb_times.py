"""Times that MariaDB stores without a valid day, such as the zero date: PyMySQL returns them as text.

They are read as the first datetime, at which nobody has answered, so that only their rows are refused.
"""

from datetime import datetime
from typing import Any

from pymysql.connections import Connection
from pymysql.constants import FIELD_TYPE
from pymysql.converters import convert_date, convert_datetime

FIRST = datetime.min  # noqa: DTZ901 - for columns without a zone


def read_zero_dates(connection: Connection) -> None:
    connection.decoders |= {FIELD_TYPE.DATETIME: _datetime, FIELD_TYPE.TIMESTAMP: _datetime, FIELD_TYPE.DATE: _date}


def _datetime(text: str) -> datetime:
    read = convert_datetime(text)
    return read if isinstance(read, datetime) else FIRST


def _date(text: str) -> Any:
    read = convert_date(text)
    return FIRST.date() if isinstance(read, str) else read
