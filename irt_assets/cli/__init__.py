"""The `irt` command line: parse arguments, call the functions that do the work, print their results.

Exit codes: 0 done; 1 it ran and the answer is “no” (a month is not green, something is misconfigured); 2 the request or
its input is wrong, and the message says what to do.
"""

import re
import signal
import sys
import traceback
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from irt_assets.common.wording import with_stop
from irt_assets.servers import SERVERS
from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure, TransientFailure, explain


@cache
def _group(module: str) -> Any:
    """Load the commands of a module, once in a process: the parser of each is built from its signature."""
    return typer.main.get_group(import_module(f"irt_assets.cli.{module}").app)


class Noun(TyperCommand):
    """A command as `irt --help` lists it. Its module, with the imports that it needs, is loaded when it is called."""

    def __init__(self, name: str, sentence: str, module: str | None = None) -> None:
        super().__init__(name, help=sentence)
        self.module = module or name

    def command(self) -> Any:
        """The command or group of this name in its module, or the module's whole app if it has no such name."""
        group = _group(self.module)
        command = group.commands.get(self.name or "", group)
        command.name, command.help = self.name, command.help or self.help
        return command


NOUNS = {
    "Set up and serve": (
        Noun("doctor", "Check what is installed, reachable and misconfigured."),
        Noun("simulate", "Simulate a log with planted faults: write import files and truth.json."),
        Noun("serve", "Run the Dagster UI, its daemon and code server until interrupted."),
        Noun("demo", "Calibrate, publish, compare and serve four simulated months, or your own log."),
        Noun("scale", "Set up scales, and change their models and rules."),
    ),
    "Every month": (
        Noun("calibrate", "Materialise a month: responses, fit, linking, publication, abilities.", "months"),
        Noun("backfill", "Materialise all months of a period, oldest first, as `irt calibrate` does.", "months"),
        Noun("import", "Import answers, questions and learners from files.", "import_"),
        Noun("pull", "Copy new and changed answers, items and learners from your tables."),
        Noun("intake", "List the files and posts that arrived, and the rows that were rejected."),
        Noun("release", "Decide on the item parameters that months propose."),
        Noun("items", "Analyse a file of answers; list items, withdraw them from use, and restore them."),
        Noun("tests", "Declare adaptive tests, and show and simulate them."),
        Noun("forms", "List forms, assemble forms from a blueprint, and release them."),
        Noun("scores", "Release score tables, equate forms, set pass marks, and hand out scores."),
        Noun("month", "Reopen closed months."),
        Noun("report", "Write drift reports of months and weekly reports of learners."),
        Noun(
            "nightly",
            "Fit and link the 30 days that end with a day, and measure all learners, even if this was done before.",
            "runs",
        ),
    ),
    "What came of it, and why": (
        Noun("lineage", "Show where an item's published parameters come from, and the decisions on it and its key."),
        Noun("decisions", "List the decisions of people, the newest first, and undo one."),
        Noun("invariants", "Check what must always be true of the stored data."),
        Noun("status", "Show the daemon, schedules, months, open problems and runs on one screen."),
        Noun("export", "Write published parameters, abilities, flagged items, or a whole month to files."),
    ),
    "Operation": (
        Noun("alerts", "Send alerts to the configured channels."),
        Noun("tokens", "Make tokens for trying the login."),
        Noun("db", "Manage the database in use: the embedded one, or DATABASE_URL."),
        Noun("attempts", "Correct stored answers, and copy the log to the lake that Spark reads (IRT_ATTEMPTS)."),
        Noun("learner", "Show the scores of a learner, and erase the data stored about a learner."),
        Noun(
            "prune",
            "Delete outdated data: old nights, superseded fits, snapshots and runs, resolved alerts.",
        ),
        Noun("restore", "Restore a backup into an empty database, and compare the two.", "backup"),
        Noun("backup", "Back up the database, with a list of the files that it refers to."),
        Noun(
            "job",
            "Run a job for the partitions that its schedule's next tick would request, and wait for it.",
            "runs",
        ),
        Noun("runs", "List and cancel runs that are waiting or in progress."),
        Noun(
            "health",
            "Check settings, database and servers; by default everything that `irt serve` runs.",
            "servers",
        ),
        Noun("run", "Run one server until it is stopped.", "servers"),
    ),
    "On files, without a database": (
        Noun(
            "fit",
            "Estimate item parameters from a file of answers.",
            "desk",
        ),
        Noun("score", "Estimate abilities from a file of answers and known item parameters.", "desk"),
        Noun("score-table", "Make the score table of a form from its items.", "form_files"),
        Noun("equate", "Equate raw scores of a new form to raw scores of an old form.", "form_files"),
        Noun("classify", "Compute how accurate and how consistent a form's decisions are.", "form_files"),
        Noun("dif", "Find items that function differently for groups of persons.", "form_files"),
        Noun("assemble", "Assemble forms from a file of item parameters by a blueprint.", "form_files"),
        Noun("link", "Put one table of item parameters on the scale of another through common items.", "desk"),
        Noun(
            "simulate-responses",
            "Simulate answers that follow a model exactly, and write the true values next to them.",
            "desk",
        ),
    ),
}
"""Headings of `irt --help`, each with its commands in order."""


_UsageError: Any = typer.BadParameter.__base__
"""Error of a wrong command line. Its module differs between releases of Typer."""


class _Irt(TyperGroup):
    """The group `irt`, which loads the module of a command when it is called."""

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
            if suggestion := _suggestion(error):
                error.message = f"{with_stop(error.message)} {suggestion}"
            raise


_WORD = re.compile(r"No such command '(.*?)'|unexpected extra argument\S* \((.*)\)")
_MONTH = re.compile(r"[0-9]{4}-[0-9]{2}")


def _suggestion(error: Any) -> str:
    """Suggest a command for an unknown command or argument. Returns an empty text if there is no suggestion."""
    found, within = _WORD.search(error.message), error.ctx
    if found is None or within is None:
        return ""
    word, group = found[1] or found[2], within.command
    if _MONTH.fullmatch(word) and within.command_path.endswith((" report", " status")):
        return f"For one month: irt report drift --month {word}"
    if not isinstance(group, TyperGroup):
        return ""
    if word in SERVERS:
        demo = "; without a login, on this machine only: irt run dashboard --demo" * (word == "dashboard")
        return f"To start this server: irt run {word}{demo}"
    return "" if isinstance(group, _Irt) else f"There are: {', '.join(sorted(group.commands))}."


app = typer.Typer(
    cls=_Irt,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keep an item bank calibrated, and prove it.",
)


def main() -> None:
    """Entry point. An error with an explanation ends the command with this message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the terminal cannot show must not end the command
    # A shell ignores SIGINT in background commands, and Dagster handles SIGTERM like SIGINT: the processes that copy a
    # run's output would outlive the run.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "--help" in sys.argv:
        app()
    # imported here because `irt --help` does not need them
    from irt_assets.cli.console import print_error, stdout_reserved_for_json
    from resources.serving import logs

    logs.configure()
    try:
        with stdout_reserved_for_json() if "--json" in sys.argv else nullcontext():
            app()
    except Exception as error:  # noqa: BLE001 - secrets must be hidden in any message
        foreseen = isinstance(error, PermanentFailure | PsychometricsError | TransientFailure)
        explanation = str(error) if foreseen else explain(error)
        if explanation is None:
            print_error("", logs.hide(traceback.format_exc()))
            sys.exit(1)
        print_error("error: ", logs.hide(explanation))
        sys.exit(2)


def _print_version(requested: bool) -> None:
    if requested:
        from resources.version import code_version  # slow, reads the installed packages

        typer.echo(f"irt-assets {code_version()}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the command."""
