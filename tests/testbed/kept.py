"""Cache of things that take minutes to build and do not change with the tests, in a folder outside the repository.

Entries are found by a key of their sources. A machine may delete the cache at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "irt-assets"


def fingerprint(*made_from: Path | str) -> str:
    """Hash of the contents of files and of texts."""
    digest = hashlib.sha256()
    for each in made_from:
        content = each.read_bytes() if isinstance(each, Path) else each.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def kept(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """Returns the kept folder of `name` for the sources in `key`. If it is missing, `make` fills it.

    `make` gets an empty folder. If it raises, nothing is kept. One process builds, other processes wait.
    """
    folder = FOLDER / name / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = folder.with_name(f"{key}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            make(part)
            part.rename(folder)
    return folder
