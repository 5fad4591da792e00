"""`irt prune`: parses, calls, prints."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from irt_assets.console import out, print_json, print_table
from resources.database import Database
from resources.settings import get_settings

app = typer.Typer()
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
NAMES_SHOWN = 3


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Delete what nothing needs any more: old nights, superseded fits, snapshots and runs, alerts that are over."""
    from irt_assets.stack import dagster_instance
    from jobs.prune import prune as prune_all
    from resources.object_store import object_store

    settings = get_settings()
    database = Database(settings)
    with dagster_instance(settings, database) as instance:
        gone = list(prune_all(database, object_store(settings), instance, settings, dry_run=dry_run))
    if as_json:
        print_json([{"kind": one.kind, "names": one.names, "deleted": not dry_run} for one in gone])
        return
    rows = [
        (
            f"{len(one.names):,}",
            one.kind,
            escape(", ".join(one.names[:NAMES_SHOWN]) + " …" * (len(one.names) > NAMES_SHOWN)),
        )
        for one in gone
        if one.names
    ]
    if rows:
        print_table(("", "would go" if dry_run else "deleted", ""), rows)
    else:
        out.print("nothing to delete")
