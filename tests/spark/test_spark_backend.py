"""Expressions on Spark: the same rows as on DuckDB over the same attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resources.relational import on_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def test_the_time_zone_is_utc_whatever_the_cluster_has(spark: SparkSession) -> None:
    spark.conf.set("spark.sql.session.timeZone", "Asia/Seoul")
    run = on_spark(spark)
    found = run.read("SELECT CAST(TIMESTAMP '2026-08-31 23:30:00' AS DATE) AS day, current_timezone() AS zone")
    assert found.to_pylist()[0]["zone"] == "UTC"
