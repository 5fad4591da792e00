"""The command of a run's pod: it becomes Dagster's command, and an interruption does not count as a cancellation."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.common.run_progress import runs_to_repeat
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.dagster_private import ExecuteRunArgs, create_run_for_test
from tests.testbed.patience import patient
from tests.testbed.stack_harness import ROOT, wait_for

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("run_worker")]


@dg.op
def dream() -> None:
    """Sleep until a file appears."""
    while not (Path(os.environ["IRT_HOME"]) / "wake").exists():
        time.sleep(0.05)


@dg.job(executor_def=dg.in_process_executor)
def sleeper() -> None:
    dream()


@pytest.fixture
def instance(settings: Settings, database: Database) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(settings, database) as instance:
        yield instance


def worker(settings: Settings, instance: dg.DagsterInstance) -> tuple[str, subprocess.Popen[bytes]]:
    """A launched run, and its pod's process."""
    origin = dg.reconstructable(sleeper).get_python_origin()
    run = create_run_for_test(instance, job_name="sleeper", job_code_origin=origin)
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_STARTING", "sleeper"), run_id=run.run_id)
    command = ExecuteRunArgs(origin, run.run_id, instance.get_ref(), True).get_command_args()
    programs = Path(sys.executable).parent
    process = subprocess.Popen(
        [programs / "irt", "run", "worker", *command],
        env={
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "IRT_HOME": str(settings.irt_home),
            "PYTHONPATH": f"{Path(__file__).parent}:{ROOT}",
            "DATABASE_URL": settings.database_url.get_secret_value(),
        },
    )

    def started() -> bool:
        assert process.poll() is None, process.returncode
        return bool(instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START))

    wait_for("the step to start", started)
    return run.run_id, process


def test_worker_executes_the_run(settings: Settings, instance: dg.DagsterInstance) -> None:
    run_id, process = worker(settings, instance)
    (settings.irt_home / "wake").touch()
    assert process.wait(patient(60)) == 0
    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.SUCCESS


def test_run_is_repeated_if_its_pod_is_evicted(settings: Settings, instance: dg.DagsterInstance) -> None:
    run_id, process = worker(settings, instance)
    process.send_signal(signal.SIGTERM)
    assert process.wait(patient(60)) == 1
    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.FAILURE
    assert [record.dagster_run.run_id for record in runs_to_repeat(instance)] == [run_id]


def test_cancelling_run_is_cancelled_by_the_same_signal(settings: Settings, instance: dg.DagsterInstance) -> None:
    run_id, process = worker(settings, instance)
    instance.report_run_canceling(instance.get_run_by_id(run_id))
    process.send_signal(signal.SIGTERM)
    process.wait(patient(60))
    assert instance.get_run_by_id(run_id).status is dg.DagsterRunStatus.CANCELED
