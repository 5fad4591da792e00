"""Months that closed: when, why, with which file and rules, and which of their answers changed since.

Loads neither pandas nor PyArrow: the exporter reads these, too. What does not belong here: closing and reopening (see
`ledger.closings`), and the scales as a closed month follows them (see `closed_months`).
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
"""Kinds of changes to a closed month's answers, as they follow a number."""
MIN_SHARE_SHOWN = 0.001
NEWEST: LiteralString = "(SELECT DISTINCT ON (month, scale_id) * FROM month_state ORDER BY month, scale_id, since DESC)"
"""The row that holds for each month of each scale that ever closed, as a relation."""


@dataclass(frozen=True)
class ClosedMonth:
    """A month of a scale that is closed, or was until a person reopened it.

    Attributes:
        state: closed or reopened, since when, by whom and why.
        snapshot_hash: sha256 of the file that it closed with.
        rules: settings that its answers were judged by; those that are absent are the defaults.
        came: `answers`, their number when it closed; changed answers by `KINDS`; `items`, the share of changed
            answers of each item with more than 5 %. Empty until the first night after the closing.
        counted_at: when the changed answers were counted.
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

    @property
    def changes(self) -> dict[str, int]:
        """Number of changed answers, by those of `KINDS` that have some."""
        return {kind: self.came[kind] for kind in KINDS if self.came.get(kind)}

    @property
    def share(self) -> float:
        """Changed answers, as a share of the answers that the month closed with."""
        return sum(self.changes.values()) / max(self.came.get("answers", 0), 1)

    @property
    def sentence(self) -> str:
        """The changed answers by kind, and their share; empty if no answer has changed."""
        kinds = ", ".join(f"{n:,} {KINDS[kind]}" for kind, n in self.changes.items())
        share = f"{self.share:.1%}" if self.share >= MIN_SHARE_SHOWN else f"under {MIN_SHARE_SHOWN:.1%}"
        return f"answers since then: {kinds} ({share} of its answers)" if kinds else ""


def read_closed(connection: psycopg.Connection, months: Collection[str] | None = None) -> list[ClosedMonth]:
    """The closed ones of the months (None: of all), by month and scale."""
    return [one for one in read_states(connection, months) if one.state == "closed"]


def read_states(connection: psycopg.Connection, months: Collection[str] | None = None) -> list[ClosedMonth]:
    """Those of the months (None: of all) that ever closed, by month and scale."""
    return records(
        connection,
        ClosedMonth,
        f"""SELECT month, scale_id, state, since, decided_by, reason, snapshot_hash, rules, came, counted_at
            FROM {NEWEST} newest WHERE %(months)s::text[] IS NULL OR month = ANY(%(months)s)
            ORDER BY month, scale_id""",
        {"months": None if months is None else [*months]},
    )
