"""Restoring a backup into an empty database, and checking that the copy equals the original.

The files of the object store must be restored first.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from psycopg import sql

from irt_assets.backup import programs
from irt_assets.backup.cited_files import faults, read_listing
from irt_assets.backup.manifest import (
    DATABASE,
    OBJECTS,
    BackupManifest,
    File,
    read_manifest,
    read_rows,
    read_sets,
    row_differences,
    set_differences,
)
from irt_assets.backup.places import FolderPlace
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.common.run_progress import last_materializations
from irt_assets.common.wording import quantity
from irt_assets.gates.month_status import month_states
from irt_assets.invariants.drift import ANALYSES
from irt_assets.invariants.history import evaluate_all
from irt_assets.servers.instance import dagster_instance
from resources.failures import PermanentFailure
from resources.files.folder_claim import adopt_folder
from resources.files.object_store import FolderStore, ObjectStore, object_store
from resources.postgres.database import Database, first_column
from resources.postgres.own_schema import relations_in
from resources.postgres.schema import upgrade
from resources.postgres.schema_version import COMMIT_OF_FIRST_SCHEMA, first_revision, schema_version
from resources.postgres.schemas import make_schemas
from resources.settings import Settings


@dataclass
class RestoredBackup:
    """A restored backup.

    Attributes:
        notes: changes during the restoration, one sentence each.
        differences: differences between the copy and the backup, one sentence each.
    """

    manifest: BackupManifest
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


def restore_backup(
    settings: Settings, database: Database, place: FolderPlace, name: str, *, verify: bool
) -> RestoredBackup:
    """Restore a backup into `database`, which must be empty, and compare the result with the manifest.

    With `verify`, all listed files are read too, and the invariants are evaluated as of the backup's time. Raises
    PermanentFailure, and does not change the database, if the backup is damaged or cannot be restored here.
    """
    began = time.monotonic()
    with place.open_backup(name) as folder:
        manifest = read_manifest(folder)
        _check(folder, manifest)
        restored = RestoredBackup(manifest)
        _load(database, manifest, folder / DATABASE)
        with database.connect() as connection:
            restored.differences += row_differences(manifest.contents, read_rows(connection))
        restored.notes += _adapt_to_installation(settings, database, manifest)
        in_force = database.call(read_sets, manifest.made_at)
        restored.differences += set_differences(manifest.contents.sets, in_force)
        if verify:
            store = object_store(settings)
            restored.differences += faults(read_listing(folder / OBJECTS), store)
            _compare_violations(settings, database, store, restored)
    restored.seconds = time.monotonic() - began
    return restored


def _check(folder: Path, manifest: BackupManifest) -> None:
    """Raise PermanentFailure if a file of the backup has changed, or if this code does not work with its schema."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise PermanentFailure(f"the backup is damaged: {path} is missing. Use another backup.")
        if (found := File.from_path(path)) != expected:
            raise PermanentFailure(
                f"the backup is damaged: {path} has changed since it was written ({found.size:,} bytes, "
                f"{expected.size:,} were written). Use another backup."
            )
    version = manifest.schema_version
    if version.fault and not version.can_be_upgraded:
        raise PermanentFailure(
            f"the backup's schema is at {version.revision} and needs code from {version.oldest_code} on, but this code "
            f"is older: install irt-assets {manifest.code_version} or newer"
            if version.is_newer
            else f"the backup's schema is at {version.revision}, and this code upgrades from "
            f"{first_revision():04d} on: "
            f"restore it with the code of `git checkout {COMMIT_OF_FIRST_SCHEMA}`, run `irt db upgrade` with it, and "
            "back it up again"
        )


def _load(database: Database, manifest: BackupManifest, source: Path) -> None:
    schemas = [database.schema, database.settings.irt_dagster_schema]
    if manifest.schemas != schemas[: len(manifest.schemas)]:
        raise PermanentFailure(
            f"the backup contains the schemas {' and '.join(manifest.schemas)}, but this installation has "
            f"{' and '.join(schemas)}: set IRT_DB_SCHEMA and IRT_DAGSTER_SCHEMA to the backup's names"
        )
    with database.connect() as connection:
        if relations := relations_in(connection, *schemas):
            raise PermanentFailure(
                f"the database is not empty: it holds {len(relations)} tables, views and sequences, such as "
                f"{relations[0]}. Nothing was changed. Restore into a new database (CREATE DATABASE …, or another "
                "IRT_HOME), or into schemas with other names"
            )
    made = make_schemas(database)
    try:
        programs.load(database.url, manifest.pg_dump, manifest.schemas, source)
    except BaseException:
        with database.connect() as connection:
            for schema in made:
                connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(schema)))
        raise
    with database.connect() as connection:
        connection.autocommit = True
        connection.execute("ANALYZE")  # a dump has no statistics, without which queries over the log are slow


def _adapt_to_installation(settings: Settings, database: Database, manifest: BackupManifest) -> Iterator[str]:
    """Adapt the copy to this code and this store. Yields a sentence for each change."""
    version = schema_version(database)
    if version.fault:
        upgrade(database)
        yield f"the schema was upgraded from {version.revision} to {schema_version(database).revision}"
    store = object_store(settings)
    root = store.uri("reports").removesuffix("reports")
    if root != manifest.store:
        with database.connect() as connection:
            moved = connection.execute(
                "UPDATE report_file SET url = %s || substr(url, %s) WHERE starts_with(url, %s)",
                (root, len(manifest.store) + 1, manifest.store),
            ).rowcount
        yield f"the files are at {root} now: {quantity(moved, 'row')} of reports named them at {manifest.store}"
    if isinstance(store, FolderStore) and store.root.is_dir():
        adopt_folder(settings, database)


def _compare_violations(settings: Settings, database: Database, store: ObjectStore, restored: RestoredBackup) -> None:
    """Add each invariant of severity error that the copy violates, but whose violations the backup does not report.

    They are differences, or notes if the invariant was never evaluated in the original. Invariants that cannot be
    evaluated are differences, too.
    """
    made_at, first_month = restored.manifest.made_at, restored.manifest.first_month
    months = list(months_between(first_month, last_complete_month(made_at)))
    with dagster_instance(settings, database) as instance:
        made = {asset: last_materializations(instance, dg.AssetKey(asset)) for asset in ANALYSES}
        report = evaluate_all(database, store, month_states(database, instance, months), made_at, made)
    with database.connect() as connection:
        known = set(
            connection.execute(
                """SELECT invariant, partition, subject FROM invariant_result
                   WHERE NOT passed AND subject <> '' AND resolved_at IS NULL"""
            ).fetchall()
        )
        evaluated = first_column(connection, "SELECT DISTINCT invariant FROM invariant_result WHERE subject = ''")
    for verdict in report.verdicts:
        name, truth = verdict.invariant.name, verdict.invariant.truth
        if verdict.crashed:
            restored.differences.append(f"the invariant {name} could not be evaluated: {verdict.crashed}")
        new = [v for v in verdict.violations if (name, v.partition, v.subject) not in known]
        if verdict.invariant.severity != "error" or not new:
            continue
        first = new[0]
        violation = f"{first.partition} {first.subject}: {first.observed}, expected {first.expected}" + (
            f" ({len(new) - 1} more)" if len(new) > 1 else ""
        )
        if name in evaluated:
            restored.differences.append(
                f"the copy violates the invariant '{truth}', and no report in the backup mentions it: {violation}"
            )
        else:
            restored.notes.append(
                f"the copy violates the invariant '{truth}', which was never evaluated in the original: {violation}"
            )
