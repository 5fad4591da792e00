"""How far the anchors of a month's linking cover the bank, as things stand when somebody asks.

The linking itself depends on the month's answers and the frozen anchors alone; what the bank is made of changes with
every publication, which is why this is not among its constants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.psychometrics.linking import gaps_in_coverage

FARTHEST_B = 1000.0
"""A bank's own difficulties lie within; what lies beyond is not a difficulty."""


@dataclass(frozen=True)
class Bank:
    """A scale's items at a time. `topics`: of each item; `b`: as published, else as the bank has it, where either is;
    `anchor_b`: as frozen."""

    topics: Mapping[str, str | None] = field(default_factory=dict)
    b: Mapping[str, float] = field(default_factory=dict)
    anchor_b: Mapping[str, float] = field(default_factory=dict)


def read_bank(connection: psycopg.Connection, scale_id: str, at: datetime) -> Bank:
    rows = connection.execute(
        """SELECT q.item_id, q.topic_id, coalesce(p.b, q.b), n.b
           FROM (SELECT item_id, topic_id, scale_id,
                        CASE WHEN jsonb_typeof(meta#>'{irt,b}') = 'number'
                                  AND abs((meta#>>'{irt,b}')::numeric) < %(farthest)s
                             THEN (meta#>>'{irt,b}')::float END AS b
                 FROM question WHERE scale_id = %(scale)s) q
           LEFT JOIN (SELECT DISTINCT ON (item_id) item_id, b FROM item_parameter_publication
                      WHERE scale_id = %(scale)s AND effective_from <= %(at)s
                      ORDER BY item_id, effective_from DESC, publication_id DESC) p USING (item_id)
           LEFT JOIN (SELECT item_id, max(b) AS b FROM anchor_set WHERE scale_id = %(scale)s GROUP BY 1) n
             USING (item_id)""",
        {"scale": scale_id, "at": at, "farthest": FARTHEST_B},
    ).fetchall()
    return Bank(
        {item: topic for item, topic, _, _ in rows},
        {item: b for item, _, b, _ in rows if b is not None},
        {item: b for item, _, _, b in rows if b is not None},
    )


def gaps(constants: Mapping[str, Any], bank: Bank) -> list[str]:
    """What the anchors used by a linking do not cover of the bank, a sentence each."""
    used = [item for item in constants["anchors_used"] if item in bank.anchor_b]
    return gaps_in_coverage(
        [bank.anchor_b[item] for item in used],
        {bank.topics[item] for item in used},
        list(bank.b.values()),
        list(bank.topics.values()),
    )
