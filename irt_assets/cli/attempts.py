"""The commands of `irt attempts`.

Exit codes: 0 done, and the lake equals the database; 1 days were left unchanged, or the lake differs or is damaged;
2 the request is wrong, or no answer matches it.
"""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from irt_assets.cli.console import (
    AsJson,
    DryRun,
    Reopen,
    exit_with_failure,
    print_error,
    print_json,
    progress_bar,
    say,
)
from irt_assets.cli.installation import By, Reason, current_database, current_settings
from irt_assets.common.wording import quantity
from irt_assets.intake import corrections
from irt_assets.ledger import closings
from irt_assets.spark import lake_upkeep
from irt_assets.spark.lake import compare_days, export_days
from resources.cluster.lake import Lake
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)
Since = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="First day (UTC).")]
Until = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="Last day (UTC).")]

First = Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], metavar="DAY", help="First day (UTC).")]
Last = Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], metavar="DAY", help="Last day (UTC).")]


@app.command(epilog='Example: irt attempts withdraw --ids ids.txt --by Kim --reason "sent twice"')
def withdraw(
    by: By,
    reason: Reason,
    ids: Annotated[
        Path | None,
        typer.Option("--ids", metavar="FILE", exists=True, dir_okay=False, help="File of answer ids, one per line."),
    ] = None,
    item: Annotated[
        str | None, typer.Option("--item", metavar="ID", help="Item id: withdraw all answers to it.")
    ] = None,
    first: First = None,
    last: Last = None,
    reopen: Reopen = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Withdraw answers from the log, by ids or by item. They no longer count; a copy of them is kept."""
    if (ids is None) == (item is None) or (ids is not None and (first or last)):
        raise PermanentFailure("choose the answers: --ids FILE, or --item ID, optionally with --from and --to")
    named = {line.strip() for line in (_read_text(ids) if ids else "").splitlines() if line.strip()}
    which = corrections.AnswerSelection(item, sorted(named), *_period(first, last))
    opens = partial(closings.reopen_months, by=by, reason=reason) if reopen else None
    done = corrections.withdraw(current_database(), which, by=by, reason=reason, dry_run=dry_run, reopen=opens)
    print_correction(done, as_json)
    if len(named) > done.answers:
        print_error("warning: ", f"ids of which the log has no answer: {len(named) - done.answers:,}")
    if current_settings().irt_attempts:
        print_error("warning: ", "the lake has them until its days are exported again with --replace")


@app.command(epilog="Example: irt attempts export --since 2026-09-01 --until 2026-09-30")
def export(
    since: Since = None,
    until: Until = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace", help="Also write days for which the lake has more answers than the database, or damaged files."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Update the lake: write each day up to yesterday on which it differs from the database.

    If it is interrupted, run it again: each day is either unchanged or complete.
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
    exit_with_failure(done.refused)


@app.command(epilog="Example: irt attempts check --since 2026-09-01")
def check(since: Since = None, until: Until = None, as_json: AsJson = False) -> None:
    """Compare the lake with the database, and read all of its files.

    Without --since, the last 366 days are compared, which the database keeps, and
    the files of all days are read.
    """
    lake, database = _lake(), current_database()
    start, end = _period(since, until)
    different = database.call(compare_days, lake, start, end)
    with progress_bar("reading days", as_json) as progress:
        found = list(lake_upkeep.faults(lake, start, end, progress))
    if as_json:
        print_json({"differences": [*map(asdict, different)], "faults": [*map(asdict, found)]})
    else:
        say(*map(str, different), *(f"{fault.day}: {fault.what}" for fault in found))
        if different or found:
            say("write these days again: irt attempts export --since DAY --until DAY --replace")
        else:
            say(f"{lake.name} equals the database, and its files are unchanged")
    exit_with_failure(different or found)


@app.command(epilog="Example: irt attempts prune")
def prune() -> None:
    """Delete files of the lake that were replaced, or left by an interrupted export, over a day ago."""
    say(f"{quantity(lake_upkeep.prune(_lake()), 'file')} deleted")


def _lake() -> Lake:
    return Lake.at(current_settings())


def _period(first: datetime | None, last: datetime | None) -> tuple[datetime | None, datetime | None]:
    return first and _utc(first), last and _utc(last) + timedelta(days=1)


def print_correction(done: corrections.Correction, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done))
        return
    say(*done.sentences)


def _utc(day: datetime) -> datetime:
    return day.replace(tzinfo=UTC)


def _read_text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeError as error:
        raise PermanentFailure(f"{path} is not UTF-8: save it as UTF-8, with one id a line") from error


def _key(day: datetime | None) -> str | None:
    return None if day is None else f"{day:%Y-%m-%d}"
