"""The commands of `irt scores`. Decisions are recorded after a confirmation.

Exit codes: 0 done; 1 not confirmed; 2 the request is wrong.
"""

from typing import Annotated

import typer

from irt_assets.cli.console import print_blocks
from irt_assets.cli.installation import current_database
from irt_assets.scores.form_tables import newest_tables, tables_overview

app = typer.Typer(no_args_is_help=True)

Form = Annotated[str, typer.Argument(help="Form id.")]
ScaleId = Annotated[str, typer.Option("--scale", help="Scale (items that measure one ability).")]


@app.command("table", epilog="Example: irt scores table")
def table_(scale: ScaleId = "default") -> None:
    """List the newest score table of each form."""
    print_blocks(tables_overview([*current_database().call(newest_tables, scale).values()]))
