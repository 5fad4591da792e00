"""The lock that allows one daemon per database: two would launch every run twice, and fail each other's runs.

It is a session lock of PostgreSQL, on a separate connection: the server releases it when the connection ends, and
notices within 25 s that a host is gone.
"""

import logging
import os
import socket
import time
from datetime import UTC, datetime

import psycopg

from resources.failures import PermanentFailure, TransientFailure, is_transient
from resources.postgres.database import LOCK, Database, lock_key

LOG = logging.getLogger(__name__)
TIMEOUT_S = 60.0
"""Default wait in seconds: longer than the server needs to notice that the other daemon's host is gone."""
PAUSE_S = 0.5
REFUSED_STATUS = 3
"""Exit status of a daemon that must not start: another daemon is running, or the files are elsewhere. Starting it again
does not help."""
KEY = lock_key("dagster's daemon")
MAX_NAME_LENGTH = 63
"""Length at which PostgreSQL truncates `application_name`."""
SERVER_NOTICES = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
"""Connection options with which the server notices after 25 s that a host is gone, and releases the lock."""


class DaemonLock:
    """The lock of the daemon of `database`. Creating the object does not connect."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.Connection | None = None

    def acquire(self, patience_s: float = TIMEOUT_S) -> None:
        """Wait for the lock, at most `patience_s` seconds.

        Raises PermanentFailure, which names the other daemon, if the lock is still taken, and TransientFailure if the
        database still does not respond.
        """
        deadline = time.monotonic() + patience_s
        announced = False
        while True:
            try:
                holder = self._try()
                if holder is None:
                    return
                refusal: Exception = PermanentFailure(
                    f"Another daemon works on this database: {holder}. Stop that daemon, or set DATABASE_URL to "
                    "another database."
                )
            except psycopg.OperationalError as error:
                if not is_transient(error):
                    raise
                refusal = TransientFailure(f"the database does not answer: {error}")
            if time.monotonic() >= deadline:
                self.release()
                raise refusal
            if not announced:
                LOG.warning("%s Waiting for up to %.0f s.", refusal, patience_s)
                announced = True
            time.sleep(PAUSE_S)

    def is_held(self) -> bool:
        """Whether the connection, and with it the lock, still exists."""
        try:
            if self._connection is None:
                return False
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def release(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _try(self) -> str | None:
        """Try to take the lock once. Returns None if this process holds it now, else the process that does."""
        self.release()
        name = f"irt daemon {os.getpid()} {socket.gethostname()}"[:MAX_NAME_LENGTH]
        self._connection = self._database.open(
            SERVER_NOTICES, autocommit=True, application_name=name, tcp_user_timeout="8000"
        )
        row = self._connection.execute(f"SELECT pg_try_advisory_lock({LOCK})", (KEY,)).fetchone()
        if row is not None and row[0]:
            return None
        holder = self._connection.execute(
            f"""SELECT a.application_name, a.backend_start FROM pg_locks l JOIN pg_stat_activity a USING (pid)
               WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (l.classid::bigint << 32 | l.objid::bigint) = {LOCK}""",
            (KEY,),
        ).fetchone()
        return _describe_holder(*holder) if holder else "it has just ended"


def _describe_holder(name: str, since: datetime | None) -> str:
    _, _, process = name.partition("irt daemon ")
    pid, _, host = process.partition(" ")
    start = f", since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if since else ""
    return f"process {pid} on host {host}{start}"
