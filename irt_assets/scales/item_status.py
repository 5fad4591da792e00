"""Items that were withdrawn from use, and the answers that do not count because of it.

A decision always takes effect later than it is made. The decision that took effect last is in force; if several took
effect at the same time, the last recorded decision is. An answer that was given while its item was withdrawn never
counts towards an ability, even after the item is restored. Earlier answers always count.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import psycopg

from resources.postgres.database import records

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = 86_400_000_000
"""Microseconds of a day."""
Stretch = tuple[datetime, datetime | None]
"""Start and end of a withdrawal; the end is None if the item has not been restored."""


@dataclass(frozen=True)
class Status:
    """A decision on an item's use, from the view `item_status` of `decision`."""

    item_id: str
    state: str
    effective_from: datetime
    reason: str
    decided_by: str
    decided_at: datetime

    @property
    def is_withdrawn(self) -> bool:
        return self.state == "withdrawn"

    @property
    def sentence(self) -> str:
        return f"{self.state} from {self.effective_from:%Y-%m-%d} on by {self.decided_by}: {self.reason}"


@dataclass(frozen=True)
class Withdrawals:
    """The periods during which answers to items do not count, by item."""

    stretches: Mapping[str, tuple[Stretch, ...]] = field(default_factory=dict)

    def covers(self, item_id: str, at: datetime) -> bool:
        """Whether the item was withdrawn at `at`."""
        return any(since <= at and (until is None or at < until) for since, until in self.stretches.get(item_id, ()))

    def mask(
        self, item: npt.NDArray[np.int32], item_ids: npt.NDArray[np.object_], at: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Whether each of N answers was given while its item was withdrawn, shape (N,).

        `item` contains codes: indices in `item_ids`. `at` is in microseconds since 1970.
        """
        covered = np.zeros(item.size, dtype=bool)
        for code in np.flatnonzero(np.isin(item_ids, list(self.stretches))) if self.stretches else ():
            rows = np.flatnonzero(item == code)
            for since, until in self.stretches[item_ids[code]]:
                later = at[rows] >= microseconds(since)
                covered[rows] |= later if until is None else later & (at[rows] < microseconds(until))
        return covered


def microseconds(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def instant_of(at: int) -> datetime:
    """The time that is `at` microseconds after 1970."""
    return EPOCH + timedelta(microseconds=at)


def item_status(connection: psycopg.Connection, at: datetime | None = None) -> dict[str, Status]:
    """Item → the decision in force at `at` (None: the decision that takes effect last)."""
    rows = records(
        connection,
        Status,
        """SELECT DISTINCT ON (item_id) item_id, state, effective_from, reason, decided_by, decided_at
               FROM item_status WHERE %(at)s::timestamptz IS NULL OR effective_from <= %(at)s
               ORDER BY item_id, effective_from DESC, status_id DESC""",
        {"at": at},
    )
    return {row.item_id: row for row in rows}


def read_withdrawals(connection: psycopg.Connection) -> Withdrawals:
    """Read all withdrawals that have been decided, including future ones."""
    found: dict[str, tuple[Stretch, ...]] = {}
    for item, since, until in connection.execute(
        "SELECT item_id, since, until FROM item_withdrawal ORDER BY item_id, since"
    ):
        found[item] = (*found.get(item, ()), (since, until))
    return Withdrawals(found)
