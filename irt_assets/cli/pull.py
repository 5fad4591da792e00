"""`irt pull`: parses, calls, prints."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Annotated, NoReturn

import typer

from irt_assets.cli.console import print_error, say
from irt_assets.cli.installation import current_database, current_settings
from irt_assets.common.partitions import last_complete_month
from irt_assets.common.wording import counted, span
from irt_assets.intake.pulling.check import check as check_rows
from irt_assets.intake.pulling.nightly import Comparison
from irt_assets.intake.pulling.pull import Pull
from irt_assets.intake.pulling.sources_file import PullSource, read_sources, source_named
from irt_assets.responses.closing_records import read_closed
from jobs.copies import keep_in_step
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database

app = typer.Typer()


@app.command(epilog="Example: irt pull lms --newest-first")
def pull(
    source: Annotated[str | None, typer.Argument(help="As the file of sources calls it; without: all of them.")] = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first", help="Of a first pull, the newest month first.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Then compare the last 35 days, as each night does.")
    ] = False,
    confirm: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], metavar="DAY", help="Fetch and withdraw what a day's comparison found."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Show what is wrong with the rows of a source; store nothing.")
    ] = False,
    accept: Annotated[
        bool, typer.Option("--accept", help="Go on with a source that was stopped: it is right as it is.")
    ] = False,
) -> None:
    """Pull answers, items and learners from your tables: what was written since the last pull.

    IRT_PULL_SOURCES names the file that says which. A first pull goes day by day, and goes on where it was interrupted.
    """
    database, settings = current_database(), current_settings()
    names = [source] if source is not None else [*read_sources(settings)]
    if not names or (source is None and (check or confirm or accept)):
        raise PermanentFailure("name a source: irt pull SOURCE" if names else "IRT_PULL_SOURCES names no source")
    failed = False
    for name in names:
        wanted = source_named(settings, name)
        if check:
            _check(database, wanted)
        try:
            if wanted.kind != "attempts":
                say(keep_in_step(database, wanted).summary)
                continue
            done = Pull(database, wanted, tell=say)
            report = done.run(newest_first=newest_first, accept=accept)
            say(
                f"{name}: {report.read:,} rows read, {report.accepted:,} accepted, {report.corrected:,} corrected, "
                f"{report.duplicates:,} duplicates, rejected: {report.reasons}"
            )
            _name_months(database, [month for month in done.months if month <= last_complete_month(datetime.now(UTC))])
            if compare or confirm:
                day = confirm.date() if confirm else None
                for line in Comparison(database, wanted, at_once=True).run(datetime.now(UTC), confirm=day):
                    say(str(line))
        except (PermanentFailure, TransientFailure) as error:
            if source is not None:
                raise
            print_error("error: ", str(error))
            failed = True
    if failed:
        raise typer.Exit(1)


def _name_months(database: Database, filled: Collection[str]) -> None:
    """Print the commands by which the answers of a first pull come to count for the months that are over."""
    with database.connect() as connection:
        closed = sorted({one.month for one in read_closed(connection, filled)})
    if of_open := sorted({*filled} - {*closed}):
        say(f"months that the first pull filled: irt backfill --from {of_open[0]} --to {of_open[-1]}")
    if closed:
        months = " ".join(sorted({closed[0], closed[-1]}))
        of_closed = f"closed months, which count these answers only once you reopen them: {span(closed[0], closed[-1])}"
        say(f"{of_closed} → irt month reopen {months}")


def _check(database: Database, source: PullSource) -> NoReturn:
    """Exits with 1 if something is wrong, with 0 if nothing is."""
    found = check_rows(database, source, say)
    for number, finding in enumerate(found, 1):
        say(f"\n{number}. {finding.what}\n   {finding.consequence}")
        for line in filter(None, (finding.row, finding.statement)):
            say(f"   {line}")
    say(f"\n{counted(len(found), 'fault')} found; nothing was stored")
    raise typer.Exit(1 if found else 0)
