"""Restoring where the files lie in a bucket, and once more after it was killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from irt_assets.backup.manifest import DATABASE
from irt_assets.invariants.history import take_report
from irt_assets.responses.snapshot import take_snapshot
from irt_assets.servers.instance import dagster_instance
from resources.files.object_store import BucketStore
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.typed import IrtOf
from tests.integration.backups import OURS, OURS_WAIT, back_up, empty_database, is_empty, restore, started
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

JUNE = rooms.MONTHS[0]
OTHER = "other-bank"
REPORT = f"reports/drift/{JUNE}/x.html"


@pytest.mark.ci
def test_a_killed_restore_leaves_the_database_empty_and_is_run_again(
    world: Settings, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    """pg_restore, which waits here for a table, does not go on without `irt`."""
    made = back_up(world, tmp_path / "backups")
    with empty_database(postgres.start(), tmp_path / "copy") as copy:
        with Database(copy).connect() as connection:
            connection.execute("CREATE TABLE question ()")
            process = started(copy, "restore", made.address)
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
def test_files_of_a_bucket_that_are_missing_or_changed_in_the_copy_are_named(
    world: Settings,
    s3: SeaweedFS,
    postgres: EmbeddedPostgres,
    irt: IrtOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From a bucket into an empty database whose bucket is another one, to which the files are copied."""
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
        said = restored.json["differences"]
        assert f"s3://{OTHER}/{report} is not there" in said
        assert any(one.startswith(f"s3://{OTHER}/{snapshot} has changed: sha256 ") for one in said)


def back_up_to_bucket(world: Settings, irt: IrtOf, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[str]]:
    """A backup of an installation whose files, a snapshot and a report, are in the bucket; its address, their keys."""
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
        take_report(database, store, instance, first_month=JUNE, run="before the backup")
    made = irt(world)("backup", "--json")
    assert made.code == 0, made.err
    assert made.json["address"].startswith(f"s3://{BUCKET}/backups/irt-")
    keys = [key for folder in ("snapshots", "reports") for key, _ in store.list(folder)]
    assert made.json["manifest"]["objects"] == len(keys) == 2
    return made.json["address"], keys
