"""The `irt` command as it is typed: its output, its errors, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dagster import AssetKey, AssetMaterialization, DagsterInstance, DagsterRunStatus

from irt_assets.common.job_names import MONTHLY_JOB, NIGHTLY_JOB
from irt_assets.common.partitions import DAYS
from irt_assets.common.run_progress import PARTITION_TAG, last_materializations
from irt_assets.definitions import build_defs
from irt_assets.reports.assets import DRIFT_REPORT
from irt_assets.runs.in_process_runs import SENSORS, RunOutcome, follow_up
from irt_assets.scales.scale import preview_rules
from irt_assets.servers.instance import dagster_instance
from irt_assets.simulation.files import write
from irt_assets.simulation.response_log import simulate
from jobs.plans import PLANS, Plan, find_plan
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.dagster_private import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    freeze_time,
)
from tests.helpers.rooms import call
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.integration.sinks import HttpSink
from tests.testbed.scenario import AnyScenario


def test_changed_rules_need_confirmation_and_name_the_stale_months(world: Settings, irt: IrtOf) -> None:
    database, typed = Database(world), irt(world)
    with database.connect() as connection:
        for month in rooms.MONTHS:
            rooms.made_up_snapshot(connection, rooms.folder_store(world), month)
    rules = "SELECT rules FROM calibration_scale"
    before = rooms.rows(database, rules)
    refused = typed("calibrate", "--month", "2026-06", "--set", "min_responses=110")
    assert (refused.code, "with --yes" in refused.err) == (2, True)
    assert not missing_sentences(
        refused.out,
        "scale default: min_responses 120 → 110",
        "it holds for every month from now on; stale until calibrated again: 2026-07",
        "  snapshots that other rules made: 2026-06, 2026-07",
    )
    assert not missing_sentences(
        typed("scale", "set", "max_rmsd=0.08", "--by", "ann", "--reason", "to see").out,
        "no other month becomes stale",
        "items are held back by it when a month's publication step next runs",
    )
    assert rooms.rows(database, rules) == before
    same = call(database, preview_rules, rooms.SCALE, {"min_responses": 120})
    assert (same.before == same.after, same.sentence) == (True, "scale default: its rules have these values already")


def test_import_that_rejects_most_rows_exits_with_code_1_and_names_the_setting(
    settings: Settings, tmp_path: Path, irt: IrtOf
) -> None:
    """Previously, tens of thousands of rejected rows ended with code 0 and "0 accepted"."""
    typed = irt(settings.model_copy(update={"irt_first_month": "2026-06"}))
    log = tmp_path / "log.csv"
    rows = [f"u{n},q1,2026-0{5 - n // 3}-01T12:00:00Z,1" for n in range(5)]
    log.write_text("user_id,item_id,completed_at,correct\n" + "\n".join(rows) + "\nu9,q1,2026-07-01T12:00:00Z,0\n")
    for words in ((), ("--json",)):
        ended = typed("import", "attempts", log, *words)
        assert (
            ended.code,
            missing_sentences(ended.err, "5 of 6 rows were rejected as time_before_first_month", "IRT_FIRST_MONTH"),
            "Counter" in ended.out + ended.err,
        ) == (1, [], False)
    log.write_text("person,i1,i2\nann,0,4\nbob,1,2\n")
    of_day = ("import", "attempts", log, "--at", "2026-07-01")
    refused = typed(*of_day)
    assert (refused.code, "--dichotomise" in refused.err) == (2, True)
    assert typed(*of_day, "--dichotomise", "at=1", "--json").json["accepted"] == 4


@pytest.mark.parametrize("words", [["--help"], ["doctor"]])
def test_characters_that_the_terminal_cannot_print_are_replaced(words: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "IRT_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "irt_assets.cli", *words]
    ran = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert (ran.returncode, b"Traceback" in ran.stderr, len(ran.stdout.splitlines()) > 10) == (0, False, True), (
        ran.stderr
    )


def test_typed_commands_lead_from_files_to_published_parameters(settings: Settings, tmp_path: Path, irt: IrtOf) -> None:
    log, truth = simulate(
        AnyScenario(
            months=("2026-06",),
            now=datetime(2026, 7, 20, tzinfo=UTC),
            seed=3,
            learners_per_month=300,
            items_per_block=12,
        )
    )
    files = write(log, truth, tmp_path / "files")
    typed = irt(settings.model_copy(update={"irt_first_month": "2026-06"}))

    assert typed("db", "upgrade").code == 0
    questions = typed("import", "questions", files.questions, "--json")
    assert (questions.code, questions.json["accepted"]) == (0, 36)
    assert typed("import", "learners", files.learners).code == 0
    first = typed("import", "attempts", files.attempts, "--json")
    assert first.json["accepted"] == int(log.arrived.sum()), first.err
    again = typed("import", "attempts", files.attempts, "--json")
    assert (again.json["accepted"], again.json["duplicates"]) == (0, first.json["accepted"])

    without_origin = typed("calibrate", "--month", "2026-06", "--set", "min_responses=120")
    assert (without_origin.code, "irt scale init" in without_origin.err) == (2, True)
    done = typed("scale", "init", "--set", "min_responses=120", "--set", "min_anchor_responses=80")
    assert (done.code, "anchors frozen" in done.out) == (0, True)
    assert typed("scale", "init").code == 2

    calibrated = typed("calibrate", "--month", "2026-06", "--json")
    assert (calibrated.code, "2026-06 default: green" in calibrated.err) == (0, True), calibrated.out + calibrated.err
    [month] = calibrated.json["months"]
    assert (month["month"], month["scale_id"], month["state"]) == ("2026-06", "default", "green")
    assert {(run["job"], run["success"], len(run["run_id"])) for run in calibrated.json["runs"]} >= {
        ("monthly_calibration", True, 36)
    }
    again = typed("job", "mirt_calibrate", "--partition", "2026-07-19", "--json")
    assert [run["partition"] for run in again.json["runs"]][:1] == ["2026-07-19"]
    tried = typed("calibrate", "--month", "2026-06", "--try", "min_anchors=1000", "--try", "max_abs_b=0.5")
    assert (
        tried.code,
        missing_sentences(
            tried.out,
            "max_abs_b 6.0 → 0.5, min_anchors 5 → 1000",
            "its stored fit was judged again in ",
            "anchors_agree: passes → fails: ",
        ),
    ) == (1, []), tried.err
    both = typed("calibrate", "--try", "max_rmsd=0.1", "--set", "max_rmsd=0.1")
    assert (both.code, "leave out --set" in both.err) == (2, True)
    decided = ("--by", "ann", "--reason", "to see", "--yes")
    tightened = typed("scale", "set", "min_anchors=1000", *decided)
    assert tightened.out.splitlines() == [
        "scale default: min_anchors 5 → 1000",
        "it holds for every month from now on; no other month becomes stale",
        "  judged again from the stored results of 2026-06 to 2026-06: anchors_agree",
        "  2026-06: anchors_agree fails now",
    ], tightened.err
    loosened = typed("scale", "set", "min_anchors=5", *decided, "--json")
    assert "2026-06: anchors_agree passes now" in loosened.err
    assert loosened.json == {
        "scale_id": "default", "values": {"min_anchors": "5"}, "first_month": None, "stale": []
    }  # fmt: skip
    item = next(
        i for j, i in enumerate(truth.bank.item_ids) if not truth.bank.anchor[j] and i not in faulty(truth.as_dict())
    )
    traced = typed("lineage", item, "--json")
    (published,) = traced.json["publications"]
    assert (published["rule"], published["month"], traced.json["decisions"]) == ("first", "2026-06", [])
    assert all(published[name] for name in ("run_id", "data_hash"))
    lineage = typed("lineage", item).out
    assert not missing_sentences(lineage, f"{published['a']:.3f} ± {published['a_se']:.3f}", "no decisions on it yet")


def test_nightly_command_runs_a_night_and_logs_its_steps(world: Settings, irt: IrtOf) -> None:
    typed = irt(world)
    done = typed("nightly", "--day", "2026-07-31")
    assert (done.code, done.out) == (0, "2026-07-31: done\n")
    logged = [line for line in map(json.loads, done.err.splitlines()) if line.get("job") == NIGHTLY_JOB]
    assert [line["message"].split(" ")[0] for line in logged if line["level"] == "INFO"] == [
        "Loaded",
        "Loaded",
        "Linking",
        "IRT",
    ]
    assert {line["partition"] for line in logged} == {"2026-07-31"}
    rooms.run_sql(Database(world), "UPDATE anchor_set SET item_id = 'gone ' || item_id")
    failed = typed("nightly", "--day", "2026-07-31")
    assert failed.code == 1
    assert not missing_sentences(
        failed.out.replace("\n", " "), "2026-07-31: failed", "cannot be linked to anchor set 1"
    )


def test_nightly_command_refuses_an_unfinished_day_and_defaults_to_yesterday(
    world: Settings, irt: IrtOf, now: datetime
) -> None:
    typed = irt(world)
    refused = typed("nightly", "--day", f"{now:%Y-%m-%d}")
    yesterday = f"{now - timedelta(days=1):%Y-%m-%d}"
    assert refused.code == 2
    assert "is not a day that is over: the days run from 2026-06-01 (IRT_FIRST_MONTH) to" in refused.err
    assert typed("nightly").out.endswith(f"{yesterday}: done\n")


def faulty(truth: dict[str, list[dict[str, list[str]]]]) -> set[str]:
    return {item for fault in truth["faults"] for item in fault["item_ids"]}


NOT_OVER = "is not a day that is over: the days run from"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("calibrate", "--month", "2026-13"), "2026-13 is not a month that is over"),
        (("calibrate", "--month", "2099-01"), "2099-01 is not a month that is over"),
        (("calibrate", "--month", "2026-06", "--set", "min_respons=3"), "no such rule: min_respons"),
        (("calibrate", "--month", "2026-06", "--set", "min_responses"), "NAME=VALUE"),
        (("backfill", "--from", "2026-07", "--to", "2026-06"), "lies after"),
        (("lineage", "no such item"), "the bank has no item 'no such item'"),
        (("scale", "init", "--scale", "other", "--origin", "June"), "FROM:TO"),
        (("import", "attempts", "nowhere.csv"), "nowhere.csv"),
        (("job", "nightly"), "these jobs have one: judge_attempts"),
        (("job", "prune", "--partition", "2026-06-30"), "has no partitions"),
        (("job", "mirt_calibrate", "--partition", "2099-01-01"), f"2099-01-01 {NOT_OVER}"),
        (("job", "detect_inactivity", "--partition", "June"), f"June {NOT_OVER}"),
        (("job", "detect_inactivity", "--partition", "2099-01-01"), f"2099-01-01 {NOT_OVER}"),
    ],
)
def test_invalid_command_line_exits_with_code_2_and_states_the_error(
    words: tuple[str, ...], message: str, world: Settings, irt: IrtOf
) -> None:
    answer = irt(world)(*words)
    error = answer.err.replace("\n", " ")
    assert (answer.code, message in error, "Traceback" in error) == (2, True, False), error


def test_missing_schema_and_unreachable_database_have_different_messages(
    settings: Settings, world: Settings, irt: IrtOf, tmp_path: Path
) -> None:
    url = world.database_url.get_secret_value()
    empty = world.model_copy(update={"database_url": type(world.database_url)(url.rpartition("/")[0] + "/postgres")})
    assert "irt db upgrade" in irt(empty)("lineage", "A01").err
    nobody = world.model_copy(update={"database_url": type(world.database_url)("postgresql://127.0.0.1:1/nothing")})
    assert "does not answer" in irt(nobody)("lineage", "A01").err


def test_status_exits_with_code_1_if_a_month_is_missing(world: Settings, irt: IrtOf) -> None:
    answer = irt(world)("status", "--json")
    assert (
        answer.code,
        {(row["month"], row["state"]) for row in answer.json["months"]} >= {("2026-06", "missing")},
    ) == (1, True)


def test_doctor_exits_with_code_0_only_if_no_finding_is_an_error(world: Settings, irt: IrtOf) -> None:
    answer = irt(world)("doctor", "--json")
    assert (answer.code, world.database_url.get_secret_value() in answer.out) == (
        int(any(f["state"] == "error" for f in answer.json)),
        False,
    )


def test_calibrate_is_refused_if_a_run_of_the_month_is_under_way(
    world: Settings, irt: IrtOf, instance: DagsterInstance
) -> None:
    monthly = build_defs(world).resolve_job_def(MONTHLY_JOB)
    instance.create_run_for_job(monthly, status=DagsterRunStatus.STARTED, tags={PARTITION_TAG: "2026-06"})
    answer = irt(world)("calibrate", "--month", "2026-06")
    assert (answer.code, "queued or under way" in answer.err) == (2, True)


# -- timers ------------------------------------------------------------------------------------------
# Commands of timers, CronJobs and monitors, as they are typed: `irt job`, `irt alerts test`, `irt invariants fresh`.

MONTH = rooms.MONTHS[0]


@pytest.fixture
def instance(world: Settings) -> Iterator[DagsterInstance]:
    with dagster_instance(world, Database(world)) as instance:
        yield instance


def followed(instance: DagsterInstance, settings: Settings) -> list[str]:
    outcomes = list(follow_up(instance, settings))
    assert all(outcome.success for outcome in outcomes), outcomes
    return [outcome.name for outcome in outcomes]


@pytest.mark.ci
def test_drift_and_report_of_a_month_run_once_after_the_month_without_a_daemon(made_month: Settings) -> None:
    with dagster_instance(made_month, Database(made_month)) as instance:
        drift, report = followed(instance, made_month)
        defs = build_defs(made_month)
        in_group = [key.to_user_string() for key in defs.resolve_all_asset_keys() if key.path[-1] in drift]
        assert {"item_drift", "dif_analysis", "test_information"} <= set(in_group)
        assert report == f"{DRIFT_REPORT} {MONTH}"
        assert followed(instance, made_month) == []

        made = last_materializations(instance, AssetKey(DRIFT_REPORT))[MONTH]
        with freeze_time(datetime.now(UTC) + timedelta(days=1)):
            instance.report_runless_asset_event(AssetMaterialization("published_item_parameters", partition=MONTH))
        assert len(followed(instance, made_month)) == 2, "a month that was published again has both made again"
        assert last_materializations(instance, AssetKey(DRIFT_REPORT))[MONTH] > made
        assert followed(instance, made_month) == [], "although the clock was set back since"


@pytest.mark.ci
def test_every_sensor_belongs_to_the_daemon_or_can_be_evaluated_by_command(world: Settings) -> None:
    assert {sensor.name for sensor in build_defs(world).sensors or ()} == {
        *SENSORS,
        "killed_runs",
        "automation",
        "alerts_of_schedules",
    }


@pytest.mark.ci
def test_run_left_in_the_queue_of_a_stopped_daemon_is_executed_by_the_command(
    world: Settings, irt: IrtOf, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped daemon looks alive for three minutes."""
    answers = iter([True, False, False])
    server = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="irt_assets")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "prune")
    prune = build_defs(world).resolve_job_def("prune")
    waits = instance.create_run_for_job(prune, status=DagsterRunStatus.QUEUED, remote_job_origin=origin)
    monkeypatch.setattr("irt_assets.runs.queue.queue_run", lambda *_, **__: waits.run_id)
    monkeypatch.setattr("irt_assets.runs.start.daemon_alive", lambda _: next(answers))
    typed = irt(world)("job", "prune")
    assert (typed.code, typed.out) == (0, "prune: done\n"), typed.err
    assert "The daemon has stopped: prune leaves its queue and runs in this process." in typed.err
    statuses = [run.status for run in instance.get_runs() if run.job_name == "prune"]
    assert sorted(status.value for status in statuses) == ["CANCELED", "SUCCESS"]


@pytest.mark.ci
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
def test_commands_use_the_daemons_queue_unless_here_is_given(
    here: bool,
    words: tuple[str, ...],
    job: str,
    world: Settings,
    irt: IrtOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[tuple[str, bool]] = []

    def made_here(_: object, __: object, plan: Plan, partition: str | None, **___: object) -> RunOutcome:
        made.append((plan.job, True))
        return RunOutcome(plan.job, partition, success=True)

    def queued(
        _: object, __: object, ___: object, plan: Plan, partitions: str | None, **____: object
    ) -> Iterator[RunOutcome]:
        made.append((plan.job, False))
        yield RunOutcome(plan.job, partitions, success=True)

    monkeypatch.setattr("irt_assets.runs.start.daemon_alive", lambda _: True)
    monkeypatch.setattr("irt_assets.runs.start.run_here", made_here)
    monkeypatch.setattr("irt_assets.runs.start._run_on_daemon", queued)
    typed = irt(world)(*words, *["--here"] * here)
    assert made == [(job, here)], typed.err


@pytest.mark.ci
def test_job_command_runs_the_missing_partitions_and_a_second_call_runs_no_partition(
    world: Settings, instance: DagsterInstance, irt: IrtOf, now: datetime
) -> None:
    """All but two days of the look-back have been materialised."""
    typed = irt(world)
    (plan,) = [plan for plan in PLANS if plan.job == "detect_inactivity"]
    *made, first_day, last_day = days = DAYS.last_keys(now, plan.look_back)
    for day in made:
        instance.report_runless_asset_event(AssetMaterialization(plan.asset, partition=day))
    first = typed("job", "detect_inactivity")
    assert (
        first.code,
        first.out.split("\n")[:-1],
        {json.loads(line).get("job") for line in first.err.splitlines()} <= {"detect_inactivity", None},
    ) == (0, [f"detect_inactivity {day}: done" for day in (first_day, last_day)], True), first.err
    again = typed("job", "detect_inactivity")
    assert (again.code, again.out.startswith("detect_inactivity: nothing is missing.")) == (0, True)
    one = typed("job", "detect_inactivity", "--partition", days[0])
    assert one.out == f"detect_inactivity {days[0]}: done\n"


@pytest.mark.ci
def test_job_command_evaluates_a_sensor_once_without_a_daemon(world: Settings, irt: IrtOf) -> None:
    done = irt(world)("job", "theta_sweep")
    assert (done.code, done.out) == (0, "theta_sweep: done\n")
    assert "ENABLE_IRT_ONLINE_UPDATE is off, here and on the θ API" in done.err


@pytest.mark.ci
def test_freshness_of_invariants_depends_on_the_time_and_not_on_the_result(world: Settings, irt: IrtOf) -> None:
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


@pytest.mark.ci
def test_test_alert_and_its_resolution_reach_every_channel_and_are_not_stored(
    world: Settings, http: HttpSink, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = irt(world)
    none = typed("alerts", "test")
    assert (none.code, "ALERT_WEBHOOK_URL" in none.out) == (1, True)
    monkeypatch.setenv("ALERT_WEBHOOK_URL", http.url)
    done = typed("alerts", "test")
    assert (done.code, done.out) == (0, "webhook: arrived\n")
    assert ([body["event"] for body in http.bodies()], http.bodies()[0]["what"].startswith("Test alert")) == (
        ["opened", "resolved"],
        True,
    )
    assert rooms.rows(Database(world), "SELECT * FROM alert") == []
    http.status = 500
    failed = typed("alerts", "test", "--json")
    assert (failed.code, failed.json[0]["channel"], "500" in failed.json[0]["why"]) == (1, "webhook", True)


@pytest.mark.ci
def test_violation_fails_the_unit_of_invariants_only_in_strict_mode_and_alerts_once(
    world: Settings, instance: DagsterInstance, irt: IrtOf, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The invariant sends the alert itself; the unit that systemd starts for the failed unit sends no alert."""
    day = find_plan("invariants").partitions_due(now, world.irt_first_month)[-1]
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
