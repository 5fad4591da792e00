"""The files of the object store that rows cite. A backup lists them, and a restored copy must have them.

`irt_assets.ledger.citations` finds the rows that cite files.
"""

import gzip
import itertools
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import psycopg

from irt_assets.ledger.citations import CITATIONS, cited_names
from irt_assets.responses.snapshot_files import is_manifest, stored_parts
from resources.files.object_store import ObjectStore
from resources.files.s3_failures import ObjectMissing

N_THREADS = 16


@dataclass(frozen=True)
class CitedFile:
    """A cited file.

    Attributes:
        size: size in bytes, or None if the file is missing.
        sha256: hash of the content; empty if no row contains it and the file has not been read yet.
    """

    key: str
    size: int | None
    sha256: str


def cited_files(connection: psycopg.Connection, store: ObjectStore) -> list[CitedFile]:
    """All files that rows name, and the files in manifests that rows name.

    A report in another store has its address as its key, and counts as missing.
    """
    found: dict[str, CitedFile] = {}
    for folder in CITATIONS:
        sizes = store.sizes(folder)
        for named, sha256 in cited_names(connection, folder).items():
            key = (store.key(named) or named) if folder == "reports" else named
            found[key] = CitedFile(key, sizes.get(key), sha256)
        manifests = [key for key in found if folder == "snapshots" and is_manifest(key)]
        for part in itertools.chain.from_iterable(parts or () for parts in stored_parts(store, manifests).values()):
            found[part.key] = CitedFile(part.key, sizes.get(part.key), part.sha256)
    return [*found.values()]


def add_hashes(files: Iterable[CitedFile], store: ObjectStore) -> list[CitedFile]:
    """The files with their sha256. Only files without a recorded sha256 are read."""
    return [
        file if file.sha256 or file.size is None else replace(file, sha256=store.sha256(file.key)) for file in files
    ]


def write_listing(path: Path, files: Iterable[CitedFile]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(asdict(file)) + "\n" for file in files)


def read_listing(path: Path) -> Iterator[CitedFile]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from (CitedFile(**json.loads(line)) for line in lines)


def faults(files: Iterable[CitedFile], store: ObjectStore) -> Iterator[str]:
    """Yield a sentence for each listed file that is missing or has changed. Reads all files."""
    with ThreadPoolExecutor(N_THREADS) as several:
        existing = [file for file in files if file.size is not None]
        yield from filter(None, several.map(partial(_fault, store), existing))


def _fault(store: ObjectStore, file: CitedFile) -> str | None:
    try:
        digest = store.sha256(file.key)
    except ObjectMissing:
        return f"{store.uri(file.key)} is missing"
    changed = f"{store.uri(file.key)} has changed: sha256 {digest[:12]}…, not {file.sha256[:12]}…"
    return None if digest == file.sha256 else changed
