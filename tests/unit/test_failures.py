"""Classification of errors into transient failures, which are retried, and permanent failures."""

from __future__ import annotations

import ast
import errno
import re
import socket
from pathlib import Path

import psycopg
import psycopg2
import pytest
import sqlalchemy.exc
from dagster_postgres.utils import DagsterPostgresException
from psycopg import errors

import irt_assets
from resources.failures import PermanentFailure, TransientFailure, explain, is_transient


def connection_error() -> psycopg.Error:
    """Return psycopg's error for an address without a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = probe.getsockname()[1]
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(f"postgresql://u:p@127.0.0.1:{port}/d", connect_timeout=2)
    return caught.value


def test_refused_connection_is_transient() -> None:
    assert is_transient(connection_error())


@pytest.mark.parametrize(
    "error",
    [
        TransientFailure("R service busy"),
        errors.AdminShutdown("terminating connection due to administrator command"),
        errors.CrashShutdown("terminating connection because of crash of another server process"),
        errors.CannotConnectNow("the database system is starting up"),
        errors.ConnectionFailure("connection lost"),
        errors.DeadlockDetected("deadlock detected"),
        errors.LockNotAvailable("canceling statement due to lock timeout"),
        errors.ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction"),
        errors.SerializationFailure("could not serialize access"),
        errors.TooManyConnections("sorry, too many clients already"),
        psycopg.OperationalError("server closed the connection unexpectedly"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_temporary_error_is_transient_also_if_wrapped_by_sqlalchemy(error: Exception) -> None:
    assert is_transient(error)
    assert is_transient(sqlalchemy.exc.DBAPIError("SELECT 1", {}, error))


@pytest.mark.parametrize(
    "error",
    [
        PermanentFailure("no anchors"),
        errors.UniqueViolation("duplicate key value"),
        errors.UndefinedTable("relation does not exist"),
        errors.DiskFull("could not extend file: No space left on device"),
        errors.InvalidPassword("password authentication failed"),
        errors.QueryCanceled("canceling statement due to user request"),
        psycopg.ProgrammingError("syntax error"),
        ValueError("2 is not a score"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_error_that_requires_a_person_is_not_transient(error: BaseException) -> None:
    assert not is_transient(error)
    if isinstance(error, Exception):
        assert not is_transient(sqlalchemy.exc.DBAPIError("SELECT 1", {}, error))


@pytest.mark.parametrize(
    "words",
    [
        'connection to server at "db", port 5432 failed: FATAL:  password authentication failed for user "irt"',
        'FATAL:  Peer authentication failed for user "irt"',
        'FATAL:  no pg_hba.conf entry for host "10.0.0.7", user "irt", database "bank", no encryption',
        'FATAL:  database "bank" does not exist',
        'FATAL:  role "irt" does not exist',
        'FATAL:  role "irt" is not permitted to log in',
        'FATAL:  permission denied for database "bank"',
        "connection failed: fe_sendauth: no password supplied",
        "server does not support SSL, but SSL was required",
        "SSL error: certificate verify failed",
    ],
)
def test_refusal_by_the_server_is_not_transient(words: str) -> None:
    """libpq gives no SQLSTATE while it connects, so a wrong password was once retried for as long as a lost
    connection."""
    refusal = psycopg.OperationalError(words)
    assert not is_transient(refusal)
    assert not is_transient(sqlalchemy.exc.OperationalError("SELECT 1", {}, refusal))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.DiskFull("could not extend file"), "full, and the transaction under way was undone: make room"),
        (errors.DeadlockDetected("deadlock detected"), "waited for each other"),
        (errors.LockNotAvailable("canceling statement due to lock timeout"), "another transaction held a lock"),
        (errors.ReadOnlySqlTransaction("cannot execute INSERT"), "set DATABASE_URL to the primary"),
        (errors.UndefinedColumn("column x does not exist"), "irt db upgrade"),
        (errors.UndefinedTable("relation x does not exist"), "irt db upgrade"),
        (errors.TooManyConnections("too many clients"), "no free connection"),
        (psycopg.OperationalError("server closed the connection unexpectedly"), "does not answer"),
        (psycopg.OperationalError('password authentication failed for user "irt"'), "the database refuses"),
        (OSError(errno.ENOSPC, "No space left on device", "/data/x.part"), "the disk is full: /data/x.part"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_kind_of_error_is_explained_by_a_different_sentence(error: Exception, sentence: str) -> None:
    """A full disk and a deadlock were once explained by "the database does not answer"."""
    assert sentence in str(explain(error))
    assert ("does not answer" in str(explain(error))) == (sentence == "does not answer")
    if isinstance(error, psycopg.Error):
        assert explain(sqlalchemy.exc.DBAPIError("SELECT 1", {}, error)) == explain(error)


def test_errors_of_the_program_have_no_explanation() -> None:
    assert explain(KeyError("x")) is None
    assert explain(errors.UniqueViolation("duplicate key value")) is None
    assert explain(FileNotFoundError(2, "No such file")) is None


class ForeignDriverError(psycopg2.OperationalError):
    """An error of psycopg2, whose `pgcode` is None if the connection is lost."""

    pgcode: str | None = None


def test_errors_of_dagsters_storage_are_classified_like_errors_of_our_database() -> None:
    """Dagster uses psycopg2, whose lost connections were once not retried."""
    lost, refused_it, deadlock = (
        ForeignDriverError(words)
        for words in ("server closed the connection unexpectedly", 'database "bank" does not exist', "deadlock")
    )
    deadlock.pgcode = "40P01"
    wrapped = [sqlalchemy.exc.OperationalError("SELECT 1", {}, error) for error in (lost, refused_it, deadlock)]
    assert [is_transient(error) for error in wrapped] == [True, False, True]
    assert not is_transient(sqlalchemy.exc.ProgrammingError("SELECT 1", {}, psycopg2.ProgrammingError("no such table")))
    given_up = DagsterPostgresException("too many retries for DB connection")
    given_up.__cause__ = wrapped[0]
    assert is_transient(given_up)
    assert "does not answer: server closed the connection" in str(explain(given_up))


DEFINING = {"asset", "multi_asset", "asset_check", "multi_asset_check", "op", "observable_source_asset"}


def test_every_step_classifies_its_failures() -> None:
    """Other steps retry no failure, and show a traceback instead of a sentence."""
    steps, without = 0, []
    root = Path(irt_assets.__file__).parents[1]
    for file in (*root.glob("irt_assets/**/*.py"), *root.glob("jobs/**/*.py")):
        text = file.read_text("utf-8")
        if not re.search(rf"@.*\.(?:{'|'.join(DEFINING)})\(", text):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef):
                continue
            calls = [decorator.func for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
            if any(isinstance(call, ast.Attribute) and call.attr in DEFINING for call in calls):
                steps += 1
                if "classify_failures()" not in ast.unparse(node):
                    without.append(f"{file.relative_to(root)}: {node.name}")
    assert steps > 15
    assert not without
