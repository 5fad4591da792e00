"""Failures told apart: permanent ones need a person, transient ones need only time.

What belongs here: the two base types and `is_transient`. Who retries is decided where work is run.
"""

from __future__ import annotations

import re

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


REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|is not permitted to log in"
    r"|(role|database) \".*\" does not exist|permission denied for database|does not support SSL"
    r"|certificate verify failed|certificate is not trusted|invalid connection option"
)
"""A server that answered and will answer the same. libpq gives no SQLSTATE for it, and says it in these words."""


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: lost connections, restarts, deadlocks and serialisation conflicts."""
    lost: tuple[type[BaseException], ...] = (psycopg.OperationalError,)
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        # Dagster's storage speaks psycopg2, whose errors are known by what SQLAlchemy makes of them.
        if isinstance(error, sqlalchemy.exc.OperationalError | sqlalchemy.exc.InterfaceError):
            lost = (*lost, type(error.orig))
        error = error.orig
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state is not None:
        return state in MENDED_BY_TIME or state.startswith(CONNECTION_EXCEPTIONS)
    if isinstance(error, lost):
        return REFUSED.search(str(error)) is None
    return isinstance(error, TransientFailure)
