"""Cache of stored files: this process reads and hashes a file once as long as the file does not change.

Each access compares the file's version with the store, so that a lost or replaced file is noticed. Copies are temporary
files without a name: no other process sees them, and they vanish with this process, however it ends. What does not
belong here: the expected hash.
"""

import atexit
import hashlib
import tempfile
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO

from resources.files.object_store import ObjectStore

KEPT_BYTES, KEPT_FILES = 2**30, 128
"""Limits of the cache; the newest copy is always kept. By default a process may open 1,024 files."""


@dataclass(frozen=True)
class _Copy:
    """A copy of a stored file in this version. `file` is open as long as the copy is cached."""

    version: str
    sha256: str
    size: int
    file: BinaryIO

    def reader(self) -> BinaryIO:
        return open(f"/proc/self/fd/{self.file.fileno()}", "rb")  # noqa: PTH123 - a descriptor with its own position


_copies: dict[str, _Copy] = {}
"""Cached copies by URI, newest last."""
_lock = Lock()


def open_hashed(store: ObjectStore, key: str, *, keep: bool = True) -> tuple[BinaryIO, str]:
    """The content under `key`, as a file to read and close, and its sha256. Raises the errors of the store's `get`.

    `keep`: cache the copy. Servers must not, because they would still have the answers of an erased learner.
    """
    uri, version = store.uri(key), store.version(key)
    with _lock:
        cached = _copies.get(uri)
        if cached is not None and cached.version == version:
            return cached.reader(), cached.sha256
    copy = _read(store, key, version)
    if not keep:
        copy.file.seek(0)
        return copy.file, copy.sha256
    with _lock:
        _keep(uri, copy)
        return copy.reader(), copy.sha256


def _read(store: ObjectStore, key: str, version: str) -> _Copy:
    """Read the file as it is now. If it was written after `version`, the next access reads it again."""
    digest, file = hashlib.sha256(), tempfile.TemporaryFile()  # noqa: SIM115 - kept open
    try:
        for piece in store.stream(key):
            digest.update(piece)
            file.write(piece)
        file.flush()
    except BaseException:
        file.close()
        raise
    return _Copy(version, digest.hexdigest(), file.tell(), file)


def _keep(uri: str, copy: _Copy) -> None:
    if before := _copies.pop(uri, None):
        before.file.close()
    _copies[uri] = copy
    while len(_copies) > 1 and (
        len(_copies) > KEPT_FILES or sum(cached.size for cached in _copies.values()) > KEPT_BYTES
    ):
        _copies.pop(next(iter(_copies))).file.close()


@atexit.register
def _close_all() -> None:
    for copy in _copies.values():
        copy.file.close()
