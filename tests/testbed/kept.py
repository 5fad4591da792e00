"""What takes minutes to build and does not change with the tests: kept for later runs, in a folder outside the
repository. A machine may keep it or not.

What belongs here: finding it, by what it is made from. What does not: how each thing is made.
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
    """Of the contents of files, and of texts."""
    digest = hashlib.sha256()
    for each in made_from:
        content = each.read_bytes() if isinstance(each, Path) else each.encode()
        digest.update(hashlib.sha256(content).digest())
    return digest.hexdigest()[:16]


def kept(what: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of `what` that is made from what `key` says, which `make` fills where it is not there yet.

    `make` gets an empty folder; where it raises, nothing is kept. One process makes it, others wait.
    """
    folder = FOLDER / what / key
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
