"""Two daemons on one database, and one database's files on two machines: the second is refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from irt_assets.servers import daemon
from irt_assets.servers.stack import Stack
from irt_assets.servers.supervisor import Child
from resources.failures import TransientFailure
from resources.files.folder_claim import adopt_folder, open_store
from resources.postgres.daemon_lock import REFUSED, DaemonLock
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import rows
from tests.helpers.sentences import refusal
from tests.testbed.stack_harness import wait_for

KEY = "snapshots/2026-06/x.parquet"


@pytest.fixture
def first(database: Database) -> Iterator[DaemonLock]:
    """The lock of the daemon that was there before."""
    lock = DaemonLock(database)
    lock.acquire(0)
    yield lock
    lock.release()


def test_the_second_daemon_is_told_who_the_first_is(first: DaemonLock, database: Database) -> None:
    """Two would launch every run twice."""
    who = rf"process {os.getpid()} on host {socket.gethostname()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(who, refusal(DaemonLock(database).acquire, 0))
    assert first.is_held()


def test_another_database_of_the_same_server_has_a_daemon_of_its_own(first: DaemonLock, database: Database) -> None:
    elsewhere = Settings(database_url=SecretStr(f"{database.url.rpartition('/')[0]}/postgres"), _env_file=None)
    lock = DaemonLock(Database(elsewhere))
    lock.acquire(0)
    lock.release()


def test_the_second_daemon_waits_for_the_first_to_end(
    first: DaemonLock, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    second = DaemonLock(database)
    with ThreadPoolExecutor(1) as there:
        waits = there.submit(second.acquire, 60)
        wait_for("it waits", lambda: "Waiting for up to 60 s" in caplog.text)
        first.release()
        waits.result()
    assert second.is_held()
    second.release()


def test_a_lock_whose_connection_is_gone_is_lost_and_free_for_others(first: DaemonLock, database: Database) -> None:
    rows(
        database,
        """SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
           WHERE application_name LIKE 'irt daemon%%' AND datname = current_database()""",
    )
    assert not first.is_held()
    second = DaemonLock(database)
    second.acquire(10)
    second.release()


def test_the_server_notices_within_30_seconds_that_a_host_is_gone(first: DaemonLock) -> None:
    idle, interval, count = (
        int(first._connection.execute(f"SELECT current_setting('tcp_keepalives_{name}')").fetchone()[0])  # type: ignore[index]
        for name in ("idle", "interval", "count")
    )
    assert 0 < idle + interval * count <= 30
    assert idle + interval * count > daemon.LOOK_S + 8 + daemon.STOPS_WITHIN_S


def test_a_database_that_does_not_answer_is_waited_for(database: Database) -> None:
    nobody = Settings(database_url=SecretStr("postgresql://127.0.0.1:1/nothing"), _env_file=None)
    with pytest.raises(TransientFailure, match="does not answer"):
        DaemonLock(Database(nobody)).acquire(0)


def test_a_daemon_that_lost_its_lock_restarts_under_its_process_id(
    monkeypatch: pytest.MonkeyPatch, first: DaemonLock
) -> None:
    """Whoever has the lock by then works alone; systemd sees no death."""
    did: list[object] = []
    again = threading.Event()
    monkeypatch.setattr(daemon.os, "kill", lambda pid, number: did.append((pid, number)))
    monkeypatch.setattr(daemon, "restart_process", lambda: did.append("restart"))
    monkeypatch.setattr(daemon.time, "sleep", lambda _: first.release())
    daemon._watch(first, again)
    assert did == [(os.getpid(), signal.SIGTERM), "restart"]
    assert again.is_set()


def test_a_daemon_waits_for_a_database_that_is_away(database: Database) -> None:
    """Else its unit fails after five starts, and its pod is started again ever later."""

    class AwayAtFirst(DaemonLock):
        tried = 0

        def acquire(self, patience_s: float = 0.0) -> None:
            self.tried += 1
            if self.tried < 4:
                raise TransientFailure("the database does not answer")
            super().acquire(patience_s)

    lock = AwayAtFirst(database)
    daemon._acquire(lock, 0)
    assert lock.tried == 4
    assert lock.is_held()
    lock.release()


def test_a_daemon_that_is_refused_ends_and_so_does_what_would_start_it_again(
    first: DaemonLock, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATABASE_URL", Database(settings).url)
    monkeypatch.setenv("IRT_HOME", str(settings.irt_home))
    umask = os.umask(0o022)
    with pytest.raises(SystemExit) as ended:
        daemon.main(patience_s=0)
    os.umask(umask)
    assert ended.value.code == REFUSED
    assert f"process {os.getpid()}" in caplog.text

    stack = Stack(settings, Database(settings), patience_s=0)
    assert f"process {os.getpid()}" in refusal(stack.start)
    stack.logs.mkdir(parents=True)
    (stack.logs / "daemon.log").write_text("Another daemon works on this database\n")
    gone = subprocess.Popen(["sh", "-c", f"exit {REFUSED}"])
    gone.wait()
    stack.supervisor.children["daemon"] = Child("daemon", [], stack.logs / "daemon.log", gone)
    assert "Another daemon works" in refusal(stack.supervise)


# -- the folder of the files -------------------------------------------------------------------------


def test_a_second_machines_folder_is_refused_and_the_first_is_named(settings: Settings, database: Database) -> None:
    open_store(settings, database).put(KEY, b"1")
    assert open_store(settings, database).get(KEY) == b"1"
    second = settings.model_copy(update={"irt_home": settings.irt_home / "second"})
    where = f"{settings.irt_home / 'objects'} on host {socket.gethostname()}"
    assert re.search(where, refusal(open_store, second, database))
    assert not (second.irt_home / "objects").exists()


def test_servers_that_start_together_on_a_new_database_agree_on_its_folder(
    settings: Settings, database: Database
) -> None:
    """The folder's file was looked for before the database, and what another process had made between was refused."""
    with ThreadPoolExecutor(8) as together:
        stores = [together.submit(open_store, settings, database) for _ in range(8)]
    for store in stores:
        store.result().put(KEY, b"1")


def test_a_folder_that_moves_stays_the_databases(settings: Settings, database: Database) -> None:
    open_store(settings, database).put(KEY, b"1")
    moved = settings.model_copy(update={"irt_home": settings.irt_home / "moved"})
    shutil.copytree(settings.irt_home / "objects", moved.irt_home / "objects")
    assert open_store(moved, database).get(KEY) == b"1"


def test_another_folder_can_be_adopted(settings: Settings, database: Database) -> None:
    open_store(settings, database)
    second = settings.model_copy(update={"irt_home": settings.irt_home / "second"})
    adopt_folder(second, database)
    open_store(second, database)
    assert "adopt-folder" in refusal(open_store, settings, database)


def test_a_bucket_is_no_machines(settings: Settings, database: Database) -> None:
    shared = settings.model_copy(update={"s3_bucket": "bank"})
    open_store(shared, database)
    assert rows(database, "SELECT * FROM object_folder") == []
    assert "S3_BUCKET is set" in refusal(adopt_folder, shared, database)


def test_the_id_of_a_folder_is_no_file_of_the_store(settings: Settings, database: Database, tmp_path: Path) -> None:
    assert list(open_store(settings, database).list("snapshots")) == []
    with psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT count(*) FROM object_folder").fetchone() == (1,)
