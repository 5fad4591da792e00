"""Which items people have withdrawn from use, and which answers do not count because of it.

A decision holds from a time that was in the future when it was made. If there are several, the one that begins last
holds; of those that begin together, the one that was made last. An answer that was given while its item was withdrawn
never counts towards an ability, even after the item is restored; earlier answers always do.

Belongs here: reading. Does not belong here: deciding (see `decisions.withdrawal`).
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
"""Start and end; the end is None while it lasts."""


@dataclass(frozen=True)
class Status:
    """A decision on an item's use."""

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
    """For each item, the stretches of time in which its answers do not count."""

    stretches: Mapping[str, tuple[Stretch, ...]] = field(default_factory=dict)

    def covers(self, item_id: str, at: datetime) -> bool:
        """Whether the item was withdrawn at `at`."""
        return any(since <= at and (until is None or at < until) for since, until in self.stretches.get(item_id, ()))

    def mask(
        self, item: npt.NDArray[np.int32], item_ids: npt.NDArray[np.object_], at: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """`covers` of N answers, shape (N,). `item` codes `item_ids`; `at`: microseconds since 1970."""
        covered = np.zeros(item.size, dtype=bool)
        for code in np.flatnonzero(np.isin(item_ids, list(self.stretches))) if self.stretches else ():
            mine = np.flatnonzero(item == code)
            for since, until in self.stretches[item_ids[code]]:
                later = at[mine] >= microseconds(since)
                covered[mine] |= later if until is None else later & (at[mine] < microseconds(until))
        return covered


def microseconds(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1)


def instant_of(at: int) -> datetime:
    """The time that is so many `microseconds` after 1970."""
    return EPOCH + timedelta(microseconds=at)


def item_status(connection: psycopg.Connection, at: datetime | None = None) -> dict[str, Status]:
    """The decision that holds at `at`, for each item that has one; None: the one that begins last."""
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
    """Every stretch that was decided, also those in the future."""
    found: dict[str, tuple[Stretch, ...]] = {}
    for item, since, until in connection.execute(
        "SELECT item_id, since, until FROM item_withdrawal ORDER BY item_id, since"
    ):
        found[item] = (*found.get(item, ()), (since, until))
    return Withdrawals(found)
