"""Backups: the drill, and every kind of incomplete backup or copy."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from irt_assets.adaptive.policy import Policy
from irt_assets.backup import cited_files, places, programs
from irt_assets.backup.make import BackupResult, make_backup
from irt_assets.backup.manifest import DATABASE, OBJECTS, read_rows, row_differences
from irt_assets.backup.places import MANIFEST, FolderPlace
from irt_assets.backup.programs import Program
from irt_assets.backup.restore import restore_backup
from irt_assets.calibration.month import publish_month
from irt_assets.engines.em import EmEngine
from irt_assets.invariants.history import make_report
from irt_assets.invariants.open_violations import BACKUP_AGE, last_backup
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.scores.issuing import issue_scores
from irt_assets.scores.releases import release_table
from irt_assets.servers.instance import dagster_instance
from irt_psychometrics import Calibration
from jobs.watching.alerts import backup_alert
from resources.failures import PermanentFailure, TransientFailure
from resources.files.folder_claim import open_store
from resources.files.object_store import PART, BucketStore, FolderStore
from resources.postgres.database import Database, advisory_lock
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from resources.tables import irreplaceable_rows
from services.exporter.app import StateCollector
from tests.helpers import rooms
from tests.helpers.decided import set_policy
from tests.helpers.score_world import MONTH, NOW, SIGNED, build_exam, make_tables
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.typed import Irt, IrtOf
from tests.helpers.written_commands import fenced_blocks, logical_lines, simple_commands
from tests.integration.backups import OURS, OURS_WAIT, back_up, empty_database, is_empty, restore, start_irt
from tests.integration.test_schema_history import fill_tables
from tests.testbed.patience import patient
from tests.testbed.stack_harness import ROOT, wait_for

JUNE, JULY = rooms.MONTHS


@pytest.fixture
def copy(postgres: EmbeddedPostgres, tmp_path: Path) -> Iterator[Settings]:
    """Settings of an empty installation."""
    with empty_database(postgres.start(), tmp_path / "copy") as settings:
        yield settings


@pytest.fixture(scope="module")
def backup(calibrated: Settings, tmp_path_factory: pytest.TempPathFactory) -> BackupResult:
    """A backup that tests only read."""
    return back_up(calibrated, tmp_path_factory.mktemp("backups"))


def calibrate(settings: Settings, month: str, engine: EmEngine | None = None) -> None:
    database = Database(settings)
    store = open_store(settings, database)
    rooms.fit_and_link(database, store, month, engine)
    publish_month(database, store, month, (), "run")


def results(settings: Settings, month: str) -> list[list[tuple[Any, ...]]]:
    """Rows of a month's calibration, without the ids and times of its fits."""
    database = Database(settings)
    return [
        rooms.rows(
            database,
            """SELECT item_id, params, p.n_responses, infit, outfit, rmsd, flags, m.data_hash, m.snapshot_hash
               FROM mirt_item_params p JOIN mirt_fit_meta m USING (fit_id)
               WHERE to_char(window_start AT TIME ZONE 'UTC', 'YYYY-MM') = %s AND superseded_at IS NULL ORDER BY 1""",
            [month],
        ),
        rooms.rows(
            database,
            """SELECT item_id, a, b, c, a_se, b_se, cov_ab, effective_from, rule, data_hash, anchor_hash
               FROM item_parameter_publication WHERE month = %s ORDER BY 1""",
            [month],
        ),
        rooms.rows(
            database, "SELECT item_id, a, b, c, why FROM item_parameter_proposal WHERE month = %s ORDER BY 1", [month]
        ),
        rooms.rows(
            database,
            "SELECT state, n_published, n_proposed, held FROM publication_step WHERE month = %s ORDER BY scale_id",
            [month],
        ),
    ]


# -- the drill ---------------------------------------------------------------------------------------


@dataclass
class WaitingEngine(EmEngine):
    """An engine that waits for permission to fit."""

    began: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)

    def calibrate(self, *args: Any, **options: Any) -> Calibration:
        self.began.set()
        assert self.may_end.wait(patient(120))
        return super().calibrate(*args, **options)


@pytest.mark.ci
def test_restored_backup_of_a_running_month_has_the_same_ledger_and_recomputes_the_month(
    world: Settings, copy: Settings, tmp_path: Path, irt: Callable[[Settings], Irt]
) -> None:
    """The backup is made during a month's calibration."""
    calibrate(world, JUNE)
    engine = WaitingEngine(1)
    july = threading.Thread(target=calibrate, args=(world, JULY, engine))
    july.start()
    try:
        assert engine.began.wait(patient(120))
        database = Database(world)
        with dagster_instance(world, database) as instance:
            make_report(database, rooms.folder_store(world), instance, first_month=JUNE, run="before the backup")
        with database.connect() as writing:
            writing.execute("INSERT INTO learner (user_id) VALUES ('not committed yet')")
            typed = irt(world)("backup", "--out", tmp_path / "backups", "--json")
            assert typed.code == 0, typed.err
        with database.connect() as connection:
            connection.execute("DELETE FROM learner WHERE user_id = 'not committed yet'")
    finally:
        engine.may_end.set()
        july.join(patient(120))
    made = typed.json
    assert made["missing"] == []
    assert made["manifest"]["objects"] == 2  # the snapshots of June, and of July, which has no fit yet

    instead = {
        "/var/lib/irt/objects": str(world.irt_home / "objects"),
        "/tmp/drill": str(copy.irt_home),
        "/mnt/backups/irt-20261121T053000Z": made["address"],
        "2026-11": JULY,
    }
    location, *files, restoring, calibrating = drill_of_the_page(instead)
    assert location == ["export", f"IRT_HOME={copy.irt_home}", "DATABASE_URL="]  # the copy has an empty database
    for command in files:
        subprocess.run(command, check=True)
    restored = irt(copy)(*restoring[1:])
    assert restored.code == 0, restored.err
    assert "the copy equals the backup" in restored.out
    assert results(copy, JUNE) == results(world, JUNE)
    assert [len(rows) for rows in results(copy, JULY)] == [0, 0, 0, 0]

    calibrated = irt(copy)(*calibrating[1:])
    assert calibrated.code == 0, calibrated.out + calibrated.err
    assert results(copy, JULY) == results(world, JULY)
    assert all(results(copy, JULY)[at] for at in (0, 3))
    back_up(copy, tmp_path / "backups of the copy")


def drill_of_the_page(instead: dict[str, str]) -> list[list[str]]:
    """Words of the commands under "The drill" in docs/how-to/backup.md, with these paths and this month."""
    block = fenced_blocks((ROOT / "docs" / "how-to" / "backup.md").read_text("utf-8").split("## The drill\n")[1])[0][1]
    for page_value, own_value in instead.items():
        assert page_value in block
        block = block.replace(page_value, own_value)
    location, *lines = logical_lines(block)
    return [location.split(), *(words for line in lines for words in simple_commands(line))]


def test_addresses_of_reports_are_adapted_to_the_restored_copy(world: Settings, copy: Settings, tmp_path: Path) -> None:
    database, store = Database(world), rooms.folder_store(world)
    url = store.put("reports/drift/2026-06/x.html", b"a report")
    rooms.run_sql(
        database,
        """INSERT INTO report_file ("window", format, url, sha256)
           VALUES ('2026-06', 'html', %s, encode(sha256('a report'), 'hex'))""",
        [url],
    )
    made = back_up(world, tmp_path / "backups")
    shutil.copytree(world.irt_home / "objects", copy.irt_home / "objects")
    location = FolderPlace(tmp_path / "backups")
    done = restore_backup(copy, Database(copy), location, Path(made.address).name, verify=False)
    assert done.differences == []
    old, new = (f"{home.as_uri()}/objects/" for home in (world.irt_home, copy.irt_home))
    assert done.notes == [f"the files are at {new} now: one row of reports named them at {old}"]
    ((moved,),) = rooms.rows(Database(copy), "SELECT url FROM report_file")
    assert open_store(copy, Database(copy)).get(str(rooms.folder_store(copy).key(moved))) == b"a report"


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_backup_in_a_bucket_can_be_restored_and_removed(
    s3: SeaweedFS, calibrated: Settings, copy: Settings, irt: Callable[[Settings], Irt]
) -> None:
    typed = irt(calibrated)("backup", "--out", f"s3://{BUCKET}/nightly/irt", "--json")
    assert typed.code == 0, typed.err
    assert typed.json["address"].startswith(f"s3://{BUCKET}/nightly/irt/irt-")
    restored = irt(copy)("restore", typed.json["address"], "--json")
    assert (restored.code, restored.json["differences"]) == (0, []), restored.err
    assert not list(calibrated.irt_home.glob(f"{PART}*"))
    location = places.place_at(calibrated, f"s3://{BUCKET}/nightly/irt")
    (name,) = location.names()
    location.remove(name)
    assert location.names() == []


# -- a backup that is damaged, or of another age -----------------------------------------------------


@pytest.fixture
def backup_copy(backup: BackupResult, tmp_path: Path) -> Path:
    """A copy of the backup, to be damaged."""
    return Path(shutil.copytree(backup.address, tmp_path / Path(backup.address).name))


def test_flipped_byte_is_detected_before_the_restore(backup_copy: Path, copy: Settings) -> None:
    content = bytearray((backup_copy / DATABASE).read_bytes())
    content[len(content) // 2] ^= 1
    (backup_copy / DATABASE).write_bytes(content)
    with pytest.raises(PermanentFailure, match=r"damaged: .*database\.dump has changed since it was written"):
        restore(copy, backup_copy)
    assert is_empty(copy)


@pytest.mark.parametrize("name", [DATABASE, OBJECTS])
def test_a_missing_part_is_named(backup_copy: Path, copy: Settings, name: str) -> None:
    (backup_copy / name).unlink()
    with pytest.raises(PermanentFailure, match=f"damaged: .*{name} is missing"):
        restore(copy, backup_copy)
    assert is_empty(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": "9999_later", "oldest_code": "9999_later"}, "needs code from 9999_later on"),
        ({"revision": "0039_learner_reports"}, "at 0039_.*git checkout.*irt db upgrade"),
        ({"format": 2}, "install a newer irt-assets"),
        ({"contents": None}, "damaged"),
    ],
)
def test_backup_of_incompatible_code_is_refused(
    backup_copy: Path, copy: Settings, change: dict[str, Any], message: str
) -> None:
    manifest = json.loads((backup_copy / MANIFEST).read_text("utf-8"))
    (backup_copy / MANIFEST).write_text(json.dumps(manifest | change), "utf-8")
    with pytest.raises(PermanentFailure, match=message):
        restore(copy, backup_copy)
    assert is_empty(copy)


def test_restore_into_a_non_empty_database_is_refused(backup: BackupResult, world: Settings) -> None:
    before = rooms.rows(Database(world), "SELECT count(*) FROM response_log")
    with pytest.raises(PermanentFailure, match=r"not empty: it holds .* Nothing was changed"):
        restore(world, Path(backup.address))
    assert rooms.rows(Database(world), "SELECT count(*) FROM response_log") == before


def test_failed_pg_restore_leaves_an_empty_database(backup_copy: Path, copy: Settings) -> None:
    """The dump was cut before its hash was computed."""
    cut = (backup_copy / DATABASE).read_bytes()[:-100_000]
    (backup_copy / DATABASE).write_bytes(cut)
    manifest = json.loads((backup_copy / MANIFEST).read_text("utf-8"))
    manifest["files"][DATABASE] = {"size": len(cut), "sha256": hashlib.sha256(cut).hexdigest()}
    (backup_copy / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(PermanentFailure, match="pg_restore failed; nothing was kept"):
        restore(copy, backup_copy)
    assert is_empty(copy)


def test_differences_of_a_restored_copy_are_reported(
    backup_copy: Path, copy: Settings, irt: Callable[[Settings], Irt]
) -> None:
    manifest = json.loads((backup_copy / MANIFEST).read_text("utf-8"))
    contents = manifest["contents"]
    contents["tables"]["question"] += 1
    contents["digests"]["anchor_set"] = "0"
    contents["sets"][rooms.SCALE] = "0"
    (backup_copy / MANIFEST).write_text(json.dumps(manifest), "utf-8")
    typed = irt(copy)("restore", backup_copy)
    assert typed.code == 1
    assert "differs: question has 36 rows, but the backup has 37" in typed.err
    assert "differs: the rows of anchor_set differ from the backup" in typed.err
    assert f"differs: the published set in force on scale {rooms.SCALE} differs from the backup" in typed.err


def test_changed_value_in_any_table_that_no_job_recomputes_is_found(filled: Database) -> None:
    """Issued scores, score tables, forms and policies once passed with other numbers. Numbers are changed if a table
    has any, otherwise other values."""
    differences = {}
    with filled.connect() as connection:
        connection.execute("UPDATE mirt_ability SET kind = 'online'")
        before = read_rows(connection)
        for table, condition in irreplaceable_rows().items():
            column, data_type = connection.execute(
                """SELECT column_name, data_type FROM information_schema.columns
                   WHERE table_schema = 'public' AND table_name = %s AND is_identity = 'NO' AND is_generated = 'NEVER'
                   ORDER BY array_position(%s, data_type::text), ordinal_position DESC LIMIT 1""",
                (table, [*CHANGED]),
            ).fetchall()[0]
            value = CHANGED[data_type].format(f'"{column}"')
            with connection.transaction(force_rollback=True):
                rows = f"ctid = (SELECT min(ctid) FROM {table} WHERE {condition})"
                changed = connection.execute(f'UPDATE {table} SET "{column}" = {value} WHERE {rows}'.encode())
                assert changed.rowcount == 1, table
                differences[table] = row_differences(before, read_rows(connection))
    assert differences == {table: [f"the rows of {table} differ from the backup"] for table in irreplaceable_rows()}


CHANGED = {
    "double precision": "{} + 7",
    "integer": "{} + 7",
    "bigint": "{} + 7",
    "smallint": "{} + 7",
    "text": "{} || 'x'",
    "timestamp with time zone": "{} + interval '1 hour'",
}
"""Column type → SQL of another value, in the order in which columns are chosen."""


@pytest.fixture
def filled(database: Database) -> Database:
    """A database with two rows in every table."""
    fill_tables(database)
    return database


def test_recomputed_rows_are_counted_and_not_compared(filled: Database) -> None:
    with filled.connect() as connection:
        connection.execute("UPDATE mirt_ability SET kind = 'monthly'")
        before = read_rows(connection)
        connection.execute("UPDATE mirt_ability SET theta = theta + 1; UPDATE item_drift SET delta_b = 9")
        assert row_differences(before, read_rows(connection)) == []
        connection.execute("DELETE FROM item_drift")
        after = row_differences(before, read_rows(connection))
    assert after == ["item_drift has 0 rows, but the backup has 2"]


def test_changed_results_in_a_dump_are_found_by_the_restore(database: Database, copy: Settings, tmp_path: Path) -> None:
    """Keeps the manifest, and makes the dump after scores, a table, a form and a policy have changed."""
    build_exam(database, tmp_path / "exam", learners=10)
    make_tables(database)
    release_table(database, rooms.SCALE, "F1", **SIGNED)
    issue_scores(database, rooms.SCALE, "F1", **SIGNED, now=NOW, month=MONTH)
    policy = Policy.from_yaml(f"test: placement\nscale: {rooms.SCALE}\nlength: {{max: 8}}\n")
    set_policy(database, policy, **SIGNED, effective_from=NOW)
    original = Path(back_up(database.settings, tmp_path / "original").address)
    rooms.run_sql(
        database,
        """UPDATE issued_score SET scaled = scaled + 10;
           UPDATE score_table SET scores = jsonb_set(scores, '{scaled}',
             (SELECT jsonb_agg(x::float + 10) FROM jsonb_array_elements_text(scores->'scaled') x));
           UPDATE form_item SET item_id = 'i30' WHERE form_id = 'F1' AND position = 1;
           UPDATE adaptive_test SET policy = jsonb_set(policy, '{length,max}', '9');
           DELETE FROM backup""",
    )
    changed = Path(back_up(database.settings, tmp_path / "changed").address)
    contents = json.loads((original / MANIFEST).read_text("utf-8"))["contents"]
    manifest = json.loads((changed / MANIFEST).read_text("utf-8"))
    (changed / MANIFEST).write_text(json.dumps(manifest | {"contents": contents}), "utf-8")
    shutil.copytree(database.settings.irt_home / "objects", copy.irt_home / "objects")

    restored = restore_backup(copy, Database(copy), FolderPlace(changed.parent), changed.name, verify=True)

    tables = ("adaptive_test", "form_item", "issued_score", "score_table")
    assert restored.differences == [f"the rows of {table} differ from the backup" for table in tables]
    assert any("score tables match their hash" in note for note in restored.notes), restored.notes


def test_violations_are_notes_if_the_original_was_never_evaluated(
    calibrated: Settings, copy: Settings, tmp_path: Path
) -> None:
    """Uses a world with violations, such as days without features."""
    made = Path(back_up(calibrated, tmp_path / "backups").address)
    shutil.copytree(calibrated.irt_home / "objects", copy.irt_home / "objects")
    restored = restore_backup(copy, Database(copy), FolderPlace(made.parent), made.name, verify=True)
    assert restored.differences == []
    assert all("which was never evaluated in the original" in note for note in restored.notes if "invariant" in note)


def test_missing_and_changed_files_are_named(backup: BackupResult, calibrated: Settings, copy: Settings) -> None:
    shutil.copytree(calibrated.irt_home / "objects", copy.irt_home / "objects")
    lost, spoilt = sorted((copy.irt_home / "objects" / "snapshots").rglob("*.parquet"))
    lost.unlink()
    spoilt.write_bytes(spoilt.read_bytes() + b"!")
    found = restore(copy, Path(backup.address), verify=True)
    assert f"{lost.as_uri()} is missing" in found
    assert any(one.startswith(f"{spoilt.as_uri()} has changed: sha256 ") for one in found)


# -- a backup that cannot be made --------------------------------------------------------------------


def assert_refused(settings: Settings, folder: Path, failure: type[Exception], message: str) -> None:
    """Assert that no backup is made, with this message, and that no file or row is left."""
    rows = rooms.rows(Database(settings), "SELECT count(*) FROM backup")
    with pytest.raises(failure, match=message):
        back_up(settings, folder)
    assert list(folder.iterdir()) == []
    assert rooms.rows(Database(settings), "SELECT count(*) FROM backup") == rows


@pytest.mark.parametrize(
    ("installed", "message"),
    [
        ([], "this machine has no pg_dump. Install it: apt install postgresql-client-16"),
        (
            [Program(Path("/usr/bin/pg_dump"), 15)],
            "the newest pg_dump here has version 15. Install it: apt install .*-16",
        ),
    ],
)
def test_backup_without_a_fitting_program_names_the_package(
    world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: list[Program], message: str
) -> None:
    monkeypatch.setattr(programs, "installed_programs", lambda _name: installed)
    assert_refused(world, tmp_path / "backups", PermanentFailure, message)


def test_full_disk_leaves_no_backup(world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irt_assets.backup.make.DATABASE", "/dev/full")
    assert_refused(world, tmp_path / "backups", PermanentFailure, "the disk is full")


def test_backup_into_an_unwritable_folder_names_the_folder(world: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        PermanentFailure,
        match=f"no backup was written to {tmp_path}/file: .*Choose another folder or bucket with --out",
    ):
        back_up(world, tmp_path / "file")


@contextmanager
def held_table(settings: Settings) -> Iterator[None]:
    """A migration is in progress: pg_dump waits for its table."""
    with Database(settings).connect() as connection:
        connection.execute("LOCK TABLE learner")
        yield
        connection.rollback()


def test_backup_is_refused_during_a_migration(world: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LOCK_WAIT", "100ms")
    with held_table(world):
        assert_refused(world, tmp_path / "backups", TransientFailure, "a table was locked")


def test_lost_database_leaves_no_backup(world: Settings, tmp_path: Path) -> None:
    end = OURS_WAIT.replace("count(*)", "count(pg_terminate_backend(pid))")

    def end_pg_dump() -> None:
        with psycopg.connect(Database(world).url, autocommit=True) as connection:
            wait_for("pg_dump waits", lambda: (connection.execute(end).fetchone() or [0])[0])

    other = threading.Thread(target=end_pg_dump)
    with held_table(world):
        other.start()
        assert_refused(
            world,
            tmp_path / "backups",
            TransientFailure,
            "connection to the database was lost while pg_dump ran; nothing was kept",
        )
    other.join(patient(60))


def test_killed_backup_is_never_listed_as_complete(world: Settings, tmp_path: Path, copy: Settings) -> None:
    folder = tmp_path / "backups"
    with held_table(world):
        process = start_irt(world, "backup", "--out", folder)
        try:
            wait_for("pg_dump waits", lambda: rooms.rows(Database(world), OURS_WAIT) == [(1,)])
        finally:
            process.kill()
            process.wait(patient(30))
    assert process.returncode == -signal.SIGKILL
    (unfinished,) = folder.iterdir()
    assert unfinished.name.startswith(PART)
    assert FolderPlace(folder).names() == []
    with pytest.raises(PermanentFailure, match="is not a backup"):
        restore(copy, unfinished)
    wait_for("pg_dump ended", lambda: rooms.rows(Database(world), OURS) == [(0,)])
    long_ago = datetime.now(UTC) - timedelta(days=2)
    os.utime(unfinished, (long_ago.timestamp(),) * 2)
    made = back_up(world, folder)
    assert [path.name for path in folder.iterdir()] == [Path(made.address).name]


# -- contents and permissions ------------------------------------------------------------------------


def test_backup_is_readable_only_by_its_owner_and_contains_no_password(
    backup: BackupResult, calibrated: Settings
) -> None:
    folder = Path(backup.address)
    assert {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.iterdir()]} == {
        folder.name: 0o700,
        DATABASE: 0o600,
        OBJECTS: 0o600,
        MANIFEST: 0o600,
    }
    assert calibrated.database_url is not None
    address, environment = programs._address(calibrated.database_url.get_secret_value())
    password = environment["PGPASSWORD"]
    assert password
    assert password not in address
    assert password not in (folder / MANIFEST).read_text("utf-8")


def test_listing_contains_every_file_that_rows_cite(backup: BackupResult, calibrated: Settings) -> None:
    store = rooms.folder_store(calibrated)
    listed = {file.key: file for file in cited_files.read_listing(Path(backup.address) / OBJECTS)}
    rows = rooms.rows(Database(calibrated), "SELECT uri, snapshot_hash FROM scored_snapshot")
    assert {key: (file.sha256, file.size) for key, file in listed.items()} == {
        key: (sha256, store.size(key)) for key, sha256 in rows
    }
    assert not list(cited_files.faults(listed.values(), store))


def test_prune_waits_while_files_are_listed(world: Settings, tmp_path: Path) -> None:
    listed = []

    class Store(FolderStore):
        def sizes(self, folder: str) -> dict[str, int]:
            with Database(world).connect() as other:
                other.execute("SET LOCAL lock_timeout = '50ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable):
                    advisory_lock(other, "prune")
                other.rollback()
            listed.append(folder)
            return super().sizes(folder)

    location = places.place_at(world, str(tmp_path / "backups"))
    make_backup(world, Database(world), Store(world.irt_home / "objects"), location)
    assert listed


def test_lost_cited_file_does_not_stop_a_backup(
    world: Settings, tmp_path: Path, irt: Callable[[Settings], Irt]
) -> None:
    rooms.run_sql(
        Database(world),
        """INSERT INTO scored_snapshot
             (month, snapshot_hash, uri, data_hash, n_attempts, counts, rules, verdict_state)
           VALUES ('2026-06', 'h', 'snapshots/lost.parquet', 'h', 1, '{}', '{}', '')""",
    )
    typed = irt(world)("backup", "--out", tmp_path / "backups")
    assert typed.code == 0
    assert "warning: one file that the database cites cannot be found: snapshots/lost.parquet" in typed.err


def test_newest_backups_are_kept(world: Settings, tmp_path: Path) -> None:
    names = [f"irt-202601{day:02}T000000Z" for day in range(1, places.MAX_BACKUPS + 1)]
    for name in [*names, "irt-not-ours", "irt-20250101T000000Z"]:
        (tmp_path / name).mkdir()
    for name in names:
        (tmp_path / name / MANIFEST).touch()
    made = back_up(world, tmp_path)
    assert made.removed == names[:1]
    assert {path.name for path in tmp_path.iterdir() if path.name.startswith("irt-")} == {
        *names[1:],
        "irt-not-ours",
        "irt-20250101T000000Z",  # it has no manifest: not a backup
        Path(made.address).name,
    }


# -- age of the last backup --------------------------------------------------------------------------


def test_late_backup_is_reported_only_after_a_first_backup(
    world: Settings, tmp_path: Path, irt: Callable[[Settings], Irt]
) -> None:
    database, typed = Database(world), irt(world)
    assert backup_alert(None, datetime.now(UTC)) is None
    assert metric(world) == []

    made = back_up(world, tmp_path / "backups")
    assert metric(world) == [made.manifest.made_at.timestamp()]
    with database.connect() as connection:
        last = last_backup(connection)
    assert last is not None
    assert last.address == made.address
    assert backup_alert(last, last.made_at + BACKUP_AGE) is None
    alert = backup_alert(last, last.made_at + BACKUP_AGE + timedelta(seconds=1))
    assert alert is not None
    assert "irt backup" in alert.fix
    assert "backup: made" in typed("status").out

    rooms.run_sql(database, "UPDATE backup SET made_at = made_at - interval '26 hours'")
    assert "backup: late" in typed("status").out


def metric(settings: Settings) -> list[float]:
    collected = StateCollector(Database(settings), settings).collect()
    (family,) = (one for one in collected if one.name == "irt_backup_last_success_timestamp_seconds")
    return [sample.value for sample in family.samples]


# -- restored ----------------------------------------------------------------------------------------
# Restoring if the files are in a bucket, and restoring again after a kill.

OTHER = "other-bank"
REPORT = f"reports/drift/{JUNE}/x.html"


@pytest.mark.ci
def test_a_killed_restore_leaves_the_database_empty_and_is_run_again(
    world: Settings, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """pg_restore, which waits for a table here, does not continue once `irt` has been killed."""
    made = back_up(world, tmp_path / "backups")
    with empty_database(postgres.start(), tmp_path / "copy") as copy:
        with Database(copy).connect() as connection:
            connection.execute("CREATE TABLE question ()")
            process = start_irt(copy, "restore", made.address)
            try:
                wait_for("pg_restore waits", lambda: rooms.rows(Database(copy), OURS_WAIT) == [(1,)], 180)
            finally:
                process.kill()
                process.wait(patient(30))
            connection.rollback()
        assert process.returncode == -signal.SIGKILL
        wait_for("pg_restore ended", lambda: rooms.rows(Database(copy), OURS) == [(0,)])
        assert rooms.rows(Database(copy), "SELECT FROM pg_tables WHERE schemaname IN ('public', 'dagster')") == []
        assert restore(copy, Path(made.address)) == []


@pytest.mark.ci
@pytest.mark.xdist_group("s3")
def test_files_of_a_bucket_missing_or_changed_in_the_copy_are_named(
    world: Settings,
    s3: SeaweedFS,
    postgres: EmbeddedPostgres,
    irt: IrtOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A backup in a bucket is restored with a second bucket, to which the files are copied."""
    s3.log_in(monkeypatch, "owner")
    client = s3.owner()
    client.create_bucket(Bucket=OTHER)
    address, keys = back_up_to_bucket(world, irt, monkeypatch)
    for key in keys:
        client.copy_object(Bucket=OTHER, Key=key, CopySource={"Bucket": BUCKET, "Key": key})
    snapshot, report = sorted(keys, reverse=True)

    monkeypatch.setenv("S3_BUCKET", OTHER)
    with empty_database(postgres.start(), tmp_path / "copy") as copy:
        dump = f"{address.removeprefix(f's3://{BUCKET}/')}/{DATABASE}"
        whole = client.get_object(Bucket=BUCKET, Key=dump)["Body"].read()
        client.put_object(Bucket=BUCKET, Key=dump, Body=whole[:-1000])
        refused = irt(copy)("restore", address)
        assert (refused.code, "damaged" in refused.err, is_empty(copy)) == (2, True, True)
        client.put_object(Bucket=BUCKET, Key=dump, Body=whole)

        restored = irt(copy)("restore", "--verify", address, "--json")
        assert (restored.code, restored.json["differences"]) == (0, []), restored.err
        ((url,),) = rooms.rows(Database(copy), "SELECT url FROM report_file")
        assert url == f"s3://{OTHER}/{REPORT}"
        again = irt(copy)("restore", address)
        assert (again.code, "not empty" in again.err) == (2, True)

    client.put_object(Bucket=OTHER, Key=snapshot, Body=b"something else")
    client.delete_object(Bucket=OTHER, Key=report)
    with empty_database(postgres.start(), tmp_path / "second copy") as copy:
        restored = irt(copy)("restore", "--verify", address, "--json")
        assert restored.code == 1
        differences = restored.json["differences"]
        assert f"s3://{OTHER}/{report} is missing" in differences
        assert any(one.startswith(f"s3://{OTHER}/{snapshot} has changed: sha256 ") for one in differences)


def back_up_to_bucket(world: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """Back up an installation whose files (a snapshot, a report) are in the bucket. Returns the address and keys."""
    monkeypatch.setenv("S3_BUCKET", BUCKET)
    database, store = Database(world), BucketStore(BUCKET)
    take_snapshot(database, store, JUNE, "run")
    rooms.run_sql(
        database,
        """INSERT INTO report_file ("window", format, url, sha256)
           VALUES (%s, 'html', %s, encode(sha256('a report'), 'hex'))""",
        [JUNE, store.put(REPORT, b"a report")],
    )
    with dagster_instance(world, database) as instance:
        make_report(database, store, instance, first_month=JUNE, run="before the backup")
    made = irt(world)("backup", "--json")
    assert made.code == 0, made.err
    assert made.json["address"].startswith(f"s3://{BUCKET}/backups/irt-")
    keys = [key for folder in ("snapshots", "reports") for key, _ in store.list(folder)]
    assert made.json["manifest"]["objects"] == len(keys) == 2
    return made.json["address"], keys
