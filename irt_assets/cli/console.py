"""Output of `irt` for people and machines (lines, tables, colours, JSON), and options that several commands have."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich import markup
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from irt_assets.blocks import Block, Table, table, terminal
from resources.failures import PermanentFailure
from resources.serving import logs

if TYPE_CHECKING:
    from irt_assets.gates.month_classification import MonthState

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ScaleId = Annotated[str, typer.Option("--scale", help="Scale (items that measure one ability).")]
MaxAge = Annotated[str, typer.Option("--max-age", help="Maximum age in hours or minutes, e.g. 25h or 90m.")]
Here = Annotated[bool, typer.Option("--here", help="Run in this process, even if the daemon is running.")]
Reopen = Annotated[
    bool, typer.Option("--reopen", help="Reopen the closed months concerned, so that the change counts there.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the changes, and make no change.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]


def escape(text: str) -> str:
    """Escape text so that Rich prints it literally: without markup, and with control characters made visible."""
    return markup.escape(terminal.visible(text))


def print_blocks(*blocks: Block) -> None:
    terminal.show(*blocks, console=out)


def say(*lines: str) -> None:
    """Print lines of plain text, without markup."""
    for line in lines:
        out.print(escape(line))


def print_error(mark: str, text: str) -> None:
    """Print an error or a warning to standard error; in systemd's journal it has the priority of an error."""
    if logs.is_journal():
        print(logs.with_priority(f"{mark}{text}", logging.ERROR), file=sys.stderr)  # noqa: T201
    else:
        err.print(f"[red]{mark}[/red]{escape(text)}")


def duration(text: str) -> timedelta:
    """Parse the option --max-age: 25h, 90m."""
    found = re.fullmatch(r"(\d{1,6})(h|m)", text)
    if found is None:
        raise PermanentFailure(f"--max-age takes hours or minutes, such as 25h or 90m, not {text!r}")
    return int(found[1]) * (timedelta(hours=1) if found[2] == "h" else timedelta(minutes=1))


def confirm(question: str, yes: bool) -> None:
    """Ask for confirmation, unless `yes` is set. Exits with 1 if the person declines."""
    if yes:
        return
    if not _has_terminal():
        raise PermanentFailure("confirmation needed, but this is not a terminal: run it on a terminal, or with --yes")
    if not typer.confirm(question):
        out.print("nothing was decided")
        raise typer.Exit(1)


def choose(question: str, readings: Sequence[Sequence[str]]) -> int | None:
    """Ask which reading is right, on standard error. `readings`: the lines that describe each.

    Returns the reading's index, or None if there is no terminal.
    """
    if not (_has_terminal() and sys.stderr.isatty()):
        return None
    lines = [f"{'  ' if k else f'{n}.'} {line}" for n, about in enumerate(readings, 1) for k, line in enumerate(about)]
    typer.echo("\n".join(map(terminal.visible, [question, *lines])), err=True)
    numbers = [str(n) for n in range(1, len(readings) + 1)]
    asking = f"Which is right ({', '.join(numbers)})?"
    while (answer := typer.prompt(asking, prompt_suffix=" ", err=True)) not in numbers:
        pass
    return int(answer) - 1


def _has_terminal() -> bool:
    return sys.stdin.isatty()


def exit_with_failure(is_failure: object) -> None:
    """End the command with exit code 1 if the value is true."""
    if is_failure:
        raise typer.Exit(1)


def months_table(states: Iterable[MonthState]) -> Table:
    return table(("month", "scale", "state", "why"), [(s.month, s.scale_id, s.state.badge, s.why) for s in states])


@contextmanager
def progress_bar(subject: str, quiet: bool) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on standard error if that is a terminal. Yields the function that takes the done and total counts."""
    columns = (TextColumn(subject), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal) as bar:
        task = bar.add_task(subject, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


_json_out: TextIO | None = None


@contextmanager
def stdout_reserved_for_json() -> Iterator[None]:
    """Context in which only `print_json` writes to standard output. All other output, also of libraries and child
    processes, goes to standard error."""
    global _json_out
    _json_out = sys.stdout
    if sys.stdout is sys.__stdout__:  # if stdout was replaced, children do not inherit it
        _json_out = open(os.dup(1), "w", encoding="utf-8")  # noqa: SIM115, PTH123 - descriptor that stays open
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _json_out = None


def machine_stdout() -> TextIO:
    """Return standard output, also while it is reserved for JSON."""
    return _json_out or sys.stdout


def print_json(value: Any) -> None:
    print(json.dumps(value, default=str, ensure_ascii=False, indent=2), file=machine_stdout(), flush=True)
