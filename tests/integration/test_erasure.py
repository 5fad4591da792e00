"""Erasing a learner: no trace is left, and no other data is lost, also after interruptions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from irt_assets.abilities.batch import judge_until, measure
from irt_assets.abilities.online import read_measures, update
from irt_assets.abilities.sweep import Mark
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity
from irt_assets.decisions.origin import initialise
from irt_assets.features.daily import write_features
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.intake.arrivals import drop_refused
from irt_assets.intake.bank import LEARNERS, import_bank_file
from irt_assets.intake.load import import_attempts
from irt_assets.intake.report import contains_id
from irt_assets.intake.staging import FORMER_COLUMNS
from irt_assets.invariants.invariant import InvariantContext, evaluate
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.kpis.weekly import write_week
from irt_assets.reports.artifacts import store_report
from irt_assets.reports.learner_week import key
from irt_assets.responses.erased import begin
from irt_assets.responses.verdict_states import changed_partitions
from irt_assets.servers.instance import dagster_instance
from jobs.retention.erasure import LEARNER_TABLES
from jobs.schedules import VERDICT_WINDOWS
from resources.dagster_schema import row_table
from resources.files.object_store import object_store
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import made_once, template_copy
from tests.helpers.erasing import erased_after
from tests.helpers.rooms import SCALE, rows, run_sql
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.typed import Irt, IrtOf
from tests.helpers.worlds import OF_MONTHS
from tests.testbed.stack_harness import ROOT

USER = "Zoë \"o'Neil:7%"
"""A learner's id with every kind of character that a company may use."""
MONTHS, NEXT = ("2026-06", "2026-07", "2026-08"), "2026-09"
NOW = datetime(2026, 10, 2, 12, tzinfo=UTC)
WEEK = "2026-08-24"


def everything_of_user(settings: Settings) -> Path:
    """Load four months and calibrate three. USER has answers in all months and every other kind of data.

    Returns the folder of the data's files.
    """
    database, store = Database(settings), rooms.folder_store(settings)
    rooms.load_small_world(database, months=(*MONTHS, NEXT), now=NOW)
    for month in (*MONTHS, NEXT):  # one new learner of each month becomes USER
        start, end = Month(month).bounds
        run_sql(
            database,
            """UPDATE response_log SET user_id = %s WHERE user_id = (
                 SELECT user_id FROM response_log GROUP BY 1 HAVING min(completed_at) >= %s AND
                 max(completed_at) < %s AND count(*) > 9 ORDER BY 1 LIMIT 1)""",
            (USER, start, end),
        )
    run_sql(database, "UPDATE learner SET target_scale_id = %s, target_theta = 1 WHERE user_id = %s", (SCALE, USER))
    run_sql(
        database,
        f"""INSERT INTO attempt_correction ({FORMER_COLUMNS}, how, corrected_by, reason)
            SELECT {FORMER_COLUMNS}, 'rescore', 'Ann', 'another key' FROM response_log WHERE user_id = %s LIMIT 2""",
        (USER,),
    )
    for user, reason in ((USER, "copied"), ("another", f"copied from {USER}?")):
        run_sql(
            database,
            """INSERT INTO issued_score (user_id, scale_id, form_id, session_id, sat_at, theta, theta_se, scaled,
                                         scaled_se, set_hash, status, decided_by, reason)
               VALUES (%s, 'default', 'F1', '', now(), 0, 1, 500, 100, 'x', 'held', 'Ann', %s)""",
            (user, reason),
        )
    run_sql(
        database,
        """INSERT INTO decision (kind, scale_id, subject, value, effective_from, decided_by, reason)
           SELECT 'withdraw an item', 'default', min(item_id), '{"state": "withdrawn"}', '2099-01-01', 'Ann', %s
           FROM question""",
        (f"as {USER} asked",),
    )
    initialise(database, SCALE, first_month=MONTHS[0], thresholds=rooms.LOWERED)
    for month in MONTHS:
        calibrate(settings, month)
    judge_until(database, NOW)
    with database.connect() as connection:
        write_features(connection, Month(MONTHS[0]).start, Month(NEXT).end)
        write_week(connection, WEEK, NOW)
        update(connection, read_measures(connection, NOW), USER, 365, NOW)
        connection.execute(
            """INSERT INTO adaptive_session (session_id, user_id, test_id, version, scale_id, scale_version, set_hash,
                 seed, eligible, unscored, seen) VALUES ('adaptive', %s, 't', 1, %s, 1, '', 1, '{}', '[]', '[]')""",
            (USER, SCALE),
        )
        connection.execute(
            """INSERT INTO seed_draw (scale_id, item_id, user_id, session_id, position, probability, at_random)
               VALUES (%s, 'new', %s, 'adaptive', 1, 0.1, true)""",
            (SCALE, USER),
        )
        connection.execute("INSERT INTO ability_state VALUES (%s, %s, 'x', now(), 'b', 1, '0', 1)", (USER, SCALE))
        for status, replaces in (("issued", None), ("held", 1)):
            connection.execute(
                """INSERT INTO issued_score (user_id, scale_id, form_id, session_id, sat_at, theta, theta_se, scaled,
                                             scaled_se, set_hash, status, replaces, decided_by, reason)
                   VALUES (%s, %s, 'F', %s, %s, 0, 0.3, 500, 30, 'hash', %s, %s, 'Ann', %s)""",
                (USER, SCALE, f"session of {USER}", NOW, status, replaces, f"as {USER} asked"),
            )
    for kind in ("html", "pdf"):
        store_report(
            database,
            store,
            key(WEEK, USER, kind),
            USER.encode(),
            format=kind,
            user_id=USER,
            week_start=date.fromisoformat(WEEK),
        )
    store.put(key("2026-08-17", USER, "html"), b"of a week whose row is gone")
    mention(settings)
    return settings.irt_home


def calibrate(settings: Settings, month: str) -> None:
    rooms.calibrate(settings, month)
    measure(Database(settings), month, f"abilities {month}")


def mention(settings: Settings) -> None:
    """Mention USER in violations, alerts, Dagster's events and cursors, a file of rejected rows and twins of fits."""
    database = Database(settings)
    pair, other = ({"ids": ids, "common": 60, "equal": 60} for ids in ([USER, "u"], ["u", "v"]))
    run_sql(
        database,
        """UPDATE fit_staging SET spec = jsonb_set(spec, '{fit_statistics,set,twins}', %s)
           WHERE spec->'fit_statistics'->'set' IS NOT NULL""",
        (json.dumps({"learner_pairs": 2, "item_pairs": 0, "learners": [pair, other], "items": []}),),
    )
    run_sql(
        database,
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed)
           VALUES ('r', 'kpis_are_whole', %s, %s, false),
                  ('r', 'issued_scores_agree_with_their_tables', '', %s, false),
                  ('r', 'every_learner_with_answers_has_an_ability', '', %s, false)""",
        (WEEK, USER, USER, f"{SCALE}: {USER}"),
    )
    run_sql(
        database,
        """INSERT INTO alert (key, severity, what, partition, kind, subjects, fix, link)
           VALUES (%s, 'error', %s, '', 'learners', %s, '', '')""",
        (
            f"invariant x |{SCALE}: {USER}",
            f"it is not true that x ({SCALE}: {USER}: none)",
            json.dumps([f"{SCALE}: {USER}", "u"]),
        ),
    )
    with dagster_instance(settings, database) as instance:
        reported = {
            "without a report": row_table(("learner", "why"), [(USER, "odd")]),
            "first": f"{USER} has no report",
        }
        instance.report_runless_asset_event(dg.AssetMaterialization("weekly_learner_report", metadata=reported))
    cursor = json.dumps({"cursor": Mark(NOW, USER).write()})
    run_sql(
        database,
        "INSERT INTO dagster.instigators (selector_id, repository_selector_id, instigator_body) VALUES ('s', 'r', %s)",
        (cursor,),
    )
    rejects = settings.irt_home / "rejects"
    rejects.mkdir(parents=True)
    for row in (f"{USER},x", '"' + USER.replace('"', '""') + '",x', json.dumps({"user": USER})):
        run_sql(
            database,
            """INSERT INTO intake_reject (source, kind, line, reason, value, "row")
               VALUES ('log', 'file', 2, 'bad_time', '', %s)""",
            (row,),
        )
    run_sql(
        database,
        "INSERT INTO inbox_file (path, size, version, problem) VALUES ('/in/a.csv', 1, '1', %s)",
        (f"/in/a.csv: no preset fits. Columns: {USER}, q1, 1.",),
    )
    (rejects / "log-2.rejected.part").write_text(f"file,line,reason,value,row\nlog,2,bad_time,,{USER}")


@pytest.fixture
def world(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_in = made_once(postgres, "template_erasure", migrated_template, everything_of_user, **OF_MONTHS)
    with template_copy(postgres, "template_erasure", tmp_path / "home", **OF_MONTHS) as settings:
        moved = (str(made_in), str(settings.irt_home))
        run_sql(Database(settings), "UPDATE report_file SET url = replace(url, %s, %s)", moved)
        yield settings


def named_in(settings: Settings) -> list[str]:
    """Locations of the id: columns of all tables in all schemas, and files below IRT_HOME or in the bucket."""
    in_json = [json.dumps(USER, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)]
    forms = [USER, *in_json, json.dumps(in_json[0])[1:-1], USER.replace('"', '""')]
    found = []
    with Database(settings).connect() as connection:
        tables = connection.execute(
            """SELECT table_schema, table_name, array_agg(column_name::text) FROM information_schema.columns
               JOIN information_schema.tables USING (table_schema, table_name)
               WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')
                 AND data_type IN ('text', 'character varying', 'jsonb', 'bytea', 'character') GROUP BY 1, 2"""
        ).fetchall()
        for schema, table, columns in tables:
            looked = [(column, form) for column in columns for form in forms]
            counts = ", ".join(f'count(*) FILTER (WHERE strpos("{column}"::text, %s) > 0)' for column, _ in looked)
            query = f'SELECT {counts} FROM "{schema}"."{table}"'.encode()
            numbers = connection.execute(query, [form for _, form in looked]).fetchone() or ()
            found += [f"{table}.{column}: {n}" for (column, _), n in zip(looked, numbers, strict=True) if n]
    names = [form.encode() for form in (*forms, "Zo%C3%AB")]
    for file, content in files_of(settings):
        if file.endswith(".parquet"):
            texts = (column for column in pq.read_table(BytesIO(content)).columns if pa.types.is_string(column.type))
            found += [file for text in texts if any(pc.any(pc.match_substring(text, form)).as_py() for form in forms)]
        found += [file] if any(name in content or name in file.encode() for name in names) else []
    return found


def files_of(settings: Settings) -> Iterator[tuple[str, bytes]]:
    yield from ((str(path), path.read_bytes()) for path in settings.irt_home.rglob("*") if path.is_file())
    if settings.s3_bucket is not None:
        store = object_store(settings)
        yield from ((key, store.get(key)) for folder in ("reports", "snapshots") for key, _ in store.list(folder))


def violations(settings: Settings) -> dict[str, list[str]]:
    states = [MonthState(month, SCALE, State.GREEN, "") for month in MONTHS]
    with Database(settings).connect() as connection:
        look = InvariantContext(connection, object_store(settings), NOW, states)
        verdicts = list(evaluate(look, INVARIANTS))
        connection.rollback()
    assert not [one.crashed for one in verdicts if one.crashed]
    return {one.invariant.name: [v.subject for v in one.violations] for one in verdicts if one.violations}


def ledger(database: Database) -> list[tuple[object, ...]]:
    return rows(database, "SELECT to_jsonb(p)::text FROM item_parameter_publication p ORDER BY publication_id")


def erase(typed: Irt, *words: str) -> str:
    done = typed("learner", "erase", USER, "--by", "Kim", "--reason", "asked to", *words)
    assert done.code == 0, done.out + done.err
    assert "old versions" not in done.err
    return done.out


def snapshots(settings: Settings) -> dict[str, bytes]:
    return {name: content for name, content in files_of(settings) if "/snapshots/" in f"/{name}"}


def assert_erased(settings: Settings, before: dict[str, list[str]], files: dict[str, bytes]) -> None:
    """Assert that no trace is left, and that the files of months, features and invariants are unchanged."""
    database = Database(settings)
    assert named_in(settings) == []
    assert snapshots(settings) == files
    verdicts = "SELECT count(*), count(learner_key) FROM attempt_verdict LEFT JOIN learner USING (learner_key)"
    [(n, of_learners)] = rows(database, verdicts)
    assert 0 < n == of_learners
    with database.connect() as connection:
        changed = [changed_partitions(connection, asset, window_of) for asset, window_of in VERDICT_WINDOWS.items()]
        assert changed == [[], [], []]
    stale = rows(
        database,
        """SELECT f.month FROM fit_staging f LEFT JOIN scored_snapshot s USING (month, snapshot_hash)
           WHERE s.superseded_at IS NOT NULL OR s.month IS NULL""",
    )
    assert stale == []
    assert violations(settings) == before


@pytest.mark.ci
def test_erasure_removes_all_traces_of_the_learner_and_no_further_data(
    world: Settings, irt: IrtOf, tmp_path: Path
) -> None:
    typed, database = irt(world), Database(world)
    before, published, files = violations(world), ledger(database), snapshots(world)
    assert (before, len(files)) == ({}, len(MONTHS))
    named = {mention_.partition(":")[0] for mention_ in named_in(world)}
    assert named >= {f"{table}.user_id" for table in LEARNER_TABLES} | {
        "event_logs.event",
        "instigators.instigator_body",
    }
    assert named >= {"issued_score.reason", "decision.reason"}
    assert named >= {"alert.key", "alert.what", "alert.subjects", "invariant_result.subject", "fit_staging.spec"}
    answers = rows(database, "SELECT count(*) FROM response_log WHERE user_id <> %s", (USER,))
    learners_file, attempts_file = tmp_path / "learners.csv", tmp_path / "attempts.csv"
    learners_file.write_text(f"user_id,lang\n{USER},ko\nsomebody,ko\n", "utf-8")
    old = rows(
        database,
        "SELECT attempt_id, user_id, item_id, completed_at, correct FROM response_log WHERE user_id = %s",
        (USER,),
    )
    pd.DataFrame(
        [*old, ("new", "somebody", old[0][2], old[0][3], True)],
        columns=["attempt_id", "user_id", "item_id", "completed_at", "correct"],
    ).to_csv(attempts_file, index=False)

    refused = typed("learner", "erase", USER, "--by", "Kim", "--reason", "asked to")
    assert (refused.code, "with --yes" in refused.err) == (2, True)
    assert all(table in refused.out for table in (*LEARNER_TABLES, "attempt_verdict"))
    assert typed("learner", "erasures", "--json").json == []

    assert "the learner is erased: erasure 1" in erase(typed, "--yes")
    assert_erased(world, before, files)
    assert ledger(database) == published
    twins = "SELECT DISTINCT spec #> '{fit_statistics,set,twins,learners}' FROM fit_staging"
    assert rows(database, f"{twins} WHERE spec->'fit_statistics'->'set' IS NOT NULL") == [
        ([{"ids": ["u", "v"], "common": 60, "equal": 60}],)
    ]
    assert rows(database, "SELECT count(*) FROM response_log") == answers
    assert "erased already" in erase(typed, "--yes")

    [tombstone] = typed("learner", "erasures", "--json").json
    assert USER not in json.dumps(tombstone, ensure_ascii=False)
    assert (tombstone["by"], tombstone["reason"], tombstone["removed"]["rejected rows"]) == ("Kim", "asked to", 3)

    imported = typed("import", "attempts", attempts_file, "--json").json
    assert imported["rejected"] == {"erased_learner": len(old)}
    assert "erasure 1 of" in typed("import", "attempts", attempts_file).out
    learners = typed("import", "learners", learners_file, "--json").json
    assert (learners["rejected"], learners["accepted"]) == ({"erased_learner": 1}, 1)
    assert named_in(world) == []

    calibrate(world, NEXT)
    assert rows(database, "SELECT state FROM publication_step WHERE month = %s", (NEXT,)) == [("done",)]
    assert erase_unknown(typed) == 2


def erase_unknown(typed: Irt) -> int:
    done = typed("learner", "erase", "nobody", "--by", "Kim", "--reason", "x", "--yes")
    assert "no learner has the id 'nobody'" in done.err
    return done.code


KILLED = """
import os, signal, sys
from pathlib import Path
from pydantic import SecretStr
from irt_assets.servers.instance import dagster_instance
from jobs.retention import erasure
from resources.postgres.database import Database
from resources.files.object_store import object_store
from resources.settings import Settings

url, home, user, name, last = sys.argv[1:]
settings = Settings(database_url=SecretStr(url), irt_home=Path(home), _env_file=None)
database, store = Database(settings), object_store(settings)
owner = erasure if hasattr(erasure, name) else type(store)
left, real = int(last), getattr(owner, name)
def dies(*arguments):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
setattr(owner, name, dies)
with dagster_instance(settings, database) as instance:
    held = erasure.holdings(database, store, user)
    erasure.erase(database, store, instance, held, by="Kim", reason="asked to", rejects=settings.irt_home / "rejects")
"""


def kill_erasure(settings: Settings, name: str, calls: int) -> None:
    """Erase in a child process that dies after a number of calls of a function of `erasure` or a store's method."""
    url, home = Database(settings).url, str(settings.irt_home)
    command = [sys.executable, "-c", KILLED, url, home, USER, name, str(calls)]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -9, killed.stderr


@pytest.mark.parametrize(
    ("name", "calls", "rows_left"),
    [
        pytest.param("erase_at_sources", 0, True, marks=pytest.mark.long),
        pytest.param("delete", 1, False, marks=pytest.mark.ci),
    ],
)
def test_killed_erasure_is_completed_by_the_next_call(
    name: str, calls: int, rows_left: bool, world: Settings, irt: IrtOf
) -> None:
    """Before the transaction no data is lost; after the transaction the remaining files are found again."""
    database, before, files = Database(world), violations(world), snapshots(world)
    kill_erasure(world, name, calls)
    assert (rows(database, "SELECT count(*) FROM response_log WHERE user_id = %s", (USER,))[0][0] > 0) == rows_left
    typed = irt(world)
    [erasure] = typed("learner", "erasures", "--json").json
    assert erasure["finished_at"] is None
    assert "is erased: erasure 1" in erase(typed, "--yes")
    assert_erased(world, before, files)


def test_erasure_is_refused_during_runs_that_may_have_read_the_learner(world: Settings, irt: IrtOf) -> None:
    database = Database(world)
    with dagster_instance(world, database) as instance:
        instance.run_storage.add_run(dg.DagsterRun(job_name="monthly", status=dg.DagsterRunStatus.STARTED))
    refused = irt(world)("learner", "erase", USER, "--by", "Kim", "--reason", "x", "--yes")
    assert (refused.code, "runs are under way" in refused.err.replace("\n", " ")) == (2, True), refused.err
    assert rows(database, "SELECT count(*) FROM erasure") == [(0,)]


# -- files in a bucket -------------------------------------------------------------------------------


def move_to_bucket(bucket: str, world: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Move the world's files from the folder to a bucket."""
    folder = rooms.folder_store(world)
    settings = world.model_copy(update={"s3_bucket": bucket})
    store, database = object_store(settings), Database(settings)
    for kind in ("reports", "snapshots"):
        for name, _ in folder.list(kind):
            store.put(name, folder.get(name))
            run_sql(
                database,
                "UPDATE report_file SET url = %s WHERE url = %s",
                (store.uri(name), folder.uri(name)),
            )
    shutil.rmtree(folder.root)
    monkeypatch.setenv("S3_BUCKET", bucket)
    return settings


DELETE = "DELETE FROM exam.answers WHERE user_id = %(user_id)s"
LEFT_THERE = "SELECT count(*) FROM exam.answers WHERE user_id = %s"


def add_source(world: Settings, tmp_path: Path, erase: str | None) -> Settings:
    """Store the answers also in a table of the company, which is a source. Returns settings with the source's file."""
    run_sql(Database(world), "CREATE SCHEMA exam; CREATE TABLE exam.answers AS SELECT * FROM attempt")
    names = ("user_id", "item_id", "completed_at", "correct")
    source = {
        "address": "this",
        "table": "exam.answers",
        "mapping": {"columns": {"attempt_id": "id"} | {name: name for name in names}},
        "cursor": {"column": "recorded_at", "key": "id"},
    }
    file = tmp_path / "sources.yaml"
    file.write_text(yaml.safe_dump({"lms": source | ({"erase": erase} if erase else {})}))
    file.chmod(0o600)
    return world.model_copy(update={"irt_pull_sources": file})


@pytest.mark.ci
def test_delete_statement_of_a_source_runs_before_the_local_erasure(
    world: Settings, irt: IrtOf, tmp_path: Path
) -> None:
    """After a kill in between, the next call completes the erasure."""
    database, settings = Database(world), add_source(world, tmp_path, DELETE)
    typed = irt(settings)  # also sets the environment of the child
    kill_erasure(settings, "delete", 0)
    assert rows(database, LEFT_THERE, (USER,)) == [(0,)]
    assert "is erased: erasure 1" in erase(typed, "--yes")
    assert named_in(world) == []


def test_erasure_is_refused_if_the_delete_statement_of_a_source_fails(
    world: Settings, irt: IrtOf, tmp_path: Path
) -> None:
    """The erasure reports the number of rows at a source without a delete statement."""
    database = Database(world)
    settings = add_source(world, tmp_path, f"{DELETE} AND correct")
    words = ("learner", "erase", USER, "--by", "Kim", "--reason", "x", "--yes")
    [remaining] = rows(database, LEFT_THERE, (USER,))
    for clause, reason in ((" AND correct", "rows of the learner: nothing was deleted"), (" AND no", "fails: column")):
        text = settings.irt_pull_sources.read_text().replace(" AND correct", clause)  # type: ignore[union-attr]
        settings.irt_pull_sources.write_text(text)  # type: ignore[union-attr]
        refused = irt(settings)(*words)
        assert (refused.code, reason in " ".join(refused.err.split())) == (2, True), refused.err
        assert rows(database, LEFT_THERE, (USER,)) == [remaining]
        assert rows(database, "SELECT count(*) FROM learner WHERE user_id = %s", (USER,)) == [(1,)]
    settings.irt_pull_sources.write_text(  # type: ignore[union-attr]
        re.sub(r"  erase: .*\n", "", text)
    )
    done = irt(settings)(*words)
    assert done.code == 0, done.err
    assert f"lms still has {remaining[0]} rows of the learner" in " ".join(done.err.split())


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_killed_erasure_in_a_bucket_is_completed_and_a_later_backup_has_no_traces(
    world: Settings,
    s3: SeaweedFS,
    irt: IrtOf,
    postgres: EmbeddedPostgres,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = move_to_bucket(BUCKET, world, monkeypatch)
    typed = irt(settings)
    files = snapshots(settings)
    kill_erasure(settings, "delete", 1)
    assert {Path(name).suffix for name in named_in(settings)} >= {".html", ".pdf"}
    assert "is erased: erasure 1" in erase(typed, "--yes")
    assert_erased(settings, {}, files)
    store = object_store(settings)
    assert [name for name, _ in store.list("reports")] == []

    made = typed("backup", "--json")
    assert made.json["missing"] == []
    with rooms.copied(postgres.start(), "template0", "restored_erasure", tmp_path / "copy") as copy:
        restored = irt(copy)("restore", made.json["address"], "--json")
        assert (restored.code, restored.json["differences"]) == (0, []), restored.err
        assert named_in(copy) == []


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_erasure_reports_old_versions_in_a_bucket_with_the_lifecycle_rule(
    world: Settings, s3: SeaweedFS, irt: IrtOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, client = "with-versions", s3.owner()
    s3.log_in(monkeypatch, "owner")
    client.create_bucket(Bucket=bucket)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    settings = move_to_bucket(bucket, world, monkeypatch)
    done = irt(settings)("learner", "erase", USER, "--by", "Kim", "--reason", "asked to", "--yes")
    assert done.code == 0, done.err
    assert named_in(settings) == []
    deleted = 3
    assert f"keeps {quantity(deleted, 'deleted file')} of the learner as old versions" in " ".join(done.err.split())
    old = [one for one in client.list_object_versions(Bucket=bucket)["Versions"] if not one["IsLatest"]]
    assert len(old) == deleted

    rule = json.loads(
        (ROOT / "docs" / "how-to" / "erasure.md").read_text("utf-8").split("```json\n")[1].partition("```")[0]
    )
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rule)
    kept = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert [one["NoncurrentVersionExpiration"] for one in kept] == [{"NoncurrentDays": 30}]


# -- refused rows ------------------------------------------------------------------------------------
# Refused rows of a learner whose id a mapping makes are found by an erasure, and no later import keeps them.

NAMED = {"item_id": "item", "completed_at": "at", "correct": "right"}
TIME = "2026-06-03T00:00:00Z"
HEADER = "class,number,item,at,right"
MAPPINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "two columns": ({"columns": NAMED | {"user_id": ["class", "number"]}}, "4b,17", "4b/17"),
    "values": ({"columns": NAMED | {"user_id": "number"}, "values": {"user_id": {"17": "Zoë"}}}, "4b,17", "Zoë"),
    "integers": ({"columns": NAMED | {"user_id": "number"}, "integer_ids": True}, "4b,17.00", "17"),
    "spaces": ({"columns": NAMED | {"user_id": "number"}}, "4b, u17\t", "u17"),
}


def rejected_rows(database: Database) -> list[tuple[Any, ...]]:
    return rows(database, 'SELECT reason, value, "row" FROM intake_reject ORDER BY reject_id')


@pytest.mark.parametrize("made", MAPPINGS)
def test_refused_rows_of_an_erased_learner_are_found_by_their_mapped_id(
    database: Database, tmp_path: Path, made: str
) -> None:
    rules, learner, user = MAPPINGS[made]
    file, mapping = tmp_path / "log.csv", tmp_path / "rules.yaml"
    mapping.write_text(yaml.safe_dump(rules), "utf-8")
    other = learner.replace("17", "18")
    lines = [f"{learner},q,{TIME},x", f"{learner},q,yesterday,1", f"{learner},q", f"{other},q,{TIME},x"]
    file.write_text("\n".join([HEADER, *lines, *(f"{other},q{k},{TIME},1" for k in range(9))]) + "\n", "utf-8")

    def take() -> None:
        import_attempts(database, [file], mapping=mapping, first_month="2026-06")

    take()
    assert [row[0] for row in rejected_rows(database)] == ["ragged_row", "bad_score", "bad_time", "bad_score"]
    with database.connect() as connection:
        begin(connection, user, "Kim", "asked to")
        drop_refused(connection, partial(contains_id, user))
    remaining = [row for row in rejected_rows(database) if row[0] != "ragged_row"]
    assert [row[:2] for row in remaining] == [("bad_score", "x")]
    if made not in ("integers", "spaces"):
        assert all(row[1:] == ("", "") for row in rejected_rows(database) if row[0] == "ragged_row")
    before = len(rejected_rows(database))
    take()
    again = rejected_rows(database)[before:]
    assert [row[0] for row in again] == ["ragged_row", "bad_score", "bad_time", "bad_score"]
    assert [row[1:] for row in again[:3]] == [("", "")] * 3
    assert again[3][1] == "x"


def test_refused_learner_rows_of_an_erased_learner_are_found_by_their_mapped_id(
    database: Database, tmp_path: Path
) -> None:
    file, mapping = tmp_path / "learners.csv", tmp_path / "rules.yaml"
    mapping.write_text(yaml.safe_dump({"columns": {"user_id": ["class", "number"], "is_test": "test"}}), "utf-8")
    file.write_text("class,number,test\n4b,17,perhaps\n4b,18,no\n", "utf-8")
    for _ in range(2):
        import_bank_file(database, LEARNERS, file, mapping=mapping)
        with database.connect() as connection:
            if not rows(database, "SELECT FROM erasure"):
                begin(connection, "4b/17", "Kim", "asked to")
            drop_refused(connection, partial(contains_id, "4b/17"))
        assert not any("17" in row[2] for row in rejected_rows(database))


def test_learner_in_a_file_that_is_read_during_the_erasure_does_not_return(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "learners.csv"
    file.write_text("user_id\ngone\nother\n", "utf-8")
    import_bank_file(database, LEARNERS, file)
    file.write_text("user_id,is_test\ngone,true\nother,true\n", "utf-8")
    with erased_after("irt_assets.intake.bank", "names_of_erased", database, settings, "gone"):
        import_bank_file(database, LEARNERS, file)
    assert rows(database, "SELECT user_id, is_test FROM learner") == [("other", True)]
