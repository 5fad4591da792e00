"""A fit on a standalone cluster: the numbers of one machine, also where an executor is killed in the middle."""

from __future__ import annotations

import logging
from threading import Thread

import pytest

from irt_assets.engines.executors import fit_on_spark
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.estimation.em import fit_em
from resources.spark import spark_session
from testbed.spark_cluster import Cluster
from tests.helpers.answers_on_spark import World, assert_same


class Killer(logging.Handler):
    """Kills an executor when the fit reports its third E-step."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster, self.has_killed = cluster, False

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith("E-step 3 ") and not self.has_killed:
            self.has_killed = True
            Thread(target=self.cluster.kill_executor).start()


def test_a_fit_in_which_an_executor_is_killed_is_that_of_one_machine(
    cluster: Cluster, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    world = World.of(10_000, 30)
    caplog.set_level(logging.INFO, "irt_assets.calibration")
    log, killer = logging.getLogger("irt_assets.calibration"), Killer(cluster)
    settings = cluster.settings.model_copy(update={"irt_spark_fit": "executors"})
    session = spark_session(settings)
    cluster.wait_for("two executors", lambda: len(cluster.executors()) == 2)
    frame = session.createDataFrame(world.table.drop_columns(["group"]))

    def fit() -> Calibration:
        return fit_on_spark(session, frame, settings)

    on_one_machine = fit_em(world.responses)
    assert_same(fit(), on_one_machine)
    log.addHandler(killer)
    try:
        assert_same(fit(), on_one_machine)
    finally:
        log.removeHandler(killer)
    assert killer.has_killed
    assert "Lost executor" in capfd.readouterr().err
