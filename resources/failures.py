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


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help: lost connections, restarts, deadlocks and serialisation conflicts."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        error = error.orig
    return isinstance(
        error,
        TransientFailure
        | psycopg.errors.AdminShutdown
        | psycopg.errors.CrashShutdown
        | psycopg.errors.CannotConnectNow
        | psycopg.errors.ConnectionException
        | psycopg.errors.DeadlockDetected
        | psycopg.errors.LockNotAvailable
        | psycopg.errors.SerializationFailure
        | psycopg.errors.TooManyConnections,
    ) or (isinstance(error, psycopg.OperationalError) and error.sqlstate is None)
