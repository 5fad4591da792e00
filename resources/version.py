"""Which code this is: the package version, and the commit where it runs from a checkout; and which packages it has."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


@cache
def code_version() -> str:
    """E.g. `0.1.0+g1a2b3c4`, or `0.1.0` where there is no checkout; `.dirty` marks uncommitted changes."""
    release = version("irt-assets")
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return release
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty=.dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}+g{described}"


def installed_version(package: str) -> str | None:
    """The version of a distribution; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
