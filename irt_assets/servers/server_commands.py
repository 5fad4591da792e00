"""The commands that start Dagster's servers and our services, each a process of its own."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from irt_assets.common.environment import workspace
from resources.settings import Settings

DEFINITIONS = "irt_assets.definitions"
DAEMON = "irt_assets.servers.daemon"
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - in a pod, where the network policy decides who may connect


def commands(
    settings: Settings,
    environment: Mapping[str, str],
    *,
    port: int,
    read_only: bool,
    module: str = DEFINITIONS,
    daemon: str = DAEMON,
) -> dict[str, list[str]]:
    """The command of each server, by name, in the order in which they start.

    `environment`: the servers' environment, from `irt_assets.common.environment`. If IRT_CODE_SERVER is set, other
    machines connect to the code server, so it listens on its port on all addresses.
    """
    python = [sys.executable, "-m"]
    listening = ["-s", environment["IRT_CODE_SERVER_SOCKET"]]
    if settings.irt_code_server:
        listening = ["-h", ANY_ADDRESS, "-p", environment["IRT_CODE_SERVER_PORT"]]
    location = ["-m", module, "-a", "defs", "--empty-working-directory", "--lazy-load-user-code"]
    return {
        "code server": [*python, "irt_assets.servers.code_server", *listening, *location, "--log-format", "json"],
        "daemon": [*python, daemon, "run", "--log-format", "json", "-w", str(workspace(settings))],
        "webserver": [*python, "irt_assets.webserver", "--port", str(port)] + ["--read-only"] * read_only,
    }


@dataclass(frozen=True)
class Service:
    """A package of `services` as a server.

    Attributes:
        port: port on which it listens, unless the environment variable `port_variable` is set.
        url_variable: environment variable from which other servers read its address; empty if no server does.
    """

    package: str
    port: int
    port_variable: str
    arguments: tuple[str, ...] = ()
    url_variable: str = ""

    @property
    def command(self) -> list[str]:
        return service_command(self.package, *self.arguments)


def service_command(package: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"services.{package}", *arguments]
