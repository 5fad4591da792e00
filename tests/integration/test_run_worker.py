"""What a run's pod does: it executes what was launched, ends with it, and dies of what is no cancellation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import dagster as dg
import psutil
import pytest

from irt_assets.runs.run_worker import _await_launch
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.dagster_private import create_run_for_test
from tests.testbed.patience import patient
from tests.testbed.stack_harness import ROOT, wait_for

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("run_worker")]

LET_IT_END = "IRT_HOME"


@dg.op
def dream() -> None:
    """Until a file appears; a file named `nightmare` fails it."""
    home = Path(os.environ[LET_IT_END])
    while not (home / "wake").exists():
        if (home / "nightmare").exists():
            raise dg.Failure("a nightmare", allow_retries=False)
        time.sleep(0.05)


@dg.job(executor_def=dg.in_process_executor)
def sleeper() -> None:
    dream()


@pytest.fixture
def instance(settings: Settings, database: Database) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(settings, database) as instance:
        yield instance


def made(instance: dg.DagsterInstance, *events: str) -> str:
    run = create_run_for_test(
        instance, job_name="sleeper", job_code_origin=dg.reconstructable(sleeper).get_python_origin()
    )
    for event in events:
        instance.report_dagster_event(dg.DagsterEvent(event, "sleeper"), run_id=run.run_id)
    return run.run_id


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    return instance.get_run_by_id(run_id).status


def worker(settings: Settings, run_id: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [Path(sys.executable).parent / "irt", "run", "worker", run_id],
        env={
            **os.environ,
            "IRT_HOME": str(settings.irt_home),
            "PYTHONPATH": f"{Path(__file__).parent}:{ROOT}",
            "DATABASE_URL": settings.database_url.get_secret_value(),
        },
    )


def dreaming(instance: dg.DagsterInstance, run_id: str) -> None:
    wait_for("the step to start", lambda: instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_START))


def test_a_run_that_was_launched_is_executed_and_its_end_is_the_worker_s(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    run_id = made(instance, "PIPELINE_STARTING")
    (settings.irt_home / "nightmare").touch()
    with worker(settings, run_id) as process:
        assert process.wait(patient(60)) == 1
    assert status(instance, run_id) is dg.DagsterRunStatus.FAILURE


def test_a_run_that_is_in_the_queue_once_more_is_waited_for(instance: dg.DagsterInstance, database: Database) -> None:
    """Its Job was made, and the API server's answer lost."""
    run_id, looks = made(instance), count(1)

    class Patience(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if next(looks) == 3:
                instance.report_dagster_event(dg.DagsterEvent("PIPELINE_STARTING", "sleeper"), run_id=run_id)
            return False

    assert _await_launch(database, run_id, Patience()) == "STARTING"
    assert next(looks) == 4


def test_a_run_that_was_cancelled_meanwhile_is_not_executed(settings: Settings, instance: dg.DagsterInstance) -> None:
    run_id = made(instance, "PIPELINE_STARTING", "PIPELINE_CANCELING", "PIPELINE_CANCELED")
    with worker(settings, run_id) as process:
        assert process.wait(patient(60)) == 0
    assert not instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_START)


def test_a_run_is_cancelled_by_its_status_alone(settings: Settings, instance: dg.DagsterInstance) -> None:
    run_id = made(instance, "PIPELINE_STARTING")
    with worker(settings, run_id) as process:
        dreaming(instance, run_id)
        instance.report_run_canceling(instance.get_run_by_id(run_id))
        process.wait(patient(60))
    assert status(instance, run_id) is dg.DagsterRunStatus.CANCELED


def test_a_pod_that_is_taken_away_leaves_its_run_to_be_repeated(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Stopped cleanly, it would be a run that somebody stopped, which nobody repeats."""
    run_id = made(instance, "PIPELINE_STARTING")
    with worker(settings, run_id) as process:
        dreaming(instance, run_id)
        (child,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(patient(30)) == 128 + signal.SIGKILL
        assert not child.is_running()
    assert status(instance, run_id) is dg.DagsterRunStatus.STARTED, "its Job is seen to have failed"
