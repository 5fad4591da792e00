"""The SD of testlet effects: which is in force at a time, with the testlets of the items, and a month's own.

A month takes it to the ledger together with the testlets of the items as that month found them: a testlet that the bank
changes later counts from the next month on, and no reported θ changes.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg

from irt_assets.ledger.fit_spec import Testlets
from irt_psychometrics.estimation import Effects


@dataclass(frozen=True)
class InTestlets:
    """The SD of testlet effects on the bank's scale, and the testlet of each item that stands in one."""

    sd: float
    of: Mapping[str, str]

    def effects(self, item_ids: Sequence[str]) -> Effects | None:
        """What answers to these items have in common; None where that is nothing."""
        return Effects.of(item_ids, self.of, self.sd)


def effects_in_force(
    connection: psycopg.Connection, scale_id: str, at: datetime, items: Collection[str]
) -> InTestlets | None:
    """The last publication with effective_from ≤ at, with the testlets of these items; None where there is none."""
    row = connection.execute(
        """SELECT sd, testlets FROM testlet_sd_publication WHERE scale_id = %s AND effective_from <= %s
           ORDER BY effective_from DESC, publication_id DESC LIMIT 1""",
        (scale_id, at),
    ).fetchone()
    if row is None:
        return None
    return InTestlets(row[0], {item: row[1][item] for item in sorted(items) if item in row[1]})


def publish_effects(
    connection: psycopg.Connection,
    scale_id: str,
    found: Testlets | None,
    effective_from: datetime,
    month: str,
    fit_id: str,
) -> None:
    """Make the SD that a month's linked fit found the one in force from then on; nothing where it found none."""
    if found is None or found.sd is None:
        return
    connection.execute(
        """INSERT INTO testlet_sd_publication
             (scale_id, sd, se, n_testlets, testlets, effective_from, month, fit_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s)""",
        (scale_id, found.sd, found.se, found.n_testlets, json.dumps(found.of)) + (effective_from, month, fit_id),
    )
