"""How far the anchors of a month's linking cover the bank, as it was published when the month began.

The linking itself depends on the month's answers and the frozen anchors alone; what the bank is made of changes with
every publication, which is why this is not among its constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

import psycopg

from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.publications import bank_in_force
from irt_assets.psychometrics.linking.coverage import gaps_in_coverage


@dataclass(frozen=True)
class Bank:
    """A scale's items at a time. `topics`: of each item; `b`: of those that were published then; `anchors`: of every
    version of the set."""

    topics: Mapping[str, str | None] = field(default_factory=dict)
    b: Mapping[str, float] = field(default_factory=dict)
    anchors: frozenset[str] = frozenset()

    @property
    def has_more_than_anchors(self) -> bool:
        """Whether anything else was published, so that there is something for the anchors to cover."""
        return not self.b.keys() <= self.anchors


def read_bank(connection: psycopg.Connection, scale_id: str, at: datetime) -> Bank:
    rows = bank_in_force(connection, scale_id, at)
    return Bank(
        {row["item_id"]: row["topic_id"] for row in rows},
        {row["item_id"]: row["b"] for row in rows if row["b"] is not None},
        frozenset(row["item_id"] for row in rows if row["was_anchor"]),
    )


def gaps(constants: LinkingConstants, bank: Bank) -> list[str]:
    """What the anchors used by a linking do not cover of the bank, a sentence each."""
    if not bank.has_more_than_anchors:
        return []
    return gaps_in_coverage(
        constants.slope,
        constants.intercept,
        constants.cov,
        [bank.topics[item] for item in constants.anchors_used if item in bank.topics],
        bank.b,
        list(bank.topics.values()),
    )
