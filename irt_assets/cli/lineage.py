"""The command `irt lineage`."""

from typing import Annotated

import typer

from irt_assets.blocks import Section
from irt_assets.cli.console import AsJson, print_blocks, print_json, say
from irt_assets.cli.installation import current_database, current_settings
from irt_assets.decision_kinds import ITEM_KINDS
from irt_assets.decisions.lineage import lineage as trace
from irt_assets.ledger.decisions import decisions_on, key_decisions, newest_decisions
from irt_assets.reports.decision_blocks import decisions_table, publications
from irt_assets.scales.item_status import item_status

app = typer.Typer()


@app.command(epilog="Example: irt lineage A21")
def lineage(item: Annotated[str, typer.Argument(help="Item id.")], as_json: AsJson = False) -> None:
    """Show where an item's published parameters come from, and the decisions on it and its key."""
    with current_database().connect() as connection:
        found, decisions = trace(connection, item), decisions_on(connection, item)
        newest = newest_decisions(connection, item_id=item, item_kinds=ITEM_KINDS)
        status, keys = item_status(connection).get(item), key_decisions(connection, item)
    if as_json:
        use = vars(status) if status else None
        print_json({"publications": found, "decisions": decisions, "status": use, "keys": keys})
        return
    zone = current_settings().irt_time_zone
    for scale_id in dict.fromkeys(row["scale_id"] for row in found):
        of_scale = publications([row for row in found if row["scale_id"] == scale_id], zone)
        print_blocks(Section(f"{item} on scale {scale_id}", tuple(of_scale)))
    print_blocks(decisions_table(newest, zone, "no decisions on it yet"))
    if status:
        say(f"{item} is {status.sentence}")
