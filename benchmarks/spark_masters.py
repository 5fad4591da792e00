"""Spark for a benchmark: threads of its process, or a standalone cluster on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from resources.cluster.spark import stop_session
from tests.testbed.spark_cluster import Cluster

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@contextmanager
def master(workers: int, cores: int, memory: str, folder: Path) -> Iterator[str]:
    """Yields the address of a Spark whose executors have `memory`."""
    (folder / "spark-defaults.conf").write_text(
        f"spark.executor.memory {memory}\n" if workers else f"spark.driver.memory {memory}\n"
    )
    os.environ |= {"SPARK_CONF_DIR": str(folder), "SPARK_LOCAL_DIRS": str(folder), "SPARK_LOCAL_IP": "127.0.0.1"}
    if not workers:
        yield f"local[{cores}]"
        return
    cluster = Cluster(folder, n_workers=workers, worker_memory=memory)
    try:
        cluster.start()
        yield cluster.url
    finally:
        stop_session()
        cluster.stop()


def stage_seconds(session: SparkSession) -> float:
    """Seconds since the session began in which any stage ran on executors."""
    context = session.sparkContext
    url = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/stages?status=complete"
    stages = requests.get(url, timeout=60).json()
    total, until = 0.0, 0.0
    for began, ended in sorted((moment(stage["submissionTime"]), moment(stage["completionTime"])) for stage in stages):
        total += max(0.0, ended - max(began, until))
        until = max(until, ended)
    return total


def moment(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fGMT").replace(tzinfo=UTC).timestamp()


def java_memory() -> float:
    """Peak memory of this process's Java, in MB, or 0 without Java."""
    most = 0.0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if fields.get("Name", "").strip() == "java" and int(fields["PPid"]) == os.getpid():
            most = max(most, int(fields["VmHWM"].split()[0]) / 1024)
    return most
