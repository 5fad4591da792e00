"""Item times: the medians of the log, whoever asks first and in whatever order answers come."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pytest

from irt_assets.calibration.nightly import window_of
from irt_assets.common.partitions import Month, day_bounds
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses import item_times as module
from irt_assets.responses.facts import LOOKBACK, lookback_start
from irt_assets.responses.item_times import (
    ItemTimes,
    ability_times_since,
    current_ability_times,
    current_item_times,
    item_times,
)
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.window import judged_window, scoring_responses
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database
from tests.helpers.rooms import SCALE, add_attempts, add_items, attempt, rows, run_sql

MONTH = "2026-03"
START, END = Month(MONTH).bounds
NIGHT = "2026-03-30"
ITEMS = [f"i{k}" for k in range(4)]
SCALES = {
    SCALE: Scale(
        SCALE, rules=Rules.from_settings({"min_responses": 1, "min_learner_responses": 1, "rapid_min_times": 3})
    )
}
TINY = timedelta(microseconds=1)
Answers = list[dict[str, Any]]


@pytest.fixture
def bank(database: Database) -> Database:
    add_items(database, dict.fromkeys(ITEMS))
    return database


def random_answers(seed: int, n: int = 300) -> Answers:
    """Of three years, some without a time, some not live, some shown and not answered, some at the edges of windows."""
    rng = np.random.default_rng(seed)
    edges = [
        END,
        END - TINY,
        lookback_start(START, SCALES),
        lookback_start(START, SCALES) - TINY,
        lookback_start(END - LOOKBACK, {}),
    ]
    return [
        attempt(
            f"u{rng.integers(60)}",
            ITEMS[rng.integers(4)],
            edges[rng.integers(5)] if rng.random() < 0.1 else END - timedelta(hours=float(rng.uniform(-100, 26_000))),
            correct=None if rng.random() < 0.1 else bool(rng.random() < 0.6),
            response_time_ms=None if rng.random() < 0.1 else int(rng.lognormal(9, 1.5)),
            mode="sandbox" if rng.random() < 0.1 else "live",
        )
        for _ in range(n)
    ]


Found = dict[str, tuple[float, int]]


def by_pandas(answers: Answers, as_of: datetime, since: datetime) -> Found:
    log = pd.DataFrame(answers)
    at = log["completed_at"]
    counted = (at >= since) & (at < as_of) & (log["mode"] == "live") & log["correct"].notna()
    times = log[counted & log["response_time_ms"].notna()].groupby("item_id")["response_time_ms"]
    return {str(item): (float(np.median(group)), len(group)) for item, group in times}


def by_sql(database: Database, as_of: datetime, since: datetime) -> Found:
    """The query that each month and night asked of the log before there was a table."""
    found = rows(
        database,
        """SELECT item_id, percentile_cont(0.5) WITHIN GROUP (ORDER BY response_time_ms::float8), count(*)
           FROM attempt WHERE completed_at >= %s AND completed_at < %s AND mode = 'live' AND correct IS NOT NULL
             AND response_time_ms IS NOT NULL GROUP BY 1""",
        (since, as_of),
    )
    return {item: (median, n) for item, median, n in found}


def stored(database: Database) -> dict[tuple[datetime, datetime], Found]:
    found: dict[tuple[datetime, datetime], Found] = {}
    for as_of, since, item, median, n in rows(
        database, "SELECT as_of, since, item_id, median_ms, n FROM item_response_time"
    ):
        found.setdefault((as_of, since), {})[item] = median, n
    return found


def as_dict(times: ItemTimes) -> Found:
    return dict(zip(times.item_ids.tolist(), zip(times.median_ms.tolist(), times.n.tolist(), strict=True), strict=True))


def judge_month(database: Database) -> dict[str, str | None]:
    with database.connect() as connection:
        table = judged_window(connection, START, END, SCALES).table
    return dict(zip(table["attempt_id"].to_pylist(), table["reason"].to_pylist(), strict=True))


def judge_night(database: Database) -> object:
    with database.connect() as connection:
        return judged_window(connection, *window_of(NIGHT), SCALES).judgements[SCALE].counts


def measure_month(database: Database) -> int:
    with database.connect() as connection:
        return scoring_responses(connection, END - LOOKBACK, END, SCALES[SCALE], ITEMS)[0].n_responses


NIGHT_END = day_bounds(NIGHT)[1]
SPANS = {
    "the month": (END, lookback_start(START, SCALES)),
    "the night": (NIGHT_END, lookback_start(window_of(NIGHT)[0], SCALES)),
    "abilities of the month": (END, lookback_start(END - LOOKBACK, SCALES)),
}
READERS: dict[str, Callable[[Database], object]] = {
    "the month": judge_month,
    "the night": judge_night,
    "abilities of the month": measure_month,
}


def test_every_reader_stores_the_medians_of_its_window_and_the_look_back(bank: Database) -> None:
    log: Answers = []
    for seed in range(3):  # answers come in parts: what was stored before does not count
        log += random_answers(seed)
        add_attempts(bank, log[-300:])
        for read in READERS.values():
            read(bank)
        found = stored(bank)
        assert set(found) == set(SPANS.values())
        for name, span in SPANS.items():
            assert found[span] == by_pandas(log, *span) == by_sql(bank, *span), (seed, name)
            assert len(found[span]) == len(ITEMS)
    assert len({str(found[span]) for span in SPANS.values()}) == len(SPANS), "the windows differ, so must the medians"


def test_the_order_in_which_readers_and_answers_come_does_not_matter(bank: Database) -> None:
    parts = [random_answers(seed, 150) for seed in (10, 11, 12)]
    outcomes = []
    for order in [*permutations(READERS)][::2]:
        run_sql(bank, "TRUNCATE response_log, item_response_time, partition_source")
        for part, name in zip(parts, order, strict=True):
            add_attempts(bank, part)
            READERS[name](bank)
        outcomes.append(([read(bank) for read in READERS.values()], stored(bank)))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert set(outcomes[0][1]) == set(SPANS.values())
    assert "rapid" in judge_month(bank).values()


def test_late_answers_that_move_a_median_are_in_it_when_the_month_is_made_again(
    bank: Database, store: ObjectStore
) -> None:
    """0.5 s is no rapid guess where others take 2 s; it is one where most take 20 s, and 2 s is not."""
    at = START + timedelta(days=3)
    add_attempts(bank, [attempt(f"u{k}", "i0", at, response_time_ms=2_000) for k in range(150)])
    add_attempts(bank, [attempt("quick", "i0", at, response_time_ms=500)])
    first, window = take_snapshot(bank, store, MONTH, None)
    assert window.counts[SCALE]["rapid"] == 0
    add_attempts(bank, [attempt(f"late{k}", "i0", at, response_time_ms=20_000) for k in range(200)])
    again, window = take_snapshot(bank, store, MONTH, None)
    assert (window.counts[SCALE]["rapid"], again.data_hash != first.data_hash) == (1, True)


def kill_oneself(connection: psycopg.Connection, *_: object) -> None:
    connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.parametrize("killed_at", ["warehouse.append", "record_sources"])
def test_a_writer_that_is_killed_leaves_the_old_rows(
    bank: Database, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """Where there were none, and where there were others."""
    log: Answers = []
    for seed in (30, 31):
        before = stored(bank)
        more = random_answers(seed)
        add_attempts(bank, more)
        log += more
        with monkeypatch.context() as patched:
            patched.setattr(f"{module.__name__}.{killed_at}", kill_oneself)
            with pytest.raises(psycopg.OperationalError):
                judge_month(bank)
        assert stored(bank) == before
        judge_month(bank)
        assert stored(bank) == {SPANS["the month"]: by_pandas(log, *SPANS["the month"])}


def test_of_two_writers_the_second_does_not_wait_and_reads_the_same(bank: Database) -> None:
    add_attempts(bank, random_answers(40))
    span = SPANS["the month"]
    with bank.connect() as one:
        first = current_item_times(one, *span)
        with bank.connect() as other:
            other.execute("SET lock_timeout = '10ms'")
            assert as_dict(current_item_times(other, *span)) == as_dict(first)
        assert stored(bank) == {}
    assert stored(bank) == {span: as_dict(first)}


def test_who_may_not_write_computes_what_is_missing_and_stores_nothing(bank: Database) -> None:
    log = random_answers(50)
    add_attempts(bank, log)
    with bank.connect() as connection:
        connection.read_only = True
        found = current_item_times(connection, *SPANS["the month"])
    assert as_dict(found) == by_pandas(log, *SPANS["the month"])
    assert stored(bank) == {}


def test_a_log_without_times_is_read_once(bank: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    add_attempts(bank, [attempt("u", "i0", END - TINY), attempt("v", "i1", START)])
    judge_month(bank)
    monkeypatch.setattr(module, "_times_of", lambda *_: pytest.fail("computed again"))
    assert set(judge_month(bank).values()) == {None}
    with bank.connect() as connection:
        times = item_times(connection, *SPANS["the month"])
    median, n = times.of(["i0", "unheard of"])
    assert (np.isnan(median).all(), n.tolist()) == (True, [0, 0])


def test_scales_that_look_back_differently_have_times_of_their_own(bank: Database) -> None:
    add_items(bank, {"j0": None}, "other")
    add_attempts(bank, log := random_answers(70))
    run_sql(
        bank,
        """INSERT INTO calibration_scale (scale_id, origin, rules, engine, anchor_version)
           VALUES ('other', '{}', '{"lookback_months": 3}', 'em', 1)""",
    )
    with bank.connect() as connection:
        scales = read_scales(connection)
        found = current_ability_times(connection, END)
        for scale in scales.values():
            since = ability_times_since(END, scale)
            assert as_dict(found[since]) == by_pandas(log, END, since)
    assert len(found) == 2
