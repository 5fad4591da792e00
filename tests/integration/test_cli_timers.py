"""What timers, CronJobs and monitors call, as it is typed: `irt job`, `irt alerts test`, `irt invariants fresh`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance, DagsterRunStatus

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import DAYS
from irt_assets.common.run_progress import last_made
from irt_assets.definitions import build_defs
from irt_assets.drift.assets import GROUP
from irt_assets.reports.assets import DRIFT_REPORT
from irt_assets.runs.in_process_runs import SENSORS, Outcome, follow_up
from irt_assets.servers.instance import dagster_instance
from jobs.plans import PLANS, Plan, plan_of
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.dagster_private import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    freeze_time,
)
from tests.helpers.typed import IrtOf
from tests.integration.sinks import HttpSink

pytestmark = pytest.mark.ci

MONTH = rooms.MONTHS[0]


@pytest.fixture
def instance(world: Settings) -> Iterator[DagsterInstance]:
    with dagster_instance(world, Database(world)) as instance:
        yield instance


def followed(instance: DagsterInstance, settings: Settings) -> list[str]:
    outcomes = list(follow_up(instance, settings))
    assert all(outcome.success for outcome in outcomes), outcomes
    return [outcome.name for outcome in outcomes]


def test_without_a_daemon_a_month_has_its_drift_and_its_report_follow_once(made_month: Settings) -> None:
    with dagster_instance(made_month, Database(made_month)) as instance:
        drift, report = followed(instance, made_month)
        defs = build_defs(made_month)
        in_group = [key.to_user_string() for key in defs.resolve_all_asset_keys() if key.path[-1] in drift]
        assert {"item_drift", "dif_analysis", "test_information"} <= set(in_group), GROUP
        assert report == f"{DRIFT_REPORT} {MONTH}"
        assert followed(instance, made_month) == []

        made = last_made(instance, AssetKey(DRIFT_REPORT))[MONTH]
        with freeze_time(datetime.now(UTC) + timedelta(days=1)):
            instance.report_runless_asset_event(AssetMaterialization("published_item_parameters", partition=MONTH))
        assert len(followed(instance, made_month)) == 2, "a month that was published again has both made again"
        assert last_made(instance, AssetKey(DRIFT_REPORT))[MONTH] > made
        assert followed(instance, made_month) == [], "although the clock was set back since"


def test_every_sensor_is_the_daemons_own_or_evaluated_without_it(world: Settings) -> None:
    assert {sensor.name for sensor in build_defs(world).sensors or ()} == {
        *SENSORS,
        "killed_runs",
        "automation",
        "alerts_of_schedules",
    }


def test_a_run_that_a_stopped_daemon_left_in_its_queue_is_made_here(
    world: Settings, irt: IrtOf, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For three minutes a daemon that was stopped, as for timers, looks alive."""
    answers = iter([True, False, False])
    server = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="irt_assets")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "prune")
    prune = build_defs(world).resolve_job_def("prune")
    waits = instance.create_run_for_job(prune, status=DagsterRunStatus.QUEUED, remote_job_origin=origin)
    monkeypatch.setattr("irt_assets.runs.queue.queue_run", lambda *_, **__: waits.run_id)
    monkeypatch.setattr("irt_assets.runs.start.daemon_alive", lambda _: next(answers))
    typed = irt(world)("job", "prune")
    assert (typed.code, typed.out) == (0, "prune: done\n"), typed.err
    assert "The daemon is gone: prune leaves its queue and runs here." in typed.err
    statuses = [run.status for run in instance.get_runs() if run.job_name == "prune"]
    assert sorted(status.value for status in statuses) == ["CANCELED", "SUCCESS"]


@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize(
    ("words", "job"),
    [
        (("job", "prune"), "prune"),
        (("nightly",), "calibrate_night"),
        (("calibrate", "--month", MONTH), MONTHLY_JOB),
        (("backfill", "--from", MONTH, "--to", MONTH), MONTHLY_JOB),
        (("report", "learner"), "generate_weekly_report"),
    ],
)
def test_every_command_goes_through_the_daemon_s_queue_unless_it_is_told_to_run_here(
    here: bool,
    words: tuple[str, ...],
    job: str,
    world: Settings,
    irt: IrtOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[str, bool]] = []

    def made_here(_: object, __: object, plan: Plan, partition: str | None, **___: object) -> Outcome:
        made.append((plan.job, True))
        return Outcome(plan.job, partition, success=True)

    def queued(_: object, __: object, ___: object, job: str, ____: object, **_____: object) -> str:
        made.append((job, False))
        return "the run"

    monkeypatch.setattr("irt_assets.runs.start.daemon_alive", lambda _: True)
    monkeypatch.setattr("irt_assets.runs.start.run_here", made_here)
    monkeypatch.setattr("irt_assets.runs.queue.queue_run", queued)
    monkeypatch.setattr(
        "irt_assets.runs.start.await_run", lambda _, __, job, partition, ___: Outcome(job, partition, success=True)
    )
    typed = irt(world)(*words, *["--here"] * here)
    assert made == [(job, here)], typed.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nightly",), "these have: judge_attempts"),
        (("prune", "--partition", "2026-06-30"), "has no partitions"),
        (("mirt_calibrate", "--partition", "2099-01-01"), "2099-01-01 is not a day that is over: the days run from"),
        (("detect_inactivity", "--partition", "June"), "June is not a day that is over: the days run from"),
        (("detect_inactivity", "--partition", "2099-01-01"), "2099-01-01 is not a day that is over: the days run from"),
    ],
)
def test_a_wrong_request_says_what_is_right(words: tuple[str, ...], said: str, world: Settings, irt: IrtOf) -> None:
    refused = irt(world)("job", *words)
    assert refused.code == 2
    assert said in refused.err.replace("\n", " ")


def test_a_job_makes_what_a_tick_would_ask_for_and_then_nothing(
    world: Settings, instance: DagsterInstance, irt: IrtOf, now: datetime
) -> None:
    """Of the days that it looks back at, all but two are made."""
    typed = irt(world)
    (plan,) = [plan for plan in PLANS if plan.job == "detect_inactivity"]
    *made, first_day, last_day = days = DAYS.back(now, plan.look_back)
    for day in made:
        instance.report_runless_asset_event(AssetMaterialization(plan.asset, partition=day))
    first = typed("job", "detect_inactivity")
    assert first.code == 0, first.err
    assert first.out.split("\n")[:-1] == [f"detect_inactivity {day}: done" for day in (first_day, last_day)]
    assert {json.loads(line).get("job") for line in first.err.splitlines()} <= {"detect_inactivity", None}
    again = typed("job", "detect_inactivity")
    assert (again.code, again.out.startswith("detect_inactivity: nothing is missing.")) == (0, True)
    one = typed("job", "detect_inactivity", "--partition", days[0])
    assert one.out == f"detect_inactivity {days[0]}: done\n"


def test_a_sensor_is_evaluated_once_where_there_is_no_daemon(world: Settings, irt: IrtOf) -> None:
    done = irt(world)("job", "theta_sweep")
    assert (done.code, done.out) == (0, "theta_sweep: done\n")
    assert "ENABLE_IRT_ONLINE_UPDATE is off, here and on the θ API" in done.err


def test_whether_the_invariants_are_fresh_is_a_matter_of_when_and_not_of_what(world: Settings, irt: IrtOf) -> None:
    typed = irt(world)
    never = typed("invariants", "fresh")
    assert (never.code, never.out) == (1, "the invariants have never been evaluated: run `irt job invariants`\n")
    then = datetime.now(UTC) - timedelta(hours=24)
    rooms.run_sql(
        Database(world),
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed, evaluated_at)
                VALUES ('a run', 'an invariant', '', '', false, %s)""",
        (then,),
    )
    assert typed("invariants", "fresh", "--max-age", "25h").code == 0
    late = typed("invariants", "fresh", "--max-age", "1439m", "--json")
    assert (late.code, late.json["fresh"], late.json["max_age_seconds"]) == (1, False, 1439 * 60)
    assert typed("invariants", "fresh", "--max-age", "1 day").code == 2


def test_a_test_alert_and_its_end_go_to_every_channel_and_past_the_outbox(
    world: Settings, http: HttpSink, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = irt(world)
    none = typed("alerts", "test")
    assert (none.code, "ALERT_WEBHOOK_URL" in none.out) == (1, True)
    monkeypatch.setenv("ALERT_WEBHOOK_URL", http.url)
    done = typed("alerts", "test")
    assert (done.code, done.out) == (0, "webhook: arrived\n")
    assert [body["event"] for body in http.bodies()] == ["opened", "resolved"]
    assert http.bodies()[0]["what"].startswith("Test alert")
    assert rooms.rows(Database(world), "SELECT * FROM alert") == []
    http.status = 500
    failed = typed("alerts", "test", "--json")
    assert (failed.code, failed.json[0]["channel"]) == (1, "webhook")
    assert "500" in failed.json[0]["why"]


def test_a_violation_ends_the_unit_of_the_invariants_where_it_is_to_and_is_alerted_once(
    world: Settings, instance: DagsterInstance, irt: IrtOf, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the invariant itself: what systemd starts for the failed unit sends nothing more."""
    day = plan_of("invariants").partitions_due(now, world.irt_first_month)[-1]
    instance.report_runless_asset_event(AssetMaterialization("invariant_report", partition=day))
    add = """INSERT INTO invariant_result (run, invariant, subject, partition, passed, evaluated_at)
             VALUES ('r', 'scale_has_its_anchors', 'item', '', false, now())"""
    rooms.run_sql(Database(world), add)
    typed = irt(world)
    assert typed("job", "invariants").code == 0
    monkeypatch.setenv("IRT_INVARIANTS_STRICT", "true")
    violated = typed("job", "invariants")
    assert (violated.code, violated.out.splitlines()[-1]) == (3, "violated: scale_has_its_anchors")
    monkeypatch.setenv("MONITOR_EXIT_STATUS", "3")
    assert "alerts of their own" in typed("alerts", "unit-failed", "irt-invariants.service").out
    assert "alerts of their own" not in typed("alerts", "unit-failed", "irt-daemon.service").out
    rooms.run_sql(Database(world), "DELETE FROM invariant_result")
    assert typed("job", "invariants").code == 0
