"""Features and KPIs on PostgreSQL: equal to results of DuckDB over the snapshots, and replaced as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import numpy as np
import pandas as pd
import psycopg
import pytest

from irt_assets.common.job_names import JUDGED, KPI_JOB
from irt_assets.common.partitions import week_bounds, week_of, weekly
from irt_assets.features.checks import days_with_wrong_counts
from irt_assets.features.daily import features, write_features
from irt_assets.kpis.ability import abilities
from irt_assets.kpis.assets import build_kpi_checks
from irt_assets.kpis.weekly import kpis, write_quiet, write_week
from irt_assets.responses.scored_answers import scored_answers, scoring_groups
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.responses.verdicts import judge_differing
from irt_assets.scales.item_status import Withdrawals
from irt_psychometrics.scoring import estimate_abilities
from resources.cluster.relational import Run, on_duckdb, on_postgres
from resources.dagster_compat import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from resources.dagster_schema import LEARNERS, rows_of
from resources.postgres import warehouse
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.relations import LEARNER, QUESTION, VERDICT
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.kpi_reference import verdicts
from tests.helpers.kpi_worlds import END, WEEK, load, published_of, random_world, scales_of
from tests.helpers.rooms import call, check_context, copied, folder_store, rows, run_sql
from tests.helpers.same_rows import EQUAL, assert_same, flat
from tests.helpers.worlds import OF_MONTHS
from tests.helpers.written_commands import ROOT, fenced_blocks
from tests.integration.graph import Graph, checks, metadata
from tests.testbed.patience import patient

WORLD = random_world(11)
SCALES, PUBLISHED = scales_of(WORLD), published_of(WORLD)
START = END - timedelta(days=60)


TABLES = (
    (QUESTION, ["item_id", "scale_id"]),
    (LEARNER, ["learner_key", "user_id", "is_test", "target_scale_id", "target_theta"]),
    (VERDICT, ["learner_key", "item_id", "completed_at", "reason", "score", "max_score"]),
)
"""Tables that KPIs read besides attempts, with their columns."""


@pytest.fixture(scope="module")
def log(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """A database with the random world, which the module's tests only read."""
    made_once(postgres, "template_kpis", migrated_template, lambda settings: load(Database(settings), WORLD))
    with template_copy(postgres, "template_kpis", tmp_path_factory.mktemp("kpis"), **OF_MONTHS) as settings:
        yield settings


@pytest.fixture
def own(postgres: EmbeddedPostgres, log: Settings, tmp_path: Path) -> Iterator[Settings]:
    """A copy of `log` that a test may change."""
    with template_copy(postgres, "template_kpis", tmp_path, **OF_MONTHS) as settings:
        yield settings


@pytest.fixture(scope="module")
def parquet(log: Settings) -> Run:
    """DuckDB over the Parquet snapshots of every month, with the bank and the learners."""
    database, store = Database(log), folder_store(log)
    months = sorted({a["completed_at"].strftime("%Y-%m") for a in WORLD.attempts})
    files = [str(store.root / take_snapshot(database, store, month, "run")[0].uri) for month in months]
    connection = duckdb.connect()
    with database.connect() as postgres:
        for relation, columns in TABLES:
            connection.register(relation.get_name(), on_postgres(postgres)(relation.select(columns)))
    connection.execute(
        f"""CREATE VIEW attempt AS
            SELECT format('{{}}/{{:09}}', filename, "row") AS id, user_id, filename || session AS session_id,
                   s.* EXCLUDE ("row", learner_key, session, filename), hints_used > 0 AS hint_used,
                   NULL::timestamptz AS recorded_at
            FROM read_parquet({files}, filename = true) s JOIN learner USING (learner_key)"""
    )
    return on_duckdb(connection)


@pytest.fixture
def connection(log: Settings) -> Iterator[psycopg.Connection]:
    with Database(log).connect() as connection:
        yield connection


def test_snippet_of_the_page_gives_the_kpis_of_the_snapshots(log: Settings, parquet: Run) -> None:
    """The fixture `parquet` has made the snapshots; the test makes the two tables that the last line reads."""
    page = (ROOT / "docs" / "reference" / "kpis.md").read_text("utf-8")
    [snippet] = [block for language, block in fenced_blocks(page) if language == "python"]
    first, _, last = snippet.partition("# … with tables")
    known: dict[str, Any] = {"end": END, "scales": SCALES, "published": PUBLISHED}
    every = f"{folder_store(log).root}/snapshots/scored_responses/*/*.parquet"
    exec(first, known)
    last = last.replace("….parquet", every)
    with Database(log).connect() as postgres:
        for relation, columns in TABLES:
            known["connection"].register(relation.get_name(), on_postgres(postgres)(relation.select(columns)))
        exec(last.partition("\n")[2], known)
    expected = kpis(parquet, END, SCALES, PUBLISHED).set_index("user_id")["kpis"]
    assert_same(dict(known["frame"].set_index("user_id")["kpis"]), dict(expected))


# -- two engines ---------------------------------------------------------------------------------------


def test_postgresql_and_duckdb_over_the_snapshots_give_the_same_features(
    connection: psycopg.Connection, parquet: Run
) -> None:
    keys = ["user_id", "topic_id", "date"]
    one, other = (
        features(run, START, END).sort_values(keys, ignore_index=True) for run in (on_postgres(connection), parquet)
    )
    assert len(one) > 100
    pd.testing.assert_frame_equal(one, other, rtol=0, atol=EQUAL, check_dtype=False)


@pytest.mark.parametrize("back", [timedelta(0), timedelta(days=3, seconds=1, microseconds=7)])
def test_postgresql_and_duckdb_over_the_snapshots_give_the_same_kpis(
    back: timedelta, connection: psycopg.Connection, parquet: Run
) -> None:
    one, other = (
        kpis(run, END - back, SCALES, PUBLISHED).set_index("user_id")["kpis"]
        for run in (on_postgres(connection), parquet)
    )
    assert_same(dict(one), dict(other))


def test_stored_verdicts_of_days_equal_the_reference(own: Settings) -> None:
    """The reference loops over the answers; the remaining tests of this file read its verdicts."""
    database, start = Database(own), END - timedelta(days=30)
    run_sql(database, "TRUNCATE attempt_verdict, judged_day")
    judge_differing(database, start.date(), END.date())
    with database.connect() as connection:
        answers = on_postgres(connection)(scored_answers(start, END)).to_pylist()
    found = sorted((a["user_id"], a["completed_at"], a["item_id"], a["score"]) for a in answers)
    counted = [(a, score) for a, score in verdicts(WORLD) if start <= a["completed_at"] < END]
    assert (len(found) > 100, found) == (
        True,
        sorted((a["user_id"], a["completed_at"], a["item_id"], score) for a, score in counted),
    )


# -- one ability -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale_id", list(SCALES))
def test_ability_behind_the_goal_probability_equals_the_reported_ability(
    scale_id: str, connection: psycopg.Connection
) -> None:
    """`abilities.batch` reads the eligible answers by its own query; the results must agree."""
    scale, published = SCALES[scale_id], PUBLISHED[scale_id]
    answers = on_postgres(connection)(scored_answers(END - timedelta(days=365), END))
    frame = abilities([answers], END, SCALES, PUBLISHED)
    found = frame[frame["scale_id"] == scale_id].set_index("user_id").sort_index()
    items, none = list(published.items), Withdrawals()
    [(responses, users)] = scoring_groups(connection, END - timedelta(days=365), END, items, none)
    a, b, c = pd.DataFrame([published.items[item].abc for item in responses.item_ids]).to_numpy().T
    reported = estimate_abilities(responses, a, -a * b, c, mean=scale.mu, sd=scale.sigma)
    assert list(found.index) == list(users)
    assert len(users) > 10
    np.testing.assert_allclose(found[["theta", "se"]].T, [reported.theta, reported.se], rtol=0, atol=1e-12)


# -- rows in their place -----------------------------------------------------------------------------------


def test_features_of_a_day_replace_only_the_days_rows(own: Settings) -> None:
    database, day = Database(own), END - timedelta(days=2)
    written = call(database, write_features, START, END)
    before = dict(rows(database, "SELECT date, count(*) FROM features_topic_daily GROUP BY 1"))
    assert (sum(day.rows for day in written.values()), len(written)) == (sum(before.values()), 60)
    run_sql(database, "UPDATE features_topic_daily SET attempts = 99, user_id = user_id || '-wrong'")
    call(database, write_features, day, day + timedelta(days=1))
    found = rows(database, "SELECT date, count(*), bool_or(attempts = 99) FROM features_topic_daily GROUP BY 1")
    assert ({date: n for date, n, _ in found}, {date for date, _, wrong in found if not wrong}) == (
        before,
        {day.date()},
    )


def test_features_with_a_missing_answer_are_reported_by_day(own: Settings) -> None:
    database = Database(own)
    with database.connect() as connection:
        write_features(connection, START, END)
        assert days_with_wrong_counts(connection, START, END) == {}
    columns = "user_id, topic_id, date, attempts"
    row = rows(database, f"SELECT {columns} FROM features_topic_daily ORDER BY {columns}")[0]
    run_sql(database, "DELETE FROM features_topic_daily WHERE (user_id, topic_id, date) = (%s, %s, %s)", row[:3])
    ((day, (have, want)),) = call(database, days_with_wrong_counts, START, END).items()
    assert (day, want - have) == (row[2].isoformat(), row[3])


def test_recomputed_week_has_the_same_rows_and_deletes_foreign_rows(own: Settings) -> None:
    database, monday = Database(own), week_bounds(WEEK)[0].date()
    run_sql(database, "INSERT INTO weekly_kpi (user_id, week_start, kpis) VALUES ('stranger', %s, '{}')", (monday,))
    found = []
    for _ in range(2):
        call(database, write_week, WEEK, END + timedelta(days=40))
        found.append(rows(database, "SELECT user_id, kpis FROM weekly_kpi WHERE week_start = %s ORDER BY 1", (monday,)))
    assert (found[0], "stranger" in dict(found[0])) == (found[1], False)


def week_of_log(connection: psycopg.Connection, now: datetime) -> dict[str, Any]:
    """The records of the week, as stored."""
    write_week(connection, WEEK, now)
    return dict(
        connection.execute(
            'SELECT user_id, kpis FROM weekly_kpi WHERE week_start = %s ORDER BY user_id COLLATE "C"', (WEEK,)
        ).fetchall()
    )


def test_running_week_ends_at_the_last_midnight(own: Settings) -> None:
    database, now = Database(own), END - timedelta(days=4, hours=5)
    with database.connect() as connection:
        running = week_of_log(connection, now)
        on_server = kpis(on_postgres(connection), END - timedelta(days=5), SCALES, PUBLISHED)
        assert_same(running, dict(zip(on_server["user_id"], on_server["kpis"], strict=True)))
        over = week_of_log(connection, END + timedelta(days=1))
    assert running != over


def test_records_do_not_depend_on_the_number_of_learners_per_batch(
    own: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Database(own).connect() as connection:
        together, written = week_of_log(connection, END), write_week(connection, WEEK, END)
        monkeypatch.setattr("irt_assets.kpis.weekly.LEARNERS_AT_ONCE", 3)
        assert week_of_log(connection, END) == together
        again = write_week(connection, WEEK, END)
    assert len(together) == written.learners > 6
    assert again == written


def test_past_week_uses_the_set_in_force_at_its_end(own: Settings) -> None:
    database = Database(own)
    before = call(database, week_of_log, END)
    later = """INSERT INTO item_parameter_publication
                 (scale_id, item_id, parameters, effective_from, rule, reason, anchor_hash, code_version)
               SELECT scale_id, item_id, parameters || jsonb_build_object('b', b + 1), %s, 'decision', '', '', ''
               FROM item_parameter_publication"""
    run_sql(database, later, (END + timedelta(seconds=1),))
    assert call(database, week_of_log, END) == before
    run_sql(database, later, (END,))
    assert call(database, week_of_log, END) != before


def test_inactivity_changes_only_goal_probability_and_risk(own: Settings) -> None:
    database, now = Database(own), END - timedelta(hours=6)
    query = "SELECT user_id, kpis FROM weekly_kpi WHERE week_start = %s"
    call(database, write_week, WEEK, now - timedelta(days=3))
    before = dict(rows(database, query, (WEEK,)))
    idle = set(call(database, write_quiet, WEEK, now)["user_id"])
    after = dict(rows(database, query, (WEEK,)))
    assert before.keys() == after.keys()
    assert 0 < len(idle) < len(before)
    changed = {user for user in after if after[user] != before[user]}
    assert set() != changed <= idle
    for user in changed:
        old, new = flat(before[user]), flat(after[user])
        touched = {path for path in old.keys() | new.keys() if old.get(path) != new.get(path)}
        assert touched <= {"P", "S", "why.P", "assumed.S"}, touched


def test_quiet_learner_without_a_row_gets_a_row_with_reasons_for_missing_kpis(own: Settings) -> None:
    database = Database(own)
    with database.connect() as connection:
        idle = set(write_quiet(connection, WEEK, END)["user_id"])
        whole = kpis(on_postgres(connection), END, SCALES, PUBLISHED).set_index("user_id")["kpis"]
    found = dict(rows(database, "SELECT user_id, kpis FROM weekly_kpi WHERE week_start = %s", (WEEK,)))
    assert found.keys() == idle
    for user, record in found.items():
        assert (record["P"], record["S"]) == pytest.approx((whole[user]["P"], whole[user]["S"]))
        assert (record["A_t"], record["why"]["A_t"]) == (None, "the week's KPIs were not computed")


def test_week_that_fails_half_way_writes_no_rows(own: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(own)
    call(database, write_week, WEEK, END)
    before = rows(database, "SELECT user_id, kpis, updated_at FROM weekly_kpi ORDER BY 1")
    monkeypatch.setattr("irt_assets.kpis.weekly.LEARNERS_AT_ONCE", len(before) // 2)
    half = iter(["one part goes through"])
    checked = warehouse._check_frame
    monkeypatch.setattr(warehouse, "_check_frame", lambda *those: checked(*those) if next(half, None) else 1 / 0)
    with pytest.raises(ZeroDivisionError), database.connect() as connection:
        write_week(connection, WEEK, END)
    assert rows(database, "SELECT user_id, kpis, updated_at FROM weekly_kpi ORDER BY 1") == before


# -- as Dagster runs them ----------------------------------------------------------------------------
# Features, KPIs and inactivity as Dagster runs them: by their jobs, one partition or a range, with their checks.

DAYS = 365
SECONDS = 90.0
"""Time limit of a year in one run. With one run per day, Dagster alone would need twice this time."""


class LastYear(Graph):
    """The real graph over answers up to now."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, now: datetime) -> None:
        super().__init__(settings, instance)
        self.now, self.yesterday, self.week = now, day(now - timedelta(days=1)), week_of(now)


@pytest.fixture
def graph(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path, now: datetime) -> Iterator[LastYear]:
    """The real graph over answers up to now, first month a year ago."""
    first = (now - timedelta(days=DAYS)).strftime("%Y-%m")
    with (
        copied(postgres.start(), migrated_template, "daily_life", tmp_path) as settings,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        load(Database(settings), random_world(21, end=now))
        yield LastYear(settings.model_copy(update={"irt_first_month": first}), instance, now)


def day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"


@pytest.mark.ci
def test_year_of_days_is_a_single_run_with_the_counts_of_every_day(graph: LastYear) -> None:
    days = [day(graph.now - timedelta(days=n)) for n in range(DAYS, 0, -1)]
    tags = {ASSET_PARTITION_RANGE_START_TAG: days[0], ASSET_PARTITION_RANGE_END_TAG: days[-1]}
    started = time.monotonic()
    result = graph.run(job="aggregate_features_daily", **tags)
    assert time.monotonic() - started < patient(SECONDS)
    assert checks(result)["answers_are_conserved"].passed
    assert graph.instance.get_materialized_partitions(dg.AssetKey("features_topic_daily")) == set(days)
    query = "SELECT date::text, count(*), sum(attempts)::int FROM features_topic_daily GROUP BY 1"
    stored = {day: (n, answers) for day, n, answers in rows(graph.database, query)}
    reported = {
        event.partition: {name: value.value for name, value in event.metadata.items()}
        for event in result.asset_materializations_for_node("features_topic_daily")
    }
    assert list(reported) == days
    assert 10 < len(stored) < DAYS
    for each in days:
        n, answers = stored.get(each, (0, 0))
        assert reported[each] == {"dagster/row_count": n, "answers": answers}, each


@pytest.mark.ci
def test_running_week_is_computed_and_quiet_learners_are_detected_afterwards(graph: LastYear) -> None:
    result = graph.run(graph.week, KPI_JOB)
    assert (all(evaluation.passed for evaluation in checks(result).values()), set(checks(result))) == (
        True,
        {"kpis_are_present_and_in_range", "every_null_has_a_reason"},
    )
    reported = metadata(result, "weekly_kpi")
    (n,) = rows(graph.database, "SELECT count(*) FROM weekly_kpi WHERE week_start = %s", (graph.week,))[0]
    assert reported["dagster/row_count"] == n > 10
    assert reported["plot: distributions"].startswith("![how the KPIs are distributed](data:image/svg+xml")
    assert "| I_t | fewer than 5 eligible answers" in reported["without a value"]

    found = metadata(graph.run(graph.yesterday, "detect_inactivity"), "inactivity")
    assert found["week"] == graph.week
    assert 0 < found["idle learners"] < n
    assert rows(graph.database, "SELECT count(*) FROM weekly_kpi WHERE week_start = %s", (graph.week,)) == [(n,)]


@pytest.mark.ci
def test_corrupted_record_is_named_by_the_checks(graph: LastYear) -> None:
    assert graph.run(graph.week, KPI_JOB).success
    run_sql(graph.database, """UPDATE weekly_kpi SET kpis = kpis - 'A_t' || '{"S": 2}' WHERE user_id = 'u07'""")
    present, _ = build_kpi_checks(weekly("2026-01", running=True))
    context = check_context(graph.week, graph.instance)
    evaluation = present.op.compute_fn.decorated_fn(context, graph.database, graph.store)
    assert not evaluation.passed
    assert "u07: A_t is missing; S = 2, expected 0 to 1" in (evaluation.description or "")
    assert [row["learners"] for row in rows_of(evaluation.metadata, LEARNERS)] == ["u07"]


@pytest.mark.ci
def test_running_week_can_be_backfilled_before_its_days_and_months_exist(graph: LastYear) -> None:
    assets = graph.defs.resolve_asset_graph()
    week = assets.get(dg.AssetKey("weekly_kpi"))
    weeks = week.partitions_def
    assert weeks.get_partition_keys()[-1] == graph.week
    for upstream in (dg.AssetKey(JUDGED), dg.AssetKey("published_item_parameters")):
        found = assets.get_partition_mapping(week.key, upstream).get_upstream_mapped_partitions_result_for_partitions(
            weeks.subset_with_partition_keys([graph.week]), weeks, assets.get(upstream).partitions_def, graph.now
        )
        assert found.required_but_nonexistent_subset.is_empty, upstream
