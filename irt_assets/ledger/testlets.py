"""Publish the SD of testlet effects, and read the SD in force at a time with the testlets of the items.

A month publishes the SD together with the items' testlets at that time. If the bank changes a testlet later, the change
counts from the next month on, and no reported θ changes.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.ledger.fit_spec import Testlets
from irt_psychometrics.estimation import Effects


@dataclass(frozen=True)
class EffectsInForce:
    """SD of testlet effects on the bank's scale, and the testlet `of` each item that has one."""

    sd: float
    of: Mapping[str, str]

    def effects(self, item_ids: Sequence[str]) -> Effects | None:
        """Testlet effects of the items, or None."""
        return Effects.from_testlets(item_ids, self.of, self.sd)


def effects_in_force(
    connection: psycopg.Connection, scale_id: str, at: datetime, items: Collection[str]
) -> EffectsInForce | None:
    """The last publication with effective_from ≤ at, with the testlets of `items`, or None."""
    row = connection.execute(
        """SELECT sd, testlets FROM testlet_sd_publication WHERE scale_id = %s AND effective_from <= %s
           ORDER BY effective_from DESC, publication_id DESC LIMIT 1""",
        (scale_id, at),
    ).fetchone()
    if row is None:
        return None
    return EffectsInForce(row[0], {item: row[1][item] for item in sorted(items) if item in row[1]})


def publish_effects(
    connection: psycopg.Connection,
    scale_id: str,
    found: Testlets | None,
    effective_from: datetime,
    month: str,
    fit_id: str,
) -> None:
    """Publish the SD of a month's linked fit from `effective_from` on. Does nothing if the fit has no SD."""
    if found is None or found.sd is None:
        return
    connection.execute(
        """INSERT INTO testlet_sd_publication
             (scale_id, sd, se, n_testlets, testlets, effective_from, month, fit_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (scale_id, found.sd, found.se, found.n_testlets, json.dumps(found.of)) + (effective_from, month, fit_id),
    )
