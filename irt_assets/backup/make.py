"""Creation of a backup: one state of the database, and a list of all files of the store that it cites.

The files are listed under the lock of pruning, and a file is written before the row that cites it, so every cited file
exists at that time.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from irt_assets.backup import programs
from irt_assets.backup.cited_files import CitedFile, add_hashes, cited_files, write_listing
from irt_assets.backup.manifest import DATABASE, FORMAT, OBJECTS, BackupManifest, Contents, File, read_rows, read_sets
from irt_assets.backup.places import MANIFEST, FolderPlace, keep_newest
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, advisory_lock, one_value
from resources.postgres.schema_version import schema_version
from resources.settings import Settings
from resources.version import code_version


@dataclass(frozen=True)
class BackupResult:
    """A backup that was made.

    Attributes:
        size: size of its files in bytes.
        missing: keys of cited files that are missing in the store.
        removed: names of older backups that were deleted.
    """

    address: str
    manifest: BackupManifest
    size: int
    seconds: float
    missing: list[str]
    removed: list[str]


def make_backup(settings: Settings, database: Database, store: ObjectStore, place: FolderPlace) -> BackupResult:
    """Back up the platform's schema and Dagster's schema to `place`. An error leaves nothing behind."""
    began, now = time.monotonic(), datetime.now(UTC)
    name = f"irt-{now:%Y%m%dT%H%M%SZ}"
    version = schema_version(database)
    with place.create_backup(name) as folder:
        with _consistent_snapshot(database, store) as (connection, cited):
            server = connection.info.server_version // 10000
            schemas = [database.schema, settings.irt_dagster_schema]
            snapshot = one_value(connection, "SELECT pg_export_snapshot()")  # pg_dump dumps this state
            programs.dump(database.url, server, schemas, snapshot, folder / DATABASE)
            contents = Contents(**read_rows(connection).model_dump(), sets=read_sets(connection, now))
        files = add_hashes(cited, store)
        write_listing(folder / OBJECTS, files)
        manifest = BackupManifest(
            format=FORMAT,
            made_at=now,
            code_version=code_version(),
            revision=version.revision,
            oldest_code=version.oldest_code,
            schemas=schemas,
            postgres=server,
            pg_dump=programs.program_for("pg_dump", server).version,
            first_month=settings.irt_first_month,
            store=store.uri("reports").removesuffix("reports"),
            files={name: File.from_path(folder / name) for name in (DATABASE, OBJECTS)},
            objects=len(files),
            object_bytes=sum(file.size or 0 for file in files),
            missing=sum(file.size is None for file in files),
            contents=contents,
        )
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", "utf-8")
        for path in folder.iterdir():
            path.chmod(0o600)
            with path.open("rb") as file:
                os.fsync(file.fileno())
    total = sum(file.size for file in manifest.files.values())
    seconds = time.monotonic() - began
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO backup (address, made_at, size, seconds) VALUES (%s, %s, %s, %s)",
            (place.uri(name), now, total, seconds),
        )
    missing = [file.key for file in files if file.size is None]
    return BackupResult(place.uri(name), manifest, total, seconds, missing, keep_newest(place, name))


@contextmanager
def _consistent_snapshot(
    database: Database, store: ObjectStore
) -> Iterator[tuple[psycopg.Connection, list[CitedFile]]]:
    """A transaction that sees a single state of the database, and the files that this state cites."""
    with database.connect() as connection:
        with database.connect() as nobody_prunes:
            advisory_lock(nobody_prunes, "prune")
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            for limit in ("idle_in_transaction_session_timeout", "statement_timeout"):
                connection.execute(f"SET LOCAL {limit} = 0")
            cited = cited_files(connection, store)
        yield connection, cited
