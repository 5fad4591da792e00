"""List the items of a bank with their stages, from the view `item_stage`."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import psycopg

from irt_assets.ledger.publications import first_days_to_come
from resources.postgres.database import records

Stage = Literal["draft", "seeded", "measured", "publishable", "published", "rejected", "retired"]
UNPUBLISHED: tuple[Stage, ...] = ("draft", "seeded", "measured", "publishable")
IN_LEDGER: tuple[Stage, ...] = ("published", "retired")
"""Stages of items with published values."""


@dataclass(frozen=True)
class ItemStage:
    """An item's stage.

    Attributes:
        since: start of the stage, or None.
        n: number of answers since the item was first shown; 0 if the item was published before its answers were read.
        why: a sentence for people.
        counts_from: first day of a first publication that is still to come.
    """

    item_id: str
    scale_id: str
    stage: Stage
    since: datetime | None
    n: int
    why: str
    counts_from: datetime | None = None


def item_stages(
    connection: psycopg.Connection, scale_id: str | None = None, items: Collection[str] | None = None
) -> list[ItemStage]:
    """Read the stages of a scale's items, or of `items` only, in order of the ids. None: all.

    An item whose first publication is still to come has the first day as `counts_from`, and in `why`.
    """
    coming = first_days_to_come(connection)
    found = records(
        connection,
        ItemStage,
        """SELECT item_id, scale_id, stage, since, n, why FROM item_stage
           WHERE coalesce(scale_id = %s, true) AND coalesce(item_id = ANY(%s), true) ORDER BY item_id""",
        (scale_id, None if items is None else [*items]),
    )
    return [
        replace(each, why=f"it counts from {first:%Y-%m-%d} on", counts_from=first)
        if (first := coming.get(each.item_id))
        else each
        for each in found
    ]
