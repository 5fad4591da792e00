"""The stack: Dagster's code server, daemon and webserver, and our services, as children of one `irt` process."""

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import requests

from irt_assets.common import probes
from irt_assets.common.environment import instance_environment
from irt_assets.servers.claims import Claims, StackError
from irt_assets.servers.instance import dagster_instance
from irt_assets.servers.server_commands import DAEMON, DEFINITIONS, Service, commands
from irt_assets.servers.supervisor import Supervisor
from resources.files.folder_claim import open_store
from resources.postgres.daemon_lock import TIMEOUT_S, DaemonLock
from resources.postgres.database import Database, embedded_postgres
from resources.serving.own_servers import ask
from resources.serving.service_manager import NOTIFY_SOCKET, http_health, notify
from resources.settings import Settings

LOG = logging.getLogger("irt.stack")


@dataclass
class Stack:
    """Code server, daemon and webserver. They stop with this process, even if it is killed.

    A run worker belongs to the code server's process group. It outlives a code server that dies, and is stopped with
    the stack.

    Attributes:
        port: port of the UI, or None for the set port or the next free one.
        read_only: whether the UI refuses changes. Schedules run nevertheless.
        module: module whose `defs` are served.
        daemon: module that runs as Dagster's daemon.
        patience_s: seconds to wait for another daemon on the same database to stop.
        services: servers that also run, each on its port or the next free one.
    """

    settings: Settings
    database: Database
    port: int | None = None
    read_only: bool = False
    module: str = DEFINITIONS
    daemon: str = DAEMON
    patience_s: float = TIMEOUT_S
    services: tuple[Service, ...] = ()
    supervisor: Supervisor = field(init=False)
    _claims: Claims = field(default_factory=Claims, init=False)
    _service_ports: dict[str, int] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.logs)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Address of the UI."""
        return f"http://127.0.0.1:{self.port}{self.settings.ui_prefix}"

    def address_of(self, package: str) -> str:
        """Address of one of `services`."""
        return f"http://127.0.0.1:{self._service_ports[package]}"

    @property
    def logs(self) -> Path:
        return self.settings.irt_home / "logs"

    def start(self) -> None:
        """Start the servers and return when the UI answers and the assets are loaded.

        Raises StackError if another stack uses the same IRT_HOME, the port is not free, a server dies or the code
        location does not load. Raises PermanentFailure if another daemon runs on the same database, or if the
        database's files are in another folder.
        """
        if self.settings.irt_code_server:
            raise StackError("IRT_CODE_SERVER names another code server, but this command starts its own: unset it")
        self._claims.claim_home(self.settings)
        try:
            self.port = self._claims.claim_ui_port(self.settings, self.port)
            self._find_alone()
            self.supervisor.environment = self._environment()
            self._claims.announce(self.address)
            self._start_children(self.port)
        except BaseException:
            self.stop()
            raise

    def wait(self) -> None:
        """Supervise the servers until interrupted. Restart servers that die, with growing pauses and a warning."""
        notify("READY=1")
        while True:
            self.supervise()
            notify("WATCHDOG=1")
            time.sleep(0.5)

    def supervise(self) -> None:
        """Check the database and the servers once. A dead one is restarted, now or when its pause is over."""
        self._keep_database()
        self.supervisor.supervise()

    def stop(self) -> None:
        """Interrupt the servers and run workers, wait, and kill the remaining ones. Release the claims."""
        self.supervisor.stop()
        self._claims.release()

    def graphql(self, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        """The `data` of a query to the webserver. Raises StackError for errors in the query itself."""
        body = {"query": query, "variables": variables or {}}
        with ask(f"{self.address}/graphql", 30, send=body) as response:
            answer = response.json()
        if "errors" in answer:
            raise StackError(f"The webserver could not answer: {answer['errors'][0]['message']}")
        return answer["data"]

    def _environment(self) -> dict[str, str]:
        """The servers' environment. Claims the ports of the services and adds them."""
        with dagster_instance(self.settings, self.database):
            environment = {**os.environ, **instance_environment(self.settings, self.database)}
        environment.pop(NOTIFY_SOCKET, None)  # this process reports to systemd for all servers
        for service in self.services:
            port = self._claims.claim_next_port(service.port, service.port_variable)
            self._service_ports[service.package] = port
            environment[service.port_variable] = str(port)
            if service.url_variable and not environment.get(service.url_variable):
                environment[service.url_variable] = f"http://localhost:{port}"
        return environment

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

    def _start_children(self, port: int) -> None:
        start, supervisor = time.monotonic(), self.supervisor
        code_server = f"unix:{supervisor.environment['IRT_CODE_SERVER_SOCKET']}"
        started = commands(
            self.settings,
            supervisor.environment,
            port=port,
            read_only=self.read_only,
            module=self.module,
            daemon=self.daemon,
        )
        for name, arguments in started.items():
            supervisor.start(name, arguments)
            if name == "code server":  # the other servers load their assets from it
                supervisor.wait_until(lambda: probes.code_server(code_server) is None, start)
        for service in self.services:
            supervisor.start(service.package, service.command)
        supervisor.wait_until(self._is_loaded, start)
        supervisor.wait_until(
            lambda: all(http_health(self.address_of(s.package), "ready") is None for s in self.services), start
        )

    def _is_loaded(self) -> bool:
        """Whether the UI answers and the assets are loaded. Raises StackError with the text of a load error.

        If the UI has a login, only whether it answers.
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
