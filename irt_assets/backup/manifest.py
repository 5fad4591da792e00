"""The manifest of a backup, and the comparison of a restored database with it."""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql
from pydantic import BaseModel, ValidationError

from irt_assets.backup.places import MANIFEST
from irt_assets.ledger.publications import in_force
from irt_assets.scales.scale import read_scales
from resources.failures import PermanentFailure
from resources.postgres.schema_version import SchemaVersion
from resources.tables import METADATA, irreplaceable_rows

FORMAT = 1
DATABASE = "database.dump"
OBJECTS = "objects.jsonl.gz"


class File(BaseModel):
    size: int
    sha256: str

    @classmethod
    def from_path(cls, path: Path) -> Self:
        with path.open("rb") as file:
            return cls(size=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


class Rows(BaseModel):
    """Rows of tables.

    Attributes:
        tables: number of rows by table.
        digests: order-independent hash of each table's rows that no job recomputes.
    """

    tables: dict[str, int]
    digests: dict[str, str]


class Contents(Rows):
    """Content of a backup. `sets`: hash of the published set in force when the backup was made, by scale."""

    sets: dict[str, str]


class BackupManifest(BaseModel):
    """Description of a backup.

    Attributes:
        postgres: major version of the server.
        pg_dump: major version of the program.
        store: beginning of the addresses of all files of the object store.
        files: size and hash of the backup's files, by name.
        objects: number of cited files in the object store.
        object_bytes: their size.
        missing: number of cited files that were missing.
    """

    format: int
    made_at: datetime
    code_version: str
    revision: str | None
    oldest_code: str | None
    schemas: list[str]
    postgres: int
    pg_dump: int
    first_month: str
    store: str
    files: dict[str, File]
    objects: int
    object_bytes: int
    missing: int
    contents: Contents

    @property
    def schema_version(self) -> SchemaVersion:
        return SchemaVersion(self.revision, self.oldest_code)


def read_manifest(folder: Path) -> BackupManifest:
    """The manifest of a backup. Raises PermanentFailure if it is missing or damaged, or has another format."""
    path = folder / MANIFEST
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise PermanentFailure(f"{folder} is not a backup: it has no {MANIFEST}") from None
    try:
        manifest = BackupManifest.model_validate_json(text)
    except (ValidationError, UnicodeDecodeError) as error:
        raise PermanentFailure(f"{path} is damaged or was written by another version of irt-assets: {error}") from None
    if manifest.format != FORMAT:
        raise PermanentFailure(
            f"{path} has format {manifest.format}, this code reads format {FORMAT}: install a newer irt-assets"
        )
    return manifest


def read_rows(connection: psycopg.Connection) -> Rows:
    """Read the rows of our tables in any version of the schema.

    Digests are computed from rows as text. The format of the text is set for this transaction.
    """
    connection.execute(AS_TEXT)
    existing = connection.execute(
        "SELECT name FROM unnest(%s::text[]) AS name WHERE to_regclass(name) IS NOT NULL", ([*METADATA.tables],)
    ).fetchall()
    tables: dict[str, int] = {}
    digests: dict[str, str] = {}
    conditions = irreplaceable_rows()
    for (name,) in sorted(existing):
        query = DIGEST if name in conditions else COUNT
        parts = {"table": sql.Identifier(name), "condition": sql.SQL(conditions.get(name, "true"))}
        ((tables[name], digest),) = connection.execute(query.format(**parts)).fetchall()
        if name in conditions:
            digests[name] = digest
    return Rows(tables=tables, digests=digests)


def read_sets(connection: psycopg.Connection, at: datetime) -> dict[str, str]:
    """The hash of the published set in force at a time, by scale."""
    return {scale_id: in_force(connection, scale_id, at).set_hash for scale_id in read_scales(connection)}


AS_TEXT = (
    "SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL bytea_output = 'hex'; "
    "SET LOCAL extra_float_digits = 1"
)
COUNT = sql.SQL("SELECT count(*), NULL FROM {table}")
DIGEST = sql.SQL(
    "SELECT count(*), coalesce(sum(('x' || left(md5(r::text), 15))::bit(60)::bigint::numeric) "
    "FILTER (WHERE {condition}), 0)::text FROM {table} r"
)
"""Digest of a table's rows that no job recomputes. It depends neither on the order of the rows, as it is a sum, nor on
the server's version (md5)."""


def row_differences(then: Rows, now: Rows) -> list[str]:
    """The differences, one sentence each. Tables of earlier schemas that this code does not have are not compared."""
    found = [
        f"{name} has {now.tables.get(name, 0):,} rows, but the backup has {rows:,}"
        for name, rows in then.tables.items()
        if name in METADATA.tables and now.tables.get(name, 0) != rows
    ]
    return found + [
        f"the rows of {name} differ from the backup"
        for name, digest in then.digests.items()
        if now.digests.get(name) != digest and now.tables.get(name) == then.tables.get(name)
    ]


def set_differences(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """The differences between published sets, one sentence each."""
    return [
        f"the published set in force on scale {scale} differs from the backup"
        for scale, set_hash in then.items()
        if now.get(scale) != set_hash
    ]
