"""A session on a standalone cluster, its executors, and the effects of killing executors, the master or Java."""

from __future__ import annotations

import os
import signal
import time
from threading import Thread

import pytest

from resources.cluster.spark import application_of, executors_report, spark_jobs, spark_session, stop_session
from resources.cluster.spark_executors import describe_this_python
from resources.failures import TransientFailure
from resources.settings import Settings
from tests.testbed.patience import patient
from tests.testbed.spark_cluster import Cluster
from tests.testbed.spark_functions import slowly, with_our_code

pytestmark = pytest.mark.long

NUMBERS = 40
TASKS = 20


def test_executors_import_our_package_and_report_their_versions(cluster: Cluster) -> None:
    session = spark_session(cluster.settings)
    answered = session.range(3).mapInArrow(with_our_code, "id long").toArrow()
    assert sorted(answered["id"].to_pylist()) == [18, 19, 20]
    assert len(cluster.executors()) == 2
    report = executors_report(session)
    assert report == [describe_this_python()]  # both executors run on this machine
    application = application_of(session)
    assert application.id.startswith("app-")
    assert application.ui_url is not None
    assert spark_session(cluster.settings) is session


def test_an_out_of_memory_error_of_the_driver_names_the_setting(cluster: Cluster) -> None:
    session = spark_session(cluster.settings)
    more_than_its_heap = 2**31 - 9
    with pytest.raises(TransientFailure, match=r"set spark\.driver\.memory higher"), spark_jobs(session, "too large"):
        session.sparkContext._jvm.java.nio.ByteBuffer.allocate(more_than_its_heap)
    assert spark_session(cluster.settings).range(7).count() == 7


def test_a_job_is_completed_if_an_executor_is_killed(cluster: Cluster) -> None:
    session = spark_session(cluster.settings)
    cluster.wait_for("two executors", lambda: len(cluster.executors()) == 2)
    found: list[int] = []

    def job() -> None:
        doubled = session.range(0, NUMBERS, 1, TASKS).mapInArrow(slowly, "id long")
        with spark_jobs(session, "in the middle of which an executor is killed"):
            found.extend(row["id"] for row in doubled.collect())

    thread = Thread(target=job)
    thread.start()
    cluster.wait_for("the job", lambda: bool(session.sparkContext.statusTracker().getActiveJobsIds()))
    before = {process.pid for process in cluster.executors()}
    cluster.kill_executor()
    thread.join(patient(60))
    assert sorted(found) == list(range(NUMBERS))
    cluster.wait_for("a new executor", lambda: len(cluster.executors()) == 2)
    assert {process.pid for process in cluster.executors()} != before


def test_an_unreachable_master_is_a_transient_failure_and_a_new_master_is_found(cluster: Cluster) -> None:
    first = spark_session(cluster.settings)
    cluster.kill_master()
    first.stop()
    began = time.monotonic()
    with pytest.raises(TransientFailure, match=rf"no Spark master answers at 127\.0\.0\.1:{cluster.port}: Check"):
        spark_session(cluster.settings)
    assert time.monotonic() - began < patient(20)
    cluster.start_master()
    assert spark_session(cluster.settings).range(5).count() == 5


def test_a_new_session_is_started_if_the_application_or_java_has_ended(has_spark: None) -> None:
    settings = Settings(irt_spark="local[2]", _env_file=None)
    try:
        first = spark_session(settings)
        first.sparkContext._jsc.sc().stop()
        with pytest.raises(TransientFailure, match="the Spark application has ended"), spark_jobs(first, "too late"):
            first.range(3).count()
        second = spark_session(settings)
        assert second is not first
        os.kill(second._jvm.java.lang.ProcessHandle.current().pid(), signal.SIGKILL)
        with pytest.raises(TransientFailure, match="the Java process of the Spark"), spark_jobs(second, "too late"):
            second.range(3).count()
        assert spark_session(settings).range(3).count() == 3
    finally:
        stop_session()
