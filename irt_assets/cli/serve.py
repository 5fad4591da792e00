"""The command `irt serve`."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from irt_assets.cli.console import out, say
from irt_assets.cli.db import upgrade_home
from irt_assets.cli.installation import unchecked_database
from irt_assets.servers.demo_services import example_request
from irt_assets.servers.stack import Stack
from resources.postgres.database import embedded_postgres
from resources.settings import Settings

app = typer.Typer()


@app.command(epilog="Example: irt serve")
def serve(
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Show everything in the Dagster UI, and allow no changes.")
    ] = False,
) -> None:
    """Run the Dagster UI, its daemon and code server until interrupted."""
    database = unchecked_database()
    with stop_own_server(database.settings):
        upgrade_home(database)
        serve_until_interrupted(Stack(database.settings, database, read_only=read_only))


def serve_until_interrupted(stack: Stack) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stack:
        # the UI's first page lists only the daemon's runs
        out.print(f"The Dagster UI is at {stack.address}/asset-groups: assets, partitions, runs")
        for service in stack.services:
            _print_service(service.package, stack)
        out.print("Ctrl-C stops everything.")
        try:
            stack.wait()
        except KeyboardInterrupt:
            out.print("stopping …")


def _print_service(package: str, stack: Stack) -> None:
    address = stack.address_of(package)
    if package == "dashboard":
        out.print(f"The dashboard is at {address}: months, items, decisions, learners")
    else:
        out.print(f"The θ API is at {address}, for example:")
        say(f"  {example_request(stack.settings, address)}")


@contextmanager
def stop_own_server(settings: Settings) -> Iterator[None]:
    """Stop the embedded server at the end, if this command uses it and it was not running before."""
    server = None if settings.database_url is not None else embedded_postgres(settings)
    started_here = server is not None and server.status().state != "running"
    try:
        yield
    finally:
        if server is not None and started_here:
            server.stop()
