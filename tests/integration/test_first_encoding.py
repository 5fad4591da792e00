"""Months that a version before recorded with hashes of the first encoding stay what they were."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest

from irt_assets.common.partitions import Month
from irt_assets.gates.month_judged import MonthState, State
from irt_assets.gates.month_status import month_states
from irt_assets.invariants.invariant import InvariantContext, evaluate
from irt_assets.invariants.snapshots import snapshots_match_their_hash
from irt_assets.responses.late_months import changed_hash
from irt_assets.responses.scales import read_scales
from irt_assets.responses.window import data_hash, encoding_of
from irt_assets.runs.in_process_runs import run_month
from irt_assets.servers.stack import dagster_instance
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import add_attempts, add_items, add_learners, attempt, rows, run_sql

pytestmark = pytest.mark.ci

MONTH = rooms.MONTHS[0]
RECORDED = "46a4d7064f757c3bbce2be8bf9efe778b75aa3b8ec75d76d39cd5bd609d41f93"
"""What the last version before the second encoding made of `small_log`."""


def small_log(database: Database) -> None:
    add_items(database, dict.fromkeys(["i0", "i|1"]))
    add_learners(database, ["o'neill"])
    add_learners(database, ["🦉"], is_test=True)
    day = datetime(2026, 3, 8, 7, 30, 0, 250_000, UTC)
    exam = {"session_id": "s\\1", "form_id": "F"}
    add_attempts(
        database,
        [
            attempt("o'neill", "i0", day, attempt_id="a1", position=1, started_at=day, response="A", **exam),
            attempt("o'neill", "i|1", day, attempt_id="a2", position=2, correct=None, **exam),
            attempt("o'neill", "i9", day, attempt_id="a3", position=3, response_time_ms=1234, hints_used=0, **exam),
            attempt("🦉", "i0", day, attempt_id="a4", correct=False, mode="sandbox"),
            attempt("🦉", "i0", datetime(2025, 12, 1, tzinfo=UTC), attempt_id="a5"),
        ],
    )


def test_the_first_encoding_is_what_it_was(database: Database) -> None:
    small_log(database)
    with database.connect() as connection:
        assert data_hash(connection, *Month("2026-03").bounds, read_scales(connection), encoding=1) == RECORDED


class Home:
    """A home in which a version before has calibrated a month."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings, self.instance, self.database = settings, instance, Database(settings)
        with self.database.connect() as connection:
            digest = data_hash(connection, *Month(MONTH).bounds, read_scales(connection), encoding=1)
            for table in ("scored_snapshot", "mirt_fit_meta", "item_parameter_publication"):
                connection.execute(
                    f"UPDATE {table} SET data_hash = %s WHERE data_hash LIKE 'v2:%%'".encode(), (digest,)
                )
            connection.execute("DELETE FROM data_version")

    @property
    def recorded(self) -> str:
        return str(rows(self.database, "SELECT data_hash FROM scored_snapshot WHERE superseded_at IS NULL")[0][0])

    def states(self) -> list[MonthState]:
        return month_states(self.database, self.instance, [MONTH])

    def changed(self) -> str | None:
        with self.database.connect() as connection:
            return changed_hash(connection, MONTH)

    def violations(self) -> int:
        with self.database.connect() as connection:
            look = InvariantContext(connection, rooms.folder_store(self.settings), datetime.now(UTC), self.states())
            verdicts = evaluate(look, [snapshots_match_their_hash])
        return sum(len(verdict.violations) for verdict in verdicts)


@pytest.fixture
def home(made_month: Settings) -> Iterator[Home]:
    with dagster_instance(made_month, Database(made_month)) as instance:
        yield Home(made_month, instance)


def test_a_month_of_the_first_encoding_is_green_until_its_answers_change(home: Home) -> None:
    assert encoding_of(home.recorded) == 1
    assert [state.state for state in home.states()] == [State.GREEN]
    assert home.changed() is None
    run_sql(home.database, "UPDATE response_log SET correct = NOT correct WHERE completed_at < '2026-06-10+00'")
    assert [(state.state, state.asset) for state in home.states()] == [(State.STALE, "scored_responses")]
    assert home.changed() is not None


def test_scored_again_without_a_change_it_keeps_its_hash_and_its_fits(home: Home) -> None:
    before, hashed = home.states(), home.recorded
    assert run_month(home.instance, home.settings, MONTH, ["scored_responses"]).success
    assert (home.recorded, home.states(), home.violations()) == (hashed, before, 0)


def test_calibrated_again_after_a_change_it_has_the_second(home: Home) -> None:
    run_sql(home.database, "UPDATE response_log SET correct = NOT correct WHERE completed_at < '2026-06-02+00'")
    assert run_month(home.instance, home.settings, MONTH).success
    assert encoding_of(home.recorded) == 2
    assert [state.state for state in home.states()] != [State.STALE]
    assert home.changed() is None
