"""Run one server on its own, as systemd, Kubernetes and containers start it: `irt run NAME`.

The process becomes the server, so that signals, limits and the main process id are the server's own. `stack` starts all
servers under one process.
"""

import fcntl
import os
import sys
from pathlib import Path
from typing import NoReturn

from irt_assets.common.environment import STACK_LOCK, instance_environment
from irt_assets.servers.server_commands import commands, service_command
from resources.failures import PermanentFailure
from resources.files.folder_claim import open_store
from resources.postgres.database import Database
from resources.settings import Settings, private_home


def become(settings: Settings, database: Database, name: str, *, port: int = 0, read_only: bool = False) -> NoReturn:
    """Turn this process into the server `name`.

    Raises PermanentFailure if `irt serve` or, for a code server, another code server runs on the same IRT_HOME.
    """
    from irt_assets.servers.instance import dagster_instance  # imports Dagster, which our services do not need

    open_store(settings, database)
    _claim(settings, STACK_LOCK, fcntl.LOCK_SH, "`irt serve` runs")
    if name == "code server":
        _claim(settings, Path("dagster") / "code-server.lock", fcntl.LOCK_EX, "a code server runs")
    with dagster_instance(settings, database):
        environment = {**os.environ, **instance_environment(settings, database)}
    arguments = commands(settings, environment, port=port, read_only=read_only)[name]
    sys.stdout.flush()
    os.execve(arguments[0], arguments, environment)


def become_command(settings: Settings, database: Database, command: list[str]) -> NoReturn:
    """Turn this process into a Dagster command."""
    sys.stdout.flush()
    os.execvpe(command[0], command, {**os.environ, **instance_environment(settings, database)})


def become_service(package: str, *arguments: str) -> NoReturn:
    """Turn this process into a service, a package of `services`, through its `__main__`."""
    sys.stdout.flush()
    os.execv(sys.executable, service_command(package, *arguments))


def _claim(settings: Settings, lock: Path, kind: int, owner: str) -> None:
    """Hold a lock of this IRT_HOME until the server ends. The server inherits the open file, its children do not."""
    path = private_home(settings) / lock
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise PermanentFailure(f"{owner} for {settings.irt_home} already: stop it, or set another IRT_HOME") from None
    os.set_inheritable(descriptor, True)
