"""The `irt` command: parses, calls, prints. No logic of its own.

Exit codes: 0 done; 1 it ran and the answer is “no” (a month is not green, something is misconfigured);
2 the request or its input is wrong, with the way out in the message.
"""

import atexit
import gc
import re
import signal
import sys
import traceback
from contextlib import nullcontext
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure, TransientFailure, explain


class Noun(TyperCommand):
    """What `irt --help` says of a command; its module, which imports what the command needs, is imported when it is
    called."""

    def __init__(self, name: str, sentence: str, module: str | None = None) -> None:
        super().__init__(name, help=sentence)
        self.module = module or name

    def command(self) -> Any:
        """The command of its own module: one of the functions or groups there, or all of them."""
        group = typer.main.get_group(import_module(f"irt_assets.cli.{self.module}").app)
        command = group.commands.get(self.name or "", group)
        command.name, command.help = self.name, command.help or self.help
        return command


NOUNS = {
    "Set up and serve": (
        Noun("doctor", "What is installed, reachable and misconfigured."),
        Noun("simulate", "Simulate a log with planted faults: import files, and truth.json next to them."),
        Noun("serve", "Start the Dagster UI, its daemon and code server, until interrupted."),
        Noun("demo", "Four months with planted faults, or your own log: calibrated, published, compared, served."),
        Noun("scale", "Scales, their origin, their model and their rules."),
    ),
    "Every month": (
        Noun("calibrate", "Materialise one month: responses, fit, linking, publication, abilities.", "months"),
        Noun(
            "backfill", "Materialise every month from one to another, oldest first, as `irt calibrate` does.", "months"
        ),
        Noun("import", "Import answers, questions and learners from files.", "import_"),
        Noun("pull", "Pull answers, items and learners from your tables: what was written since the last pull."),
        Noun("intake", "What came into the log, from whom and when, and what was refused."),
        Noun("release", "What months propose, and what a person decides about it."),
        Noun("items", "Which items are in use."),
        Noun("month", "Months that have closed, and reopening them."),
        Noun("report", "Reports that people read: drift of a month, a learner's week."),
        Noun(
            "nightly",
            "Fit and link the 30 days that end with a day, and measure everyone, though it was done already.",
            "runs",
        ),
    ),
    "What came of it, and why": (
        Noun("lineage", "Where an item's published numbers come from, and what was decided on it."),
        Noun("invariants", "What must always be true of the stored data, and whether it is."),
        Noun("status", "Everything on a screen: the daemon, every schedule and month, what is open, what runs."),
        Noun("export", "Write published parameters, abilities or flagged items to a file, as they stood on a day."),
    ),
    "Operation": (
        Noun("alerts", "How people are alerted."),
        Noun("tokens", "Tokens for trying the login."),
        Noun("db", "The database in use: the embedded one, or DATABASE_URL."),
        Noun("attempts", "Answers that change, and the log in a lake, where Spark reads it (IRT_ATTEMPTS)."),
        Noun("learner", "The data stored about a learner."),
        Noun(
            "prune",
            "Delete what nothing needs any more: old nights, superseded fits, snapshots and runs, alerts that are "
            "over.",
        ),
        Noun("restore", "Restore a backup into the database, which must be empty, and compare the two.", "backup"),
        Noun("backup", "Back up the database, with a listing of the files that it cites."),
        Noun(
            "job",
            "Do what the schedule's next tick would do and wait for it: make whatever its look-back is missing.",
            "runs",
        ),
        Noun("runs", "Runs that are waiting or in progress, and ending them."),
        Noun(
            "health",
            "Check settings, database and servers; without an option, everything that `irt serve` runs.",
            "servers",
        ),
        Noun("run", "Run one server of the installation until it is stopped.", "servers"),
    ),
    "On files, without a database": (
        Noun(
            "fit",
            "Estimate item parameters from answers. There are no thresholds: what cannot be estimated is flagged.",
            "desk",
        ),
        Noun("score", "Abilities of persons from their answers and known item parameters.", "desk"),
        Noun("link", "Put one table of item parameters on another's scale through their common items.", "desk"),
        Noun("simulate-responses", "Answers that follow the model exactly, with the true values next to them.", "desk"),
    ),
}
"""Commands as `irt --help` lists them, under its headings."""


_UsageError: Any = typer.BadParameter.__base__
"""A wrong command line; its module differs between releases of Typer."""


class _Irt(TyperGroup):
    """`irt`, with its nouns."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for heading, nouns in NOUNS.items():
            for noun in nouns:
                noun.rich_help_panel = heading
                self.add_command(noun)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.command() if isinstance(command, Noun) else command, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            error.message += _way_out(error)
            raise


SERVERS = ("webserver", "daemon", "code-server", "theta-api", "jwt-verifier", "exporter", "dashboard")
"""Servers that `irt run` starts."""
_WORD = re.compile(r"No such command '(.*?)'|unexpected extra argument\S* \((.*)\)")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")


def _way_out(error: Any) -> str:
    """Suggest the command that replaces an unknown command, or an argument that a command does not take."""
    found, within = _WORD.search(error.message), error.ctx
    if found is None or within is None:
        return ""
    word, group = found[1] or found[2], within.command
    if _MONTH.fullmatch(word) and within.command_path.endswith((" report", " status")):
        return f" For one month: irt report drift --month {word}"
    if not isinstance(group, TyperGroup):
        return ""
    if word in SERVERS:
        return f" A server is started with irt run {word}" + ", or with --demo on this machine" * (word == "dashboard")
    more = " irt status names the scales, and docs/how-to/scales.md says what can be set of one."
    listing = "" if isinstance(group, _Irt) else f" There are: {', '.join(sorted(group.commands))}."
    return listing + more * (within.command_path.endswith(" scale") and word in ("list", "show"))


app = typer.Typer(
    cls=_Irt,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps an item bank calibrated, and can prove it.",
)


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
    # here, as `irt --help` needs neither them nor what they import
    from irt_assets.cli.console import print_error, stdout_reserved_for_json
    from resources.serving import logs

    logs.configure()
    try:
        with stdout_reserved_for_json() if "--json" in sys.argv else nullcontext():
            app()
    except Exception as error:  # noqa: BLE001 - the last place where a secret can be kept from the screen
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
        from resources.version import code_version  # reads what is installed, for which help need not wait

        typer.echo(f"irt-assets {code_version()}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before the command."""
