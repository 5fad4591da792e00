"""`irt lineage`: where an item's published numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

import typer

from irt_assets.blocks import table
from irt_assets.cli.console import AsJson, as_text, escape, out, print_blocks, print_json, say
from irt_assets.cli.installation import current_database, current_settings
from irt_assets.decisions.lineage import lineage as trace
from irt_assets.ledger.decisions import decisions_on
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.responses.item_status import item_status

if TYPE_CHECKING:
    from resources.settings import Settings

app = typer.Typer()
HASH_SHOWN = 12
"""Digits of a hash for people; `--json` has all."""


@app.command()
def lineage(item: Annotated[str, typer.Argument(help="Item id.")], as_json: AsJson = False) -> None:
    """Where an item's published numbers come from, and what was decided on it."""
    with current_database().connect() as connection:
        publications, decisions = trace(connection, item), decisions_on(connection, item)
        status = item_status(connection).get(item)
    if as_json:
        print_json({"publications": publications, "decisions": decisions, "status": vars(status) if status else None})
    else:
        _print_lineage(item, publications, decisions, current_settings())
        if status:
            say(f"{item} is {status.sentence}")


def _print_lineage(
    item: str, publications: Sequence[dict[str, Any]], decisions: Sequence[dict[str, Any]], settings: Settings
) -> None:
    """A column a publication, the latest first, and a row a decision."""
    for scale_id in dict.fromkeys(row["scale_id"] for row in publications):
        rows = [row for row in publications if row["scale_id"] == scale_id]
        out.print(f"[bold]{escape(item)}[/bold] on scale {escape(scale_id)}")
        described = [_publication(row, settings) for row in rows]
        marks = ["in force" if row["in_force"] else "not in force" for row in rows]
        names = dict.fromkeys(chain(*described))
        print_blocks(table(("", *marks), [(name, *(one.get(name) for one in described)) for name in names]))
    keys = ("month", "decision", "decided_by", "decided_at", "effective_from", "reason")
    taken = [[None if row[key] is None else as_text(row[key], settings) for key in keys] for row in decisions]
    columns = ("month", "decision", "by", "on", "in force from", "reason")
    print_blocks(table(columns, taken, empty="no decisions on it yet"))


def _publication(row: dict[str, Any], settings: Settings) -> dict[str, str]:
    """What a column of the lineage says."""
    values = ItemRow.of(row)
    stored = row["linking_constants"]
    linking = LinkingConstants.from_json(stored, row["fit_id"]) if stored else None
    linked = (
        f"{linking.method}, slope {linking.slope:.3f}, intercept {linking.intercept:+.3f}, "
        f"{len(linking.anchors_used)} anchors"
        if linking
        else "–"
    )
    shown = {"a": (values.a, values.a_se), "b": (values.b, values.b_se), "c": (values.c, values.c_se)} | values.shown
    texts = {
        name: f"{value:.3f}" + (f" ± {error:.3f}" if error is not None else "")
        for name, (value, error) in shown.items()
    } | {
        "in force from": row["effective_from"],
        "published": row["published_at"],
        "by": (row["decided_by"] or f"rule {row['rule']}") + (", an undo" if row["rule"] == "undo" else ""),
        "why": row["reason"],
        "month": row["month"],
        "answers": None if row["n_responses"] is None else f"{row['n_responses']:,}",
        "fit": row["fit_id"],
        "engine": row["engine"] and f"{row['engine']} {row['engine_version']}, {row['model']}",
        "linked": linked,
        "snapshot": row["snapshot"] and "; ".join(filter(None, (row["snapshot"], row["rewritten"]))),
        "anchor set": row["anchor_hash"][:HASH_SHOWN],
        "answers' hash": (row["data_hash"] or "")[:HASH_SHOWN],
        "code": row["code_version"],
        "run": row["run_id"],
    }
    return {name: as_text(value, settings) if value else "–" for name, value in texts.items()}
