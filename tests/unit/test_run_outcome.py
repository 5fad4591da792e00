"""How a run ended, as its events show: those of a run in this process, and those that Dagster has stored."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from irt_assets.common import run_progress
from irt_assets.common.run_progress import last_made
from irt_assets.runs.in_process_runs import NO_STEP, RunOutcome, outcome_of


@dg.asset(check_specs=[dg.AssetCheckSpec("looked_at", asset="fit"), dg.AssetCheckSpec("sound", asset="fit")])
def fit() -> dg.MaterializeResult:
    checks = [
        dg.AssetCheckResult(check_name="looked_at", passed=False, description="Q7: an item that nobody answers"),
        dg.AssetCheckResult(check_name="sound", passed=True, description="nothing to see"),
    ]
    return dg.MaterializeResult(check_results=checks)


@dg.asset(deps=[fit])
def published() -> None:
    raise dg.Failure(description="2026-02 has no anchors", allow_retries=False)


def test_what_is_stored_of_a_run_says_the_same_as_the_run() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([fit, published], instance=instance, raise_on_error=False)
        stored = [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    why, warning = "2026-02 has no anchors", "Q7: an item that nobody answers"
    wanted = RunOutcome("monthly", "2026-02", False, why, result.run_id, (warning,))
    for events in (result.all_events, stored):
        assert outcome_of("monthly", "2026-02", result.run_id, result.success, events) == wanted


def test_a_run_that_broke_off_within_a_step_says_by_what(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Dagster's storage is away for so long that no step could fail in it."""
    with dg.DagsterInstance.ephemeral() as instance:
        store = instance.event_log_storage.store_event

        def store_event(entry: dg.EventLogEntry) -> None:
            event = entry.dagster_event
            if event is not None and (event.is_step_start or event.is_step_failure):
                raise ConnectionError("the database is away")
            store(entry)

        monkeypatch.setattr(instance.event_log_storage, "store_event", store_event)
        result = dg.materialize([fit], instance=instance, raise_on_error=False)
    outcome = outcome_of("monthly", "2026-02", result.run_id, result.success, result.all_events)
    assert outcome.why == (
        "the run broke off, and the step that it was at left nothing: ConnectionError: the database is away"
    )


def test_a_run_that_never_began_has_no_step_to_blame() -> None:
    assert outcome_of("monthly", "2026-02", "r1", False, []) == RunOutcome("monthly", "2026-02", False, NO_STEP)
    assert outcome_of("monthly", "2026-02", "r1", True, []) == RunOutcome("monthly", "2026-02", True)


# -- runs under way ----------------------------------------------------------------------------------
# What Dagster's instance knows of partitions, asked of one in memory.

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2026-06", fmt="%Y-%m")


def test_a_partition_was_last_made_when_it_was_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are read at once."""
    monkeypatch.setattr(run_progress, "RECORDS_TOGETHER", 1)

    @dg.asset(partitions_def=MONTHS)
    def judged() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:

        def make(month: str) -> tuple[datetime, datetime]:
            before = datetime.now(UTC)
            assert dg.materialize([judged], partition_key=month, instance=instance).success
            return before, datetime.now(UTC)

        assert last_made(instance, judged.key) == {}
        make("2026-06")
        bounds = {"2026-07": make("2026-07"), "2026-06": make("2026-06")}
        made = last_made(instance, judged.key)
    assert made.keys() == bounds.keys()
    assert all(before <= made[month] <= after for month, (before, after) in bounds.items())
