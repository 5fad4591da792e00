"""A month by its verdicts: the attempts and minima of today's judgement, and a hash that all engines compute alike."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import pytest

from irt_assets.responses import verdicts
from irt_assets.responses.answers import attempts_with_verdicts
from irt_assets.responses.facts import lookback_start
from irt_assets.responses.open_months import scales_with_changed_verdicts
from irt_assets.responses.row_hash import LATER_COLUMNS
from irt_assets.responses.scored_answers import earlier_responses, judge_before
from irt_assets.responses.snapshot import settle_states, take_snapshot
from irt_assets.responses.stored_window import HASHED, stored_window, verdict_hash, verdict_rows
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.scale import change_rules, read_scales
from resources.cluster.relational import on_duckdb, on_postgres
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, first_column
from tests.helpers.dirty_log import DIRTY, END, START, TINY, load_dirty
from tests.helpers.rooms import SCALE, add_attempts, attempt, call, rows, run_sql
from tests.helpers.verdict_worlds import add_scale

MONTH = f"{START:%Y-%m}"
LOWERED = {"min_responses": 2, "min_provisional_responses": 2, "min_learner_responses": 2}


@pytest.fixture
def judged_log(database: Database) -> Database:
    """A log of dirty texts, with learners and items that have just enough answers, and others that have too few."""
    load_dirty(database)
    add_scale(database, LOWERED, SCALE)
    for user, items in (("ann", 3), ("bob", 2), ("cy", 1)):
        add_attempts(database, [attempt(user, DIRTY[2 * n], END - TINY * (n + 1)) for n in range(items)])
    judge(database)
    return database


def judge(database: Database) -> None:
    judge_differing(database, START.date(), END.date())


def test_stored_window_has_the_attempts_of_its_verdicts_and_applies_the_minima(judged_log: Database) -> None:
    found = call(judged_log, stored_window, START, END, call(judged_log, read_scales))
    counts = found.judgements[SCALE].counts
    assert min(counts[reason] for reason in ("scored", "few_learner_responses", "few_item_responses")) > 0
    few = {"few_learner_responses", "few_item_responses"}
    by_reason = Counter(reason for reason in found.table["reason"].to_pylist() if reason not in few)
    stored = rows(judged_log, "SELECT reason, count(*) FROM attempt_verdict GROUP BY 1")
    assert {reason: n for reason, n in by_reason.items() if reason} == {reason: n for reason, n in stored if reason}
    assert found.totals.n_attempts == sum(n for _, n in stored)


def value_text(name: str, value: object) -> str:
    """A value as `row_hash` describes it."""
    if name in LATER_COLUMNS:
        return "" if value is None else f"{name}={value}|"
    match value:
        case None:
            return "|"
        case bool() | int():
            return f"={int(value)}|"
        case datetime():
            return f"={(value - datetime(1970, 1, 1, tzinfo=UTC)) // TINY}|"
    return "=" + str(value).replace("\\", "\\\\").replace("|", "\\p") + "|"


def hash_by_hand(table: list[dict[str, Any]]) -> str:
    hashes = [
        hashlib.md5("".join(value_text(name, row[name]) for name in HASHED).encode()).hexdigest() for row in table
    ]
    sums = [sum(int(h[start : start + 15], 16) for h in hashes) for start in (0, 16)]
    return "v3:" + hashlib.sha256(f"{len(hashes)} {sums[0]} {sums[1]}".encode()).hexdigest()


def test_postgresql_duckdb_and_the_description_agree_on_the_hash_of_verdicts(judged_log: Database) -> None:
    with duckdb.connect() as copies, judged_log.connect() as connection:
        copies.execute("SET TimeZone = 'America/New_York'")
        copies.register("attempt", on_postgres(connection)(attempts_with_verdicts(START, END, in_lake=False)))
        on_server = verdict_hash(on_postgres(connection), START, END)
        table = on_postgres(connection)(verdict_rows(START, END)).to_pylist()
        assert on_server == stored_window(connection, START, END, read_scales(connection)).data_hash
        assert on_server == verdict_hash(on_duckdb(copies), START, END) == hash_by_hand(table)


def test_month_is_stale_after_changed_answers_are_judged_only_if_a_verdict_differs(
    judged_log: Database, store: ObjectStore
) -> None:
    take_snapshot(judged_log, store, MONTH, None)
    correct = "UPDATE response_log SET correct = NOT correct WHERE user_id = 'ann'"
    found = []
    for statement in (None, correct, correct, "UPDATE question SET topic_id = 'another'"):
        if statement:
            run_sql(judged_log, statement)
        found.append([is_stale(judged_log)])
        judge(judged_log)
        found[-1].append(is_stale(judged_log))
        settle_states(judged_log)
        found[-1].append(is_stale(judged_log))
    assert found == [
        [False, False, False],
        [False, True, True],
        [True, True, False],
        [False, False, False],
    ]


def is_stale(database: Database) -> bool:
    return SCALE in call(database, scales_with_changed_verdicts).get(MONTH, ())


def test_month_recomputed_from_the_same_answers_is_current(judged_log: Database, store: ObjectStore) -> None:
    first, _ = take_snapshot(judged_log, store, MONTH, None)
    for _ in range(2):
        run_sql(judged_log, "UPDATE response_log SET correct = NOT correct WHERE user_id = 'ann'")
        judge(judged_log)
    assert is_stale(judged_log)
    again, _ = take_snapshot(judged_log, store, MONTH, None)
    assert (again.snapshot_hash, is_stale(judged_log)) == (first.snapshot_hash, False)


def test_rule_that_changes_no_verdict_does_not_judge_the_day_again(judged_log: Database) -> None:
    before = rows(judged_log, "SELECT day, judged_at FROM judged_day ORDER BY 1")
    of_scale = "SELECT DISTINCT rules_hash FROM attempt_verdict WHERE scale_id = %s"
    hashes = rows(judged_log, of_scale, (SCALE,))
    change_rules(judged_log, SCALE, {"rapid_cap_ms": 9_999})
    judge(judged_log)
    assert rows(judged_log, "SELECT day, judged_at FROM judged_day ORDER BY 1") == before
    assert {*rows(judged_log, of_scale, (SCALE,))}.isdisjoint(hashes)


def test_days_of_the_look_back_are_judged_once_before_a_fit_reads_the_days(
    judged_log: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_attempts(judged_log, [attempt("ann", DIRTY[0], START - timedelta(days=day)) for day in (1, 40, 900)])
    scales = call(judged_log, read_scales)
    learners = call(judged_log, first_column, "SELECT DISTINCT user_id FROM attempt ORDER BY 1")

    def earlier(read: Callable[..., Any]) -> int:
        with judged_log.connect() as connection:
            return int(read(connection, START, scales[SCALE], DIRTY, learners, ["ann"]).n_responses)

    assert earlier(earlier_responses) == 0, "not judged yet"
    judge_before(judged_log, START, scales)
    assert earlier(earlier_responses) == 1, "the second one is a repeat, the first is older than the look-back"
    days = rows(judged_log, "SELECT day FROM judged_day WHERE day < %s", (START,))
    logged = rows(
        judged_log,
        "SELECT DISTINCT completed_at::date FROM attempt WHERE completed_at >= %s AND completed_at < %s",
        (lookback_start(START, scales), START),
    )
    assert {*days} == {*logged}
    monkeypatch.setattr(verdicts, "judge_differing", None)
    judge_before(judged_log, START, scales)
