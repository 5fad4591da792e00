"""The `irt` command: parses, calls, prints. No logic of its own.

Exit codes: 0 done; 1 it ran and the answer is “no” (a month is not green, something is misconfigured);
2 the request or its input is wrong, with the way out in the message.
"""

from __future__ import annotations

import atexit
import gc
import signal
import sys
import traceback
from contextlib import nullcontext
from io import TextIOWrapper
from typing import Annotated

import typer

from irt_assets.cli import (
    alerts,
    attempts,
    backup,
    db,
    demo,
    desk,
    doctor,
    export,
    import_,
    invariants,
    items,
    learner,
    lineage,
    months,
    operations,
    release,
    report,
    runs,
    scale,
    serve,
    servers,
    simulate,
)
from irt_assets.cli.console import print_error, say, stdout_reserved_for_json
from resources.failures import PermanentFailure, TransientFailure, explain

NOUNS = (
    *(doctor, simulate, serve, demo, scale),
    *(months, import_, release, items, report),
    *(lineage, invariants),
    *(alerts, db, attempts, learner, operations, backup, export, runs, desk, servers),
)
"""Command groups in the order in which `irt --help` lists them, under the headings that they name."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps an item bank calibrated, and can prove it.",
)
for noun in NOUNS:
    app.add_typer(noun.app, rich_help_panel=noun.app.rich_help_panel)


def main() -> None:
    """Entry point: every explained error becomes one message and exit code 2."""
    _collect_garbage_rarely()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the terminal cannot show must not end the command
    # A shell starts what it runs in the background with SIGINT ignored, and Dagster gives SIGTERM the same handler: the
    # processes that copy a run's output would then outlive it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "--help" in sys.argv:
        app()
    from resources.serving import logs

    logs.configure()
    try:
        with stdout_reserved_for_json() if "--json" in sys.argv else nullcontext():
            app()
    except Exception as error:  # noqa: BLE001 - the last place where a secret can be kept from the screen
        from irt_assets.psychometrics.core.errors import PsychometricsError

        foreseen = isinstance(error, PermanentFailure | PsychometricsError | TransientFailure)
        explanation = str(error) if foreseen else explain(error)
        if explanation is None:
            print_error("", logs.hide(traceback.format_exc()))
            sys.exit(1)
        print_error("error: ", logs.hide(explanation))
        sys.exit(2)


def _collect_garbage_rarely() -> None:
    """Half of what a short command takes is otherwise searching the code that it loads for garbage, most of it at the
    end. Servers replace this process, and collect as usual."""
    gc.set_threshold(10_000)
    atexit.register(_leave_memory_to_the_system)


def _leave_memory_to_the_system() -> None:
    if "duckdb" not in sys.modules:  # which lists on stderr whatever of its own was not freed
        gc.freeze()


def _print_version(requested: bool) -> None:
    if requested:
        from resources.version import code_version

        say(f"irt-assets {code_version()}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before the command."""
