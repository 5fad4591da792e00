"""`irt attempts …`: parses, calls, prints.

Exit codes: 0 done, and the lake is sound; 1 days were left as they were, or the lake is not sound; 2 the request is
wrong.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from irt_assets.cli.console import AsJson, print_error, print_json, progress_bar, say
from irt_assets.cli.installation import current_database, current_settings
from irt_assets.common.wording import counted
from irt_assets.responses.lake import compare_days, export_days, lake_of
from irt_assets.responses.lake_upkeep import faults
from irt_assets.responses.lake_upkeep import prune as delete_unnamed
from resources.cluster.lake import Lake

app = typer.Typer(no_args_is_help=True)
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="First day (UTC).")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="Last day (UTC).")]


@app.command()
def export(
    since: Since = None,
    until: Until = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Also days of which the lake has more answers than the database, or a damaged file."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the days that the lake does not hold as the database does, up to yesterday.

    If it is interrupted, run it again: each day is as it was, or complete.
    """
    lake, database = _lake(), current_database()
    with progress_bar("exporting days", as_json) as progress:
        done = export_days(database, lake, _key(since), _key(until), replace=replace, progress=progress)
    if as_json:
        print_json(asdict(done))
    else:
        say(
            f"days written: {len(done.written):,} (answers: {done.rows:,}, bytes: {done.bytes:,}); "
            f"skipped, as {lake.name} has them: {len(done.skipped):,}"
        )
        for why in done.refused:
            print_error("left as it was: ", why)
    if done.refused:
        raise typer.Exit(1)


@app.command()
def check(since: Since = None, until: Until = None, as_json: AsJson = False) -> None:
    """Compare the lake with the database, and read every file of it.

    Without --since, the last 366 days are compared, which the database keeps; files are read of all days.
    """
    lake, database = _lake(), current_database()
    end = None if until is None else _utc(until) + timedelta(days=1)
    start = None if since is None else _utc(since)
    with database.connect() as connection:
        different = compare_days(connection, lake, start, end)
    with progress_bar("reading days", as_json) as progress:
        found = list(faults(lake, start, end, progress))
    if as_json:
        print_json({"differences": [asdict(one) for one in different], "faults": [asdict(one) for one in found]})
    else:
        for one in different:
            say(str(one))
        for fault in found:
            say(f"{fault.day}: {fault.what}")
        if different or found:
            say("write these days again: irt attempts export --since DAY --until DAY --replace")
        else:
            say(f"{lake.name} holds what the database holds, and its files are as they were written")
    if different or found:
        raise typer.Exit(1)


@app.command()
def prune() -> None:
    """Delete files of the lake that were replaced, or left by an interrupted export, more than a day ago."""
    say(f"{counted(delete_unnamed(_lake()), 'file')} deleted")


def _lake() -> Lake:
    return lake_of(Lake.at(current_settings()))


def _utc(day: datetime) -> datetime:
    return day.replace(tzinfo=UTC)


def _key(day: datetime | None) -> str | None:
    return None if day is None else f"{day:%Y-%m-%d}"
