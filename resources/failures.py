"""Permanent failures, which need a person, and transient failures, which need only time.

This module contains both base types, `is_transient`, and the meaning of errors of the database and the disk in words.
The code that runs the work decides on retries.
"""

import errno
import re
import sys


class PermanentFailure(Exception):
    """The same input will fail in the same way again. The message contains the reason and the remedy."""


class TransientFailure(Exception):
    """Another system was briefly unavailable; trying again later may work."""


CONNECTION_EXCEPTIONS = "08"  # class of SQLSTATEs; psycopg's types for them have no common base
TRANSIENT_CODES = {
    "25006",  # read-only transaction
    "40001",  # serialization failure
    "40P01",  # deadlock detected
    "53300",  # too many connections
    "55P03",  # lock not available
    "57P01",  # admin shutdown
    "57P02",  # crash shutdown
    "57P03",  # cannot connect now
}


REFUSALS = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|is not permitted to log in"
    r"|(role|database) \".*\" does not exist|permission denied for database|does not support SSL"
    r"|certificate verify failed|certificate is not trusted|invalid connection option"
)
"""libpq's messages if a server refuses a connection and will do so again. They have no SQLSTATE."""


SENTENCES = {
    "25006": "the database is read-only at the moment, as a standby before it takes over, or a database with "
    "default_transaction_read_only; nothing was stored: try again, or set DATABASE_URL to the primary",
    "40001": "two transactions changed the same rows, and the database ended this one; nothing was stored: try again",
    "40P01": "two transactions waited for each other, and the database ended this one; nothing was stored: try again",
    "42703": "the schema in the database does not fit this code: run `irt db upgrade`",
    "42P01": "the database has no schema yet, or one that does not fit this code: run `irt db upgrade`",
    "53100": "the disk of the database is full, and the transaction under way was undone: make room there, then try "
    "again",
    "53300": "the database has no free connection: try again, or raise its max_connections",
    "55P03": "another transaction held a lock for longer than the database lets this one wait; nothing was stored: try "
    "again when it has ended (`irt runs list`)",
    "57014": "the database ended a statement that took too long, or someone cancelled it; nothing was stored",
}


def root_cause(error: BaseException) -> str:
    """Text of the innermost cause of a connection error, the only informative one: refused, reset, unknown host."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return str(error) or type(error).__name__


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: lost connections, restarts, failovers, deadlocks, serialisation conflicts."""
    error, of_connection = _driver_error(error)
    state = _sqlstate(error)
    if state is not None:
        return state in TRANSIENT_CODES or state.startswith(CONNECTION_EXCEPTIONS)
    if of_connection:
        return REFUSALS.search(str(error)) is None
    return isinstance(_spark_failure(error) or error, TransientFailure)


def explain(error: BaseException) -> str | None:
    """The meaning of an error of the database, of Spark or of a full disk, with the remedy. None for other errors."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{f': {error.filename}' if error.filename else ''}: make room, then try again"
    driver_error, of_connection = _driver_error(error)
    state = _sqlstate(driver_error)
    message = str(driver_error).strip()
    if state in SENTENCES:
        return f"{SENTENCES[state]}\n{message}"
    if not of_connection:
        return str(failure) if (failure := _spark_failure(error)) else None
    verb = "does not answer" if is_transient(error) else "refuses"
    return f"the database {verb}: {message}\n`irt doctor` shows which database is in use"


def _driver_error(error: BaseException) -> tuple[BaseException, bool]:
    """The driver's error, which SQLAlchemy and Dagster's storage wrap, and whether it is a connection error."""
    import psycopg  # here, because every command imports this module and `irt --help` must be fast
    import sqlalchemy.exc

    if (storage := sys.modules.get("dagster_postgres.utils")) and isinstance(error, storage.DagsterPostgresException):
        error = error.__cause__ or error  # the error after which it gave up
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        error = error.orig
    kinds: tuple[type[BaseException], ...] = (psycopg.OperationalError,)
    if psycopg2 := sys.modules.get("psycopg2"):
        kinds += (psycopg2.OperationalError, psycopg2.InterfaceError)
    return error, isinstance(error, kinds)


def _spark_failure(error: BaseException) -> PermanentFailure | TransientFailure | None:
    spark_failures = sys.modules.get("resources.cluster.spark_failures")  # loaded if Spark is used
    return spark_failures.explain_spark(error) if spark_failures else None


def _sqlstate(error: BaseException) -> str | None:
    """SQLSTATE of an error: `sqlstate` in psycopg, `pgcode` in psycopg2."""
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
