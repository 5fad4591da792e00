"""Running Dagster: an instance for this process, and the stack of three servers.

What belongs here: the code server, the daemon and the webserver as children of one `irt` process. What
does not: what they serve (`definitions`), and one of them by itself (`servers`).
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import requests
from dagster import DagsterInstance

from irt_assets.common import probes
from irt_assets.common.environment import STACK_LOCK, dagster_environment, instance_environment
from irt_assets.servers.server_commands import DAEMON, DEFINITIONS, Service, commands
from resources.dagster_compat import code_server_answers, wait_for_database
from resources.dagster_tables import SCHEMA
from resources.failures import PermanentFailure
from resources.files.folder_claim import open_store
from resources.postgres.daemon_lock import PATIENCE_S, REFUSED, DaemonLock
from resources.postgres.database import Database, advisory_lock, embedded_postgres
from resources.serving.child_processes import end_with_parent
from resources.serving.own_servers import ask
from resources.serving.service_manager import NOTIFY_SOCKET, http_health, notify
from resources.settings import Settings, private_home

LOG = logging.getLogger("irt.stack")
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 15.0
LONGEST_PAUSE_S = 60.0
"""Pauses between restarts of a server that keeps dying, in seconds."""
LOG_LIMIT = 16 * 2**20
"""Size in bytes from which a server's next start begins a new log."""
HEALTHY_AFTER_S = 10.0
"""A server that ran at least this long restarts without back-off."""


class StackError(PermanentFailure):
    """The servers could not be started. The message names the server, the reason and the way out."""


@contextmanager
def dagster_instance(settings: Settings, database: Database) -> Iterator[DagsterInstance]:
    """The instance the servers use, for runs inside this process. Creates Dagster's tables at first use.

    What goes on in it waits five minutes for a database that goes away; one that is away at the start is an error.
    """
    environment = dagster_environment(settings, database)
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with database.connect() as one_at_a_time:
            advisory_lock(one_at_a_time, "dagster's tables")
            with database.connect() as connection:
                if connection.execute("SELECT to_regnamespace(%s)", (SCHEMA,)).fetchone() == (None,):
                    connection.execute(f"CREATE SCHEMA {SCHEMA}")
            instance = DagsterInstance.from_config(environment["DAGSTER_HOME"])
        with instance:
            wait_for_database(instance)
            yield instance
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass
class _Child:
    """One server: how it is started, and how often it has been restarted."""

    name: str
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = 0.0
    restart_at: float = 0.0


@dataclass
class Stack:
    """Code server, daemon and webserver. They stop with this process, even if it is killed.

    Each is the leader of its own process group and writes to `IRT_HOME/logs`. A run worker belongs to
    the code server's group: it outlives a code server that dies, and is stopped with the stack.
    `module` has the definitions that are served, as its `defs`; `daemon` is the module that runs as Dagster's daemon.
    With `read_only` the page changes nothing; schedules go on. To the kernel the parent is a thread: the one that
    starts and supervises must live as long as the stack.
    If another daemon uses the same database, the stack waits `patience_s` for it to stop. `services`
    run next to them, each on its port or the next free one.
    """

    settings: Settings
    database: Database
    port: int | None = None
    read_only: bool = False
    module: str = DEFINITIONS
    daemon: str = DAEMON
    patience_s: float = PATIENCE_S
    services: tuple[Service, ...] = ()
    _children: dict[str, _Child] = field(default_factory=dict, init=False)
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list, init=False)
    _environment: dict[str, str] = field(default_factory=dict, init=False)
    _lock: TextIO | None = field(default=None, init=False)
    _port_claims: list[socket.socket] = field(default_factory=list, init=False)
    _service_ports: dict[str, int] = field(default_factory=dict, init=False)

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where the UI answers."""
        return f"http://127.0.0.1:{self.port}{self.settings.ui_prefix}"

    def address_of(self, package: str) -> str:
        """Where one of `services` answers."""
        return f"http://127.0.0.1:{self._service_ports[package]}"

    @property
    def logs(self) -> Path:
        return self.settings.irt_home / "logs"

    def start(self) -> None:
        """Start the servers and return when the UI answers and the assets are loaded.

        Raises StackError where another stack uses the same IRT_HOME, the port is taken, a server dies
        or the code location does not load; PermanentFailure where another daemon works on the same database, or its
        files lie in another folder.
        """
        if self.settings.irt_code_server:
            raise StackError("IRT_CODE_SERVER names a code server elsewhere, and this starts one: unset it")
        self._lock = self._claim()
        try:
            self.port = self._free_port()
            self._find_alone()
            with dagster_instance(self.settings, self.database):
                self._environment = {**os.environ, **instance_environment(self.settings, self.database)}
                self._environment.pop(NOTIFY_SOCKET, None)  # this process reports for all
            for service in self.services:
                self._service_ports[service.package] = port = self._next_free_port(service.port, service.port_variable)
                self._environment[service.port_variable] = str(port)
                if service.url_variable and not self._environment.get(service.url_variable):
                    self._environment[service.url_variable] = f"http://localhost:{port}"
            self._lock.write(f"{self.address}, pid {os.getpid()}")
            self._lock.flush()
            self._start_children()
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Until interrupted. A server that dies is started again, with growing pauses, and a warning says so."""
        notify("READY=1")
        while True:
            self.supervise()
            notify("WATCHDOG=1")
            time.sleep(0.5)

    def supervise(self) -> None:
        """Check the servers once: what died is started again, now or when its pause is over."""
        self._keep_database()
        now = time.monotonic()
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                if child.name == "daemon" and child.process.returncode == REFUSED:
                    raise StackError(f"The daemon may not start:\n{_tail(self._log_path(child), 1)}")
                lived = now - child.started
                child.pause = 0.0 if lived > HEALTHY_AFTER_S else min(LONGEST_PAUSE_S, 2 * child.pause + 1)
                child.restart_at = now + child.pause
                LOG.warning(
                    "The %s ended (%s) after %.0f s; starting it again in %.0f s. Its log: %s",
                    child.name, _ending(child.process.returncode), lived, child.pause, self._log_path(child),
                )  # fmt: skip
                child.process = None
            if child.process is None and now >= child.restart_at:
                self._spawn(child)

    def stop(self) -> None:
        """Interrupt the servers and running workers, wait, then kill what is left."""
        for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + STOP_TIMEOUT_S
            for process in self._started:
                _signal_group(process, signal_number)
            while any(_group_lives(process) for process in self._started) and time.monotonic() < deadline:
                time.sleep(0.05)
        self._started.clear()
        self._children.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        for claim in self._port_claims:
            claim.close()
        self._port_claims.clear()

    def graphql(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of a query to the webserver. Raises StackError for errors in the query itself."""
        asked = {"query": query, "variables": variables or {}}
        with ask(f"{self.address}/graphql", 30, send=asked) as response:
            answer = response.json()
        if "errors" in answer:
            raise StackError(f"The webserver could not answer: {answer['errors'][0]['message']}")
        data: dict[str, Any] = answer["data"]
        return data

    def process_id(self, name: str) -> int:
        """The process id of `code server`, `daemon` or `webserver`, which leads its process group."""
        process = self._children[name].process
        if process is None:
            raise StackError(f"the {name} is not running")
        return process.pid

    def _keep_database(self) -> None:
        if self.settings.database_url is not None:
            return
        server = embedded_postgres(self.settings)
        if server.status().state != "running":
            LOG.warning("The embedded PostgreSQL ended; starting it again. Its log: %s", server.log)
            server.start()

    def _find_alone(self) -> None:
        """Fail early, on the terminal, if another daemon holds the lock; the daemon itself takes the lock later."""
        lock = DaemonLock(self.database)
        lock.acquire(self.patience_s)
        lock.release()
        open_store(self.settings, self.database)

    def _claim(self) -> TextIO:
        """The lock of this IRT_HOME, which the kernel releases however this process ends."""
        path = private_home(self.settings) / STACK_LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            where = lock.read().strip() or "starting, or by `irt run`"
            lock.close()
            raise StackError(
                f"Dagster already runs for {self.settings.irt_home} ({where}). Use that one, stop it, or set IRT_HOME."
            ) from None
        lock.truncate(0)
        return lock

    def _free_port(self) -> int:
        wanted = self.port
        if wanted is None and "irt_ui_port" in self.settings.model_fields_set:
            wanted = self.settings.irt_ui_port
        if wanted is not None:
            if not self._claims(wanted):
                raise StackError(f"Port {wanted} is taken by another program. Set IRT_UI_PORT to a free one.")
            return wanted
        return self._next_free_port(self.settings.irt_ui_port, "IRT_UI_PORT")

    def _next_free_port(self, first: int, variable: str) -> int:
        for port in range(first, first + 100):
            if self._claims(port):
                return port
        raise StackError(f"No port from {first} on is free. Set {variable}.")

    def _claims(self, port: int) -> bool:
        """Whether the port is free and no other stack is about to take it: a webserver listens seconds after its start.

        The claim is a name in Linux's abstract socket namespace, which the kernel frees however this process ends.
        """
        if not _is_free(port):
            return False
        if sys.platform == "linux":
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0irt-ui-port-{port}")
            except OSError:
                claim.close()
                return False
            self._port_claims.append(claim)
        return True

    def _start_children(self) -> None:
        socket_path = self._environment["IRT_CODE_SERVER_SOCKET"]
        assert self.port is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        started = commands(
            self.settings,
            self._environment,
            port=self.port,
            read_only=self.read_only,
            module=self.module,
            daemon=self.daemon,
        )
        for name, arguments in started.items():
            self._children[name] = _Child(name, arguments)
            self._spawn(self._children[name])
            if name == "code server":  # else the others load the location when it does not answer yet
                self._wait_until(deadline, lambda: code_server_answers(socket_path))
        for service in self.services:
            self._children[service.package] = _Child(service.package, service.command)
            self._spawn(self._children[service.package])
        self._wait_until(deadline, self._is_loaded)
        self._wait_until(
            deadline, lambda: all(http_health(self.address_of(s.package), "ready") is None for s in self.services)
        )

    def _wait_until(self, deadline: float, condition: Callable[[], bool]) -> None:
        while not condition():
            for child in self._children.values():
                if child.process is not None and child.process.poll() is not None:
                    raise StackError(
                        f"The {child.name} did not start ({_ending(child.process.returncode)}). "
                        f"The end of {self._log_path(child)}:\n{_tail(self._log_path(child))}"
                    )
            if time.monotonic() > deadline:
                raise StackError(f"Dagster was not ready after {START_TIMEOUT_S:.0f} s. Its logs are in {self.logs}.")
            time.sleep(0.1)

    def _is_loaded(self) -> bool:
        """Whether the UI answers with the assets. Raises StackError with the text of a load error.

        Where the UI has a login, this process learns only that it answers.
        """
        if self.settings.has_login:
            return probes.webserver(self.address) is None
        query = """{ version workspaceOrError { ... on Workspace { locationEntries {
            loadStatus locationOrLoadError { __typename
                ... on PythonError { message errorChain { error { message stack } } } } } } } }"""
        try:
            entries = self.graphql(query)["workspaceOrError"]["locationEntries"]
        except (requests.ConnectionError, requests.Timeout):
            return False
        for entry in entries:
            result = entry["locationOrLoadError"]
            if result and result["__typename"] == "PythonError":
                cause = ([{"error": result}] + result["errorChain"])[-1]["error"]
                trace = "".join(cause.get("stack", []))
                raise StackError(f"The assets do not load: {result['message']}\n{cause['message']}\n{trace}")
        return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)

    def _spawn(self, child: _Child) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        path = self._log_path(child)
        if path.exists() and path.stat().st_size > LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
        with path.open("ab") as log:
            child.process = subprocess.Popen(
                child.arguments,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_prepare_server,
            )
        child.started = time.monotonic()
        # A dead code server's group lives on while a run worker of it does.
        self._started = [*filter(_group_lives, self._started), child.process]

    def _log_path(self, child: _Child) -> Path:
        return self.logs / f"{child.name.replace(' ', '_')}.log"


def _prepare_server() -> None:
    """In the child, before it becomes a server: killed with its parent, and stoppable.

    Processes started in the background may inherit ignored INT and TERM. What it writes is its owner's alone.
    """
    os.umask(0o077)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _signal_group(process: subprocess.Popen[bytes], signal_number: int) -> None:
    try:
        os.killpg(process.pid, signal_number)
    except ProcessLookupError:
        return


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    process.poll()
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _tail(path: Path, lines: int = 20) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
