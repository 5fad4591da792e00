"""Late answers in a real database and a real instance: exactly what they concern is asked for again, and once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from irt_assets.common.job_names import KPI_JOB
from irt_assets.common.partitions import WEEKS, Month, day_bounds, day_of, month_of, spans, week_of
from irt_assets.definitions import build_defs
from irt_assets.features.daily import write_features
from irt_assets.intake.corrections import Answers, rescore, withdraw
from irt_assets.intake.load import import_attempts
from irt_assets.responses.late_months import months_concerned
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.verdicts import judge_differing
from jobs.watching.late_answers_cursor import CLOSED_AFTER, Memory
from resources.dagster_compat import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.rooms import add_attempts, add_items, add_learners, attempt, rows, run_sql
from tests.helpers.worlds import not_before
from tests.testbed.small_world import last_months

NOON = timedelta(hours=12)
QUIET = timedelta(minutes=10)
"""Recorded so long ago, answers have stopped coming."""


class World:
    """Three months of answers of two learners, all made: days, weeks and months."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, now: datetime) -> None:
        self.now, self.months = now, last_months(3)
        self.settings = settings.model_copy(update={"irt_first_month": self.months[0]})
        self.instance, self.database = instance, Database(settings)
        self.store = rooms.folder_store(settings)
        self.defs = build_defs(self.settings, resources={"database": self.database, "store": self.store})
        self.cursor: str | None = None
        add_items(self.database, {"q1": None, "q2": None, "q3": None})
        add_learners(self.database, ["u1", "u2", "t1"])
        run_sql(self.database, "UPDATE learner SET is_test = true WHERE user_id = 't1'")
        for month in self.months:
            first = Month(month).start
            self.arrive(attempt("u2", "q2", first + timedelta(days=9)))
            if month != self.months[0]:
                self.arrive(attempt("u1", "q1", first + timedelta(days=3)))
        run_sql(self.database, "UPDATE response_log SET recorded_at = completed_at")
        run_sql(self.database, "UPDATE data_change SET changed_at = '-infinity'")

    def arrive(self, *attempts: dict[str, Any], recorded_ago: timedelta = QUIET) -> None:
        [(last,)] = rows(self.database, "SELECT coalesce(max(change_id), 0) FROM data_change")
        add_attempts(self.database, attempts)
        ids = [one["attempt_id"] for one in attempts]
        with self.database.connect() as connection:
            connection.execute(
                "UPDATE response_log SET recorded_at = now() - %s WHERE attempt_id = ANY(%s)", (recorded_ago, ids)
            )
            connection.execute(
                "UPDATE data_change SET changed_at = now() - %s WHERE change_id > %s", (recorded_ago, last)
            )

    def make_days(self, until: datetime | None = None) -> None:
        """Features of the days from the first month to the day of `until`, which is left out."""
        with self.database.connect() as connection:
            write_features(connection, Month(self.months[0]).start, day_bounds(day_of(until or self.now))[0])

    def make_weeks(self, weeks: Sequence[str]) -> None:
        for week in weeks:
            self.instance.report_runless_asset_event(dg.AssetMaterialization("weekly_kpi", partition=week))

    def make_months(self, *months: str) -> None:
        for month in months:
            take_snapshot(self.database, self.store, month, None)

    def weeks_after(self, day: datetime) -> list[str]:
        weeks = [week_of(day + timedelta(weeks=n)) for n in range(9)]
        return [week for week in weeks if week <= week_of(self.now)]

    def tick(self) -> dict[str, list[str]]:
        """What is asked for, by job: partitions, or first…last."""
        sensor = self.defs.resolve_sensor_def("late_answers")
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources={"database": self.database}, definitions=self.defs
        ) as context:
            found = sensor.evaluate_tick(context)
        self.cursor = found.cursor
        self.said = found.skip_message
        asked: dict[str, list[str]] = {}
        for request in found.run_requests or []:
            first, last = (
                request.tags.get(tag, "") for tag in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)
            )
            key = request.partition_key or f"{first}…{last}"
            asked.setdefault(str(request.job_name), []).append(key)
        return asked

    def at_night(self) -> dict[str, list[str]]:
        """What the first tick after 03:00 asks for, when the night has judged."""
        judge_differing(self.database, Month(self.months[0]).start.date(), self.now.date())
        self.cursor = replace(Memory.read(self.cursor, self.now), night="2000-01-01").write()
        return self.tick()


@pytest.fixture
def now() -> datetime:
    """The time; while the test lasts no day ends, and no night begins."""
    return not_before(30.0, timedelta(0), CLOSED_AFTER)


@pytest.fixture
def world(settings: Settings, now: datetime) -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(settings, instance, now)


@pytest.fixture
def made(world: World) -> World:
    """All days, weeks and months are made, and the sensor has looked once."""
    world.make_days()
    world.make_weeks([*WEEKS.back(world.now, 20), week_of(world.now)])
    world.make_months(*world.months)
    assert world.tick() == {}
    return world


def test_a_late_answer_asks_for_its_day_its_week_and_eight_more_its_month_and_the_items_later_months_once(
    made: World,
) -> None:
    """u1 answered q1 in the second month and again in the third: now the second time is a repeat too."""
    day = Month(made.months[0]).start + timedelta(days=1) + NOON
    made.arrive(attempt("u1", "q1", day))
    assert made.tick() == {"aggregate_features_daily": [day_of(day)], KPI_JOB: made.weeks_after(day)}
    assert made.at_night() == {"monthly_calibration": made.months[:2]}
    assert made.tick() == {}


def test_an_item_that_the_learner_met_no_more_concerns_its_own_month_alone(made: World) -> None:
    day = Month(made.months[1]).start + timedelta(days=1) + NOON
    made.arrive(attempt("u1", "q3", day))
    assert "monthly_calibration" not in made.tick()
    assert made.at_night() == {"monthly_calibration": [made.months[1]]}


def test_several_days_are_one_run_where_they_follow_each_other(made: World) -> None:
    first = Month(made.months[2]).start + timedelta(days=4) + NOON
    for n in (0, 1, 2, 6):
        made.arrive(attempt("u2", "q3", first + timedelta(days=n)))
    days = [day_of(first + timedelta(days=n)) for n in (0, 2, 6)]
    assert made.tick()["aggregate_features_daily"] == [f"{days[0]}…{days[1]}", days[2]]


def test_answers_that_keep_coming_are_waited_for(made: World) -> None:
    day = Month(made.months[1]).start + timedelta(days=1) + NOON
    made.arrive(attempt("u1", "q3", day), recorded_ago=timedelta(minutes=1))
    assert made.tick() == {}
    assert made.said == "answers of 1 days keep coming"
    run_sql(made.database, "UPDATE response_log SET recorded_at = recorded_at - interval '5 minutes'")
    run_sql(made.database, "UPDATE data_change SET changed_at = now() - interval '6 minutes'")
    made.arrive(attempt("u2", "q3", day + timedelta(days=1)))
    assert made.tick()["aggregate_features_daily"] == [f"{day_of(day)}…{day_of(day + timedelta(days=1))}"]
    assert made.tick() == {}


def test_an_import_that_is_committed_hours_after_it_began_is_found(made: World) -> None:
    """Its `recorded_at` lies before ticks that could not see it."""
    day = Month(made.months[1]).start + timedelta(days=1) + NOON
    made.arrive(attempt("u2", "q3", day + timedelta(days=5)), recorded_ago=timedelta(hours=1))
    assert made.tick()["aggregate_features_daily"] == [day_of(day + timedelta(days=5))]
    made.make_days()
    made.make_months(*made.months)
    made.arrive(attempt("u1", "q3", day), recorded_ago=timedelta(hours=20))
    assert made.tick() == {
        "aggregate_features_daily": [day_of(day)],
        KPI_JOB: made.weeks_after(day),
    }
    assert made.at_night() == {"monthly_calibration": [made.months[1]]}


def test_answers_that_arrive_in_time_ask_for_nothing(world: World) -> None:
    """Today's: their day is not over, and the running week is computed again by its schedule."""
    world.make_days(until=world.now - timedelta(days=1))
    world.make_weeks([week_of(world.now - timedelta(days=1)), week_of(world.now)])
    world.make_months(*world.months)
    assert world.tick() == {}
    world.arrive(attempt("u1", "q1", world.now))
    assert world.tick() == {}


def test_sandbox_answers_concern_the_month_and_neither_features_nor_kpis(made: World) -> None:
    day = Month(made.months[1]).start + timedelta(days=1) + NOON
    made.arrive(attempt("u1", "q3", day, mode="sandbox"))
    assert (made.tick(), made.at_night()) == ({}, {"monthly_calibration": [made.months[1]]})


def test_answers_of_test_accounts_do_not_concern_features(made: World) -> None:
    made.arrive(attempt("t1", "q3", Month(made.months[1]).start + NOON))
    assert "aggregate_features_daily" not in made.tick()


def test_what_was_never_made_is_not_asked_for(world: World) -> None:
    assert world.tick() == {}
    day = Month(world.months[1]).start + timedelta(days=1) + NOON
    world.make_weeks([week_of(day + timedelta(weeks=1))])
    world.arrive(attempt("u1", "q1", day))
    assert world.tick() == {KPI_JOB: [week_of(day + timedelta(weeks=1))]}


def test_what_was_computed_with_the_late_answers_before_the_sensor_looked_is_not_asked_for(made: World) -> None:
    day = Month(made.months[1]).start + timedelta(days=1) + NOON
    made.arrive(attempt("u1", "q3", day))
    made.make_days()
    made.make_months(made.months[1])
    assert made.tick() == {}


def test_a_month_that_is_under_way_is_compared_when_it_is_done(made: World) -> None:
    day = Month(made.months[1]).start + timedelta(days=1) + NOON
    run = made.instance.create_run_for_job(
        made.defs.resolve_job_def("monthly_calibration"),
        tags={"dagster/partition": made.months[1]},
        status=dg.DagsterRunStatus.STARTED,
    )
    made.arrive(attempt("u1", "q3", day))
    assert "monthly_calibration" not in made.tick() | made.at_night()
    made.instance.report_run_failed(run)
    assert made.tick() == {"monthly_calibration": [made.months[1]]}


def test_a_month_that_cannot_be_read_in_time_is_taken_to_have_changed(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "jobs.watching.late_sensor.changed_hash", lambda connection, month: connection.execute("SELECT pg_sleep(9)")
    )

    def nothing_is_under_way(_instance: dg.DagsterInstance) -> set[str]:
        """What is asked last before months are compared, for which there is a second left."""
        monkeypatch.setattr("jobs.watching.late_sensor.SECONDS_A_TICK", 1)
        return set()

    monkeypatch.setattr("jobs.watching.late_sensor.unsettled_months", nothing_is_under_way)
    made.arrive(attempt("u1", "q3", Month(made.months[1]).start + NOON))
    assert made.at_night()["monthly_calibration"] == [made.months[1]]


# -- answers that change ----------------------------------------------------------------------------

CROWD = 220
"""Learners with an answer to q3 on each of ten days of the second month: 2,200 wrong answers by the option B."""


@pytest.fixture
def crowded(world: World) -> World:
    """A crowd's answers, and all that is made of them; the sensor has looked."""
    first = Month(world.months[1]).start + timedelta(days=4) + NOON
    crowd = [
        attempt(f"c{n:03d}", "q3", first + timedelta(days=day, seconds=n), correct=False, response="B")
        | {"attempt_id": f"{day}-{n:03d}"}
        for day in range(10)
        for n in range(CROWD)
    ]
    world.arrive(*crowd)
    run_sql(world.database, "UPDATE response_log SET recorded_at = completed_at WHERE recorded_at <> completed_at")
    run_sql(world.database, "UPDATE data_change SET changed_at = '-infinity'")
    world.make_days()
    world.make_weeks([*WEEKS.back(world.now, 20), week_of(world.now)])
    world.make_months(*world.months)
    assert world.tick() == {}
    return world


def exported(world: World, folder: Path, condition: str, changes: str) -> None:
    """The answers imported once more with a higher revision, and with changes."""
    log = folder / "log.csv"
    with world.database.connect() as connection, log.open("wb") as file:
        query = f"""COPY (SELECT attempt_id, user_id, item_id, 1 AS revision, {changes} FROM response_log
                          WHERE {condition}) TO STDOUT (FORMAT csv, HEADER)"""
        with connection.cursor().copy(query.encode()) as copy:
            file.writelines(copy)
    report = import_attempts(world.database, [log], first_month=world.months[0])
    assert (report.corrected, report.accepted, report.rejected) == (report.read, 0, {})


def sql(statement: str) -> Callable[[World, Path], None]:
    return lambda world, _: run_sql(world.database, statement)


MOST, FEW = "user_id BETWEEN 'c000' AND 'c199'", "user_id BETWEEN 'c000' AND 'c009'"
EARLIER = "(completed_at - interval '1 month')"
BY = {"by": "Ann", "reason": "why"}
CHANGES: dict[str, tuple[Callable[[World, Path], None], int]] = {
    "2,000 regraded by a revision": (
        lambda world, folder: exported(world, folder, MOST, "completed_at, true AS correct"),
        1,
    ),
    "2,000 regraded by SQL": (sql(f"UPDATE response_log SET correct = true WHERE {MOST}"), 1),
    "all scored again": (lambda world, _: _done(rescore(world.database, Answers("q3"), "B", **BY).answers), 1),
    "100 deleted": (sql(f"DELETE FROM response_log WHERE {FEW}"), 1),
    "100 withdrawn": (
        lambda world, _: _done(
            withdraw(world.database, Answers(ids=[f"{d}-{n:03d}" for d in range(10) for n in range(10)]), **BY).answers
        ),
        1,
    ),
    "100 moved by a revision": (
        lambda world, folder: exported(world, folder, FEW, f"{EARLIER} AS completed_at, correct"),
        2,
    ),
    "100 moved by SQL": (sql(f"UPDATE response_log SET completed_at = {EARLIER} WHERE {FEW}"), 2),
}
"""Each with the number of months that it concerns."""


def _done(answers: int) -> None:
    assert answers >= 100


@pytest.mark.parametrize(("change", "months"), CHANGES.values(), ids=CHANGES.keys())
def test_what_changes_is_stale_by_day_week_and_month_until_it_is_made_again(
    crowded: World, tmp_path: Path, change: Callable[[World, Path], None], months: int
) -> None:
    """Whoever changed it, and however; deleted answers count as changed."""
    days = [day_of(Month(crowded.months[1]).start + timedelta(days=4 + n)) for n in range(10)]
    if months == 2:
        before = f"SELECT DISTINCT ({EARLIER} AT TIME ZONE 'UTC')::date::text FROM response_log WHERE {FEW}"
        days += [day for (day,) in rows(crowded.database, before)]
    change(crowded, tmp_path)
    assert (crowded.tick(), crowded.said) == ({}, f"answers of {len(days)} days keep coming")
    with crowded.database.connect() as connection:
        connection.execute(
            "UPDATE response_log SET recorded_at = recorded_at - %s WHERE recorded_at > now() - %s", (QUIET, QUIET)
        )
        connection.execute("UPDATE attempt_correction SET corrected_at = corrected_at - %s", (QUIET,))
        connection.execute("UPDATE data_change SET changed_at = now() - %s WHERE isfinite(changed_at)", (QUIET,))
    asked = crowded.tick()
    assert sorted(asked["aggregate_features_daily"]) == sorted("…".join(dict.fromkeys(span)) for span in spans(days))
    assert asked[KPI_JOB] == sorted({week for day in days for week in crowded.weeks_after(day_bounds(day)[0])})
    again = {*asked.get("monthly_calibration", []), *crowded.at_night().get("monthly_calibration", [])}
    assert {*crowded.months[2 - months : 2]} <= again <= {*crowded.months[:2]}
    crowded.make_days()
    crowded.make_months(*crowded.months)
    assert crowded.tick() == {}


def test_an_answer_that_makes_an_earlier_one_omitted_concerns_the_months_of_that_one(world: World) -> None:
    """An exam over midnight: what was left open in the old month counts as wrong once a later answer is known."""
    end = Month(world.months[0]).end
    exam = {"form_id": "f", "session_id": "s"}
    world.arrive(attempt("u1", "q3", end - timedelta(minutes=5), correct=None, position=1, **exam))
    world.arrive(attempt("u1", "q3", Month(world.months[2]).start + NOON))
    late = end + timedelta(minutes=5)
    world.make_months(*world.months)
    world.tick()
    world.arrive(attempt("u1", "q2", late, position=2, **exam))
    with world.database.connect() as connection:
        found = months_concerned(connection, world.now - timedelta(hours=2), {day_of(late)})
    assert {world.months[0], world.months[1], world.months[2]} <= found
    assert set(world.at_night()["monthly_calibration"]) == set(world.months)
    assert month_of(late) == world.months[1]
    assert rows(world.database, "SELECT count(*) FROM scored_snapshot WHERE superseded_at IS NULL") == [(3,)]
