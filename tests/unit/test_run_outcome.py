"""Outcomes of runs, from the events of a run in this process or from stored events, and times of partitions."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from irt_assets.common import run_progress
from irt_assets.common.run_progress import last_materializations
from irt_assets.runs import in_process_runs
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


def test_outcome_is_the_same_from_stored_events_and_from_the_run() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([fit, published], instance=instance, raise_on_error=False)
        stored = [entry.dagster_event for entry in instance.all_logs(result.run_id) if entry.dagster_event]
    reason, warning = "2026-02 has no anchors", "Q7: an item that nobody answers"
    expected = RunOutcome("monthly", "2026-02", False, reason, result.run_id, (warning,))
    for events in (result.all_events, stored):
        assert outcome_of("monthly", "2026-02", result.run_id, result.success, events) == expected


def test_progress_counts_the_ended_steps_of_a_run_also_if_one_fails() -> None:
    seen = []
    job = dg.Definitions([fit, published], jobs=[dg.define_asset_job("monthly")]).resolve_job_def("monthly")
    with dg.DagsterInstance.ephemeral() as instance:
        result = in_process_runs._execute(job, instance, None, progress=lambda *steps: seen.append(steps))
    assert (result.success, seen) == (False, [(1, 2), (2, 2)])


def test_outcome_gives_the_error_if_a_run_broke_off_within_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """This happens if Dagster's storage is unreachable for so long that the step's failure cannot be stored."""
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
        "the run broke off, and its current step recorded no error: ConnectionError: the database is away"
    )


def test_outcome_of_a_failed_run_without_events_states_that_no_step_began() -> None:
    assert outcome_of("monthly", "2026-02", "r1", False, []) == RunOutcome("monthly", "2026-02", False, NO_STEP)
    assert outcome_of("monthly", "2026-02", "r1", True, []) == RunOutcome("monthly", "2026-02", True)


# -- runs in progress --------------------------------------------------------------------------------
# Records of partitions in Dagster's instance, which is in memory here.

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2026-06", fmt="%Y-%m")


def test_partition_has_the_time_of_its_latest_materialisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """This does not depend on the number of records that are read at once."""
    monkeypatch.setattr(run_progress, "RECORDS_PER_QUERY", 1)

    @dg.asset(partitions_def=MONTHS)
    def judged() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:

        def make(month: str) -> tuple[datetime, datetime]:
            before = datetime.now(UTC)
            assert dg.materialize([judged], partition_key=month, instance=instance).success
            return before, datetime.now(UTC)

        assert last_materializations(instance, judged.key) == {}
        make("2026-06")
        bounds = {"2026-07": make("2026-07"), "2026-06": make("2026-06")}
        made = last_materializations(instance, judged.key)
    assert made.keys() == bounds.keys()
    assert all(before <= made[month] <= after for month, (before, after) in bounds.items())
