"""Which code this is, with its commit in a checkout; which packages it has, and how more are installed."""

import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parent.parent


def is_checkout() -> bool:
    """Whether this code lies in its repository, and not in the release of a server or in an image."""
    return (ROOT / "Makefile").is_file()


def way_to_install(extra: str = "") -> str:
    """What installs this package with an extra, in words for a message."""
    extras = f" EXTRAS={extra}" if extra else ""
    return f"make venv{extras}" if is_checkout() else f"make wheelhouse{extras}, and its install.sh --upgrade"


@cache
def code_version() -> str:
    """E.g. `1.0.0+g1a2b3c4`, or `1.0.0` where there is no checkout; `.dirty` marks uncommitted changes."""
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
    """The version of a distribution; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
