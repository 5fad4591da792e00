"""Lineage of a published number: publication, fit, answers, anchors, code, and run."""

from typing import Any

import psycopg

from irt_assets.decisions.origin import read_origin
from irt_assets.ledger.decisions import key_decisions
from irt_assets.ledger.publications import publications_with_their_fits
from irt_assets.ledger.steps import last_step_that_held
from resources.failures import PermanentFailure


def lineage(connection: psycopg.Connection, item_id: str) -> list[dict[str, Any]]:
    """All publications of an item with their fit, snapshot and anchors, the latest effective_from first.

    Raises PermanentFailure, with the reason if it is known, if the item has never been published and nobody decided on
    its key.
    """
    rows = publications_with_their_fits(connection, item_id)
    if rows or key_decisions(connection, item_id):
        return rows
    known = connection.execute("SELECT scale_id FROM question WHERE item_id = %s", (item_id,)).fetchone()
    if known is None:
        raise PermanentFailure(f"the bank has no item {item_id!r}: ids are case-sensitive; `irt import questions FILE`")
    why = why_unpublished(connection, known[0], item_id)
    raise PermanentFailure(f"nothing was ever published for item {item_id} of scale {known[0]}; {why}")


def why_unpublished(connection: psycopg.Connection, scale_id: str, item_id: str) -> str:
    """Explain why nothing is published for an item: the newest month that held it back, or the origin window.

    The last change of the key comes with it, as the key may have been the cause.
    """
    decided = key_decisions(connection, item_id)
    key = f"; its key was last changed on {decided[-1]['decided_at']:%Y-%m-%d}" if decided else ""
    if step := last_step_that_held(connection, scale_id, item_id):
        return f"{step.month} held it back: {'; '.join(step.held[item_id])}{key}"
    if (origin := read_origin(connection, scale_id)) and item_id in origin.left_out:
        return f"the origin window left it out: {origin.left_out[item_id]}{key}"
    return f"no month has estimated it yet{key}"
