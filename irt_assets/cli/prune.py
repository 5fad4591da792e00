"""The command `irt prune`."""

from typing import Annotated

import typer

from irt_assets.blocks import table
from irt_assets.cli.console import AsJson, print_blocks, print_json
from irt_assets.cli.installation import current_database, current_instance, current_store
from irt_assets.common.wording import some_of
from jobs.retention.prune import prune as delete_unneeded

app = typer.Typer()
NAMES_SHOWN = 3


@app.command(epilog="Example: irt prune --dry-run")
def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be deleted, and delete nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Delete outdated data: old nights, superseded fits, snapshots and runs, resolved alerts."""
    database = current_database()
    with current_instance(database) as instance:
        deleted = list(delete_unneeded(database, current_store(database), instance, dry_run=dry_run))
    if as_json:
        print_json([{"kind": deletion.kind, "names": deletion.names, "deleted": not dry_run} for deletion in deleted])
        return
    rows = [
        (f"{len(deletion.names):,}", deletion.kind, some_of(deletion.names, NAMES_SHOWN))
        for deletion in deleted
        if deletion.names
    ]
    print_blocks(table(("", "would go" if dry_run else "deleted", ""), rows, empty="nothing to delete"))
