"""The commands of `irt intake`."""

from pathlib import Path
from typing import Annotated

import typer

from irt_assets.blocks import table
from irt_assets.cli.console import AsJson, print_blocks, print_json, say
from irt_assets.cli.installation import current_database
from irt_assets.intake.arrivals import arrivals, refused_rows
from irt_assets.intake.inbox import files_set_aside, requeue_files
from irt_assets.intake.report import csv_of_refused
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)
COLUMNS = ("source", "read", "accepted", "corrected", "duplicates", "rejected")
MAX_SHOWN = 20


@app.command("list", epilog="Example: irt intake list --last 5")
def list_(
    most: Annotated[int, typer.Option("--last", min=1, help="Number of arrivals.")] = MAX_SHOWN,
    as_json: AsJson = False,
) -> None:
    """List the last arrivals, one row per file and per minute of posts, and files that were set aside."""
    with current_database().connect() as connection:
        found, aside = arrivals(connection, most), files_set_aside(connection)
    if as_json:
        print_json(found)
        return
    rows = [(f"{arrival['arrived_at']:%Y-%m-%d %H:%M}", *(str(arrival[name]) for name in COLUMNS)) for arrival in found]
    print_blocks(table(("arrived (UTC)", *COLUMNS), rows))
    if aside:
        say(
            "\nset aside; a file that is written again is imported automatically, other files by irt intake again FILE:"
        )
        print_blocks(table(("file", "why"), [(arrival["path"], arrival["problem"]) for arrival in aside]))


@app.command(epilog="Example: irt intake again /var/lib/irt/inbox/monday.csv")
def again(
    files: Annotated[
        list[str] | None,
        typer.Argument(help="Paths, as `irt intake list` prints them. Default: all that were set aside."),
    ] = None,
) -> None:
    """Import files from the inbox again, whether they were set aside or imported before."""
    with current_database().connect() as connection:
        waiting = requeue_files(connection, files or [])
        if missing := sorted({*(files or [])} - {*waiting}):
            raise PermanentFailure(f"the inbox has no file {', '.join(missing)}: see irt intake list")
    for path in waiting:
        say(f"{path} waits: the daemon imports it within two minutes, irt job intake at once")


@app.command(epilog="Example: irt intake rejects --csv rejected.csv")
def rejects(
    source: Annotated[str | None, typer.Option(help="Only this source, as `irt intake list` prints it.")] = None,
    csv: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this file.", dir_okay=False)] = None,
    as_json: AsJson = False,
) -> None:
    """List the rows that were rejected in the last 30 days, with the reasons.

    At most 10,000 rows of a source are kept per day.
    """
    with current_database().connect() as connection:
        if csv is not None:
            with csv_of_refused(csv) as write:
                write(refused_rows(connection, source))
            say(f"the rows were written: {csv}")
            return
        found = list(refused_rows(connection, source))
    if as_json:
        print_json([dict(zip(("source", "line", "reason", "value", "row"), row, strict=True)) for row in found])
        return
    shown = [(who, str(line), reason, value) for who, line, reason, value, _ in found[-MAX_SHOWN:]]
    print_blocks(table(("source", "line", "reason", "value"), shown))
    if len(found) > MAX_SHOWN:
        say(f"these are the last of {len(found):,}: --csv FILE writes all, with the rows")
