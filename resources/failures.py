"""Failures told apart: permanent ones need a person, transient ones need only time.

What belongs here: the two base types and `is_transient`. Who retries is decided where work is run.
"""

from __future__ import annotations

import psycopg
import sqlalchemy.exc


class PermanentFailure(Exception):
    """The same input fails the same way again. The message says what happened and the way out."""


class TransientFailure(Exception):
    """The outside world was briefly unable to answer; trying again later may work."""


CONNECTION_EXCEPTIONS = "08"  # a class of SQLSTATEs; psycopg's types for them have no common base
MENDED_BY_TIME = {
    "40001",  # serialization failure
    "40P01",  # deadlock detected
    "53300",  # too many connections
    "55P03",  # lock not available
    "57P01",  # admin shutdown
    "57P02",  # crash shutdown
    "57P03",  # cannot connect now
}


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: lost connections, restarts, deadlocks and serialisation conflicts."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        error = error.orig
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        return error.sqlstate in MENDED_BY_TIME or error.sqlstate.startswith(CONNECTION_EXCEPTIONS)
    # libpq gives no SQLSTATE where no server answered, or where the connection was cut.
    return isinstance(error, TransientFailure | psycopg.OperationalError)
