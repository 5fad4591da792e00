"""Late answers where months are made on Spark: the sensor sees to it that they reach the lake, and starts no Spark."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from irt_assets.common.job_names import KPI_JOB
from irt_assets.common.partitions import WEEKS, Month, day_bounds, day_of, week_of
from irt_assets.responses.observe import answer_versions
from irt_assets.spark.lake import export_days
from resources.cluster import spark as spark_module
from resources.cluster.lake import Lake
from resources.cluster.relational import on_postgres
from resources.failures import PermanentFailure
from resources.settings import Settings
from tests.helpers.rooms import attempt
from tests.integration.test_late_answers import NOON, World

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.long


def test_late_answers_are_written_to_the_lake_and_then_ask_for_what_they_concern(
    settings: Settings, spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    (tmp_path / "dagster").mkdir()
    there = {"irt_spark": "local[2]", "irt_attempts": str(tmp_path / "lake")}
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        world = World(settings.model_copy(update=there), instance, now)
        late = Month(world.months[0]).start + timedelta(days=1) + NOON
        lake = Lake.at(world.settings)
        export_days(world.database, lake)
        world.make_days()
        world.make_weeks([*WEEKS.back(now, 20), week_of(now)])
        world.make_months(*world.months)
        with world.database.connect() as connection:
            span = Month(world.months[0]).start, day_bounds(day_of(now))[0]
            assert answer_versions(connection, *span) == answer_versions(connection, *span, on_postgres(connection))

        def refused(_: Settings) -> SparkSession:
            raise PermanentFailure("a sensor starts no Spark")

        monkeypatch.setattr(spark_module, "spark_session", refused)
        assert world.tick() == {}
        world.arrive(attempt("u1", "q1", late))
        assert list(world.tick()) == ["observe_attempts"]
        export_days(world.database, lake)
        assert world.tick() == {"aggregate_features_daily": [day_of(late)], KPI_JOB: world.weeks_after(late)}
        assert world.at_night() == {"monthly_calibration": world.months[:2]}
        assert world.tick() == {}
