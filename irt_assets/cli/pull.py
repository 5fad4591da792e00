"""The command `irt pull`."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer

from irt_assets.cli.console import exit_with_failure, print_error, say
from irt_assets.cli.installation import current_database, current_settings
from irt_assets.common.partitions import last_complete_month
from irt_assets.common.wording import quantity, span
from irt_assets.intake.pulling.check import check as check_rows
from irt_assets.intake.pulling.nightly import compare_days
from irt_assets.intake.pulling.pull import Pull
from irt_assets.intake.pulling.sources_file import PullSource, find_source, read_sources
from irt_assets.responses.closing_records import read_closed
from jobs.copies import copy_with_alert
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database

app = typer.Typer()


@app.command(epilog="Example: irt pull lms --newest-first")
def pull(
    source: Annotated[str | None, typer.Argument(help="Name in the file of sources. Default: all sources.")] = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="On the first pull, start with the newest month.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Afterwards compare the last 35 days, as the nightly run does.")
    ] = False,
    confirm: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"], metavar="DAY", help="Apply the differences that the comparison found for this day."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show faults in the rows of a source, and store nothing.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Resume a stopped source: its columns are right as they are.")
    ] = False,
) -> None:
    """Copy new and changed answers, items and learners from your tables.

    IRT_PULL_SOURCES names the file of sources, which lists the tables. The first
    pull copies day by day. If it is interrupted, the next one resumes it.
    """
    database, settings = current_database(), current_settings()
    names = [source] if source is not None else [*read_sources(settings)]
    if not names or (source is None and (check or confirm or accept)):
        raise PermanentFailure("name a source: irt pull SOURCE" if names else "IRT_PULL_SOURCES names no source")
    failed = False
    for name in names:
        source_settings = find_source(settings, name)
        if check:
            _check(database, source_settings)
        try:
            if source_settings.kind != "attempts":
                say(copy_with_alert(database, source_settings).summary)
                continue
            done = Pull(database, source_settings, report_progress=say)
            report = done.run(newest_first=newest_first, accept=accept)
            say(
                f"{name}: {report.read:,} rows read, {report.accepted:,} accepted, {report.corrected:,} corrected, "
                f"{report.duplicates:,} duplicates, rejected: {report.reasons}"
            )
            _name_months(database, [month for month in done.months if month <= last_complete_month(datetime.now(UTC))])
            if compare or confirm:
                day = confirm.date() if confirm else None
                compared = compare_days(database, source_settings, datetime.now(UTC), confirm=day, at_once=True)
                say(*map(str, compared))
        except (PermanentFailure, TransientFailure) as error:
            if source is not None:
                raise
            print_error("error: ", str(error))
            failed = True
    exit_with_failure(failed)


def _name_months(database: Database, filled: Collection[str]) -> None:
    """Print the commands to run so that the answers of the first pull count for past months."""
    with database.connect() as connection:
        closed = sorted({closing.month for closing in read_closed(connection, filled)})
    if of_open := sorted({*filled} - {*closed}):
        say(f"months that the first pull filled: irt backfill --from {of_open[0]} --to {of_open[-1]}")
    if closed:
        months = " ".join(sorted({closed[0], closed[-1]}))
        of_closed = f"closed months, which count these answers only once you reopen them: {span(closed[0], closed[-1])}"
        say(f"{of_closed} → irt month reopen {months}")


def _check(database: Database, source: PullSource) -> NoReturn:
    """Print the faults in the rows of a source. Exits with 1 if there are any, otherwise with 0."""
    found = check_rows(database, source, say)
    for number, finding in enumerate(found, 1):
        say(f"\n{number}. {finding.fault}\n   {finding.consequence}")
        say(*(f"   {line}" for line in (finding.row, finding.statement) if line))
    say(f"\n{quantity(len(found), 'fault')} found; nothing was stored")
    raise typer.Exit(1 if found else 0)
