"""Schedules and the sensor of late answers through the real daemon, code server and webserver."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster import DagsterRunStatus, RunsFilter

from irt_assets.partitions import DAYS, WEEKS, day_bounds, month_of, week_of
from irt_assets.run_progress import PARTITION_TAG
from irt_assets.stack import dagster_instance
from jobs.late_sensor import FEATURES, KPIS
from resources.database import Database
from resources.schema import upgrade
from resources.settings import Settings
from testbed.stack_harness import Harness, running_stack, wait_for
from tests.helpers.rooms import add_attempts, add_items, attempt, rows, run_sql

pytestmark = pytest.mark.ci

WITHIN_S = 400.0
"""A tick a minute, then some runs of seconds, two at a time, on a machine that may be busy."""
NOW = datetime.now(UTC)
LOOK_BACK = DAYS.back(NOW, 14)
MISSED = LOOK_BACK[-3:]
LOOK_BACK_WEEKS = WEEKS.back(NOW, 8)


def runs(stack: Harness, origin: str, name: str, job: str) -> list[tuple[str, str]]:
    """Partition and status of the runs of a job that a schedule or a sensor asked for, oldest first."""
    found = stack.instance.get_runs(RunsFilter(job_name=job, tags={f"dagster/{origin}_name": name}))
    return [(run.tags.get(PARTITION_TAG, "a range"), run.status.value) for run in reversed(found)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    """A platform whose daemon was down for three days, and is started now."""
    settings = Settings(
        irt_home=Path(tmp_path_factory.mktemp("stack")) / "irt",
        irt_first_month=month_of(NOW - timedelta(days=100)),
        irt_schedules="running",
        _env_file=None,  # type: ignore[call-arg]
    )
    database = Database(settings)
    upgrade(database)
    add_items(database, {"q1": None, "q2": None})
    add_attempts(database, [attempt("u1", "q1", day_bounds(day)[0] + timedelta(hours=12)) for day in LOOK_BACK])
    run_sql(database, "UPDATE response_log SET recorded_at = completed_at")
    with dagster_instance(settings, database) as instance:
        for asset, made in (("features_topic_daily", LOOK_BACK[:-3]), ("weekly_kpi", LOOK_BACK_WEEKS)):
            for key in made:
                instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))
    with running_stack(settings, "tests.integration.every_minute_location") as running:
        yield running


def test_three_missed_days_are_made_each_once_and_the_running_week_at_every_tick(stack: Harness) -> None:
    def all_made() -> bool:
        return {day for day, status in days() if status == "SUCCESS"} == set(MISSED)

    def days() -> list[tuple[str, str]]:
        return runs(stack, "schedule", f"{FEATURES}_schedule", FEATURES)

    wait_for("the missed days", all_made, WITHIN_S, pause=1)
    wait_for(
        "another tick's week",
        lambda: [status for _, status in runs(stack, "schedule", f"{KPIS}_schedule", KPIS)].count("SUCCESS") > 1,
        WITHIN_S,
        pause=1,
    )
    assert sorted(day for day, _ in days()) == MISSED
    assert {week for week, _ in runs(stack, "schedule", f"{KPIS}_schedule", KPIS)} == {week_of(datetime.now(UTC))}
    made = rows(stack.database, "SELECT DISTINCT date::text FROM features_topic_daily ORDER BY 1")
    assert [day for (day,) in made] == MISSED


def test_the_running_week_is_backfilled_from_the_ui(stack: Harness) -> None:
    week = week_of(datetime.now(UTC))
    backfill = stack.backfill(["weekly_kpi"], [week])
    wait_for("the backfill", lambda: stack.backfill_status(backfill) == "COMPLETED_SUCCESS", WITHIN_S, pause=1)
    (run,) = stack.instance.get_runs(RunsFilter(tags={"dagster/backfill": backfill}))
    assert (run.tags[PARTITION_TAG], run.status) == (week, DagsterRunStatus.SUCCESS)


def test_late_answers_are_in_their_day_and_its_weeks_soon_after(stack: Harness) -> None:
    day = MISSED[1]
    wait_for("the day", lambda: (day, "SUCCESS") in runs(stack, "schedule", f"{FEATURES}_schedule", FEATURES), WITHIN_S)
    late = attempt("u2", "q2", day_bounds(day)[0] + timedelta(hours=13))
    add_attempts(stack.database, [late])
    run_sql(
        stack.database,
        "UPDATE response_log SET recorded_at = now() - interval '10 minutes' WHERE attempt_id = %s",
        (late["attempt_id"],),
    )
    wait_for(
        "the day with its late answer",
        lambda: rows(stack.database, "SELECT 1 FROM features_topic_daily WHERE user_id = 'u2' AND date = %s", (day,)),
        WITHIN_S,
        pause=1,
    )
    weeks = [week for week in [*LOOK_BACK_WEEKS, week_of(NOW)] if week >= week_of(day_bounds(day)[0])]
    wait_for(
        "its weeks",
        lambda: runs(stack, "sensor", "late_answers", KPIS) == [(week, "SUCCESS") for week in weeks],
        WITHIN_S,
        pause=1,
    )
    assert runs(stack, "sensor", "late_answers", FEATURES) == [(day, "SUCCESS")]
    (users,) = rows(stack.database, "SELECT count(*) FROM weekly_kpi WHERE user_id = 'u2'")[0]
    assert users == len(weeks)
