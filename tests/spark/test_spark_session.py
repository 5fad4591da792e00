"""Sessions that start once or refuse to start, jobs that are cancelled, and messages for Spark's errors."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resources.cluster import spark_executors
from resources.cluster.spark import application_of, refuse_another_version, spark_jobs, spark_session
from resources.cluster.spark_failures import explain_spark
from resources.failures import PermanentFailure, explain, is_transient
from resources.settings import Settings
from tests.testbed.spark_functions import is_killed, refuses, sleeps, slowly, wants_a_buffer, wants_an_array
from tests.testbed.stack_harness import wait_for

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOCAL = Settings(irt_spark="local[2]", _env_file=None)
ENDS_WITHIN_S = 10.0
"""Limit for a cancelled job that would sleep for a minute. Spark kills its Python after two seconds."""


class FakeInterrupt(BaseException):
    """Replaces Dagster's exception for an interrupt."""


def test_a_session_is_started_once(spark: SparkSession) -> None:
    assert spark_session(LOCAL) is spark
    assert (application_of(spark).id or "").startswith("local-")


def test_an_executor_that_joined_later_with_other_packages_refuses_work(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here this process is newer than the executors, which causes the same refusal."""
    with spark_jobs(spark, "the same packages"):
        assert spark.range(3).mapInArrow(spark_executors.require_same_packages(slowly), "id long").count() == 3
    monkeypatch.setattr(spark_executors, "installed_version", lambda package: "99.1")
    refused = spark.range(3).mapInArrow(spark_executors.require_same_packages(slowly), "id long")
    sentence = r"the executor on \S+ .* numba \S+ \(here 99\.1\), .*; install the same lock file"
    with pytest.raises(PermanentFailure, match=sentence), spark_jobs(spark, "other packages"):
        refused.count()


def interrupt_at_work(spark: SparkSession) -> None:
    wait_for("a job", lambda: spark.sparkContext.statusTracker().getActiveJobsIds(), pause=0.05)
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("fetch", ["toArrow", "collect", "count"])
def test_an_interrupt_cancels_the_job_and_is_raised(spark: SparkSession, fetch: str) -> None:
    def interrupt(*_: object) -> None:
        raise FakeInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        Thread(target=interrupt_at_work, args=(spark,)).start()
        with pytest.raises(FakeInterrupt), spark_jobs(spark, "sleeping"):
            getattr(spark.range(2).mapInArrow(sleeps, "id long"), fetch)()
        assert signal.getsignal(signal.SIGINT) is interrupt
    finally:
        signal.signal(signal.SIGINT, before)
    tracker = spark.sparkContext.statusTracker()
    wait_for("the job's end", lambda: not tracker.getActiveJobsIds(), ENDS_WITHIN_S)
    assert spark.range(7).count() == 7  # the connection to the JVM still works


def parquet(folder: Path, name: str, **columns: list[object]) -> str:
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


def cut_short(spark: SparkSession, folder: Path) -> object:
    path = Path(parquet(folder, "cut.parquet", a=[*range(1000)]))
    path.write_bytes(path.read_bytes()[:200])
    return spark.read.schema("a long").parquet(str(path)).toArrow()


def of_another_type(spark: SparkSession, folder: Path) -> object:
    return spark.read.schema("a long").parquet(parquet(folder, "typed.parquet", a=["text"])).toArrow()


def taken_away(spark: SparkSession, folder: Path) -> object:
    read = spark.read.parquet(parquet(folder, "gone.parquet", a=[1]))
    (folder / "gone.parquet").unlink()
    return read.toArrow()


@pytest.mark.parametrize(
    ("provoke", "message"),
    [
        (cut_short, r"cut\.parquet cannot be read: it is truncated, damaged or not a Parquet file"),
        (of_another_type, r"typed\.parquet: the column a has the type BINARY instead of bigint"),
        (taken_away, r"gone\.parquet is missing, but a manifest or a table names it"),
        (lambda spark, folder: spark.read.parquet(str(folder / "nothing")), r"there is nothing at file:.*nothing"),
        (lambda spark, folder: spark.table("lake.attempt").count(), r"no table `lake`\.`attempt`: check IRT_ATTEMPTS"),
        (lambda spark, folder: spark.read.parquet("s3://bucket/x"), r"for s3:// set spark\.jars\.packages"),
        (
            lambda spark, folder: spark.range(1).mapInArrow(refuses, "id long").count(),
            r"^item 7 has no key: import it$",
        ),
        (
            lambda spark, folder: spark.range(1).mapInArrow(is_killed, "id long").count(),
            "spark.executor.memoryOverhead",
        ),
        *(
            (
                lambda spark, folder, wants=wants: spark.range(1).mapInArrow(wants, "id long").count(),
                r"got no memory for its share of the answers: set spark\.executor\.pyspark\.memory",
            )
            for wants in (wants_an_array, wants_a_buffer)
        ),
    ],
)
def test_an_error_of_spark_names_the_file_or_the_setting(
    spark: SparkSession, tmp_path: Path, provoke: Callable[[SparkSession, Path], object], message: str
) -> None:
    with pytest.raises(PermanentFailure, match=message), spark_jobs(spark, "fails"):
        provoke(spark, tmp_path)


def test_program_errors_are_raised_unchanged(spark: SparkSession) -> None:
    with pytest.raises(Exception, match="UNRESOLVED_COLUMN") as caught, spark_jobs(spark, "fails"):
        spark.range(1).select("nothing").collect()
    assert explain_spark(caught.value) is None
    assert explain(caught.value) is None
    assert not is_transient(caught.value)


def test_spark_of_a_different_major_version_is_refused(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyspark.__version__", "3.5.1")
    with pytest.raises(
        PermanentFailure, match=r"^Spark is 4\.\S+, and this program works with Spark 3: unset SPARK_HOME"
    ):
        refuse_another_version(spark)
