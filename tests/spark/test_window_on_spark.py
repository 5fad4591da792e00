"""A month collected on Spark equals, row by row, the month collected on one machine from PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from irt_assets.common.partitions import Month
from irt_assets.responses.facts import LATER
from irt_assets.responses.snapshot import Snapshot, read_snapshot, snapshot_problem, take_snapshot
from irt_assets.responses.snapshot_files import SnapshotManifest
from irt_assets.responses.stored_window import WindowTotals, stored_window, verdict_hash
from irt_assets.responses.verdicts import days_that_differ
from irt_assets.responses.window import without_ids
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale, read_scales, store_scale
from irt_assets.spark import window as window_on_spark
from irt_assets.spark.lake import on_files
from irt_assets.spark.window import collect_on_spark
from resources.cluster.lake import Lake
from resources.cluster.relational import on_log, on_postgres
from resources.failures import PermanentFailure
from resources.files.object_store import BucketStore, FolderStore
from resources.postgres.database import Database
from tests.helpers.rooms import SCALE, add_attempts, add_items, add_learners, attempt, run_sql
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.what_changed import WHERE_SPARK_CHANGES
from tests.integration.test_row_hash import dirty  # noqa: F401 - a fixture

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MONTH = "2026-03"
START, END = Month(MONTH).bounds
TEXTS = ("attempt_id", "user_id", "item_id", "scale_id", "form_id", "reason")


def crowd(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Answers of learners of very different diligence to items of very different popularity.

    So leaving out an item leaves out learners, and then further items. The answers include practice and exams, hints,
    omissions, rapid guesses, repeats and a sandbox.
    """
    log = []
    for learner in range(90):
        for item in np.flatnonzero(rng.random(60) < (learner + 5) / 70 * (1 - np.arange(60) / 62)):
            exam = learner % 3 == 0
            early = rng.random() < 0.15
            at = START + timedelta(days=-40 if early else int(item) % 20, minutes=int(item), seconds=learner)
            log.append(
                attempt(
                    f"learner {learner}",
                    f"item {item}",
                    at,
                    session_id=f"s{learner}{early}" if exam else None,
                    form_id="exam" if exam else None,
                    position=int(item) + 1 if exam else None,
                    correct=None if rng.random() < 0.1 else bool(rng.random() < 0.6),
                    hints_used=int(rng.integers(0, 2)) if rng.random() < 0.2 else None,
                    response_time_ms=int(rng.choice([300, 20_000, 40_000])) if rng.random() < 0.9 else None,
                    mode="sandbox" if rng.random() < 0.05 else "live",
                )
            )
            if rng.random() < 0.1:
                log.append(attempt(f"learner {learner}", f"item {item}", at + timedelta(hours=30)))
    return log


@pytest.fixture
def mixed(dirty: Database) -> Database:  # noqa: F811
    """The dirty log and a crowd on three scales with their own rules, and items that are not in the bank."""
    add_items(dirty, {f"item {n}": None for n in range(30)})
    add_items(dirty, {f"item {n}": None for n in range(30, 55)}, "other")
    add_items(dirty, {"never answered": None}, "third")
    add_learners(dirty, [f"learner {n}" for n in range(70)])
    add_learners(dirty, [f"learner {n}" for n in range(70, 75)], is_test=True)
    add_attempts(dirty, crowd(np.random.default_rng(15)))
    rules = {
        SCALE: {"min_responses": 18, "min_provisional_responses": 18, "min_learner_responses": 5, "rapid_min_times": 3},
        "other": {
            "min_responses": 6,
            "min_provisional_responses": 6,
            "min_learner_responses": 3,
            "hinted": "exclude",
            "lookback_months": 1,
        },
    }
    with dirty.connect() as connection:
        for scale_id, settings in rules.items():
            store_scale(connection, Scale(scale_id, rules=Rules.from_settings(settings)), {"kind": "made up"})
    return dirty


@pytest.fixture
def on_lake(spark: SparkSession, tmp_path: Path) -> Callable[[Database], Database]:
    """Returns a function for a database whose months are read on Spark, from its own lake."""

    def with_lake(database: Database) -> Database:
        settings = {"irt_spark": "local[2]", "irt_attempts": str(tmp_path / "lake")}
        return Database(database.settings.model_copy(update=settings))

    return with_lake


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_on_spark, "ROWS_OF_A_PART", 300)


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


def read_here(database: Database) -> tuple[pa.Table, WindowTotals]:
    with database.connect() as connection:
        window = stored_window(connection, START, END, read_scales(connection))
    return window.table, window.totals


def in_order(table: pa.Table) -> pa.Table:
    """Sort rows by learner, time and item. Drops the numbers of rows and sessions, which count within a part."""
    by = [(name, "ascending") for name in ("learner_key", "completed_at", "item_id")]
    return table.drop_columns(["row", "session"]).sort_by(by).combine_chunks()


def manifest_of(store: FolderStore, snapshot: Snapshot) -> SnapshotManifest:
    return SnapshotManifest.model_validate_json(store.get(snapshot.uri))


def test_month_from_the_lake_equals_the_month_on_one_machine(
    mixed: Database, on_lake: Callable[[Database], Database], folder: FolderStore, small_parts: None
) -> None:
    snapshot, found = take_snapshot(on_lake(mixed), folder, MONTH, None, collect_on_spark)
    table, totals = read_here(mixed)
    assert found == totals
    assert snapshot.data_hash == totals.data_hash
    stored = read_snapshot(folder, snapshot)
    assert in_order(stored).equals(in_order(without_ids(table).cast(stored.schema)))
    sessions = (
        table.select(["learner_key", "session_id"])
        .group_by(["learner_key"])
        .aggregate([("session_id", "count_distinct")])
    )
    numbered = (
        stored.select(["learner_key", "session"]).group_by(["learner_key"]).aggregate([("session", "count_distinct")])
    )
    assert {row["learner_key"]: row["session_count_distinct"] for row in numbered.to_pylist()} == {
        row["learner_key"]: row["session_id_count_distinct"] for row in sessions.to_pylist()
    }
    for scale_id in (SCALE, "other"):
        assert min(totals.counts[scale_id][r] for r in ("scored", "few_learner_responses", "few_item_responses")) > 0
    assert len(manifest_of(folder, snapshot).parts) > 2
    assert snapshot_problem(folder, snapshot) is None
    assert len({part for part in folder.sizes("snapshots") if part.endswith(".parquet")}) == len(
        manifest_of(folder, snapshot).parts
    )


@WHERE_SPARK_CHANGES
def test_the_same_answers_give_the_same_manifest(
    mixed: Database, on_lake: Callable[[Database], Database], folder: FolderStore, small_parts: None
) -> None:
    first, _ = take_snapshot(on_lake(mixed), folder, MONTH, "one", collect_on_spark)
    second, _ = take_snapshot(on_lake(mixed), folder, MONTH, "two", collect_on_spark)
    assert second == first
    assert first.uri == f"snapshots/scored_responses/{MONTH}/{first.snapshot_hash}.json"


def test_hash_of_a_month_is_equal_on_three_engines_and_follows_a_correction(
    mixed: Database, on_lake: Callable[[Database], Database], folder: FolderStore
) -> None:
    database = on_lake(mixed)
    lake = Lake.at(database.settings)

    def hashes() -> set[str]:
        snapshot, _ = take_snapshot(database, folder, MONTH, None, collect_on_spark)
        files = [file for one in lake.manifests().values() for file in one.files]
        with database.connect() as connection, on_files(lake, files) as on_duckdb:
            runs = on_postgres(connection), on_log(connection, START, END), on_duckdb
            return {snapshot.data_hash, *(verdict_hash(run, START, END) for run in runs)}

    (before,) = hashes()
    days = lake.manifests()
    corrected = """UPDATE response_log SET correct = NOT correct WHERE attempt_id =
                     (SELECT attempt_id FROM attempt_verdict WHERE score = 1 ORDER BY completed_at DESC LIMIT 1)"""
    run_sql(mixed, corrected)
    (after,) = hashes()
    assert after != before
    assert sum(one != days[day] for day, one in lake.manifests().items()) == 1, "one day is written again"


def test_day_dropped_by_postgresql_keeps_its_verdicts_and_is_refused_without_verdicts(
    mixed: Database, on_lake: Callable[[Database], Database], folder: FolderStore
) -> None:
    database = on_lake(mixed)
    lake = Lake.at(database.settings)
    before, _ = take_snapshot(database, folder, MONTH, None, collect_on_spark)
    run_sql(mixed, "TRUNCATE response_log")
    assert take_snapshot(database, folder, MONTH, None, collect_on_spark)[0] == before
    with database.connect() as connection:
        assert days_that_differ(connection, START.date(), END.date()) == []
    day = next(iter(lake.manifests()))
    files, data_hash = lake.manifests()[day].files, lake.manifests()[day].data_hash
    lake.commit(day, files, data_hash, 0)  # as written by an earlier release
    with pytest.raises(PermanentFailure, match=f"without verdicts on {day}: .*import their attempts again"):
        take_snapshot(database, folder, MONTH, None, collect_on_spark)


def test_answers_of_a_learner_stay_in_a_single_part_even_if_they_exceed_its_size(
    database: Database, on_lake: Callable[[Database], Database], folder: FolderStore, small_parts: None
) -> None:
    add_items(database, {f"i{n}": None for n in range(40)})
    add_learners(database, ["busy", "idle"])
    at = [START + timedelta(minutes=n) for n in range(1200)]
    add_attempts(database, [attempt("busy", f"i{n % 40}", time) for n, time in enumerate(at)])
    add_attempts(database, [attempt("idle", "i0", START)])
    snapshot, totals = take_snapshot(on_lake(database), folder, MONTH, None, collect_on_spark)
    assert totals == read_here(database)[1]
    assert sorted(part.rows for part in manifest_of(folder, snapshot).parts)[-1] >= 1200


def test_a_month_without_attempts_is_refused_and_leaves_no_files(
    database: Database, on_lake: Callable[[Database], Database], folder: FolderStore
) -> None:
    add_attempts(database, [attempt("u", "i", START - timedelta(days=1))])
    with pytest.raises(PermanentFailure, match=r"2026-03 has no attempts.*irt import attempts"):
        take_snapshot(on_lake(database), folder, MONTH, None, collect_on_spark)
    assert [*folder.list("snapshots")] == []


def test_an_attempt_id_of_two_learners_is_refused(
    database: Database, on_lake: Callable[[Database], Database], folder: FolderStore
) -> None:
    """PostgreSQL allows the same id at two times, and a lake may have two files of a day."""
    add_attempts(database, [attempt(f"u{n}", "i", START + n * LATER, attempt_id="the same") for n in range(2)])
    with pytest.raises(PermanentFailure, match=r"attempt_id more than once.*the same.*IRT_ATTEMPTS"):
        take_snapshot(on_lake(database), folder, MONTH, None, collect_on_spark)
    assert [*folder.list("snapshots")] == []


@WHERE_SPARK_CHANGES
def test_executors_write_into_a_bucket_with_the_drivers_credentials(
    mixed: Database,
    on_lake: Callable[[Database], Database],
    s3: SeaweedFS,
) -> None:
    """Java has started before the bucket's credentials are in the environment."""
    bucket = BucketStore(BUCKET)
    snapshot, totals = take_snapshot(on_lake(mixed), bucket, MONTH, None, collect_on_spark)
    assert totals == read_here(mixed)[1]
    assert read_snapshot(bucket, snapshot, columns=["learner_key"]).num_rows == snapshot.n_attempts


def test_parts_missing_from_the_drivers_store_are_refused(
    mixed: Database, on_lake: Callable[[Database], Database], tmp_path: Path
) -> None:
    with pytest.raises(PermanentFailure, match="executors on other machines need a bucket"):
        take_snapshot(on_lake(mixed), StorePerProcess(tmp_path / "driver"), MONTH, None, collect_on_spark)


class StorePerProcess(FolderStore):
    """A folder store that has a different folder in every process."""

    def __reduce__(self) -> tuple[type[FolderStore], tuple[Path]]:
        return FolderStore, (self.root.with_name("executor"),)
