"""The commands of `irt month`, which ask for confirmation before they record a decision.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from typing import Annotated

import typer

from irt_assets.cli.console import Yes
from irt_assets.cli.deciding import confirm_decision
from irt_assets.cli.installation import By, Reason
from irt_assets.decisions.closing import REOPEN_MONTHS, MonthRange

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
    confirm_decision(REOPEN_MONTHS, MonthRange(first, last), by=by, reason=reason, yes=yes)
