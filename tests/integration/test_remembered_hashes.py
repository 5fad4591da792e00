"""A remembered hash is the hash: every write that may change it is noticed, and no other costs a reading."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import LiteralString

import pytest

from irt_assets.partitions import month_bounds
from irt_assets.responses import remembered_hashes
from irt_assets.responses.remembered_hashes import RememberedHashes
from irt_assets.responses.scales import read_scales
from irt_assets.responses.window import data_hash
from resources.database import Database
from resources.settings import Settings
from tests.helpers import rooms

FIRST, SECOND = rooms.MONTHS[:2]


class Look:
    """Hashes a month as a page does, and counts how often its answers were read."""

    def __init__(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database, self.now, self.readings = database, 0.0, 0
        self.remembered = RememberedHashes(lambda: self.now)

        def counted(*asked: object) -> str:
            self.readings += 1
            return data_hash(*asked)  # type: ignore[arg-type]

        monkeypatch.setattr(remembered_hashes, "data_hash", counted)

    def __call__(self, month: str) -> tuple[str, str, int]:
        """The remembered hash, the hash, and how often answers were read for the first."""
        before = self.readings
        start, end = month_bounds(month)
        with self.database.connect() as connection:
            scales = read_scales(connection)
            return (
                self.remembered(connection, start, end, scales),
                data_hash(connection, start, end, scales),
                (self.readings - before),
            )

    def write(self, statement: LiteralString, *values: object) -> None:
        """Committed by a connection that closes, so that PostgreSQL counts it at once."""
        with self.database.connect() as connection:
            assert connection.execute(statement, values).rowcount > 0


@pytest.fixture
def look(world: Settings, monkeypatch: pytest.MonkeyPatch) -> Look:
    return Look(Database(world), monkeypatch)


def answered_again(look: Look, at: datetime) -> None:
    """Somebody answers an item of the second month at another time, too."""
    look.write(
        """INSERT INTO response_log (attempt_id, user_id, item_id, completed_at, correct, response_time_ms, mode)
           SELECT 'again', user_id, item_id, %s, correct, 30000, 'live' FROM response_log
           WHERE completed_at >= %s AND correct IS NOT NULL LIMIT 1""",
        at,
        month_bounds(SECOND)[0],
    )


def test_what_nobody_wrote_to_is_read_once(look: Look) -> None:
    first, truth, readings = look(SECOND)
    assert (first, readings) == (truth, 1)
    assert look(SECOND) == (truth, truth, 0)


@pytest.mark.parametrize(
    "write",
    [
        lambda look: answered_again(look, month_bounds(SECOND)[0] + timedelta(days=3)),
        lambda look: answered_again(look, month_bounds(FIRST)[0] + timedelta(days=3)),
        lambda look: look.write("DELETE FROM response_log WHERE completed_at >= %s", month_bounds(SECOND)[0]),
        lambda look: look.write("UPDATE learner SET is_test = true"),
        lambda look: look.write("UPDATE question SET topic_id = 'another'"),
    ],
    ids=["answer", "earlier answer", "deleted answers", "test accounts", "items"],
)
def test_a_write_that_may_count_is_noticed(look: Look, write: Callable[[Look], None]) -> None:
    before, _, _ = look(SECOND)
    write(look)
    after, truth, readings = look(SECOND)
    assert readings == 1
    assert after == truth
    assert after != before


def test_emptied_partitions_are_noticed(look: Look) -> None:
    look(SECOND)
    with look.database.connect() as connection:
        connection.execute("TRUNCATE response_log")
    after, truth, _ = look(SECOND)
    assert after == truth


def test_later_answers_cost_a_reading_an_hour(look: Look) -> None:
    _, truth, _ = look(FIRST)
    answered_again(look, month_bounds(SECOND)[0] + timedelta(days=3))
    assert look(FIRST) == (truth, truth, 0)
    look.now = remembered_hashes.LATER_TRUSTED_S
    assert look(FIRST) == (truth, truth, 1)


def test_each_window_has_its_own(look: Look) -> None:
    assert look(FIRST)[0] != look(SECOND)[0]
