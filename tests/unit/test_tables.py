"""The registry of tables: descriptions, keys, names, migrations, and columns of the view of attempts."""

from __future__ import annotations

import re
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from resources import migrations
from resources.tables import METADATA, VIEWS, RecomputedBy, irreplaceable_rows

TABLES = METADATA.sorted_tables
COLUMNS = [column for table in TABLES for column in table.columns]
REQUIRED = [
    "question",
    "learner",
    "response_log",
    "features_topic_daily",
    "weekly_kpi",
    "mirt_fit_meta",
    "mirt_item_params",
    "mirt_ability",
    "item_parameter_publication",
    "item_drift",
    "dif_analysis",
    "test_information",
    "drift_alerts",
    "report_file",
    "invariant_result",
    "calibration_scale",
    "anchor_set",
    "item_parameter_proposal",
    "release_decision",
    "decision",
    "scale_decision",
]
LONGEST_NAME = 63  # PostgreSQL cuts longer identifiers


def test_migrations_have_a_single_head() -> None:
    """Two migrations, written at the same time, once had the same predecessor, and databases could not be upgraded."""
    assert len(ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads()) == 1


def test_every_table_of_the_design_exists() -> None:
    assert set(REQUIRED) <= set(METADATA.tables)
    views = {"attempt", "report_artifacts", "item_parameter_current", "standing_decision", "item_status"}
    assert {*views, "item_withdrawal", "publication_step", "item_stage"} == set(VIEWS)


def test_every_table_is_described_and_has_a_key() -> None:
    assert [table.name for table in TABLES if not (table.comment or "").endswith(".")] == []
    assert [table.name for table in TABLES if not list(table.primary_key)] == []


def test_every_table_declares_whether_assets_recompute_its_rows() -> None:
    """Ensures that no new table is forgotten: without a declaration a downgrade would drop its rows silently."""
    assert all(isinstance(table.info["recomputed_by"], RecomputedBy) for table in TABLES)
    assert {"issued_score", "score_table", "form", "drift_alerts", "mirt_ability"} <= irreplaceable_rows().keys()
    assert irreplaceable_rows()["mirt_ability"] == "(kind <> 'online') IS NOT TRUE"
    assert "item_drift" not in irreplaceable_rows()


def test_every_column_is_described_and_has_a_nonempty_range() -> None:
    for column in COLUMNS:
        assert column.comment, column
        assert set(column.info) <= {"unit", "ge", "le"}, column
        assert column.info.get("ge", 0) < column.info.get("le", float("inf")), column


def test_every_time_column_has_a_time_zone() -> None:
    times = [column for column in COLUMNS if isinstance(column.type, postgresql.TIMESTAMP)]
    assert len(times) > 50
    assert [str(column) for column in times if not column.type.timezone] == []


def test_names_are_not_longer_than_identifiers_of_postgresql() -> None:
    for table in TABLES:
        partition = len("_2026_09") if "postgresql_partition_by" in table.kwargs else 0
        names = [table.name, *(column.name for column in table.columns), *(str(index.name) for index in table.indexes)]
        assert max(map(len, names)) + partition <= LONGEST_NAME, table.name
        assert [name for name in names if not re.fullmatch(r"[a-z][a-z0-9_]*", name)] == []


def test_every_table_compiles_for_postgresql() -> None:
    dialect = postgresql.dialect()
    for table in TABLES:
        assert f"CREATE TABLE {table.name}" in str(CreateTable(table).compile(dialect=dialect))
        assert all(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes), table.name


def test_answers_are_partitioned_by_a_column_of_their_key() -> None:
    """PostgreSQL requires that the primary key includes the partitioning column."""
    table = METADATA.tables["response_log"]
    assert table.dialect_options["postgresql"]["partition_by"] == "RANGE (completed_at)"
    assert "completed_at" in table.primary_key.columns


def test_attempt_view_has_the_documented_columns_in_order() -> None:
    """Companies replace this view by their own, so its columns are a contract."""
    expected = [
        "id",
        "user_id",
        "item_id",
        "topic_id",
        "session_id",
        "form_id",
        "position",
        "started_at",
        "completed_at",
        "correct",
        "response",
        "response_time_ms",
        "hint_used",
        "hints_used",
        "mode",
        "recorded_at",
        "score",
    ]
    select = VIEWS["attempt"].split("FROM")[0].replace("SELECT", "")
    named = [re.split(r"\s+AS\s+|\.", part.strip())[-1] for part in re.split(r",(?![^(]*\))", select)]
    assert named == expected
