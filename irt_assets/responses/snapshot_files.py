"""The files of a snapshot: one Parquet file, or several parts and the manifest that lists them.

One machine writes one file. A cluster writes parts, each named after its hash, and finally the manifest, whose hash is
the snapshot's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from irt_assets.responses.row_hash import MARK, digest_of
from resources.files.file_cache import open_hashed
from resources.files.object_store import ObjectStore
from resources.files.s3_failures import ObjectMissing

MANIFEST = ".json"
"""Suffix of the key of a manifest."""
FORMAT = 1
ROWS_OF_A_GROUP = 2**20


def columns_of(schema: pa.Schema) -> tuple[tuple[str, str], ...]:
    """Names and types of a schema's columns, as a manifest lists them."""
    return tuple((field.name, str(field.type)) for field in schema)


class SpoiltSnapshotError(Exception):
    """The stored files are not the snapshot that was taken. The text names the file and the problem."""


class Part(BaseModel):
    """A Parquet file of a snapshot.

    `sums` are the sums of its rows' hashes (see `row_hash`). They are decimal texts, because they have more digits than
    some readers of JSON keep.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str
    rows: int
    bytes: int
    sums: tuple[str, str]


class SnapshotManifest(BaseModel):
    """The list of a snapshot's parts.

    `columns`: names and Arrow types, the same in each part. `data_hash`: hash of the rows of all parts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    month: str
    parts: tuple[Part, ...]
    rows: int
    data_hash: str
    columns: tuple[tuple[str, str], ...]

    @classmethod
    def from_parts(cls, month: str, parts: Iterable[Part], columns: Iterable[tuple[str, str]]) -> SnapshotManifest:
        """Build the manifest of these parts."""
        found = tuple(sorted(parts, key=lambda part: part.key))
        return cls(
            month=month,
            parts=found,
            rows=sum(part.rows for part in found),
            data_hash=_hash_of(found),
            columns=tuple(columns),
        )

    @model_validator(mode="after")
    def _adds_up(self) -> SnapshotManifest:
        if len({part.key for part in self.parts}) < len(self.parts):
            raise ValueError("a part is listed twice")
        digest = _hash_of(self.parts).removeprefix(MARK)
        if self.rows != sum(part.rows for part in self.parts) or self.data_hash.rpartition(":")[2] != digest:
            raise ValueError("its parts do not add up to its rows and its hash")
        return self

    def to_bytes(self) -> bytes:
        """The bytes to store; the same parts give the same bytes."""
        return json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":")).encode()


def _hash_of(parts: Iterable[Part]) -> str:
    sums = [(part.rows, *map(int, part.sums)) for part in parts]
    return digest_of([sum(column) for column in zip(*sums, strict=True)] or [0, 0, 0])


def is_manifest(key: str) -> bool:
    return key.endswith(MANIFEST)


def hash_in(uri: str) -> str:
    """The sha256 in the name of a snapshot's file."""
    return uri.rpartition("/")[2].partition(".")[0]


def read_manifest(key: str, content: bytes) -> SnapshotManifest:
    """Parse a manifest. Raises SpoiltSnapshotError if it is not a manifest, or has another format."""
    try:
        fields = json.loads(content)
        if isinstance(fields, dict) and fields.get("format", FORMAT) != FORMAT:
            raise SpoiltSnapshotError(
                f"the snapshot {key} has format {fields['format']}, and this code reads {FORMAT}: "
                "install the newer irt-assets"
            )
        return SnapshotManifest.model_validate(fields)
    except ValueError as error:
        problem = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise SpoiltSnapshotError(f"the snapshot {key} is not a manifest of parts: {problem}") from error


def stored_parts(store: ObjectStore, manifests: Collection[str]) -> dict[str, tuple[Part, ...] | None]:
    """Key of a stored manifest → its parts, or None if it is missing or cannot be read."""
    found: dict[str, tuple[Part, ...] | None] = {}
    for key in manifests:
        try:
            found[key] = read_manifest(key, store.get(key)).parts
        except (ObjectMissing, SpoiltSnapshotError):
            found[key] = None
    return found


def part_keys(store: ObjectStore, uri: str) -> list[str]:
    """The keys of the Parquet files of a snapshot. Raises SpoiltSnapshotError like `read_manifest`."""
    return [part.key for part in read_manifest(uri, store.get(uri)).parts] if is_manifest(uri) else [uri]


def without_dictionaries(schema: pa.Schema) -> pa.Schema:
    """The schema with plain texts instead of dictionaries of texts."""
    return pa.schema([(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in schema])


class StoredFile(NamedTuple):
    key: str
    sha256: str
    bytes: int


def store_parquet(store: ObjectStore, folder: str, table: pa.Table) -> StoredFile:
    """Store a table under its hash, `snapshots/FOLDER/HASH.parquet`, with plain texts instead of dictionaries."""
    schema = without_dictionaries(table.schema)
    with TemporaryDirectory() as folder_here:
        file = Path(folder_here, "attempts.parquet")
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for start in range(0, max(table.num_rows, 1), ROWS_OF_A_GROUP):
                writer.write_table(table.slice(start, ROWS_OF_A_GROUP).cast(schema))
        with file.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        key = f"snapshots/{folder}/{digest}.parquet"
        store.put(key, file)
        return StoredFile(key, digest, file.stat().st_size)


def store_manifest(store: ObjectStore, folder: str, manifest: SnapshotManifest) -> tuple[str, str]:
    """Store a manifest under its hash, after its parts. Returns its key and sha256."""
    content = manifest.to_bytes()
    digest = hashlib.sha256(content).hexdigest()
    key = f"snapshots/{folder}/{digest}{MANIFEST}"
    store.put(key, content)
    return key, digest


def snapshot_files(store: ObjectStore, uri: str, *, keep: bool = True) -> Iterator[BinaryIO]:
    """Yield the verified Parquet files of a snapshot. Each is closed when the next is requested.

    Raises SpoiltSnapshotError if a file is missing or differs from the stored one. `keep`: see `open_hashed`.
    """
    with _open_verified(store, f"the snapshot {uri}", uri, hash_in(uri), keep=keep) as file:
        if not is_manifest(uri):
            yield file
            return
        manifest = read_manifest(uri, file.read())
    for part in manifest.parts:
        name = f"the part {part.key} of the snapshot of {manifest.month}"
        with _open_verified(store, name, part.key, part.sha256, keep=keep) as file:
            _check_columns(name, file, manifest, part)
            yield file


def _open_verified(store: ObjectStore, name: str, key: str, sha256: str, *, keep: bool) -> BinaryIO:
    try:
        file, digest = open_hashed(store, key, keep=keep)
    except ObjectMissing as error:
        raise SpoiltSnapshotError(f"{name} is missing from the object store") from error
    if digest == sha256:
        return file
    file.close()
    raise SpoiltSnapshotError(f"{name} has sha256 {digest[:12]}…, not {sha256[:12]}…")


def _check_columns(name: str, file: BinaryIO, manifest: SnapshotManifest, part: Part) -> None:
    """Raise SpoiltSnapshotError if a part cannot be read, or its rows or columns differ from the manifest.

    Reads only the metadata at the end of the Parquet file.
    """
    try:
        described = pq.ParquetFile(file)
        found = dict(columns_of(described.schema_arrow))
        rows = described.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise SpoiltSnapshotError(f"{name} is not a Parquet file that can be read ({error})") from error
    for column, kind in manifest.columns:
        if found.get(column) != kind:
            difference = (
                f"has the column {column} as {found[column]}" if column in found else f"lacks the column {column}"
            )
            raise SpoiltSnapshotError(f"{name} {difference}, but the manifest lists it as {kind}")
    if unknown := sorted(found.keys() - {column for column, _ in manifest.columns}):
        raise SpoiltSnapshotError(f"{name} has columns that the manifest does not list: {', '.join(unknown)}")
    if rows != part.rows:
        raise SpoiltSnapshotError(f"{name} has {rows:,} rows, but the manifest lists {part.rows:,}")
    file.seek(0)
