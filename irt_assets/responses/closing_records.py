"""Records of closed months: when and why they closed, with which file and rules, and which answers changed since.

Imports neither pandas nor PyArrow, because the exporter uses this module, too.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from resources.postgres.database import records

KINDS = {
    "late": "late",
    "corrected": "corrected",
    "withdrawn": "withdrawn",
    "deleted": "deleted",
    "flagged": "from accounts that became test accounts or ceased to be",
    "item_changed": "to items whose scale or maximum score changed",
}
"""Kinds of changes to a closed month's answers → the words that follow their number in a sentence."""
MIN_SHARE_SHOWN = 0.001
NEWEST: LiteralString = (
    "(SELECT DISTINCT ON (month, scale_id) * FROM month_state ORDER BY month, scale_id, state_id DESC)"
)
"""Subquery: the newest row of each month and scale that has ever closed. Not by `since`, because a clock may be set
back between two decisions."""


@dataclass(frozen=True)
class ClosedMonth:
    """A month of a scale that is closed, or was closed until a person reopened it.

    Attributes:
        state: closed or reopened; with `since`, `decided_by` and `reason`.
        snapshot_hash: sha256 of the file with which it closed.
        rules: settings by which its answers were judged; absent settings have their defaults.
        came: `answers`: number of answers when it closed. Each of `KINDS`: number of changed answers. `items`: item →
            share of its answers that changed, if above 5 %. Empty until the first nightly run after the closing.
        counted_at: when the changed answers were counted.
        state_id: number of the row.
    """

    month: str
    scale_id: str
    state: str
    since: datetime
    decided_by: str
    reason: str
    snapshot_hash: str
    rules: dict[str, Any]
    came: dict[str, Any]
    counted_at: datetime | None
    state_id: int

    @property
    def changes(self) -> dict[str, int]:
        """Number of changed answers by kind, without kinds of which no answer has changed."""
        return {kind: self.came[kind] for kind in KINDS if self.came.get(kind)}

    @property
    def share(self) -> float:
        """Changed answers as a share of the answers with which the month closed."""
        return sum(self.changes.values()) / max(self.came.get("answers", 0), 1)

    @property
    def sentence(self) -> str:
        """The changed answers by kind, and their share; empty if no answer has changed."""
        kinds = ", ".join(f"{n:,} {KINDS[kind]}" for kind, n in self.changes.items())
        share = f"{self.share:.1%}" if self.share >= MIN_SHARE_SHOWN else f"under {MIN_SHARE_SHOWN:.1%}"
        return f"answers since then: {kinds} ({share} of its answers)" if kinds else ""


def read_closed(connection: psycopg.Connection, months: Collection[str] | None = None) -> list[ClosedMonth]:
    """The closed months among `months` (None: all), in order of month and scale."""
    return [record for record in read_states(connection, months) if record.state == "closed"]


def read_states(connection: psycopg.Connection, months: Collection[str] | None = None) -> list[ClosedMonth]:
    """The months among `months` (None: all) that have ever closed, in order of month and scale."""
    return records(
        connection,
        ClosedMonth,
        f"""SELECT month, scale_id, state, since, decided_by, reason, snapshot_hash, rules, came, counted_at, state_id
            FROM {NEWEST} newest WHERE %(months)s::text[] IS NULL OR month = ANY(%(months)s)
            ORDER BY month, scale_id""",
        {"months": None if months is None else [*months]},
    )
