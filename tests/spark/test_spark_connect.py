"""A session on a Spark Connect server computes, fails and is cancelled like other sessions."""

from __future__ import annotations

import signal
import time
from os import getpid, kill
from pathlib import Path
from threading import Timer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from resources.cluster.spark import application_of, is_remote, spark_jobs, spark_session
from resources.failures import PermanentFailure
from resources.settings import Settings
from tests.testbed.patience import patient
from tests.testbed.spark_functions import refuses, sleeps, with_our_code

pytestmark = pytest.mark.long

ENDS_WITHIN_S = 30.0
"""Limit for a cancelled job that would otherwise sleep for a minute."""


def test_spark_connect_sessions_compute_explain_failures_and_can_be_cancelled(
    connect: Settings, tmp_path: Path
) -> None:
    session = spark_session(connect)
    assert is_remote(session)
    assert spark_session(connect) is session
    assert application_of(session).ui_url is None
    assert session.conf.get("spark.sql.session.timeZone") == "UTC"
    added = session.range(3).mapInArrow(with_our_code, "id long").toArrow()
    assert sorted(added["id"].to_pylist()) == [18, 19, 20]

    path = tmp_path / "cut.parquet"
    pq.write_table(pa.table({"a": [*range(1000)]}), path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(PermanentFailure, match=r"cut\.parquet cannot be read"), spark_jobs(session, "fails"):
        session.read.schema("a long").parquet(str(path)).toArrow()
    with pytest.raises(PermanentFailure, match=r"^item 7 has no key: import it$"), spark_jobs(session, "fails"):
        session.range(1).mapInArrow(refuses, "id long").toArrow()

    Timer(3, kill, (getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), spark_jobs(session, "sleeping"):
        session.range(2).mapInArrow(sleeps, "id long").toArrow()
    assert time.monotonic() - began < patient(ENDS_WITHIN_S)
    assert session.range(7).count() == 7
