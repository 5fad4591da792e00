"""Schedules through the real daemon, code server and webserver."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from irt_assets.common.job_names import KPI_JOB
from irt_assets.common.partitions import DAYS, WEEKS, day_bounds, month_of, week_of
from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.responses.verdict_states import changed_partitions
from irt_assets.responses.verdicts import judge_differing
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers.databases import template_copy
from tests.helpers.rooms import add_attempts, add_items, attempt, rows, run_sql
from tests.testbed.stack_harness import Harness, running_stack, wait_for

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("schedules")]

FEATURES = "aggregate_features_daily"
WITHIN_S = 180.0
"""A tick a minute, then some runs of seconds, two at a time."""
DAYS_MISSED = 2


@dataclass(frozen=True)
class LateStack:
    """A platform whose daemon was down for some days, and is started now. Midnight may pass during its tests."""

    harness: Harness
    started: datetime

    def missed_days(self, now: datetime) -> list[str]:
        """The days that are over at `now` and were not made when the daemon started."""
        return [day for day in DAYS.last_keys(now, 14) if day >= DAYS.last_keys(self.started, DAYS_MISSED)[0]]

    def clocks(self) -> tuple[datetime, datetime]:
        """Time of the start, and the current time. All ticks are between them."""
        return self.started, datetime.now(UTC)


def runs(stack: Harness, origin: str, name: str, job: str) -> list[tuple[str, str]]:
    """Partition and status of the runs of a job that a schedule or a sensor requested, oldest first."""
    found = stack.instance.get_runs(dg.RunsFilter(job_name=job, tags={f"dagster/{origin}_name": name}))
    return [(run.tags.get(PARTITION_TAG, "a range"), run.status.value) for run in reversed(found)]


@pytest.fixture(scope="module")
def late(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LateStack]:
    now = datetime.now(UTC)
    days = DAYS.last_keys(now, 14)
    options = {"irt_first_month": month_of(now - timedelta(days=100)), "irt_schedules": "running"}
    with template_copy(postgres, migrated_template, tmp_path_factory.mktemp("stack"), **options) as settings:
        database = Database(settings)
        add_items(database, {"q1": None, "q2": None})
        add_attempts(database, [attempt("u1", "q1", day_bounds(day)[0] + timedelta(hours=12)) for day in days])
        run_sql(database, "UPDATE response_log SET recorded_at = completed_at")
        with dagster_instance(settings, database) as instance:
            for asset, made in (("features_topic_daily", days[:-DAYS_MISSED]), ("weekly_kpi", WEEKS.last_keys(now, 8))):
                for key in made:
                    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))
        with running_stack(settings, "tests.integration.every_minute_location", "tests.helpers.quick_daemon") as stack:
            yield LateStack(stack, now)


@pytest.fixture(scope="module")
def stack(late: LateStack) -> Harness:
    return late.harness


def test_missed_days_and_the_running_week_are_computed_once(late: LateStack, stack: Harness) -> None:
    def all_made() -> bool:
        return {day for day, status in days() if status == "SUCCESS"} >= set(late.missed_days(late.started))

    def days() -> list[tuple[str, str]]:
        return runs(stack, "schedule", f"{FEATURES}_schedule", FEATURES)

    def weeks() -> list[tuple[str, str]]:
        return runs(stack, "schedule", "compute_daily_kpis_schedule", KPI_JOB)

    wait_for("the missed days", all_made, WITHIN_S, pause=1)
    wait_for("the week", lambda: "SUCCESS" in [status for _, status in weeks()], WITHIN_S, pause=1)
    (weekly,) = (s for s in stack.instance.all_instigator_state() if s.instigator_name == "compute_daily_kpis_schedule")
    stack.instance.stop_schedule(weekly.instigator_origin_id, weekly.selector_id)  # else a run each minute
    assert sorted(day for day, _ in days()) in [late.missed_days(at) for at in late.clocks()]
    assert {week for week, _ in weeks()} <= {week_of(at) for at in late.clocks()}
    made = [day for (day,) in rows(stack.database, "SELECT DISTINCT date::text FROM features_topic_daily ORDER BY 1")]
    assert made == late.missed_days(late.started)  # a day that ended meanwhile has no answers


def test_the_running_week_is_backfilled_from_the_ui(stack: Harness) -> None:
    week = week_of(datetime.now(UTC))
    backfill = stack.backfill(["weekly_kpi"], [week])
    wait_for("the backfill", lambda: stack.backfill_status(backfill) == "COMPLETED_SUCCESS", WITHIN_S, pause=1)
    (run,) = stack.instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    assert (run.tags[PARTITION_TAG], run.status) == (week, dg.DagsterRunStatus.SUCCESS)


def test_day_that_is_judged_again_is_recomputed_once(late: LateStack, stack: Harness) -> None:
    """Only its features are recomputed; the schedule of the weeks was stopped."""
    day = late.missed_days(late.started)[1]

    def made() -> list[str]:
        return [status for one, status in runs(stack, "schedule", f"{FEATURES}_schedule", FEATURES) if one == day]

    wait_for("the day", lambda: made() == ["SUCCESS"], WITHIN_S)
    add_attempts(stack.database, [attempt("u2", "q2", day_bounds(day)[0] + timedelta(hours=13))])
    judge_differing(stack.database, *(at.date() for at in day_bounds(day)))
    wait_for("the day with its late answer", lambda: made() == ["SUCCESS", "SUCCESS"], WITHIN_S, pause=1)
    assert rows(stack.database, "SELECT date::text FROM features_topic_daily WHERE user_id = 'u2'") == [(day,)]
    with stack.database.connect() as connection:
        assert [changed_partitions(connection, "features_topic_daily", day_bounds)] == [[]]
