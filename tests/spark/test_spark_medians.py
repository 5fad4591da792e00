"""Medians of learners, which Spark takes from sorted lists: equal to other engines' and to Spark's own `percentile`."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pytest

from resources.cluster.relational import Run, on_duckdb, on_postgres, on_spark
from resources.postgres.database import Database

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ANSWERS = ibis.table({"user_id": "string", "item_id": "string", "ms": "float64"}, name="answer")
MEDIANS = ANSWERS.group_by("user_id").agg(ms=ANSWERS.ms.median())
TIMES: dict[str, list[float | None]] = {
    "nothing known": [None, None],
    "one": [7.0],
    "one known": [None, 7.0, None],
    "two": [9.0, 4.0],
    "odd": [5.0, 1.0, 3.0],
    "even": [8.0, 1.0, 2.0, 5.0],
    "even, with nulls": [None, 8.0, 1.0, None, 2.0, 5.0],
    "ties in the middle": [1.0, 4.0, 4.0, 9.0],
    "all equal": [2.5, 2.5, 2.5],
    "negative": [-0.75, 0.25, -1.5],
    "large": [2.0**50 + 1, 2.0**50 + 2],
}


def by_learner(run: Run, expression: ir.Table) -> dict[str, float | None]:
    return dict(zip(*run(expression).to_pydict().values(), strict=True))


def test_medians_of_learners_are_equal_on_all_engines(spark: SparkSession, database: Database) -> None:
    rows = [(user, "item", time) for user, times in TIMES.items() for time in times]
    table = pa.table([pa.array(column) for column in zip(*rows, strict=True)], ANSWERS.columns)
    session, duck = spark.newSession(), duckdb.connect()
    session.createDataFrame(table).createOrReplaceTempView("answer")
    duck.register("answer", table)
    with database.connect() as connection:
        connection.execute("CREATE TEMPORARY TABLE answer (user_id text, item_id text, ms double precision)")
        connection.cursor().executemany("INSERT INTO answer VALUES (%s, %s, %s)", rows)
        runs = on_spark(session), on_duckdb(duck), on_postgres(connection)
        found = [by_learner(run, MEDIANS) for run in runs]
    known = {user: [time for time in times if time is not None] for user, times in TIMES.items()}
    assert found == [{user: median(times) if times else None for user, times in known.items()}] * len(runs)


@pytest.mark.parametrize("answers", [1, 2, 199, 200])
def test_medians_by_lists_are_those_of_percentile(spark: SparkSession, answers: int) -> None:
    """Of 300 learners: Spark's hash table of lists holds 128, from there it sorts."""
    session = spark.newSession()
    log = session.range(300 * answers)
    log = log.selectExpr(f"concat('u', id div {answers}) AS user_id", "ln(1000 + hash(id) % 1000) AS ms")
    log.createOrReplaceTempView("answer")
    run = on_spark(session)
    found = by_learner(run, MEDIANS)
    expected = run.read("SELECT user_id, percentile(ms, 0.5) AS ms FROM answer GROUP BY user_id").to_pylist()
    assert len(found) == len(expected) == 300
    for row in expected:
        assert math.isclose(found[row["user_id"]] or 0.0, row["ms"], rel_tol=1e-15)


def test_lists_are_for_learners_on_spark_alone() -> None:
    usual = ANSWERS.group_by("item_id").agg(usual=ANSWERS.ms.median())
    joined = ANSWERS.join(usual, "item_id")
    slow = joined.group_by("user_id").agg(slow=(joined.ms - joined.usual).median(), n=joined.count())
    assert "COLLECT_LIST" not in on_spark.sql(usual)
    assert "COLLECT_LIST" in on_spark.sql(slow)
    assert on_spark.sql(slow).count("PERCENTILE") == 1
    for other in (on_duckdb, on_postgres):
        assert other.sql(slow) == ibis.to_sql(slow, dialect=other.dialect)
