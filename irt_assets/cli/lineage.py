"""`irt lineage`: where an item's published numbers come from."""

from __future__ import annotations

from itertools import chain
from typing import Annotated

import typer

from irt_assets.blocks import Moment, table
from irt_assets.cli.console import AsJson, escape, out, print_blocks, print_json, say
from irt_assets.cli.installation import current_database, current_settings
from irt_assets.decisions.lineage import lineage as trace
from irt_assets.decisions.shown import publication_facts
from irt_assets.ledger.decisions import decisions_on
from irt_assets.responses.item_status import item_status

app = typer.Typer()


@app.command()
def lineage(item: Annotated[str, typer.Argument(help="Item id.")], as_json: AsJson = False) -> None:
    """Where an item's published numbers come from, and what was decided on it."""
    with current_database().connect() as connection:
        publications, decisions = trace(connection, item), decisions_on(connection, item)
        status = item_status(connection).get(item)
    if as_json:
        print_json({"publications": publications, "decisions": decisions, "status": vars(status) if status else None})
        return
    zone = current_settings().irt_time_zone
    for scale_id in dict.fromkeys(row["scale_id"] for row in publications):
        rows = [row for row in publications if row["scale_id"] == scale_id]
        known = [publication_facts(row, zone) for row in rows]
        marks = ["in force" if row["in_force"] else "not in force" for row in rows]
        names = [name for name in dict.fromkeys(chain(*known)) if any(one.get(name) for one in known)]
        out.print(f"[bold]{escape(item)}[/bold] on scale {escape(scale_id)}")
        print_blocks(table(("", *marks), [(name, *(one.get(name) for one in known)) for name in names]))
    columns = ("month", "decision", "by", "on", "in force from", "reason")
    taken = [
        (row["month"], row["decision"], row["decided_by"], Moment(row["decided_at"], zone))
        + (row["effective_from"] and Moment(row["effective_from"], zone), row["reason"])
        for row in decisions
    ]
    print_blocks(table(columns, taken, empty="no decisions on it yet"))
    if status:
        say(f"{item} is {status.sentence}")
