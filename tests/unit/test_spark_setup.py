"""Spark before a session: forms of IRT_SPARK, missing software, findings of doctor, and executors that differ."""

from __future__ import annotations

import logging
import re
import socket
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import ValidationError

from resources import doctor
from resources.cluster import spark
from resources.cluster.lake import Lake
from resources.cluster.spark_executors import describe_this_python
from resources.cluster.spark_failures import explain_spark
from resources.failures import PermanentFailure, TransientFailure
from resources.settings import Settings

JAVA = "#!/bin/sh\necho 'openjdk version \"{version}\" 2025-04-15' >&2\n"


def with_java(monkeypatch: pytest.MonkeyPatch, folder: Path, version: str | None) -> None:
    """Set a PATH on which Java has this version, or is missing if it is None."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(folder))
    if version is not None:
        (folder / "java").write_text(JAVA.format(version=version))
        (folder / "java").chmod(0o755)


@pytest.fixture
def has_pyspark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark, "find_spec", lambda name: object())


def finding(**settings: str) -> doctor.Finding:
    (found,) = doctor._spark(Settings(**settings, _env_file=None))
    return found


@pytest.mark.parametrize(
    "master",
    [
        "local[2]",
        "local[*]",
        "spark://master:7077",
        "spark://one:7077,two:7077",
        "sc://host",
        "sc://host:15002",
        "sc://host:443/;use_ssl=true;token=abc",
        "k8s://https://10.0.0.1:6443",
    ],
)
def test_valid_forms_of_a_spark_master_are_accepted(master: str) -> None:
    assert Settings(irt_spark=master, _env_file=None).irt_spark == master


@pytest.mark.parametrize("master", ["local", "local[0]", "yarn", "spark://master", "master:7077", "sc://", "k8s://"])
def test_invalid_spark_master_is_refused_with_the_valid_forms(master: str) -> None:
    with pytest.raises(ValidationError, match=r"must be local\[N\] or local\[\*\], spark://HOST:PORT"):
        Settings(irt_spark=master, _env_file=None)


def test_addresses_of_a_spark_master_are_parsed() -> None:
    assert spark.addresses_of("spark://one:7077,two:7078") == [("one", 7077), ("two", 7078)]
    assert spark.addresses_of("sc://host/;token=a:b") == [("host", 15002)]
    assert spark.addresses_of("sc://host:443") == [("host", 443)]
    assert spark.addresses_of("local[2]") == spark.addresses_of("k8s://https://host:6443") == []


@pytest.mark.usefixtures("has_pyspark")
@pytest.mark.parametrize(
    ("version", "message"),
    [
        (None, "Java is missing: apt install openjdk-17-jre-headless"),
        ("11.0.20", "Java is 11 .*, but Spark needs 17 or newer: apt install openjdk-17-jre-headless"),
        ("1.8.0_392", "Java is 8 .*, but Spark needs 17 or newer"),
    ],
)
def test_error_gives_the_java_package_if_java_is_missing_or_too_old(
    version: str | None, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_java(monkeypatch, tmp_path, version)
    with pytest.raises(PermanentFailure, match=message):
        spark.spark_session(Settings(irt_spark="local[2]", _env_file=None))


def test_error_gives_the_command_that_installs_a_missing_pyspark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark, "find_spec", lambda name: None)
    with pytest.raises(PermanentFailure, match="the package pyspark is missing: make spark"):
        spark.spark_session(Settings(irt_spark="sc://host", _env_file=None))
    found = finding(irt_spark="sc://host")
    assert (found.state, found.detail, found.fix) == ("error", "the package pyspark is missing", "make spark")


@pytest.mark.usefixtures("has_pyspark")
def test_unreachable_spark_master_is_a_transient_failure_with_its_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with_java(monkeypatch, tmp_path, "17.0.15")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # bound and not listening
        for master, name in ((f"spark://127.0.0.1:{port}", "master"), (f"sc://127.0.0.1:{port}", "Connect server")):
            with pytest.raises(TransientFailure, match=rf"no Spark {name} answers at 127\.0\.0\.1:{port}: Check"):
                spark.spark_session(Settings(irt_spark=master, _env_file=None))
            found = finding(irt_spark=master, irt_attempts="lake")
            assert (found.state, found.detail) == ("error", f"no Spark {name} answers at 127.0.0.1:{port}")
        taken.listen()
        assert finding(irt_spark=f"sc://127.0.0.1:{port}", irt_attempts="lake").state == "ok"


@pytest.mark.usefixtures("has_pyspark")
def test_error_demands_irt_attempts_if_only_irt_spark_is_set() -> None:
    with pytest.raises(PermanentFailure, match="IRT_ATTEMPTS is not set"):
        Lake.at(Settings(irt_spark="local[2]", _env_file=None))
    found = finding(irt_spark="local[2]")
    assert (found.state, found.detail) == ("error", "IRT_SPARK is set, but IRT_ATTEMPTS is not")
    assert finding(irt_spark="local[2]", irt_attempts="lake").detail.endswith(" at local[2]")
    assert finding().state == "absent"


LOST = (
    "Job aborted due to stage failure: Task 0 in stage 9.0 failed 4 times, most recent failure: Lost task 0.3 in stage "
    "9.0 (TID 14) (node7 executor 3): ExecutorLostFailure (executor 3 exited caused by one of the running tasks) "
    "Reason: {why}"
)
"""Spark's message that an executor was lost, with a placeholder for the reason. Reasons differ between clusters."""


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            LOST.format(why="Command exited with code 137"),
            PermanentFailure,
            r"ran out of memory: set spark\.executor\.memory",
        ),
        (
            LOST.format(why="Command exited with code 52"),
            PermanentFailure,
            r"ran out of memory: set spark\.executor\.memory",
        ),
        (LOST.format(why="worker lost"), PermanentFailure, r"lost repeatedly.*set spark\.executor\.memory"),
        ("java.io.IOException: No space left on device", PermanentFailure, "a disk of the cluster is full"),
        ("Master removed our application: FAILED", TransientFailure, "the Spark application has ended"),
        (
            "status = StatusCode.UNAVAILABLE, Connection refused",
            TransientFailure,
            "Spark Connect server no longer answers",
        ),
        ("[PYTHON_VERSION_MISMATCH] Python in worker has different version: 3.12", PermanentFailure, "another version"),
        (
            "java.io.InvalidClassException: org.apache.spark.rpc.RpcEndpointRef; local class incompatible",
            PermanentFailure,
            "another version of Spark than this program's pyspark",
        ),
        ('Cannot run program "/opt/python": error=2', PermanentFailure, "an executor has no Python at /opt/python"),
    ],
)
def test_errors_of_spark_are_explained_as_transient_or_permanent_failures(
    text: str, kind: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = type("SparkException", (Exception,), {"__module__": "pyspark.errors"})(text)
    monkeypatch.delitem(sys.modules, "pyspark", raising=False)
    assert explain_spark(error) is None  # not an error of Spark if the process has not imported Spark
    monkeypatch.setitem(sys.modules, "pyspark", ModuleType("pyspark"))
    found = explain_spark(error)
    assert type(found) is kind
    assert re.search(message, str(found))


def test_executor_is_refused_if_packages_differ_and_logged_if_its_processor_differs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours = describe_this_python()
    other = replace(ours, host="node7", cpu="Another CPU")
    with caplog.at_level(logging.WARNING):
        spark.refuse_other_packages([ours, other])
    assert "the executor on node7 has a different processor (Another CPU, here" in caplog.text
    older = replace(ours, host="node8", versions={**ours.versions, "numba": "0.60.0", "irt_assets": None})
    with pytest.raises(PermanentFailure, match=r"the executor on node8 .*irt_assets missing .*numba 0\.60\.0 \(here "):
        spark.refuse_other_packages([older])


def test_spark_defaults_file_has_precedence_over_our_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (*spark.JAVA_VARIABLES, "SPARK_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert spark._configuration("spark://host:7077")["spark.log.level"] == "WARN"
    (tmp_path / "spark-defaults.conf").write_text("# ours\nspark.log.level=INFO\nspark.executorEnv.PYTHONPATH  /srv\n")
    (tmp_path / "log4j2.properties").write_text("")
    configured = spark._configuration("spark://host:7077")
    assert not {"spark.log.level", "spark.executorEnv.PYTHONPATH"} & {*configured}
    assert configured["spark.driver.defaultJavaOptions"] == f"{spark.END_WITHOUT_MEMORY} {spark.SMALLER_DRIVER}"
    assert configured["spark.sql.session.timeZone"] == "UTC"
    assert "spark.executorEnv.PYTHONPATH" not in spark._configuration("k8s://https://host:6443")


def test_cluster_driver_uses_the_serial_collector_unless_a_collector_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (*spark.JAVA_VARIABLES, "SPARK_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))

    def is_small(master: str = "spark://host:7077") -> bool:
        return spark.SMALLER_DRIVER in spark._configuration(master)["spark.driver.defaultJavaOptions"]

    assert is_small()
    assert not is_small("local[2]")
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-XX:+UseZGC")
    assert not is_small()
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Xss2m")
    assert is_small()
    (tmp_path / "spark-defaults.conf").write_text("spark.driver.extraJavaOptions -XX:+UseG1GC\n")
    assert not is_small()
