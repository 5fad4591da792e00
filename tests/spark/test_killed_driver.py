"""A month keeps its old snapshot if the driver is killed while it collects on Spark.

The next run stores the new one.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
import requests
from dagster import DagsterRunStatus

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.responses.snapshot import current_snapshot, read_snapshot, snapshot_problem, take_snapshot
from irt_assets.responses.snapshot_files import is_manifest
from irt_assets.spark.lake import export_days
from irt_assets.spark.window import collect_on_spark
from resources.cluster.lake import Lake
from resources.files.object_store import object_store
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.kpi_worlds import load, random_world
from tests.helpers.rooms import run_sql
from tests.testbed.machine import lives
from tests.testbed.patience import patient
from tests.testbed.spark_cluster import Cluster
from tests.testbed.stack_harness import Harness, running_stack, wait_for

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.long

MONTH = "2026-10"
JUDGE = """
import sys
from irt_assets.responses import snapshot
from irt_assets.spark import window as window_on_spark
from resources.postgres.database import Database
from resources.files.object_store import object_store
from resources.settings import get_settings

stored = window_on_spark._require_stored
def wait(store, parts):
    stored(store, parts)
    print("the parts are stored", flush=True)
    sys.stdin.read()
window_on_spark._require_stored = wait
settings = get_settings()
collect = window_on_spark.collect_on_spark
snapshot.take_snapshot(Database(settings), object_store(settings), sys.argv[1], "killed", collect)
"""


def test_a_month_keeps_its_snapshot_if_the_driver_is_killed(
    database: Database, settings: Settings, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(database, random_world(11))
    store = object_store(settings)
    before, _ = take_snapshot(database, store, MONTH, "first")
    run_sql(database, f"UPDATE response_log SET hints_used = 7 WHERE to_char(completed_at, 'YYYY-MM') = '{MONTH}'")
    monkeypatch.setenv("IRT_HOME", str(settings.irt_home))
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("IRT_SPARK", "local[2]")
    monkeypatch.setenv("IRT_ATTEMPTS", str(tmp_path / "lake"))
    on_spark = Database(settings.model_copy(update={"irt_spark": "local[2]", "irt_attempts": str(tmp_path / "lake")}))
    with subprocess.Popen(
        [sys.executable, "-c", JUDGE, MONTH], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout.readline() == "the parts are stored\n"
        children = psutil.Process(driver.pid).children(recursive=True)
        driver.send_signal(signal.SIGKILL)
    ended, _ = psutil.wait_procs(children, timeout=patient(10))
    assert len(ended) == len(children), "Java and its Python end with the driver"
    with database.connect() as connection:
        assert current_snapshot(connection, MONTH) == before
    assert snapshot_problem(store, before) is None
    after, _ = take_snapshot(on_spark, store, MONTH, "second", collect_on_spark)
    assert is_manifest(after.uri)
    assert after.n_attempts == before.n_attempts
    assert after.data_hash != before.data_hash
    assert read_snapshot(store, after).num_rows == after.n_attempts


# -- cancelled ---------------------------------------------------------------------------------------
# A run is terminated in the UI while its Spark job works: the job ends, the month keeps its snapshot.

ASSETS = ["scored_responses"]


def sleeping(cluster: Cluster) -> list[str]:
    """Ids of the applications that the master lists as active."""
    state = requests.get(f"http://127.0.0.1:{cluster.web_port}/json/", timeout=10).json()
    return [one["id"] for one in state["activeapps"]]


def pythons_of(cluster: Cluster) -> list[psutil.Process]:
    """Python processes of the executors."""
    found: list[psutil.Process] = []
    for executor in cluster.executors():
        with suppress(psutil.NoSuchProcess):
            found += executor.children(recursive=True)
    return [one for one in found if lives(one.pid)]


def drivers_on(cluster: Cluster) -> list[int]:
    """Ids of the Java processes that runs have started for the cluster."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if any("SparkSubmit" in word for word in words) and any(cluster.url in word for word in words):
            found.append(process.pid)
    return found


def test_a_run_that_is_terminated_ends_its_job_on_the_cluster(
    cluster: Cluster, settings: Settings, tmp_path: Path
) -> None:
    on_spark = settings.model_copy(
        update={"irt_spark": cluster.url, "irt_attempts": str(tmp_path / "lake"), "irt_first_month": "2026-08"}
    )
    with running_stack(on_spark, "tests.testbed.slow_spark_location") as stack:
        load(stack.database, random_world(11))
        before, _ = take_snapshot(Database(settings), object_store(on_spark), MONTH, "first")
        run_sql(stack.database, "UPDATE response_log SET hints_used = 7")
        lake = Lake.at(on_spark)
        export_days(stack.database, lake)
        (on_spark.irt_home / "slow").touch()
        run_id = stack.launch(MONTHLY_JOB, MONTH, ASSETS)
        (application,) = wait_for("an application", lambda: sleeping(cluster), 120)
        wait_for("its tasks", lambda: pythons_of(cluster), 60)
        assert drivers_on(cluster)
        assert stack.terminate(run_id) == "TerminateRunSuccess"
        stack.until(run_id, DagsterRunStatus.CANCELED, timeout=60)
        wait_for("the application's end", lambda: application not in sleeping(cluster), 60)
        wait_for("the end of its Python", lambda: not pythons_of(cluster), 60)
        wait_for("the end of the run's own Java", lambda: not drivers_on(cluster), 60)
        with stack.database.connect() as connection:
            assert current_snapshot(connection, MONTH) == before
        (on_spark.irt_home / "slow").unlink()
        again = stack.launch(MONTHLY_JOB, MONTH, ASSETS)
        stack.until(again, DagsterRunStatus.SUCCESS, timeout=240)
        assert spark_of(stack, again)
        with stack.database.connect() as connection:
            after = current_snapshot(connection, MONTH)
    assert is_manifest(after.uri)
    assert (after.n_attempts, after.data_hash != before.data_hash) == (before.n_attempts, True)


def spark_of(stack: Harness, run_id: str) -> str:
    """Id of the Spark application in the metadata of a run's materialisation."""
    (made,) = [
        event.get_dagster_event().step_materialization_data.materialization
        for event in stack.instance.all_logs(run_id)
        if event.is_dagster_event and event.get_dagster_event().is_step_materialization
    ]
    return str(made.metadata["Spark application"].value)
