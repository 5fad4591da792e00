"""The commands `irt run` and `irt health`, for systemd, Kubernetes and monitors.

Exit codes of `irt health`: 0 healthy; 1 not healthy; 2 the request or a setting is wrong.
"""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from irt_assets.cli.console import AsJson, exit_with_failure, print_json, say
from irt_assets.cli.installation import current_database, current_settings, unchecked_database
from irt_assets.common import probes
from irt_assets.common.environment import address_of_the_stack, code_server_address, code_server_socket
from irt_assets.servers import SERVERS, Server
from irt_assets.servers.standalone import become, become_command, become_service
from resources.postgres.database import Database, embedded_postgres
from resources.postgres.database_url import read_database_url
from resources.serving.service_manager import host_from_here, service_fault
from resources.settings import Settings

Host = Annotated[
    str | None, typer.Option(help="Address on which the server listens. Default: 127.0.0.1, for this machine only.")
]
app = typer.Typer()
run_app = typer.Typer(name="run", no_args_is_help=True)
app.add_typer(run_app)


@run_app.command(epilog="Example: irt run webserver --port 3000")
def webserver(
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port. Default: IRT_UI_PORT.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything, and allow no changes.")] = False,
) -> None:
    """Serve the Dagster UI to this machine only, or in a pod behind a login.

    SIGHUP restarts it with the current code.
    """
    settings = current_settings()
    become(settings, current_database(), "webserver", port=port or settings.irt_ui_port, read_only=read_only)


@run_app.command(epilog="Example: irt run daemon")
def daemon() -> None:
    """Launch queued runs, and evaluate schedules and sensors.

    Run one daemon per database. SIGHUP restarts it cleanly.
    """
    become(current_settings(), current_database(), "daemon")


@run_app.command("code-server", epilog="Example: irt run code-server")
def code_server() -> None:
    """Load the assets, and start the workers of runs.

    SIGHUP reloads the code. Runs in progress continue.
    """
    become(current_settings(), current_database(), "code server")


@run_app.command("theta-api", epilog="Example: irt run theta-api")
def theta_api() -> None:
    """Serve the θ API, which measures learners on request (docs/reference/theta-api.md)."""
    become_service("theta_api")


@run_app.command("jwt-verifier", epilog="Example: irt run jwt-verifier --host 0.0.0.0")
def jwt_verifier(host: Host = None) -> None:
    """Serve nginx's authorisation requests.

    The settings JWT_… are required, a database is not. SIGHUP reads the keys
    again.
    """
    become_service("jwt_verifier", *_address_arguments(host))


@run_app.command(epilog="Example: irt run exporter")
def exporter(host: Host = None) -> None:
    """Serve metrics of schedules, months, invariants and alerts to Prometheus (docs/how-to/metrics.md)."""
    become_service("exporter", *_address_arguments(host))


@run_app.command(epilog="Example: irt run dashboard --demo")
def dashboard(
    demo: Annotated[bool, typer.Option("--demo", help="Run without a login, on the embedded database only.")] = False,
    host: Host = None,
) -> None:
    """Serve the dashboard: months, item bank, decisions and reports (docs/how-to/dashboard.md)."""
    become_service("dashboard", *["--demo"] * demo, *_address_arguments(host))


@run_app.command(
    context_settings={"ignore_unknown_options": True}, epilog="Example: irt run worker dagster api execute_run RUN"
)
def worker(
    command: Annotated[list[str], typer.Argument(help="Dagster command with its arguments.", metavar="COMMAND…")],
) -> None:
    """Run a Dagster command in the environment that it needs here. The pods of runs start with it."""
    become_command(current_settings(), unchecked_database(), command)


def _address_arguments(host: str | None) -> list[str]:
    return [] if host is None else ["--host", host]


class _Health(TyperCommand):
    """`irt health`; `--probe` without a server, as the documents write it, checks all servers."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args[:-1] if args[-1:] == ["--probe"] else args)


@app.command(cls=_Health, epilog="Example: irt health --probe daemon")
def health(
    probe: Annotated[Server | None, typer.Option(help="Check only this server.")] = None,
    config: Annotated[bool, typer.Option("--config", help="Check only the settings, without a connection.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Check only the database and its schema.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings, database and servers; by default everything that `irt serve` runs."""
    settings = current_settings()
    checks = [name for name, given in (("config", config), ("schema", schema)) if given]
    checks += [probe] if probe else []
    looks = {"config": _config, "schema": _schema, **_PROBES}
    faults = {name: looks[name](settings) for name in checks or ("config", "schema", *OF_THE_STACK)}
    if as_json:
        print_json([{"name": name, "well": fault is None, "fault": fault} for name, fault in faults.items()])
    else:
        say(*(f"{name}: {fault or 'well'}" for name, fault in faults.items()))
    exit_with_failure(any(faults.values()))


def _config(settings: Settings) -> str | None:
    """Check the database's address; the other settings were checked when they were read.

    Raises PermanentFailure if the address is wrong, or missing although it is required.
    """
    if settings.database_url is None:
        embedded_postgres(settings)
    else:
        read_database_url(settings.database_url.get_secret_value())
    return None


def _schema(settings: Settings) -> str | None:
    return _embedded_is_down(settings) or probes.schema(Database(settings))


def _webserver(settings: Settings) -> str | None:
    host = host_from_here(settings.ui_address)
    return probes.webserver(
        address_of_the_stack(settings) or f"http://{host}:{settings.irt_ui_port}{settings.ui_prefix}"
    )


def _daemon(settings: Settings) -> str | None:
    return _embedded_is_down(settings) or probes.daemon(Database(settings))


def _code_server(settings: Settings) -> str | None:
    host, port = code_server_address(settings)
    return probes.code_server(f"{host}:{port}" if port else f"unix:{code_server_socket(settings)}")


def _embedded_is_down(settings: Settings) -> str | None:
    """Return a fault if the embedded PostgreSQL is in use and not running, because a probe must not start it."""
    if settings.database_url is not None:
        return None
    server = embedded_postgres(settings)
    return None if server.status().state == "running" else "the embedded PostgreSQL is not running"


OF_THE_STACK: dict[str, Callable[[Settings], str | None]] = {
    "webserver": _webserver,
    "daemon": _daemon,
    "code-server": _code_server,
}
"""Probes of the servers that `irt serve` starts."""
_PROBES = {server: partial(service_fault, server.replace("-", "_")) for server in SERVERS} | OF_THE_STACK
