"""The commands of `irt month`, which ask for confirmation before they record a decision.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from typing import Annotated

import typer

from irt_assets.cli.console import Yes, confirm, say
from irt_assets.cli.installation import By, Reason, current_database
from irt_assets.common.wording import quantity
from irt_assets.decisions.closing import preview_reopening, reopen_months

app = typer.Typer(no_args_is_help=True)


@app.callback()
def month() -> None:
    """Reopen closed months."""


@app.command(epilog='Example: irt month reopen 2026-07 2026-08 --by Kim --reason "late import"')
def reopen(
    first: Annotated[str, typer.Argument(metavar="FROM", help="First month, YYYY-MM.")],
    by: By,
    reason: Reason,
    last: Annotated[str | None, typer.Argument(metavar="[TO]", help="Last month, YYYY-MM. Default: only FROM.")] = None,
    yes: Yes = False,
) -> None:
    """Reopen closed months, so that answers that arrived or changed since count for them.

    The nightly run closes them again.
    """
    database = current_database()
    found = database.call(preview_reopening, first, last)
    say(*found.sentences)
    confirm(f"reopen {quantity(len({closing.month for closing in found.closed}), 'month')}?", yes)
    reopen_months(database, first, last, by=by, reason=reason)
    say(f"reopened by {by}")
