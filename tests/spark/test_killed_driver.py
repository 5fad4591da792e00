"""A driver that is killed while a month is collected on Spark: the month has its old snapshot, and the next run makes
the new one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from irt_assets.responses.snapshot import current_snapshot, read_snapshot, snapshot_problem, take_snapshot
from irt_assets.responses.snapshot_files import is_manifest
from irt_assets.spark.window import collect_on_spark
from resources.files.object_store import object_store
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.kpi_worlds import load, random_world
from tests.helpers.rooms import run_sql
from tests.testbed.patience import patient

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


def test_a_driver_that_is_killed_leaves_the_month_as_it_was(
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
    gone, _ = psutil.wait_procs(children, timeout=patient(10))
    assert len(gone) == len(children), "Java and its Python end with the driver"
    with database.connect() as connection:
        assert current_snapshot(connection, MONTH) == before
    assert snapshot_problem(store, before) is None
    after, _ = take_snapshot(on_spark, store, MONTH, "second", collect_on_spark)
    assert is_manifest(after.uri)
    assert after.n_attempts == before.n_attempts
    assert after.data_hash != before.data_hash
    assert read_snapshot(store, after).num_rows == after.n_attempts
