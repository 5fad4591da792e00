"""Debian root file systems, built once a month on a machine, as packages age, and copied for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from tests.testbed.kept import fingerprint, kept

USELESS_AFTER_S = 60 * 86_400


def debian_root(folder: Path, release: str, packages: str, require: Callable[[bool, str], None]) -> None:
    """Make `folder` the root of a release, with these packages and their dependencies."""
    require(shutil.which("debootstrap") is not None and os.geteuid() == 0, "debootstrap, and root to run it")
    key = f"{release}-{datetime.now(UTC):%Y-%m}-{fingerprint(packages)}"
    try:
        made = kept("debian", key, partial(_make, release, packages))
    except subprocess.CalledProcessError as failed:
        require(False, f"a root of Debian's {release} ({failed.stdout[-500:]})")
    subprocess.run(["cp", "-a", f"{made}/.", folder], check=True)
    folder.chmod(0o755)


def _make(release: str, packages: str, folder: Path) -> None:
    for other in folder.parent.glob(f"{release}-*"):
        if other.stat().st_mtime < time.time() - USELESS_AFTER_S:
            shutil.rmtree(other)
    command = ["debootstrap", "--variant=minbase", f"--include={packages}", release, str(folder)]
    alone = ("unshare", "--mount", "--propagation=private")  # its mounts disappear with it, however it ends
    subprocess.run([*alone, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
