"""Late answers in a real database and a real instance: the night judges them, and what they concern is made once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from irt_assets.common.job_names import JUDGE_JOB, KPI_JOB, MONTHLY_JOB
from irt_assets.common.partitions import Month, day_bounds, day_of, week_of
from irt_assets.definitions import build_defs
from irt_assets.features.daily import write_features
from irt_assets.kpis.weekly import write_week
from irt_assets.responses.open_months import scales_of_other_verdicts
from irt_assets.responses.snapshot import take_snapshot
from jobs.plans import PLANS
from resources.dagster_compat import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import add_attempts, add_items, add_learners, attempt
from tests.helpers.worlds import not_before
from tests.testbed.small_world import last_months

NOON = timedelta(hours=12)
FEATURES = "aggregate_features_daily"


class World:
    """Three months of answers of two learners, all made: days, weeks and months."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, now: datetime) -> None:
        self.now, self.months = now, last_months(3)
        self.settings = settings.model_copy(update={"irt_first_month": self.months[0]})
        self.instance, self.database = instance, Database(self.settings)
        self.store = rooms.folder_store(settings)
        self.defs = build_defs(self.settings, resources={"database": self.database, "store": self.store})
        add_items(self.database, {"q1": None, "q2": None, "q3": None})
        add_learners(self.database, ["u1", "u2"])
        for month in self.months:
            first = Month(month).start
            self.arrive(attempt("u2", "q2", first + timedelta(days=9)))
            if month != self.months[0]:
                self.arrive(attempt("u1", "q1", first + timedelta(days=3)))
        self.night()
        self.make()

    def arrive(self, *attempts: dict[str, Any]) -> None:
        add_attempts(self.database, attempts)

    def make(self) -> None:
        begin = Month(self.months[0]).start
        for month in self.months:
            take_snapshot(self.database, self.store, month, None)
        with self.database.connect() as connection:
            write_features(connection, begin, day_bounds(day_of(self.now))[0])
            for n in range((self.now - begin).days // 7 + 1):
                write_week(connection, week_of(begin + timedelta(weeks=n)), self.now)

    def weeks_after(self, day: datetime) -> list[str]:
        weeks = [week_of(day + timedelta(weeks=n)) for n in range(9)]
        return [week for week in weeks if week <= week_of(self.now)]

    def night(self) -> None:
        """The job of 00:30."""
        done = self.defs.resolve_job_def(JUDGE_JOB).execute_in_process(instance=self.instance)
        assert done.success

    def asked_months(self) -> list[tuple[str | None, str | None]]:
        """Month and run key of each request of the sensor."""
        sensor = self.defs.resolve_sensor_def("stale_months")
        with dg.build_sensor_context(
            instance=self.instance, resources={"database": self.database}, definitions=self.defs
        ) as context:
            found = sensor.evaluate_tick(context)
        self.said = found.skip_message
        return [(one.partition_key, one.run_key) for one in found.run_requests or ()]

    def changed(self, job: str) -> list[str]:
        """The partitions that the schedule of a job requests, other than those that were never made."""
        plan = next(plan for plan in PLANS if plan.job == job)
        tick = day_bounds(day_of(self.now))[0] + timedelta(hours=3)
        with dg.build_schedule_context(
            instance=self.instance,
            scheduled_execution_time=tick,
            repository_def=self.defs.get_repository_def(),
            resources={"database": self.database},
        ) as context:
            requests = self.defs.resolve_schedule_def(plan.name).evaluate_tick(context).run_requests or []
        due = plan.partitions_due(tick, self.months[0])
        found = []
        for one in requests:
            tags = (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
            first, last = (one.tags.get(tag, one.partition_key or "") for tag in tags)
            found += [f"{first}…{last}" if first != last else first] if first not in due else []
        return found


@pytest.fixture
def now() -> datetime:
    """The time; while the test lasts no day ends."""
    return not_before(60.0, timedelta(0))


@pytest.fixture
def world(settings: Settings, now: datetime, tmp_path: Path) -> Iterator[World]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield World(settings, instance, now)


def test_late_answer_makes_its_open_month_stale_after_the_night_and_is_requested_once_a_night(world: World) -> None:
    """Also the month of the learner's next answer to the item, which is a repeat now."""
    assert world.asked_months() == []
    day = Month(world.months[0]).start + timedelta(days=1) + NOON
    world.arrive(attempt("u1", "q1", day))
    assert world.asked_months() == [], "nights know"
    world.night()
    asked = world.asked_months()
    assert [month for month, _ in asked] == world.months[:2]
    world.night()
    assert world.asked_months() == asked, "with the same run keys, so that Dagster requests them once"
    world.make()
    assert (world.asked_months(), world.changed(FEATURES), world.changed(KPI_JOB)) == ([], [], [])


def test_day_with_a_late_answer_and_its_weeks_are_requested_by_their_schedules(world: World) -> None:
    first = Month(world.months[0]).start + timedelta(days=1)
    assert (world.changed(FEATURES), world.changed(KPI_JOB)) == ([], [])
    for n in (0, 1, 4):
        world.arrive(attempt("u2", "q3", first + timedelta(days=n) + NOON))
    world.night()
    days = [day_of(first + timedelta(days=n)) for n in (0, 1, 4)]
    assert world.changed(FEATURES) == [f"{days[0]}…{days[1]}", days[2]]
    weeks = {*world.weeks_after(first), *world.weeks_after(first + timedelta(days=4))}
    due = next(plan for plan in PLANS if plan.job == KPI_JOB).partitions_due(world.now, world.months[0])
    assert world.changed(KPI_JOB) == sorted(weeks - {*due})


def test_months_wait_while_answers_are_judged_and_while_a_month_is_under_way(world: World) -> None:
    world.arrive(attempt("u1", "q3", Month(world.months[1]).start + NOON))
    world.night()

    def run(job: str, **tags: str) -> dg.DagsterRun:
        status = dg.DagsterRunStatus.STARTED
        return world.instance.create_run_for_job(world.defs.resolve_job_def(job), tags=tags, status=status)

    for one in (run(JUDGE_JOB), run(MONTHLY_JOB, **{"dagster/partition": world.months[1]})):
        assert world.asked_months() == []
        world.instance.report_run_failed(one)
    assert [month for month, _ in world.asked_months()] == [world.months[1]]


def test_month_that_is_open_and_older_than_the_look_back_is_judged_in_the_night(world: World) -> None:
    """As after a person reopened it."""
    old = Month(f"{world.now.year - 3}-05")
    world.arrive(attempt("u2", "q2", old.start + NOON))
    take_snapshot(world.database, world.store, old, None)
    world.arrive(attempt("u1", "q1", old.start + NOON))
    world.night()
    with world.database.connect() as connection:
        assert [*scales_of_other_verdicts(connection)] == [old]
