"""The log in a lake: it equals the log in PostgreSQL, also after interruptions, and damage is detected."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from irt_assets.common import retries
from irt_assets.common.job_names import JUDGE_JOB, LAKE
from irt_assets.demo.running import write_lake
from irt_assets.invariants.lake_check import build_lake_checks
from irt_assets.responses.verdicts import judge_differing
from irt_assets.spark import lake as exports, lake_assets
from irt_assets.spark.lake import compare_days, export_days
from irt_assets.spark.lake_upkeep import attempts_of, erase_learner, faults, prune
from resources.cluster.lake import MANIFESTS, SCHEMA, Lake
from resources.failures import PermanentFailure
from resources.files.object_store import BucketStore, FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import add_attempts, add_items, attempt, call, rows, run_sql
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.integration.graph import Graph
from tests.testbed.stack_harness import ROOT

pytestmark = pytest.mark.ci

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = ["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"]
DIRTY = ["u|1", "u\\p", "ü", "", " ", "z", "A", 'say "hi"', "a,b\nc", "NULL"]


@pytest.fixture
def logged(database: Database) -> Database:
    """Four days, the third without answers; every text as id, learner and option, and nulls."""
    log = []
    for n, text in enumerate(DIRTY):
        for day in (0, 1, 3):
            at = START + timedelta(days=day, hours=2 * n, microseconds=n)
            facts = {"response": text if n % 3 else None, "response_time_ms": 2**40 + n if n % 2 else None}
            log.append(attempt(text, f"q{day}", at, attempt_id=f"{day}{text}", position=n or None, **facts))
    add_attempts(database, log)
    return database


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(FolderStore(tmp_path), "lake")


def export(database: Database, lake: Lake, **options: bool) -> exports.ExportResult:
    return export_days(database, lake, DAYS[0], DAYS[-1], **options)


def read(lake: Lake) -> list[dict[str, object]]:
    files = [file for one in lake.manifests().values() for file in one.files]
    tables = []
    for file in files:
        with lake.local(file) as path:
            tables.append(pq.ParquetFile(path).read())
    return pa.concat_tables(tables).to_pylist()


def in_postgres(database: Database) -> list[dict[str, object]]:
    query = f"""SELECT {", ".join(SCHEMA.names)} FROM attempt a
                LEFT JOIN (SELECT attempt_id AS id, completed_at, learner_key, scale_id, reason, max_score,
                                  score AS verdict_score FROM attempt_verdict) v USING (id, completed_at)
                ORDER BY completed_at::date, user_id COLLATE "C", completed_at"""
    return [dict(zip(SCHEMA.names, row, strict=True)) for row in rows(database, query)]


def judge(database: Database) -> None:
    judge_differing(database, START.date(), START.date() + timedelta(days=4))


def differences(database: Database, lake: Lake) -> list[str]:
    return [str(one) for one in call(database, compare_days, lake, START, START + timedelta(days=4))]


def file_of(lake: Lake, day: str) -> Path:
    (file,) = lake.manifests()[day].files
    return Path(lake.name, file.path)


def test_demo_writes_its_log_to_the_lake_once(logged: Database, tmp_path: Path) -> None:
    lines: list[str] = []
    write_lake(logged, lines.append)
    assert lines == []  # no lake without Spark
    at = logged.settings.model_copy(update={"irt_spark": "local[2]", "irt_attempts": str(tmp_path / "lake")})
    write_lake(Database(at), lines.append)
    written = Lake.at(at)
    assert read(written) == in_postgres(logged)
    write_lake(Database(at), lines.append)
    first, second = lines
    assert first.startswith("  30 answers of ")
    assert second == f"  0 answers of 0 days written to the lake {written.name}"


def test_lake_contains_the_rows_of_postgresql_and_a_second_export_writes_no_days(
    logged: Database, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "ROWS_OF_FILE", 4)
    done = export(logged, lake)
    assert (done.written, done.rows) == (DAYS, 30)
    assert read(lake) == in_postgres(logged)
    manifests = lake.manifests()
    assert [len(one.files) for one in manifests.values()] == [3, 3, 0, 3]
    assert lake.days().keys() == set(DAYS) - {DAYS[2]}
    written = json.loads(Path(lake.name, MANIFESTS, f"{DAYS[0]}.json").read_text())
    assert (written["day"], written["rows"], written["format"]) == (DAYS[0], 10, 1)
    again = export(logged, lake)
    assert (again.written, again.skipped) == ([], DAYS)
    assert (lake.manifests(), differences(logged, lake), list(faults(lake))) == (manifests, [], [])


def test_day_with_a_late_answer_is_exported_again_and_its_old_file_is_pruned(logged: Database, lake: Lake) -> None:
    export(logged, lake)
    old = file_of(lake, DAYS[1])
    add_attempts(logged, [attempt("late", "q1", START + timedelta(days=1, hours=23))])
    assert differences(logged, lake) == [f"{DAYS[1]}: 10 attempts in the lake, 11 in PostgreSQL"]
    done = export(logged, lake)
    assert (done.written, len(done.skipped)) == ([DAYS[1]], 3)
    assert read(lake) == in_postgres(logged)
    for changed, pruned in ((datetime.now(UTC).timestamp(), 0), (0, 1)):  # readers may need the old file for a day
        os.utime(old, (changed, changed))
        assert prune(lake) == pruned
    assert not old.exists()
    assert list(faults(lake)) == []


def test_day_is_exported_again_if_its_verdicts_are_newer(logged: Database, lake: Lake) -> None:
    since, until = START, START + timedelta(days=4)
    add_items(logged, {"q0": None, "q1": None, "q3": None})
    export(logged, lake)
    before = lake.manifests()
    with pytest.raises(PermanentFailure, match=r"without verdicts on 2026-03-01, 2026-03-02, 2026-03-04: run the job"):
        lake.require_judged(since, until)
    judge(logged)
    assert ({one.split(":")[0] for one in differences(logged, lake)}, export(logged, lake).written) == (
        {DAYS[0], DAYS[1], DAYS[3]},
        [DAYS[0], DAYS[1], DAYS[3]],
    )
    lake.require_judged(since, until)
    assert read(lake) == in_postgres(logged)
    assert {row["verdict_score"] for row in read(lake)} != {None}
    assert [one.judged for one in lake.manifests().values()] == [10, 10, 0, 10]
    run_sql(logged, "UPDATE response_log SET hints_used = 1 WHERE completed_at < %s", [START + timedelta(days=1)])
    judge(logged)
    assert (export(logged, lake).written, read(lake), list(faults(lake))) == ([DAYS[0]], in_postgres(logged), [])
    run_sql(logged, "TRUNCATE attempt_verdict")
    export(logged, lake)
    hashes = [[manifests[day].data_hash for day in DAYS[1:]] for manifests in (before, lake.manifests())]
    assert hashes[0] == hashes[1], "without verdicts, days have the hashes of earlier releases"


def test_day_with_more_answers_than_postgresql_is_kept_without_replace(
    logged: Database, lake: Lake, settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(logged, lake)
    run_sql(logged, "DELETE FROM response_log WHERE completed_at < %s AND user_id <> 'z'", [START + timedelta(days=1)])
    monkeypatch.setenv("IRT_ATTEMPTS", lake.name)
    typed = irt(settings)
    words = ("attempts", "export", "--since", DAYS[0], "--until", DAYS[-1])
    refused = typed(*words)
    assert (refused.code, f"{DAYS[0]}: the lake has 10 attempts and PostgreSQL 1" in refused.err) == (1, True)
    assert lake.manifests()[DAYS[0]].rows == 10
    check = ("attempts", "check", "--since", DAYS[0], "--until", DAYS[-1])
    checked = typed(*check)
    assert (checked.code, f"{DAYS[0]}: 10 attempts in the lake, 1 in PostgreSQL" in checked.out) == (1, True)
    assert not missing_sentences(typed(*words, "--replace").out, "days written: 1 (answers: 1,", "has them: 3")
    assert typed(*check).code == 0


def test_damage_is_detected_by_the_check_and_repaired_by_an_export(logged: Database, lake: Lake) -> None:
    export(logged, lake)
    file_of(lake, DAYS[0]).unlink()
    corrupt = file_of(lake, DAYS[1])
    corrupt.write_bytes(b"x" * corrupt.stat().st_size)
    missing, changed = (f"{one.day}: {one.what}" for one in faults(lake))
    assert (missing.endswith("is missing"), "has changed since it was written" in changed) == (True, True)
    assert (
        export(logged, lake).written,
        [one.day for one in faults(lake)],
        export(logged, lake, replace=True).written,
        list(faults(lake)),
        read(lake),
    ) == ([DAYS[0]], [DAYS[1]], [DAYS[1]], [], in_postgres(logged))


def test_days_with_a_wrong_column_type_or_duplicate_ids_are_detected(
    logged: Database, lake: Lake, tmp_path: Path
) -> None:
    export(logged, lake)
    rows = pq.ParquetFile(file_of(lake, DAYS[0])).read()
    commit(lake, DAYS[0], [rows, rows.slice(0, 2)], tmp_path)
    index = rows.schema.get_field_index("position")
    other = pq.ParquetFile(file_of(lake, DAYS[1])).read()
    commit(lake, DAYS[1], [other.set_column(index, "position", other["position"].cast(pa.string()))], tmp_path)
    moved = pc.add(rows["completed_at"], pa.scalar(timedelta(days=3), pa.duration("us")))
    later = rows.set_column(rows.schema.get_field_index("completed_at"), "completed_at", moved)
    commit(lake, DAYS[3], [later], tmp_path)
    found = [f"{one.day}: {one.what}" for one in faults(lake)]
    twice = [one for one in found if "more than once" in one]
    assert any(one.startswith(f"{DAYS[3]}: ") and f"and on {DAYS[0]}" in one and "such as 0" in one for one in twice)
    assert f"{DAYS[0]}: its files contain 12 attempts, not the 12 of its manifest" in found
    assert any("has a column position of type string instead of int32" in one for one in found)
    assert {one[:10] for one in differences(logged, lake)} == {DAYS[0], DAYS[1], DAYS[3]}


def commit(lake: Lake, day: str, tables: list[pa.Table], folder: Path) -> None:
    files = []
    for table in tables:
        pq.write_table(table, folder / "made.parquet")
        files.append(lake.store_file(day, folder / "made.parquet"))
    lake.commit(day, files, "made by hand", 0)


def test_missing_days_and_invalid_manifests_are_reported(logged: Database, lake: Lake) -> None:
    until = START + timedelta(days=4)
    with pytest.raises(PermanentFailure, match=r"is not a lake.*irt attempts export"):
        lake.require_days(START, until)
    export(logged, lake)
    lake.require_days(START - timedelta(days=300), until)  # the log begins with the lake's first day
    with pytest.raises(PermanentFailure, match=r"no manifest of 2026-03-05, 2026-03-06: .*--since 2026-03-05"):
        lake.require_days(START, until + timedelta(days=2))
    lake.require_days(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))
    Path(lake.name, MANIFESTS, f"{DAYS[0]}.json").write_text('{"format": 1')
    with pytest.raises(PermanentFailure, match="is not a manifest"):
        lake.manifests()


@pytest.mark.parametrize("address", ["catalog.db.attempt", "s3://bucket", "gs://bucket/lake", "a/b", "/"])
def test_invalid_address_of_a_lake_is_refused(address: str, settings: Settings) -> None:
    message = (
        "names a table: a table is a source that `irt pull` copies" if "." in address else "to the absolute path of"
    )
    with pytest.raises(PermanentFailure, match=f"IRT_ATTEMPTS is '{address}'.*{message}"):
        Lake.at(settings.model_copy(update={"irt_attempts": address}))


KILLED = """
import os, signal
from resources.postgres.database import Database
from resources.cluster.lake import Lake
from resources.files.object_store import FolderStore
from resources.settings import get_settings
from irt_assets.spark.lake import export_days
from pathlib import Path
method, calls = {method!r}, {calls}
was = getattr(Lake, method)
def until_killed(*args):
    global calls
    calls -= 1
    if calls < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return was(*args)
setattr(Lake, method, until_killed)
place = Path({place!r})
export_days(Database(get_settings()), Lake(FolderStore(place.parent), place.name), {first!r}, {last!r})
"""


@pytest.mark.parametrize(("method", "calls", "days"), [("store_file", 1, 1), ("commit", 0, 0), ("commit", 3, 3)])
def test_killed_export_leaves_complete_days_and_the_next_export_adds_the_rest(
    logged: Database, lake: Lake, settings: Settings, method: str, calls: int, days: int
) -> None:
    script = KILLED.format(method=method, calls=calls, place=lake.name, first=DAYS[0], last=DAYS[-1])
    environment = os.environ | {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "IRT_HOME": str(settings.irt_home),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", script]
    killed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (list(lake.manifests()), list(faults(lake)), len(export(logged, lake).skipped), read(lake)) == (
        DAYS[:days],
        [],
        days,
        in_postgres(logged),
    )


def test_a_learner_is_erased_from_every_file(logged: Database, lake: Lake) -> None:
    export(logged, lake)
    add_attempts(logged, [attempt("late", "q1", START + timedelta(hours=23))])
    export(logged, lake)  # the previous file still exists, and no manifest names it
    assert len(lake.find_unnamed()) == 1
    days, old_versions = erase_learner(lake, "ü")
    assert (days, old_versions) == ({DAYS[0]: 1, DAYS[1]: 1, DAYS[3]: 1}, 0)
    assert (attempts_of(lake, "ü"), lake.find_unnamed()) == ({}, [])
    run_sql(logged, "DELETE FROM response_log WHERE user_id = 'ü'")
    assert (read(lake), differences(logged, lake), erase_learner(lake, "ü")) == (in_postgres(logged), [], ({}, 0))


@pytest.mark.xdist_group("s3")
def test_lake_in_a_bucket_is_exported_checked_repaired_and_erased_from(
    logged: Database, s3: SeaweedFS, settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRT_ATTEMPTS", f"s3://{BUCKET}/log/of/answers/")
    lake = Lake(BucketStore(BUCKET), "log/of/answers")
    typed = irt(settings)
    words = ("--since", DAYS[0], "--until", DAYS[-1])
    assert "days written: 4 (answers: 30," in typed("attempts", "export", *words).out
    assert read(lake) == in_postgres(logged)
    assert "equals the database" in typed("attempts", "check", *words).out
    lake.delete(lake.manifests()[DAYS[1]].files[0].path)
    assert ([one.day for one in faults(lake)], export(logged, lake).written, erase_learner(lake, "z")[0]) == (
        [DAYS[1]],
        [DAYS[1]],
        {DAYS[0]: 1, DAYS[1]: 1, DAYS[3]: 1},
    )


def test_check_compares_the_lake_with_the_log_if_a_lake_is_configured(
    logged: Database, lake: Lake, settings: Settings, now: datetime
) -> None:
    assert build_lake_checks(settings) == []
    yesterday = f"{now - timedelta(days=1):%Y-%m-%d}"
    export_days(logged, lake, DAYS[0], yesterday)
    (check,) = build_lake_checks(settings.model_copy(update={"irt_attempts": lake.name}))
    assert check.node_def.compute_fn.decorated_fn(logged).passed  # type: ignore[union-attr]
    late = now - timedelta(days=2)
    add_attempts(logged, [attempt("late", "q1", late), attempt("late", "q2", late)])
    result = check.node_def.compute_fn.decorated_fn(logged)  # type: ignore[union-attr]
    assert (result.passed, result.description) == (
        False,
        f"{late:%Y-%m-%d}: 0 attempts in the lake, 2 in PostgreSQL",
    )


@pytest.mark.usefixtures("now")
def test_night_exports_finished_days_to_the_lake_after_judging(
    logged: Database, lake: Lake, settings: Settings, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance
) -> None:
    graph = Graph(settings.model_copy(update={"irt_attempts": lake.name}), instance)

    def written() -> str:
        result = graph.defs.resolve_job_def(JUDGE_JOB).execute_in_process(instance=instance)
        made = [event.materialization for event in result.get_asset_materialization_events()]
        (found,) = (one for one in made if one.asset_key == dg.AssetKey(LAKE))
        return str(found.metadata["days written"].value)

    assert written().startswith(", ".join(DAYS))
    assert read(lake) == in_postgres(logged)
    assert written() == "none"
    add_attempts(logged, [attempt("late", "q1", START + timedelta(hours=1))])
    monkeypatch.setattr(retries, "FIRST_WAIT_S", 0)
    monkeypatch.setattr(lake_assets, "export_days", failing_once(psycopg.OperationalError("the server went away")))
    assert written() == DAYS[0]
    assert (read(lake), all(row["learner_key"] for row in read(lake))) == (in_postgres(logged), True)


def failing_once(error: Exception) -> Callable[..., exports.ExportResult]:
    failures = [error]

    def export_days_or_fail(*arguments: Any) -> exports.ExportResult:
        if failures:
            raise failures.pop()
        return export_days(*arguments)

    return export_days_or_fail


def test_erasure_covers_the_lake_including_days_that_postgresql_no_longer_has(
    logged: Database, lake: Lake, settings: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(logged, lake)
    run_sql(logged, "DELETE FROM response_log WHERE completed_at < %s", [START + timedelta(days=1)])
    monkeypatch.setenv("IRT_ATTEMPTS", lake.name)
    words = ("learner", "erase", "z", "--by", "Kim", "--reason", "asked to", "--yes")
    done = irt(settings)(*words)
    assert not missing_sentences(
        done.out, "the lake of attempts", "3 days of the lake rewritten", "3 answers in the lake"
    )
    assert {one["user_id"] for one in read(lake)} == {*DIRTY} - {"z"}
    assert "erased already" in irt(settings)(*words).out
