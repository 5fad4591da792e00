"""Versions of this code and of installed packages, and the commands that install more packages."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent


def is_checkout() -> bool:
    """Whether this code runs in its repository, and not in the release of a server or in an image."""
    return (ROOT / "Makefile").is_file()


def way_to_install(extra: str = "") -> str:
    """The command that installs this package with an extra, for messages."""
    extras = f" EXTRAS={extra}" if extra else ""
    return f"make venv{extras}" if is_checkout() else f"make wheelhouse{extras}, and its install.sh --upgrade"


@cache
def code_version() -> str:
    """Version of this code: `1.0.0+g1a2b3c4`, or `1.0.0` without a checkout; `.dirty` marks uncommitted changes."""
    release = version("irt-assets")
    if not (ROOT / ".git").exists():
        return release
    try:
        described = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty=.dirty", "--exclude=*"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return release
    return f"{release}+g{described}"


def installed_version(package: str) -> str | None:
    """The version of a distribution. Returns None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
