"""A fit on a standalone cluster equals the fit on one machine, even if an executor is killed meanwhile."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from threading import Thread

import dagster as dg
import pytest
import yaml

import irt_assets
from irt_assets.spark import answers as spark_answers
from irt_assets.spark.em import fit_on_spark
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import fit_em
from resources.cluster.spark import spark_jobs, spark_session
from resources.failures import PermanentFailure
from tests.helpers.answers_on_spark import World, assert_same
from tests.testbed.spark_cluster import Cluster

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def sums_by_the_executors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let executors compute the sums. By default the driver computes such small fits."""
    monkeypatch.setattr(spark_answers, "DRIVER_BYTES", 0)


class ExecutorKiller(logging.Handler):
    """Kills an executor when the fit reports its third E-step."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster, self.has_killed = cluster, False

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("E-step 3 ") and not self.has_killed:
            self.has_killed = True
            Thread(target=self.cluster.kill_executor).start()


def test_a_fit_does_not_change_if_an_executor_is_killed_and_the_log_reports_the_loss(
    cluster: Cluster, tmp_path: Path
) -> None:
    world = World.simulate(10_000, 30)
    log, killer = logging.getLogger("irt_assets.calibration"), ExecutorKiller(cluster)
    settings = cluster.settings
    session = spark_session(settings)
    cluster.wait_for("two executors", lambda: len(cluster.executors()) == 2)
    frame = session.createDataFrame(world.table.drop_columns(["group"]))
    made: list[Calibration] = []

    @dg.op
    def fit() -> None:
        made.append(fit_on_spark(session, frame, settings))

    @dg.job
    def calibration() -> None:
        fit()

    configured = yaml.safe_load((Path(irt_assets.__file__).parent / "dagster.yaml").read_text("utf-8"))
    with dg.DagsterInstance.local_temp(str(tmp_path), {"python_logs": configured["python_logs"]}) as instance:

        def messages() -> list[str]:
            run = calibration.execute_in_process(instance=instance)
            return [entry.user_message for entry in instance.all_logs(run.run_id)]

        quiet = messages()
        log.addHandler(killer)
        try:
            with_a_loss = messages()
        finally:
            log.removeHandler(killer)
    on_one_machine = fit_em(world.responses)
    for found in made:
        assert_same(found, on_one_machine)
    assert killer.has_killed
    steps = [message for message in quiet if message.startswith("E-step ")]
    assert steps[0].startswith("E-step 1 on the executors: log-likelihood -")
    assert steps == [message for message in with_a_loss if message.startswith("E-step ")]
    assert not [message for message in quiet if "was lost" in message]
    (warning,) = [message for message in with_a_loss if "was lost" in message]
    assert warning.startswith("executor ")


def test_a_fit_names_the_setting_if_executors_have_too_little_memory_for_python(cluster: Cluster) -> None:
    """400 MB of addresses suffice to report the installed packages; with numba, Python needs 450 to 500 MB."""
    with (Path(os.environ["SPARK_CONF_DIR"]) / "spark-defaults.conf").open("a") as configuration:
        configuration.write("spark.executor.pyspark.memory 400m\n")
    settings = cluster.settings
    session = spark_session(settings)
    frame = session.createDataFrame(World.simulate(200, 30).table.drop_columns(["group"]))
    with (
        pytest.raises(PermanentFailure, match=r"set it higher in spark-defaults\.conf") as raised,
        spark_jobs(session, "a fit"),
    ):
        fit_on_spark(session, frame, settings)
    assert "spark.executor.pyspark.memory" in str(raised.value)
