"""Requests of the schedules to a real Dagster instance: each missing partition once, and no existing one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pytest

from irt_assets.common.environment import CODE_LOCATION, workspace
from irt_assets.common.job_names import ALIASES, KPI_JOB, MONTHLY_JOB, NIGHTLY_JOB
from irt_assets.common.partitions import DAYS, WEEKS
from irt_assets.common.run_progress import PARTITION_TAG, is_requested_again
from irt_assets.definitions import build_defs
from irt_assets.runs import start as starting
from irt_assets.runs.in_process_runs import RunOutcome
from irt_assets.runs.start import await_run, partitions_to_run, start
from irt_assets.servers.instance import dagster_instance
from jobs.plans import PLANS, Plan, find_plan, last_tick_before
from jobs.schedules import has_run_since
from jobs.watching.alerts import schedule_states
from resources.dagster_compat import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARENT_RUN_ID_TAG,
    RETRY_NUMBER_TAG,
    RUN_FAILURE_REASON_TAG,
    TickStatus,
    queue_run,
)
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database
from resources.settings import KUBERNETES, Settings
from tests.helpers.dagster_private import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepository,
    RemoteRepositoryOrigin,
    RepositoryHandle,
    RepositorySnap,
    create_run_for_test,
    freeze_time,
)
from tests.helpers.typed import IrtOf
from tests.helpers.worlds import not_before
from tests.integration.schedule_states import daemon_lives, switch_on, tick

pytestmark = pytest.mark.ci

FRIDAY = datetime(2026, 7, 17, 1, 15, tzinfo=UTC)
TWO_WEEKS = DAYS.last_keys(FRIDAY, 14)
BY_JOB = {plan.job: plan for plan in PLANS}


class Graph:
    """The real schedules over an instance; no asset is computed."""

    settings = Settings(irt_first_month="2026-01", _env_file=None)

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance, database: Database) -> None:
        self.defs, self.instance, self.database = defs, instance, database

    def tick(self, job: str, at: datetime) -> list[str]:
        """The partitions that a tick requests."""
        schedule = self.defs.resolve_schedule_def(BY_JOB[job].name)
        with (
            freeze_time(at),
            dg.build_schedule_context(
                instance=self.instance,
                scheduled_execution_time=at,
                repository_def=self.defs.get_repository_def(),
                resources={"database": self.database},
            ) as context,
        ):
            requests = schedule.evaluate_tick(context).run_requests or []
        assert [request.run_key for request in requests] == [request.partition_key for request in requests]
        return [request.partition_key or "" for request in requests]

    def report_made(self, asset: str, *partitions: str, at: datetime) -> None:
        with freeze_time(at):
            for key in partitions:
                self.instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))

    def run(self, job: str, status: dg.DagsterRunStatus, **tags: str) -> None:
        self.instance.create_run_for_job(self.defs.resolve_job_def(job), tags=tags, status=status)


@pytest.fixture(scope="module")
def defs() -> dg.Definitions:
    return build_defs(Graph.settings)


@pytest.fixture
def graph(defs: dg.Definitions, database: Database, tmp_path: Path) -> Iterator[Graph]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        yield Graph(defs, instance, database)


def test_new_platform_requests_all_partitions_of_the_look_back(graph: Graph) -> None:
    assert graph.tick("aggregate_features_daily", FRIDAY) == TWO_WEEKS


def test_days_missed_without_a_daemon_are_requested_once_each(graph: Graph) -> None:
    """The days up to Monday exist; Dagster itself evaluates a single tick for all missed ticks."""
    graph.report_made("features_topic_daily", *TWO_WEEKS[:-3], at=FRIDAY - timedelta(days=3))
    assert graph.tick("aggregate_features_daily", FRIDAY) == ["2026-07-14", "2026-07-15", "2026-07-16"]
    graph.report_made("features_topic_daily", *TWO_WEEKS[-3:], at=FRIDAY)
    assert graph.tick("aggregate_features_daily", FRIDAY) == []
    assert graph.tick("aggregate_features_daily", FRIDAY + timedelta(days=1)) == ["2026-07-17"]


@pytest.mark.parametrize(
    ("status", "requested"),
    [
        (dg.DagsterRunStatus.FAILURE, True),
        (dg.DagsterRunStatus.CANCELED, True),
        (dg.DagsterRunStatus.NOT_STARTED, False),
        (dg.DagsterRunStatus.STARTING, False),
        (dg.DagsterRunStatus.STARTED, False),
    ],
)
def test_failed_partition_is_requested_again_and_a_running_partition_is_not(
    graph: Graph, status: dg.DagsterRunStatus, requested: bool
) -> None:
    graph.report_made("features_topic_daily", *TWO_WEEKS[:-1], at=FRIDAY)
    graph.run("aggregate_features_daily", status, **{"dagster/partition": TWO_WEEKS[-1]})
    assert graph.tick("aggregate_features_daily", FRIDAY) == ([TWO_WEEKS[-1]] if requested else [])


def test_days_of_a_running_range_are_not_requested(graph: Graph) -> None:
    span = {ASSET_PARTITION_RANGE_START_TAG: "2026-06-01", ASSET_PARTITION_RANGE_END_TAG: "2026-07-14"}
    graph.run("aggregate_features_daily", dg.DagsterRunStatus.STARTED, **span)
    assert graph.tick("aggregate_features_daily", FRIDAY) == ["2026-07-15", "2026-07-16"]


def test_run_of_a_different_job_does_not_block_a_days_request(graph: Graph) -> None:
    graph.run("detect_inactivity", dg.DagsterRunStatus.STARTED, **{"dagster/partition": TWO_WEEKS[-1]})
    assert TWO_WEEKS[-1] in graph.tick("aggregate_features_daily", FRIDAY)


def test_running_week_is_requested_daily_and_once_more_after_its_end(graph: Graph) -> None:
    """The daemon stops after Thursday, so Thursday's numbers are not the final numbers of the week."""
    thursday = datetime(2026, 7, 16, 2, 10, tzinfo=UTC)
    running, earlier = "2026-07-13", WEEKS.last_keys(thursday, 8)
    graph.report_made("weekly_kpi", *earlier, at=thursday)
    for day in range(2):
        tick = thursday - timedelta(days=1 - day)
        assert graph.tick(KPI_JOB, tick) == [running]
        graph.report_made("weekly_kpi", running, at=tick)
    tuesday = datetime(2026, 7, 21, 2, 10, tzinfo=UTC)
    assert graph.tick(KPI_JOB, tuesday) == [running, "2026-07-20"]
    graph.report_made("weekly_kpi", running, at=tuesday)
    assert graph.tick(KPI_JOB, tuesday + timedelta(days=1)) == ["2026-07-20"]


def test_fitted_month_waits_for_a_person_and_an_unfitted_month_is_requested(graph: Graph) -> None:
    first = datetime(2026, 7, 1, 2, tzinfo=UTC)
    graph.report_made("item_calibration", "2026-04", at=first - timedelta(days=60))
    graph.report_made("scored_responses", "2026-05", at=first - timedelta(days=30))
    graph.run("monthly_calibration", dg.DagsterRunStatus.FAILURE, **{"dagster/partition": "2026-05"})
    assert graph.tick("monthly_calibration", first) == ["2026-05", "2026-06"]


def test_invariants_are_requested_for_the_last_day_and_not_for_missed_days(graph: Graph) -> None:
    assert graph.tick("invariants", datetime(2026, 7, 17, 6, tzinfo=UTC)) == ["2026-07-16"]


def test_every_schedule_has_a_tick_that_can_be_launched(graph: Graph) -> None:
    """Partitions that a job does not have are refused when the tick is evaluated. No answer has come on the day."""
    for plan in PLANS:
        if plan.asset:
            always = replace(plan, running=plan.running and not plan.if_new)
            expected = always.partitions_due(FRIDAY, "2026-01")
            assert graph.tick(plan.job, FRIDAY) == expected


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.SUCCESS])
def test_job_without_partitions_runs_once_per_tick_of_its_schedule_or_timer(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, status: dg.DagsterRunStatus
) -> None:
    """A run that a person requests always starts."""
    plan = find_plan("inventory")
    tick = last_tick_before(not_before(30.0, timedelta(hours=6)), plan)  # the plan's tick is at 06:00
    by_cron = graph.settings.model_copy(update={"irt_run_key": "inventory-29384720"})
    by_hand = graph.settings.model_copy(update={"irt_run_key": "inventory-again"})

    def decisions() -> list[bool]:
        scheduled = bool(graph.tick(plan.job, tick))
        jobs = [partitions_to_run(graph.instance, one, graph.database, plan, None) for one in (by_cron, by_hand)]
        with monkeypatch.context() as timer:
            timer.setenv("TRIGGER_UNIT", "irt-inventory.timer")
            jobs.append(partitions_to_run(graph.instance, graph.settings, graph.database, plan, None))
        return [scheduled, *map(bool, jobs)]

    graph.run(plan.job, dg.DagsterRunStatus.FAILURE)
    graph.run("prune", dg.DagsterRunStatus.SUCCESS)
    with freeze_time(tick - timedelta(minutes=1)):
        graph.run(plan.job, dg.DagsterRunStatus.SUCCESS)
    assert decisions() == [True, True, True, True]
    graph.run(plan.job, status)
    assert decisions() == [False, False, True, False]
    assert graph.tick(plan.job, tick + timedelta(days=1)) == [""]


def test_start_by_hand_includes_the_last_day_and_a_timer_or_cron_job_only_missing_days(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    """TRIGGER_UNIT is set as by systemd 252: by the timer, also after a kill, and not by `systemctl start`."""
    days = DAYS.last_keys(now, 14)
    graph.report_made("features_topic_daily", *days[:-3], *days[-2:], at=now)
    daemon_lives(graph.instance)
    monkeypatch.setattr(
        starting,
        "_run_on_daemon",
        lambda *those, **_: iter([RunOutcome(those[3].job, those[4], True)]),
    )

    def made(key: str | None = None, *, if_missing: bool = False, **environment: str) -> list[str | None]:
        settings = graph.settings.model_copy(update={"irt_run_key": key})
        with monkeypatch.context() as process:
            for name, value in environment.items():
                process.setenv(name, value)
            started = start(graph.instance, settings, graph.database, "aggregate_features_daily", if_missing=if_missing)
            return [outcome.partition for outcome in started]

    unit = {"IRT_UNIT": "irt-features"}
    assert made(**unit) == [days[-3], days[-1]]
    what_is_missing = [None]
    assert made(**unit, TRIGGER_UNIT="irt-features.timer") == made() == what_is_missing
    assert made(**unit, if_missing=True) == what_is_missing
    monkeypatch.setenv(KUBERNETES, "10.96.0.1")
    assert made("aggregate-features-test-1") == [days[-3], days[-1]]
    assert made("aggregate-features-29384720") == made() == what_is_missing


@pytest.mark.parametrize(("alias", "job"), ALIASES.items())
def test_documents_name_of_a_job_starts_the_same_job(graph: Graph, alias: str, job: str) -> None:
    one, other = (graph.defs.resolve_job_def(name) for name in (alias, job))
    assert one.asset_layer.executable_asset_keys == other.asset_layer.executable_asset_keys
    assert (one.tags, one.partitions_def, one.executor_def) == (other.tags, other.partitions_def, other.executor_def)
    assert one.description == f"Name of the job `{job}` in the documents."
    assert find_plan(alias) is find_plan(job)


@pytest.mark.parametrize("name", ["mirt_calibrate", NIGHTLY_JOB])
def test_night_running_under_either_name_is_not_started_again(graph: Graph, name: str, now: datetime) -> None:
    """Neither a tick nor a command starts the night a second time."""
    day = DAYS.last_keys(now, 1)[0]
    graph.run(name, dg.DagsterRunStatus.STARTED, **{PARTITION_TAG: day})
    assert day not in partitions_to_run(
        graph.instance, graph.settings, graph.database, find_plan("mirt_calibrate"), None
    )
    with pytest.raises(PermanentFailure, match=f"a run of {day} is queued or under way"):
        partitions_to_run(graph.instance, graph.settings, graph.database, find_plan("mirt_calibrate"), day)
    graph.run(name, dg.DagsterRunStatus.STARTED, **{PARTITION_TAG: TWO_WEEKS[-1]})
    assert graph.tick(NIGHTLY_JOB, FRIDAY) == TWO_WEEKS[-3:-1]


@pytest.mark.parametrize("names", [("mirt_calibrate", NIGHTLY_JOB), (NIGHTLY_JOB, "mirt_calibrate")])
def test_failed_night_is_resolved_by_a_success_under_either_name(graph: Graph, names: tuple[str, str]) -> None:
    statuses = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS)
    for name, status in zip(names, statuses, strict=True):
        graph.run(name, status, **{PARTITION_TAG: TWO_WEEKS[-1]})
    second, first = graph.instance.get_run_records()
    assert is_requested_again(graph.instance, first, dg.DagsterRunStatus.SUCCESS)
    assert not is_requested_again(graph.instance, second)


def test_schedule_switched_off_under_the_former_name_of_its_job_stays_off(graph: Graph) -> None:
    """The schedule keeps its ticks, too, because only its job was renamed."""
    before = dg.Definitions(
        jobs=[dg.define_asset_job("mirt_calibrate", selection=["night"])],
        assets=[dg.asset(name="night")(lambda: None)],
        schedules=[
            dg.ScheduleDefinition(name="mirt_calibrate_schedule", job_name="mirt_calibrate", cron_schedule="0 3 * * *")
        ],
    )
    handle = RepositoryHandle.for_test(location_name="irt_assets", repository_name="__repository__")
    was, now = (
        RemoteRepository(
            RepositorySnap.from_def(defs.get_repository_def()), handle, auto_materialize_use_sensors=True
        ).get_schedule("mirt_calibrate_schedule")
        for defs in (before, graph.defs)
    )
    assert (was.job_name, now.job_name) == ("mirt_calibrate", NIGHTLY_JOB)
    graph.instance.start_schedule(was)
    stopped = graph.instance.stop_schedule(was.get_remote_origin_id(), was.selector_id, was)
    tick(graph.instance, stopped, FRIDAY, TickStatus.SUCCESS)

    found = graph.instance.get_instigator_state(now.get_remote_origin_id(), now.selector_id)
    assert now.get_current_instigator_state(found) == stopped
    assert not stopped.is_running
    assert (
        [one.timestamp for one in graph.instance.get_ticks(now.get_remote_origin_id(), now.selector_id)],
        schedule_states(graph.instance)[BY_JOB[NIGHTLY_JOB].name],
    ) == ([FRIDAY.timestamp()], stopped)


# -- jobs in pods ------------------------------------------------------------------------------------
# `irt job` in a CronJob's pod: a partition is requested once, even if the pod dies, and never runs in the pod.

DAY = "2026-03-05"
FEATURES, BANK, MONTH = find_plan("aggregate_features_daily"), find_plan("prune"), find_plan(MONTHLY_JOB)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pause between two attempts to reach a server."""
    monkeypatch.setattr(starting, "RETRY_INTERVAL_S", 0.01)


@pytest.fixture
def instance(
    settings: Settings, database: Database, no_pause: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dg.DagsterInstance]:
    """An instance with a daemon that is alive. Runs are queued as the page queues them, and end when awaited."""
    monkeypatch.setattr(starting, "in_a_pod", lambda: True)
    monkeypatch.setattr(starting, "enqueue", enqueued)
    with dagster_instance(settings, database) as instance:
        daemon_lives(instance)
        monkeypatch.setattr(starting, "await_run", end_when_followed(instance))
        yield instance


def queued(instance: dg.DagsterInstance, plan: Plan, partition: str | None, tags: dict[str, str]) -> str:
    code = GrpcServerCodeLocationOrigin(host="irt-code-server", port=4266, location_name="irt_assets")
    run = create_run_for_test(
        instance,
        job_name=plan.job,
        tags=tags | ({PARTITION_TAG: partition} if partition else {}),
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(code, "__repository__"), plan.job),
    )
    instance.report_dagster_event(dg.DagsterEvent.job_enqueue(run), run_id=run.run_id)
    return run.run_id


def end_when_followed(instance: dg.DagsterInstance, *, well: bool = True) -> Callable[..., RunOutcome]:
    """Replace the following of runs: a followed run ends immediately."""

    def follow(_: object, run_id: str, job: str, partition: str | None, patience_s: float) -> RunOutcome:
        run = instance.get_run_by_id(run_id)
        assert patience_s >= 600
        if not run.is_finished:
            event = "PIPELINE_SUCCESS" if well else "PIPELINE_FAILURE"
            instance.report_dagster_event(dg.DagsterEvent(event, run.job_name), run_id=run_id)
            if not well:
                instance.add_run_tags(run_id, {RUN_FAILURE_REASON_TAG: "STEP_FAILURE"})
            run = instance.get_run_by_id(run_id)
        return RunOutcome(job, partition, run.status is dg.DagsterRunStatus.SUCCESS)

    return follow


@pytest.fixture
def as_job(settings: Settings) -> Settings:
    return settings.model_copy(update={"irt_run_key": "features-29384720"})


def enqueued(
    instance: dg.DagsterInstance, _: Settings, *arguments: Any, instead: Callable[[], str | None] = lambda: None
) -> str:
    run_id, other = queued(instance, *arguments), instead()
    if other is None:
        return run_id
    instance.delete_run(run_id)
    return other


def failing_once(fault: BaseException, then: Callable[..., Any]) -> Callable[..., Any]:
    faults = [fault]

    def fails_first(*arguments: Any, **options: Any) -> Any:
        if faults:
            raise faults.pop()
        return then(*arguments, **options)

    return fails_first


def request_partitions(
    instance: dg.DagsterInstance, settings: Settings, plan: Plan = FEATURES, partition: str | None = DAY
) -> list[RunOutcome]:
    partitions = None if partition is None else [partition]
    return list(starting.start(instance, settings, Database(settings), plan.job, partitions))


@pytest.mark.parametrize("schedule_asks", [True, False])
def test_job_without_partitions_runs_once_if_command_and_schedule_decide_concurrently(
    schedule_asks: bool, instance: dg.DagsterInstance, as_job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule's tick has begun and decides while the command checks for the schedule's run."""
    now = datetime.now(UTC)
    state = switch_on(instance, BANK, now - timedelta(days=9))
    tick(instance, state, now, TickStatus.STARTED)
    (started_tick,) = instance.get_ticks(state.instigator_origin_id, state.selector_id)

    def decides(_seconds: float) -> None:
        if schedule_asks:
            queued(instance, BANK, None, {"dagster/schedule_name": BANK.name})
        else:
            assert has_run_since(instance, BANK, now), "the schedule sees the command's run"
        ended = TickStatus.SUCCESS if schedule_asks else TickStatus.SKIPPED
        instance.update_tick(started_tick.with_status(ended))

    monkeypatch.setattr(starting.time, "sleep", decides)
    assert request_partitions(instance, as_job, BANK, None) == [RunOutcome("prune", None, success=True)]
    (run,) = instance.get_runs()
    assert ("dagster/schedule_name" in run.tags) == schedule_asks


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # Dagster's own code server
def test_run_is_not_queued_if_an_equivalent_run_exists(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(
        "import dagster as dg\n@dg.job\ndef tiny(): pass\ndefs = dg.Definitions(jobs=[tiny])\n"
    )
    here = tmp_path / "workspace.yaml"
    here.write_text(f"load_from:\n- python_file: {{relative_path: {tmp_path}/tiny.py, location_name: tiny}}\n")
    queue = {"run_coordinator": {"module": "dagster", "class": "QueuedRunCoordinator"}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=queue) as own:
        assert (queue_run(own, here, "tiny", "tiny", {}, instead=lambda: "another"), own.get_runs()) == ("another", [])
        run_id = queue_run(own, here, "tiny", "tiny", {})
        assert [(run.run_id, run.status) for run in own.get_runs()] == [(run_id, dg.DagsterRunStatus.QUEUED)]
    gc.collect()


@pytest.mark.parametrize("well", [True, False])
def test_restarted_pod_reports_the_run_that_the_first_pod_requested(
    well: bool, instance: dg.DagsterInstance, as_job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        starting, "await_run", failing_once(KeyboardInterrupt(), end_when_followed(instance, well=well))
    )
    with pytest.raises(KeyboardInterrupt):
        request_partitions(instance, as_job)
    (run,) = instance.get_runs()
    assert run.tags[starting.RUN_KEY_TAG] == "features-29384720"
    for _ in range(2):  # during the run, and after its end
        assert request_partitions(instance, as_job) == [RunOutcome("aggregate_features_daily", DAY, well)]
    assert len(instance.get_runs()) == 1
    request_partitions(instance, as_job.model_copy(update={"irt_run_key": "features-29386160"}))
    assert len(instance.get_runs()) == 2, "the CronJob's next Job asks for itself"


def test_job_waits_for_a_run_that_was_requested_elsewhere(instance: dg.DagsterInstance, as_job: Settings) -> None:
    queued(instance, FEATURES, DAY, {"dagster/schedule_name": "aggregate_features_daily_schedule"})
    queued(instance, FEATURES, "2026-03-06", {})
    assert [one.name for one in request_partitions(instance, as_job)] == [f"aggregate_features_daily {DAY}"]
    assert len(instance.get_runs()) == 2
    queued(instance, BANK, None, {})
    assert request_partitions(instance, as_job, BANK, None) == [RunOutcome("prune", None, success=True)]
    assert len(instance.get_runs()) == 3


def test_job_waits_for_a_run_under_the_documents_name(instance: dg.DagsterInstance, as_job: Settings) -> None:
    """The run is in progress, started by a user in the UI, or over, requested by this Job's first pod before an
    upgrade."""
    night = find_plan("mirt_calibrate")
    queued(instance, replace(night, job="mirt_calibrate"), DAY, {})
    queued(instance, replace(night, job="mirt_calibrate"), "2026-03-06", {starting.RUN_KEY_TAG: as_job.irt_run_key})
    for day in (DAY, "2026-03-06", "2026-03-06"):
        assert request_partitions(instance, as_job, night, day)[0] == RunOutcome("calibrate_night", day, success=True)
    assert len(instance.get_runs()) == 2


def test_job_requests_missing_partitions_and_waits_for_running_partitions(
    instance: dg.DagsterInstance, as_job: Settings, now: datetime
) -> None:
    """A pod that was killed between two partitions has requested only the first."""
    *made, under_way, missing = DAYS.last_keys(now, 14)
    for day in made:
        instance.report_runless_asset_event(dg.AssetMaterialization("features_topic_daily", partition=day))
    queued(instance, FEATURES, under_way, {})
    queued(instance, FEATURES, "2025-01-01", {"dagster/backfill": "old"})
    names = [one.name for one in request_partitions(instance, as_job, partition=None)]
    assert names == [f"aggregate_features_daily {day}" for day in (under_way, missing)]
    assert len(instance.get_runs()) == 3


def test_two_concurrent_pods_request_a_single_run(instance: dg.DagsterInstance, settings: Settings) -> None:
    with ThreadPoolExecutor(2) as pods:
        asking = [
            pods.submit(starting._request_runs, instance, settings, Database(settings), FEATURES, DAY) for _ in "ab"
        ]
    (run,) = instance.get_runs()
    assert [one.result() for one in asking] == [{DAY: run.run_id}] * 2


def test_job_waits_for_a_restarting_code_server(
    instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = TransientFailure("the code server of irt_assets does not answer")
    monkeypatch.setattr(starting, "enqueue", failing_once(failure, enqueued))
    assert request_partitions(instance, settings)[0].success


def test_unreachable_code_server_raises_an_error_with_a_reason(settings: Settings, database: Database) -> None:
    """The traceback, which Dagster logs as a warning, is not printed either."""
    unreachable = settings.model_copy(update={"irt_code_server": "127.0.0.1:9"})
    with (
        dagster_instance(unreachable, database) as instance,
        pytest.raises(TransientFailure, match="the code server of irt_assets does not answer"),
    ):
        queue_run(instance, workspace(unreachable), CODE_LOCATION, BANK.job, {})


@pytest.mark.usefixtures("no_pause")
def test_job_waits_for_a_restarting_database() -> None:
    look = failing_once(psycopg.OperationalError("the connection is lost"), lambda: "ended")
    assert starting._retry_outages(look) == "ended"
    with pytest.raises(ZeroDivisionError):
        starting._retry_outages(lambda: 1 / 0)


def test_pod_without_a_daemon_fails_after_the_timeout_and_runs_no_job(
    settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KUBERNETES, "10.96.0.1")
    monkeypatch.setenv("S3_BUCKET", "bank")
    assert starting.TIMEOUT_S == 600
    monkeypatch.setattr(starting, "TIMEOUT_S", 0.0)
    by_hand = (
        ("calibrate", "--month", "2026-02"),
        ("nightly", "--day", DAY),
        ("report", "learner", "--week", "2026-W09"),
    )
    for words in (("job", "prune"), ("job", "theta_sweep"), *by_hand):
        ended = irt(settings)(*words)
        reason = "for ten minutes there was no daemon, and a pod executes no run itself"
        assert (ended.code, reason in ended.err) == (2, True), words
    with dagster_instance(settings, Database(settings)) as instance:
        assert not instance.get_runs()


def test_month_requested_in_a_pod_runs_in_the_daemon(instance: dg.DagsterInstance, settings: Settings) -> None:
    assert request_partitions(instance, settings, MONTH, "2026-02") == [
        RunOutcome(MONTHLY_JOB, "2026-02", success=True)
    ]
    (run,) = instance.get_runs()
    assert (run.job_name, run.tags[PARTITION_TAG]) == (MONTHLY_JOB, "2026-02")
    with pytest.raises(PermanentFailure, match="2199-01 is not a month that is over"):
        request_partitions(instance, settings, MONTH, "2199-01")


def test_engine_option_is_refused_in_a_pod(settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KUBERNETES, "10.96.0.1")
    ended = irt(settings)("calibrate", "--month", "2026-02", "--engine", "em")
    assert (ended.code, "set IRT_ENGINES for the daemon" in ended.err) == (2, True)


def test_run_that_is_retried_between_two_polls_is_followed(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queued(instance, BANK, None, {})
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_FAILURE", BANK.job), run_id=first)

    def just_now(_: object, run_id: str) -> bool:
        if run_id == first:
            second = queued(instance, BANK, None, {PARENT_RUN_ID_TAG: first, RETRY_NUMBER_TAG: "1"})
            instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", BANK.job), run_id=second)
        return False

    monkeypatch.setattr(starting, "is_to_be_repeated", just_now)
    assert await_run(instance, first, BANK.job, None) == RunOutcome(BANK.job, None, success=True)


def test_unfinished_partition_is_refused_immediately(instance: dg.DagsterInstance, settings: Settings) -> None:
    with pytest.raises(PermanentFailure, match="is not a day that is over"):
        request_partitions(instance, settings, partition="2199-01-01")
