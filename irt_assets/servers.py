"""Each server on its own, as systemd, Kubernetes and containers start them: `irt run NAME`.

The process becomes the server, so that signals, limits and the main process id are the server's own. What does not
belong here: all of them together under one process (see `stack`), and what a server does.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from irt_assets.environment import STACK_LOCK, instance_environment, workspace
from resources.database import Database
from resources.failures import PermanentFailure
from resources.folder_claim import open_store
from resources.settings import Settings, private_home

DEFINITIONS = "irt_assets.definitions"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a pod's; who may ask is the network policy's


def commands(
    settings: Settings, environment: Mapping[str, str], *, port: int, read_only: bool, module: str = DEFINITIONS
) -> dict[str, list[str]]:
    """The command of each server, in the order of starting; `environment`: theirs, of `irt_assets.environment`.

    A code server that others reach by IRT_CODE_SERVER listens on its port on all addresses.
    """
    python = [sys.executable, "-m"]
    listening = ["-s", environment["IRT_CODE_SERVER_SOCKET"]]
    if settings.irt_code_server:
        listening = ["-h", ANY_ADDRESS, "-p", environment["IRT_CODE_SERVER_PORT"]]
    location = ["-m", module, "-a", "defs", "--empty-working-directory", "--lazy-load-user-code"]
    return {
        "code server": [*python, "irt_assets.code_server", *listening, *location, "--log-format", "json"],
        "daemon": [*python, "irt_assets.daemon", "run", "--log-format", "json", "-w", str(workspace(settings))],
        "webserver": [*python, "irt_assets.webserver", "--port", str(port)] + ["--read-only"] * read_only,
    }


def become(settings: Settings, database: Database, name: str, *, port: int = 0, read_only: bool = False) -> NoReturn:
    """Turn this process into the server `name`, if the database's schema is right.

    Raises PermanentFailure if `irt serve` or another code server is running on the same IRT_HOME.
    """
    from irt_assets.stack import dagster_instance  # the stack starts the same commands

    open_store(settings, database)
    _claim(settings, STACK_LOCK, fcntl.LOCK_SH, "`irt serve` runs")
    if name == "code server":
        _claim(settings, Path("dagster") / "code-server.lock", fcntl.LOCK_EX, "a code server runs")
    with dagster_instance(settings, database):
        environment = {**os.environ, **instance_environment(settings, database)}
    arguments = commands(settings, environment, port=port, read_only=read_only)[name]
    sys.stdout.flush()
    os.execve(arguments[0], arguments, environment)


@dataclass(frozen=True)
class Service:
    """A package of `services` as a server. port: where it listens, unless the variable `port_variable` says another."""

    package: str
    port: int
    port_variable: str
    arguments: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        return service_command(self.package, *self.arguments)


def service_command(package: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"services.{package}", *arguments]


def become_service(package: str, *arguments: str) -> NoReturn:
    """Turn this process into a service, a package of `services`, through its `__main__`."""
    sys.stdout.flush()
    os.execv(sys.executable, service_command(package, *arguments))


def _claim(settings: Settings, lock: Path, kind: int, otherwise: str) -> None:
    """Hold a lock of this IRT_HOME until the server ends; the server inherits the open file, its children do not."""
    path = private_home(settings) / lock
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise PermanentFailure(f"{otherwise} for {settings.irt_home} already: stop that one, or set IRT_HOME") from None
    os.set_inheritable(descriptor, True)
