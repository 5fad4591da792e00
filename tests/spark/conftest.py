"""Spark for the tests: two cores in a process, or a cluster on this machine whose parts can be killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resources.cluster.spark import spark_session, stop_session
from resources.settings import Settings
from tests.testbed.spark_cluster import EXECUTOR_MEMORY, Cluster, connect_server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


FOLDER = Path(__file__).parent
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Options of every Java process in the tests.

Most live for a minute and would spend two fifths of it on optimisation.
"""
SMALL = {
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.python.daemon.module": "tests.testbed.spark_daemon",
}
"""Properties of a session on two cores with a few thousand answers."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests on Spark in one worker.

    Files whose tests end the shared session come last, and files that use a Connect server come at the very end, as
    pyspark then starts no other kind of session.
    """
    uses = [(item.path, set(getattr(item, "fixturenames", ()))) for item in items]
    of_cluster, of_connect = ({path for path, names in uses if name in names} for name in ("cluster", "connect"))
    items.sort(key=lambda item: (item.path in of_connect, item.path in of_cluster))
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("spark"))


@pytest.fixture(scope="session")
def has_spark(require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    require(find_spec("pyspark") is not None, "pyspark (make spark)")
    require(shutil.which("java") is not None, "Java (apt install openjdk-17-jre-headless)")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("JDK_JAVA_OPTIONS", QUICK_JAVA)
        patched.setenv("SPARK_CONF_DIR", str(write_configuration(tmp_path_factory.mktemp("conf"), SMALL)))
        yield


def write_configuration(folder: Path, properties: Mapping[str, str]) -> Path:
    """Write Spark's configuration into the folder. Returns the folder."""
    lines = [f"{name} {value}\n" for name, value in properties.items()]
    (folder / "spark-defaults.conf").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def spark(has_spark: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session on `local[2]`. Tests register their own views."""
    os.environ["SPARK_LOCAL_DIRS"] = str(tmp_path_factory.mktemp("spark"))
    session = spark_session(Settings(irt_spark="local[2]", _env_file=None))
    yield session
    stop_session()


@pytest.fixture
def cluster(
    has_spark: None, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """A cluster for a test, with executors of half a gigabyte. The process's other session is stopped."""
    (tmp_path / "conf").mkdir()
    configuration = write_configuration(tmp_path / "conf", {"spark.executor.memory": EXECUTOR_MEMORY})
    monkeypatch.setenv("SPARK_CONF_DIR", str(configuration))
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(tmp_path / "driver"))
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        found.start()
        yield found
    finally:
        stop_session()
        found.stop()


@pytest.fixture
def connect(has_spark: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings for a session on a Spark Connect server of this machine. The process's other session is stopped."""
    stop_session()
    with connect_server(tmp_path_factory.mktemp("connect")) as found:
        try:
            yield found
        finally:
            stop_session()
