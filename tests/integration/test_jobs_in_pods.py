"""`irt job` in a CronJob's pod: whatever becomes of the pod, a partition is asked for once, and nothing runs in it."""

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
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.run_progress import PARTITION_TAG
from irt_assets.runs import start
from irt_assets.runs.in_process_runs import Outcome
from irt_assets.servers.instance import dagster_instance
from jobs.plans import Plan, plan_of
from jobs.schedules import ran_since
from resources.dagster_compat import PARENT_RUN_ID_TAG, RETRY_NUMBER_TAG, RUN_FAILURE_REASON_TAG, TickStatus, queue_run
from resources.failures import PermanentFailure, TransientFailure
from resources.postgres.database import Database
from resources.settings import KUBERNETES, Settings
from tests.helpers.dagster_private import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
    create_run_for_test,
)
from tests.helpers.typed import IrtOf
from tests.integration.schedule_states import switch_on, tick

pytestmark = pytest.mark.ci

DAY = "2026-03-05"
FEATURES, BANK, MONTH = plan_of("aggregate_features_daily"), plan_of("prune"), plan_of(MONTHLY_JOB)


@pytest.fixture
def instance(settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """With a daemon that is alive, and runs that are queued as the page queues them."""
    monkeypatch.setattr(start, "in_a_pod", lambda: True)
    monkeypatch.setattr(start, "daemon_alive", lambda _: True)
    monkeypatch.setattr(start, "enqueue", enqueued)
    monkeypatch.setattr(start, "BETWEEN_LOOKS_S", 0.01)
    with dagster_instance(settings, database) as instance:
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


def ends(instance: dg.DagsterInstance, *, well: bool = True) -> Callable[..., Outcome]:
    """Following a run ends it."""

    def follow(_: object, run_id: str, job: str, partition: str | None, patience_s: float) -> Outcome:
        run = instance.get_run_by_id(run_id)
        assert patience_s >= 600
        if not run.is_finished:
            event = "PIPELINE_SUCCESS" if well else "PIPELINE_FAILURE"
            instance.report_dagster_event(dg.DagsterEvent(event, run.job_name), run_id=run_id)
            if not well:
                instance.add_run_tags(run_id, {RUN_FAILURE_REASON_TAG: "STEP_FAILURE"})
            run = instance.get_run_by_id(run_id)
        return Outcome(job, partition, run.status is dg.DagsterRunStatus.SUCCESS)

    return follow


@pytest.fixture
def as_job(settings: Settings) -> Settings:
    return settings.model_copy(update={"irt_run_key": "features-29384720"})


def enqueued(
    instance: dg.DagsterInstance, _: Settings, *asked: Any, instead: Callable[[], str | None] = lambda: None
) -> str:
    run_id, other = queued(instance, *asked), instead()
    if other is None:
        return run_id
    instance.delete_run(run_id)
    return other


def failing_once(fault: Exception, then: Callable[..., str]) -> Callable[..., str]:
    faults = [fault]

    def fails_first(*arguments: Any, **options: Any) -> str:
        if faults:
            raise faults.pop()
        return then(*arguments, **options)

    return fails_first


def asked(
    instance: dg.DagsterInstance, settings: Settings, plan: Plan = FEATURES, partition: str | None = DAY
) -> list[Outcome]:
    partitions = None if partition is None else [partition]
    return list(start.start(instance, settings, Database(settings), plan.job, partitions))


@pytest.mark.parametrize("schedule_asks", [True, False])
def test_a_job_without_partitions_runs_once_where_its_schedule_looks_at_the_same_moment(
    schedule_asks: bool, instance: dg.DagsterInstance, as_job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schedule's tick has begun, and it decides while the command looks for its run."""
    now = datetime.now(UTC)
    state = switch_on(instance, BANK, now - timedelta(days=9))
    tick(instance, state, now, TickStatus.STARTED)
    (begun,) = instance.get_ticks(state.instigator_origin_id, state.selector_id)

    def decides(_seconds: float) -> None:
        if schedule_asks:
            queued(instance, BANK, None, {"dagster/schedule_name": BANK.name})
        else:
            assert ran_since(instance, BANK, now), "the schedule sees the command's run"
        ended = TickStatus.SUCCESS if schedule_asks else TickStatus.SKIPPED
        instance.update_tick(begun.with_status(ended))

    monkeypatch.setattr(start.time, "sleep", decides)
    monkeypatch.setattr(start, "await_run", ends(instance))
    assert asked(instance, as_job, BANK, None) == [Outcome("prune", None, success=True)]
    (run,) = instance.get_runs()
    assert ("dagster/schedule_name" in run.tags) == schedule_asks


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # Dagster's own code server
def test_a_run_gives_way_to_another_before_it_is_queued(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(
        "import dagster as dg\n@dg.job\ndef tiny(): pass\ndefs = dg.Definitions(jobs=[tiny])\n"
    )
    here = tmp_path / "workspace.yaml"
    here.write_text(f"load_from:\n- python_file: {{relative_path: {tmp_path}/tiny.py, location_name: tiny}}\n")
    queue = {"run_coordinator": {"module": "dagster", "class": "QueuedRunCoordinator"}}
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=queue) as own:
        assert queue_run(own, here, "tiny", "tiny", {}, instead=lambda: "another") == "another"
        assert own.get_runs() == []
        run_id = queue_run(own, here, "tiny", "tiny", {})
        assert [(run.run_id, run.status) for run in own.get_runs()] == [(run_id, dg.DagsterRunStatus.QUEUED)]
    gc.collect()


@pytest.mark.parametrize("well", [True, False])
def test_a_pod_that_is_started_again_tells_of_the_run_that_the_first_asked_for(
    well: bool, instance: dg.DagsterInstance, as_job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(start, "await_run", killed)
    with pytest.raises(KeyboardInterrupt):
        asked(instance, as_job)
    (run,) = instance.get_runs()
    assert run.tags[start.RUN_KEY_TAG] == "features-29384720"
    monkeypatch.setattr(start, "await_run", ends(instance, well=well))
    for _ in range(2):  # while the run goes on, and when it has ended
        assert asked(instance, as_job) == [Outcome("aggregate_features_daily", DAY, well)]
    assert len(instance.get_runs()) == 1
    asked(instance, as_job.model_copy(update={"irt_run_key": "features-29386160"}))
    assert len(instance.get_runs()) == 2, "the CronJob's next Job asks for itself"


def test_a_run_that_somebody_else_asked_for_is_waited_for(
    instance: dg.DagsterInstance, as_job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "await_run", ends(instance))
    queued(instance, FEATURES, DAY, {"dagster/schedule_name": "aggregate_features_daily_schedule"})
    queued(instance, FEATURES, "2026-03-06", {})
    assert [one.name for one in asked(instance, as_job)] == [f"aggregate_features_daily {DAY}"]
    assert len(instance.get_runs()) == 2
    queued(instance, BANK, None, {})
    assert asked(instance, as_job, BANK, None) == [Outcome("prune", None, success=True)]
    assert len(instance.get_runs()) == 3


def test_a_run_by_the_documents_name_is_waited_for(
    instance: dg.DagsterInstance, as_job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under way, as somebody started it in the UI, or over, as this Job's first pod asked before an upgrade."""
    monkeypatch.setattr(start, "await_run", ends(instance))
    night = plan_of("mirt_calibrate")
    queued(instance, replace(night, job="mirt_calibrate"), DAY, {})
    queued(instance, replace(night, job="mirt_calibrate"), "2026-03-06", {start.RUN_KEY_TAG: as_job.irt_run_key})
    for day in (DAY, "2026-03-06", "2026-03-06"):
        assert asked(instance, as_job, night, day)[0] == Outcome("calibrate_night", day, success=True)
    assert len(instance.get_runs()) == 2


def test_what_is_missing_is_asked_for_and_what_is_under_way_waited_for(
    instance: dg.DagsterInstance, as_job: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod that was killed between two partitions has asked for the first alone."""
    monkeypatch.setattr(start, "missing", lambda *_: (["2026-03-04", DAY, "2026-03-06"], ["2026-03-06"]))
    monkeypatch.setattr(start, "await_run", ends(instance))
    queued(instance, FEATURES, DAY, {})
    queued(instance, FEATURES, "2025-01-01", {"dagster/backfill": "old"})
    names = [one.name for one in asked(instance, as_job, partition=None)]
    assert names == [f"aggregate_features_daily {day}" for day in (DAY, "2026-03-06")]
    assert len(instance.get_runs()) == 3


def test_two_pods_at_once_ask_for_one_run(
    instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "await_run", lambda _, run_id, *__: Outcome(run_id, None, success=True))
    with ThreadPoolExecutor(2) as pods:
        found = list(pods.map(lambda _: asked(instance, settings)[0].name, range(2)))
    (run,) = instance.get_runs()
    assert found == [run.run_id] * 2


def test_a_code_server_that_restarts_is_waited_for(
    instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "await_run", ends(instance))
    away = TransientFailure("the code server of irt_assets does not answer")
    monkeypatch.setattr(start, "enqueue", failing_once(away, enqueued))
    assert asked(instance, settings)[0].success


def test_a_code_server_that_does_not_answer_is_said_in_a_sentence(
    settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with no trace of it, which Dagster writes as a warning."""
    away = settings.model_copy(update={"irt_code_server": "127.0.0.1:9"})
    with (
        dagster_instance(away, database) as instance,
        pytest.raises(TransientFailure, match="the code server of irt_assets does not answer"),
    ):
        queue_run(instance, workspace(away), CODE_LOCATION, BANK.job, {})


def test_a_database_that_restarts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "BETWEEN_LOOKS_S", 0.01)
    look = failing_once(psycopg.OperationalError("the connection is lost"), lambda: "ended")
    assert start._through_outages(look) == "ended"
    with pytest.raises(ZeroDivisionError):
        start._through_outages(lambda: 1 / 0)


def test_without_a_daemon_it_fails_in_the_end_and_has_run_nothing(
    settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KUBERNETES, "10.96.0.1")
    monkeypatch.setenv("S3_BUCKET", "bank")
    assert start.PATIENCE_S == 600
    monkeypatch.setattr(start, "PATIENCE_S", 0.0)
    by_hand = (
        ("calibrate", "--month", "2026-02"),
        ("nightly", "--day", DAY),
        ("report", "learner", "--week", "2026-W09"),
    )
    for words in (("job", "prune"), ("job", "theta_sweep"), *by_hand):
        ended = irt(settings)(*words)
        why = "for ten minutes there was no daemon, and a pod executes no run itself"
        assert (ended.code, why in ended.err) == (2, True), words
    with dagster_instance(settings, Database(settings)) as instance:
        assert not instance.get_runs()


@pytest.mark.parametrize("well", [True, False])
def test_a_month_that_is_typed_in_a_pod_is_made_by_the_daemon(
    well: bool, instance: dg.DagsterInstance, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def follow(_: object, run_id: str, job: str, partition: str, patience_s: float) -> Outcome:
        return Outcome(job, partition, well, "" if well else "its worker was killed", run_id)

    monkeypatch.setattr(start, "await_run", follow)
    (made,) = asked(instance, settings, MONTH, "2026-02")
    (run,) = instance.get_runs()
    assert (run.job_name, run.tags[PARTITION_TAG], run.status) == (MONTHLY_JOB, "2026-02", dg.DagsterRunStatus.QUEUED)
    assert made == Outcome(MONTHLY_JOB, "2026-02", well, "" if well else "its worker was killed")
    assert asked(instance, settings, MONTH, "2026-02") == [made]
    assert len(instance.get_runs()) == 1, "one that is under way is waited for"
    with pytest.raises(PermanentFailure, match="2199-01 is not a month that is over"):
        asked(instance, settings, MONTH, "2199-01")


def test_an_engine_of_one_s_own_is_refused_in_a_pod(
    settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KUBERNETES, "10.96.0.1")
    ended = irt(settings)("calibrate", "--month", "2026-02", "--engine", "em")
    assert (ended.code, "set IRT_ENGINES for the daemon" in ended.err) == (2, True)


def test_a_run_that_is_repeated_between_two_looks_is_followed(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queued(instance, BANK, None, {})
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_FAILURE", BANK.job), run_id=first)

    def just_now(_: object, run_id: str) -> bool:
        if run_id == first:
            second = queued(instance, BANK, None, {PARENT_RUN_ID_TAG: first, RETRY_NUMBER_TAG: "1"})
            instance.report_dagster_event(dg.DagsterEvent("PIPELINE_SUCCESS", BANK.job), run_id=second)
        return False

    monkeypatch.setattr(start, "is_to_be_repeated", just_now)
    assert start.await_run(instance, first, BANK.job, None) == Outcome(BANK.job, None, success=True)


def test_a_partition_that_is_not_over_is_refused_at_once(instance: dg.DagsterInstance, settings: Settings) -> None:
    with pytest.raises(PermanentFailure, match="is not a day that is over"):
        asked(instance, settings, partition="2199-01-01")
