"""Stored files as this process reads them: each once, and hashed while it is read, as long as it stays the same.

The store is asked every time whether the file is still the one that was read, so that one that was lost, replaced or
damaged since is noticed. Copies are temporary files without a name: no other process sees them, and they are gone with
this one, however it ends. What does not belong here: what the hash ought to be.
"""

import atexit
import hashlib
import tempfile
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO

from resources.files.object_store import ObjectStore

KEPT_BYTES, KEPT_FILES = 2**30, 128
"""Copies beyond this are not kept, but for the newest. A process may open 1,024 files, where nobody set more."""


@dataclass(frozen=True)
class _Copy:
    """What was stored under a key when it had this version; `file` is open for as long as the copy is kept."""

    version: str
    sha256: str
    size: int
    file: BinaryIO

    def reader(self) -> BinaryIO:
        return open(f"/proc/self/fd/{self.file.fileno()}", "rb")  # noqa: PTH123 - a position of its own


_copies: dict[str, _Copy] = {}
"""By URI, the newest last."""
_lock = Lock()


def open_hashed(store: ObjectStore, key: str, *, keep: bool = True) -> tuple[BinaryIO, str]:
    """What is stored under `key`, as a file to read and close, and its sha256. Raises as the store's `get` does.

    `keep`: for the next to ask. Not in a server, which would still have the answers of a learner who was erased.
    """
    uri, version = store.uri(key), store.version(key)
    with _lock:
        known = _copies.get(uri)
        if known is not None and known.version == version:
            return known.reader(), known.sha256
    copy = _read(store, key, version)
    if not keep:
        copy.file.seek(0)
        return copy.file, copy.sha256
    with _lock:
        _keep(uri, copy)
        return copy.reader(), copy.sha256


def _read(store: ObjectStore, key: str, version: str) -> _Copy:
    """The file as it is now. Where it was written since it had that version, it is read again the next time."""
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
    while len(_copies) > 1 and (len(_copies) > KEPT_FILES or sum(one.size for one in _copies.values()) > KEPT_BYTES):
        _copies.pop(next(iter(_copies))).file.close()


@atexit.register
def _close_all() -> None:
    for one in _copies.values():
        one.file.close()
