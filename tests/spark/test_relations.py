"""Relations on Spark have the same rows and types as on DuckDB and PostgreSQL over the same attempts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import duckdb
import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.features.daily import features, topic_days
from irt_assets.kpis.behaviour import learners, pace, presence, recovery, scales_answered
from irt_assets.kpis.weekly import kpis
from irt_assets.responses.answers import attempts_between, attempts_with_verdicts
from irt_assets.responses.facts import Bounds, facts_within
from irt_assets.responses.item_time import compute_item_times
from irt_assets.responses.scored_answers import scored_answers
from irt_assets.responses.stored_window import verdict_hash, verdict_rows
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.scale import Scale
from resources.cluster.relational import Run, on_duckdb, on_postgres, on_spark
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.relations import LEARNER, QUESTION, SEED_DRAW, VERDICT
from tests.helpers import dirty_log, kpi_worlds, rooms
from tests.helpers.same_rows import EQUAL, assert_same
from tests.helpers.what_changed import WHERE_SPARK_CHANGES

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LEARNERS = kpi_worlds.random_world(11)


@dataclass(frozen=True)
class Log:
    """A log on three engines, and the start and end of its period."""

    runs: dict[str, Run]
    start: datetime
    end: datetime
    scales: dict[str, Scale]


def load_learners(database: Database) -> None:
    kpi_worlds.load(database, LEARNERS)


def load_dirty(database: Database) -> None:
    dirty_log.load_dirty(database)
    judge_differing(database, dirty_log.START.date(), dirty_log.END.date())


LOGS: dict[str, tuple[Callable[[Database], None], datetime, datetime, dict[str, Scale]]] = {
    "dirty": (load_dirty, dirty_log.START, dirty_log.END, dirty_log.SCALES),
    "learners": (
        load_learners,
        kpi_worlds.END - timedelta(days=60),
        kpi_worlds.END,
        kpi_worlds.scales_of(LEARNERS),
    ),
    "nothing": (lambda _: None, dirty_log.START, dirty_log.END, dirty_log.SCALES),
}
NOTHING = pytest.param("nothing", marks=WHERE_SPARK_CHANGES)


@pytest.fixture(scope="module", params=["dirty", "learners", NOTHING])
def log(
    request: pytest.FixtureRequest,
    spark: SparkSession,
    postgres: EmbeddedPostgres,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Log]:
    """PostgreSQL, and DuckDB and Spark over Parquet files with its rows."""
    load, start, end, scales = LOGS[request.param]
    folder = tmp_path_factory.mktemp("relations")
    with rooms.copied(postgres.start(), migrated_template, f"relations_{request.param}", folder) as settings:
        database = Database(settings)
        load(database)
        duck, session = duckdb.connect(), spark.newSession()
        duck.execute("SET TimeZone = 'Asia/Seoul'")
        session.conf.set("spark.sql.session.timeZone", "America/New_York")
        with database.connect() as connection:
            span = start - timedelta(days=1000), end + timedelta(days=30)
            tables = {"attempt": attempts_with_verdicts(*span, in_lake=False)}
            tables |= {table.get_name(): table for table in (QUESTION, LEARNER, VERDICT, SEED_DRAW)}
            for name, table in tables.items():
                write_parquet(on_postgres(connection), table, folder / name)
                duck.execute(f"CREATE VIEW {name} AS FROM read_parquet('{folder}/{name}/*.parquet')")
                session.read.parquet(f"{folder}/{name}").createOrReplaceTempView(name)
            runs = {"postgres": on_postgres(connection), "duckdb": on_duckdb(duck), "spark": on_spark(session)}
            yield Log(runs, start, end, scales)


def write_parquet(run: Run, table: ir.Table, folder: Path) -> None:
    """Write a relation without its JSON columns to two files, with integers as wide as in the registry."""
    kinds = {name: kind for name, kind in table.schema().items() if not kind.is_json()}
    rows = run(table).select(list(kinds))  # the view has another order
    rows = rows.cast(pa.schema([(name, kind.to_pyarrow()) for name, kind in kinds.items()]))
    folder.mkdir()
    half = rows.num_rows // 2
    for number, part in enumerate((rows.slice(0, half), rows.slice(half))):
        pq.write_table(part, folder / f"{number}.parquet")


def rows_of(table: pa.Table, keys: list[str]) -> pd.DataFrame:
    """Returns sorted rows. Sums of whole numbers, which are decimals on some engines, become floats."""
    frame = table.to_pandas().sort_values(keys, ignore_index=True, na_position="first")
    return frame.astype(dict.fromkeys({"hints"} & {*table.column_names}, float))


EXPRESSIONS: dict[str, tuple[Callable[[Log, bool], ir.Table], list[str]]] = {
    "attempts": (
        lambda log, _: attempts_between(log.start, log.end).select(
            "id", "completed_at", "started_at", "position", "correct", "response", "hints_used", "topic_id", "hint_used"
        ),
        ["id"],
    ),
    "topic_days": (lambda log, _: topic_days(log.start, log.end), ["user_id", "topic_id", "date"]),
    "learners": (lambda log, _: learners(log.end), ["user_id"]),
    "scales_answered": (lambda log, _: scales_answered(log.end), ["user_id", "scale_id"]),
    "presence": (lambda log, _: presence(log.end), ["user_id"]),
    "pace": (lambda log, _: pace(log.end), ["user_id", "scale_id"]),
    "recovery": (lambda log, _: recovery(log.end), ["user_id", "scale_id"]),
    "facts": (
        lambda log, _: facts_within(Bounds.from_window(log.start, log.end, log.scales), log.scales, "topic_id"),
        ["id"],
    ),
    "verdicts": (lambda log, in_lake: verdict_rows(log.start, log.end, in_lake=in_lake), ["attempt_id"]),
    "scored_answers": (
        lambda log, in_lake: scored_answers(log.start, log.end, in_lake=in_lake),
        ["user_id", "item_id", "completed_at"],
    ),
}
"""Relations by log and whether they run in a lake, with the columns that sort their rows."""


@pytest.mark.parametrize("name", list(EXPRESSIONS))
def test_all_engines_give_the_same_rows(name: str, log: Log) -> None:
    make, keys = EXPRESSIONS[name]
    found = {engine: run(make(log, engine != "postgres")) for engine, run in log.runs.items()}
    on_spark, on_server = (
        dict(zip(rows.column_names, rows.schema.types, strict=True)) for rows in (found["spark"], found["postgres"])
    )
    sums = {"hints"} if name == "topic_days" else set()  # PostgreSQL's sums of whole numbers are decimals
    assert {c: kind for c, kind in on_spark.items() if c not in sums} == {
        c: kind for c, kind in on_server.items() if c not in sums
    }
    expected = rows_of(found["postgres"], keys)
    for engine in ("duckdb", "spark"):
        pd.testing.assert_frame_equal(
            rows_of(found[engine], keys), expected, rtol=0, atol=EQUAL, check_dtype=False, obj=f"{name} on {engine}"
        )


def test_all_engines_give_the_same_features_also_if_read_in_parts(log: Log) -> None:
    keys = ["user_id", "topic_id", "date"]
    frames = {engine: features(run, log.start, log.end) for engine, run in log.runs.items()}
    in_parts = list(log.runs["spark"].parts(topic_days(log.start, log.end)))
    for frame in (frames["duckdb"], frames["spark"], *([pa.concat_tables(in_parts).to_pandas()] if in_parts else [])):
        one, other = (each.sort_values(keys, ignore_index=True) for each in (frame, frames["postgres"]))
        pd.testing.assert_frame_equal(one, other, rtol=0, atol=EQUAL, check_dtype=False)


def test_all_engines_give_the_same_hash_of_a_window(log: Log) -> None:
    hashes = {engine: verdict_hash(run, log.start, log.end) for engine, run in log.runs.items()}
    assert len(set(hashes.values())) == 1, hashes


def test_all_engines_give_the_same_item_times(log: Log) -> None:
    found = {}
    for engine, run in log.runs.items():
        times = compute_item_times(run, log.end, log.start - timedelta(days=400))
        found[engine] = dict(zip(times.item_ids, zip(times.median_ms, times.n, strict=True), strict=True))
    assert found["spark"] == found["duckdb"] == found["postgres"]


@pytest.mark.parametrize(
    ("log", "back"),
    [
        ("dirty", timedelta(0)),
        ("learners", timedelta(days=3, seconds=1, microseconds=7)),
        pytest.param("nothing", timedelta(0), marks=WHERE_SPARK_CHANGES),
    ],
    indirect=["log"],
    scope="module",
)
def test_all_engines_give_the_same_kpis(back: timedelta, log: Log) -> None:
    published = kpi_worlds.published_of(LEARNERS)
    scales = log.scales if log.scales.keys() == published.keys() else kpi_worlds.scales_of(LEARNERS)
    found: dict[str, dict[str, Any]] = {}
    for engine, run in log.runs.items():
        frame = kpis(run, log.end - back, scales, published)
        found[engine] = dict(zip(frame["user_id"], frame["kpis"], strict=True))
    assert_same(found["spark"], found["postgres"])
    assert_same(found["spark"], found["duckdb"])


def test_rows_of_a_learner_are_in_the_same_part(log: Log) -> None:
    attempts = attempts_between(log.start - timedelta(days=400), log.end).select("user_id", "id")
    parts = list(log.runs["spark"].parts(attempts, "user_id"))
    users = [set(part["user_id"].to_pylist()) for part in parts]
    assert sum(map(len, users)) == len(set[str]().union(*users))
    whole = log.runs["postgres"](attempts)
    assert sorted(one for part in parts for one in part["id"].to_pylist()) == sorted(whole["id"].to_pylist())


def test_time_zone_is_utc_for_any_time_zone_of_the_cluster(spark: SparkSession) -> None:
    spark.conf.set("spark.sql.session.timeZone", "Asia/Seoul")
    run = on_spark(spark)
    found = run.read("SELECT CAST(TIMESTAMP '2026-08-31 23:30:00' AS DATE) AS day, current_timezone() AS zone")
    assert found.to_pylist()[0]["zone"] == "UTC"


def test_an_overflow_raises_an_error_as_on_postgresql(spark: SparkSession) -> None:
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"


# -- medians -----------------------------------------------------------------------------------------
# Medians of learners, which Spark computes from sorted lists, equal other engines' medians and Spark's `percentile`.

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
def test_medians_from_lists_equal_percentile(spark: SparkSession, answers: int) -> None:
    """Uses 300 learners, as Spark's hash table of lists holds 128 and Spark sorts beyond that."""
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


def test_only_spark_uses_lists_and_only_for_medians_of_learners() -> None:
    usual = ANSWERS.group_by("item_id").agg(usual=ANSWERS.ms.median())
    joined = ANSWERS.join(usual, "item_id")
    slow = joined.group_by("user_id").agg(slow=(joined.ms - joined.usual).median(), n=joined.count())
    assert "COLLECT_LIST" not in on_spark.sql(usual)
    assert "COLLECT_LIST" in on_spark.sql(slow)
    assert on_spark.sql(slow).count("PERCENTILE") == 1
    for other in (on_duckdb, on_postgres):
        assert other.sql(slow) == ibis.to_sql(slow, dialect=other.dialect)
