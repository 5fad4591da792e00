"""A window judged by proposed rules equals the window that nights store by these rules, and nothing is stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import psycopg
import pytest

from irt_assets.responses import proposed_window as module
from irt_assets.responses.proposed_window import propose_snapshot, proposed_window
from irt_assets.responses.scales import change_rules, read_scales
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.stored_window import JudgedWindow, stored_window
from irt_assets.responses.verdicts import judge_differing
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from tests.helpers.dirty_log import load_dirty
from tests.helpers.rooms import SCALE, add_attempts, add_items, attempt, rows
from tests.helpers.verdict_worlds import add_scale
from tests.testbed.partitions import ensure_month_partitions

START, END = datetime(2026, 5, 27, tzinfo=UTC), datetime(2026, 6, 4, tzinfo=UTC)
LOWERED = {"rapid_min_times": 35, "rapid_share": 0.3, "rapid_cap_ms": 60_000}
LOWERED |= {"min_responses": 5, "min_provisional_responses": 5, "min_learner_responses": 2}
STORED = ("attempt_verdict", "judged_day", "item_time", "learner", "calibration_scale")


@pytest.fixture
def logged(database: Database) -> Database:
    """Practice and exams over several days, with repeats, hints and response times; items become slower from month to
    month."""
    rng = np.random.default_rng(7)
    items = [f"i{n}" for n in range(15)]
    with database.connect() as connection:
        ensure_month_partitions(connection, "2026-04", "2026-07")
    add_items(database, dict.fromkeys(items))
    add_scale(database, LOWERED, SCALE)
    log = []
    for n in range(2000):
        when = START - timedelta(days=35) + timedelta(seconds=int(rng.integers(0, 45 * 86_400)))
        exam = bool(rng.random() < 0.5)
        log.append(
            attempt(
                f"u{rng.integers(0, 150)}",
                str(rng.choice([*items, "unknown"])),
                when,
                session_id=f"{when:%m} {n % 9}" if exam else None,
                form_id="F" if exam else None,
                correct=[True, False, None][rng.integers(0, 3 if exam else 2)],
                position=int(rng.integers(1, 9)) if rng.random() < 0.7 else None,
                response_time_ms=int(rng.lognormal(4 + 0.8 * when.month, 1)),
                hints_used=int(rng.random() < 0.1),
            )
        )
    add_attempts(database, log)
    return database


def content(database: Database) -> list[object]:
    return [rows(database, f"SELECT t::text FROM {table} t ORDER BY 1") for table in STORED]


def outcome(window: JudgedWindow) -> tuple[Any, ...]:
    counts = {scale: {**one.counts} for scale, one in window.judgements.items()}
    return window.table.to_pylist(), counts, window.left_out, window.data_hash


def proposed(connection: psycopg.Connection, start: datetime, end: datetime) -> tuple[Any, ...]:
    return outcome(proposed_window(connection, start, end, read_scales(connection)))


def test_present_rules_give_the_window_that_nights_store_and_nothing_is_written(logged: Database) -> None:
    before = content(logged)
    with logged.connect() as connection:
        found = proposed(connection, START, END)
    assert content(logged) == before
    judge_differing(logged, START.date(), END.date())
    with logged.connect() as connection:
        scales = read_scales(connection)
        assert found == outcome(stored_window(connection, START, END, scales))
        judged = content(logged)
        assert proposed(connection, START, END) == found
    assert content(logged) == judged
    counts = found[1][SCALE]
    reasons = ("scored", "rapid", "repeat", "not_reached", "few_learner_responses", "few_item_responses")
    assert min(counts[reason] for reason in reasons) > 0, str(counts)


def test_snapshot_of_a_trial_is_the_file_that_the_month_then_has(logged: Database, store: ObjectStore) -> None:
    change_rules(logged, SCALE, {"hinted": "exclude"})
    with logged.connect() as connection, connection.transaction(force_rollback=True):
        tried = propose_snapshot(connection, store, "2026-06")
    assert rows(logged, "SELECT count(*) FROM judged_day") == [(0,)]
    made, _ = take_snapshot(logged, store, "2026-06", None)
    assert made == replace(tried, verdict_state=made.verdict_state)
    assert rows(logged, "SELECT count(*) FROM judged_day") != [(0,)]


def test_dirty_log_is_judged_as_in_nights(database: Database) -> None:
    load_dirty(database)
    start, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    with database.connect() as connection:
        found = proposed(connection, start, end)
    judge_differing(database, start.date(), end.date())
    with database.connect() as connection:
        assert found == outcome(stored_window(connection, start, end, read_scales(connection)))


@pytest.mark.parametrize("rule", [{"rapid_min_times": 15}, {"lookback_months": 1}, {"hinted": "exclude"}])
def test_proposed_rules_give_the_window_that_is_stored_once_they_hold(logged: Database, rule: dict[str, Any]) -> None:
    judge_differing(logged, START.date(), END.date())
    with logged.connect() as connection:
        present = outcome(stored_window(connection, START, END, read_scales(connection)))
    change_rules(logged, SCALE, rule)
    with logged.connect() as connection:
        found = proposed(connection, START, END)
        assert outcome(stored_window(connection, START, END, read_scales(connection))) == present, "not judged yet"
    assert found[1] != present[1]
    judge_differing(logged, START.date(), END.date())
    with logged.connect() as connection:
        assert found == outcome(stored_window(connection, START, END, read_scales(connection)))


def test_window_that_only_the_lake_still_has_is_refused(logged: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "holds_log", lambda *_: False)
    with (
        logged.connect() as connection,
        pytest.raises(PermanentFailure, match="to 2026-06-04 cannot be judged by other rules: PostgreSQL no longer"),
    ):
        proposed(connection, START, END)
