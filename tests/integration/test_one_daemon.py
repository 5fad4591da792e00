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
from resources.postgres.daemon_lock import REFUSED_STATUS, DaemonLock
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import rows
from tests.helpers.sentences import refusal
from tests.testbed.stack_harness import wait_for

KEY = "snapshots/2026-06/x.parquet"


@pytest.fixture
def first(database: Database) -> Iterator[DaemonLock]:
    """The lock of the first daemon."""
    lock = DaemonLock(database)
    lock.acquire(0)
    yield lock
    lock.release()


def test_second_daemon_is_refused_and_the_first_is_named(first: DaemonLock, database: Database) -> None:
    """Two daemons would launch every run twice."""
    who = rf"process {os.getpid()} on host {socket.gethostname()}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.search(who, refusal(DaemonLock(database).acquire, 0))
    assert first.is_held()


def test_second_database_of_the_same_server_has_its_own_daemon(first: DaemonLock, database: Database) -> None:
    elsewhere = Settings(database_url=SecretStr(f"{database.url.rpartition('/')[0]}/postgres"), _env_file=None)
    lock = DaemonLock(Database(elsewhere))
    lock.acquire(0)
    lock.release()


def test_the_second_daemon_waits_for_the_first_to_end(
    first: DaemonLock, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    second = DaemonLock(database)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(second.acquire, 60)
        wait_for("it waits", lambda: "Waiting for up to 60 s" in caplog.text)
        first.release()
        waits.result()
    assert second.is_held()
    second.release()


def test_lock_is_lost_and_available_again_if_its_connection_ends(first: DaemonLock, database: Database) -> None:
    rows(
        database,
        """SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity
           WHERE application_name LIKE 'irt daemon%%' AND datname = current_database()""",
    )
    assert not first.is_held()
    second = DaemonLock(database)
    second.acquire(10)
    second.release()


def test_server_detects_a_vanished_host_within_30_seconds(first: DaemonLock) -> None:
    idle, interval, count = (
        int(first._connection.execute(f"SELECT current_setting('tcp_keepalives_{name}')").fetchone()[0])  # type: ignore[index]
        for name in ("idle", "interval", "count")
    )
    assert 0 < idle + interval * count <= 30
    assert idle + interval * count > daemon.CHECK_INTERVAL_S + 8 + daemon.STOP_TIMEOUT_S


def test_lock_on_an_unreachable_database_fails_transiently(database: Database) -> None:
    nobody = Settings(database_url=SecretStr("postgresql://127.0.0.1:1/nothing"), _env_file=None)
    with pytest.raises(TransientFailure, match="does not answer"):
        DaemonLock(Database(nobody)).acquire(0)


def test_daemon_that_lost_its_lock_restarts_under_its_process_id(
    monkeypatch: pytest.MonkeyPatch, first: DaemonLock
) -> None:
    """The holder of the lock then works alone, and systemd does not record a death."""
    did: list[object] = []
    again = threading.Event()
    monkeypatch.setattr(daemon.os, "kill", lambda pid, number: did.append((pid, number)))
    monkeypatch.setattr(daemon, "restart_process", lambda: did.append("restart"))
    monkeypatch.setattr(daemon.time, "sleep", lambda _: first.release())
    daemon._watch(first, again)
    assert did == [(os.getpid(), signal.SIGTERM), "restart"]
    assert again.is_set()


def test_daemon_waits_for_an_unreachable_database(database: Database) -> None:
    """Otherwise its unit fails after five starts, and the restarts of its pod are delayed more and more."""

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


def test_refused_daemon_exits_and_its_supervisor_does_not_restart_the_daemon(
    first: DaemonLock, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATABASE_URL", Database(settings).url)
    monkeypatch.setenv("IRT_HOME", str(settings.irt_home))
    umask = os.umask(0o022)
    with pytest.raises(SystemExit) as ended:
        daemon.main(patience_s=0)
    os.umask(umask)
    assert ended.value.code == REFUSED_STATUS
    assert f"process {os.getpid()}" in caplog.text

    stack = Stack(settings, Database(settings), patience_s=0)
    assert f"process {os.getpid()}" in refusal(stack.start)
    stack.logs.mkdir(parents=True)
    (stack.logs / "daemon.log").write_text("Another daemon works on this database\n")
    refused_process = subprocess.Popen(["sh", "-c", f"exit {REFUSED_STATUS}"])
    refused_process.wait()
    stack.supervisor.children["daemon"] = Child("daemon", [], stack.logs / "daemon.log", refused_process)
    assert "Another daemon works" in refusal(stack.supervise)


# -- the folder of the files -------------------------------------------------------------------------


def test_a_second_machines_folder_is_refused_and_the_first_is_named(settings: Settings, database: Database) -> None:
    open_store(settings, database).put(KEY, b"1")
    assert open_store(settings, database).get(KEY) == b"1"
    second = settings.model_copy(update={"irt_home": settings.irt_home / "second"})
    location = f"{settings.irt_home / 'objects'} on host {socket.gethostname()}"
    assert re.search(location, refusal(open_store, second, database))
    assert not (second.irt_home / "objects").exists()


def test_servers_that_start_together_on_a_new_database_accept_the_same_folder(
    settings: Settings, database: Database
) -> None:
    """The folder's file was read before the database, so a file written in between by a second process was refused."""
    with ThreadPoolExecutor(8) as together:
        stores = [together.submit(open_store, settings, database) for _ in range(8)]
    for store in stores:
        store.result().put(KEY, b"1")


def test_moved_folder_still_belongs_to_its_database(settings: Settings, database: Database) -> None:
    open_store(settings, database).put(KEY, b"1")
    moved = settings.model_copy(update={"irt_home": settings.irt_home / "moved"})
    shutil.copytree(settings.irt_home / "objects", moved.irt_home / "objects")
    assert open_store(moved, database).get(KEY) == b"1"


def test_second_folder_can_be_adopted(settings: Settings, database: Database) -> None:
    open_store(settings, database)
    second = settings.model_copy(update={"irt_home": settings.irt_home / "second"})
    adopt_folder(second, database)
    open_store(second, database)
    assert "adopt-folder" in refusal(open_store, settings, database)


def test_bucket_belongs_to_no_machine_and_cannot_be_adopted(settings: Settings, database: Database) -> None:
    shared = settings.model_copy(update={"s3_bucket": "bank"})
    open_store(shared, database)
    assert rows(database, "SELECT * FROM object_folder") == []
    assert "S3_BUCKET is set" in refusal(adopt_folder, shared, database)


def test_id_file_of_a_folder_is_not_listed_by_the_store(settings: Settings, database: Database, tmp_path: Path) -> None:
    assert list(open_store(settings, database).list("snapshots")) == []
    with psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT count(*) FROM object_folder").fetchone() == (1,)
