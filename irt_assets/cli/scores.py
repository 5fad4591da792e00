"""The commands of `irt scores`. Decisions are recorded after a confirmation.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from irt_assets.cli.console import AsJson, By, DryRun, Reason, Yes, confirm, print_blocks, print_json, say
from irt_assets.cli.installation import current_database, signature
from irt_assets.decisions.release import require_text
from irt_assets.scores import standards
from irt_assets.scores.form_tables import newest_tables, tables_overview
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)

Form = Annotated[str, typer.Argument(help="Form id.")]
ScaleId = Annotated[str, typer.Option("--scale", help="Scale (items that measure one ability).")]


@app.command("table", epilog="Example: irt scores table")
def table_(scale: ScaleId = "default") -> None:
    """List the newest score table of each form."""
    print_blocks(tables_overview([*current_database().call(newest_tables, scale).values()]))


@app.command(epilog='Example: irt scores standard r.csv --form F1 --panel "Panel of May" --by Kim --reason "board"')
def standard(
    by: By,
    reason: Reason,
    ratings: Annotated[
        Path | None,
        typer.Argument(metavar="RATINGS", help="File with the columns judge, item_id and, for Angoff, rating."),
    ] = None,
    form: Annotated[str | None, typer.Option(help="Form whose items the panel has rated.")] = None,
    method: Annotated[standards.Method, typer.Option(help="Method of standard setting.")] = "angoff",
    panel: Annotated[str, typer.Option(help="Name of the panel, stored with the decision.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Restore the pass mark before the last standard.")] = False,
    scale: ScaleId = "default",
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Set the pass mark of a scale by a panel's ratings of a form's items.

    Prints the mark with its error, and how many learners would pass, before it
    asks. The ratings' hash, the panel and the former mark stay on record.
    """
    by, reason, database = signature(by), require_text("reason", reason), current_database()
    if undo:
        found = database.call(standards.last_standard, scale)[1]
        lines = [f"pass mark of scale {scale}: {found.theta:.3f} → {'none' if found.former is None else found.former}"]
    elif ratings is None or form is None:
        raise PermanentFailure("give the file of ratings and --form, or --undo to restore the former pass mark")
    else:
        found = database.call(standards.plan_standard, scale, form, ratings, method, panel, datetime.now(UTC))
        lines = found.sentences
    if as_json:
        print_json(asdict(found))
    else:
        say(*lines)
    if dry_run:
        return
    confirm(f"change the pass mark of scale {scale}?", yes)
    if undo:
        standards.undo_standard(database, scale, by=by, reason=reason)
    elif ratings and form:
        standards.set_standard(
            database, scale, form, ratings, method, panel, by=by, reason=reason, now=datetime.now(UTC)
        )
