"""R on this machine: its version, its packages, and the commands that install them.

A short-lived process of R reports them. The engines run models in R.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

from resources.version import installed_version, way_to_install

INSTALL_R = "apt install r-base-core r-base-dev"
RPY2 = "rpy2"
_QUERY = """cat(as.character(getRversion()), sapply(commandArgs(TRUE), function(package)
  if (nzchar(system.file(package = package))) as.character(packageVersion(package)) else "-"))"""
_TIMEOUT_S = 60  # an idle machine takes a quarter of a second, a loaded one several


@dataclass(frozen=True)
class RRuntime:
    """The installed R. `packages`: version by package, None if a package is not installed."""

    version: str
    packages: dict[str, str | None]


def r_runtime(packages: tuple[str, ...] = ()) -> RRuntime | None:
    """R and the versions of these R packages. Returns None if there is no Rscript on the PATH, or if it fails.

    The result is cached by process, library path and packages.
    """
    rscript = shutil.which("Rscript")
    return None if rscript is None else _read_r(rscript, os.environ.get("R_LIBS", ""), packages)


def missing_r(runtime: RRuntime | None) -> str | None:
    """The missing part if R cannot be called from Python, with the command that installs it, or None if it can."""
    if runtime is None:
        return f"R, and there is no Rscript on the PATH that answers: {INSTALL_R}"
    return None if installed_version(RPY2) else f"the package {RPY2}: {way_to_install('r')}"


@lru_cache
def _read_r(rscript: str, _libraries: str, packages: tuple[str, ...]) -> RRuntime | None:
    command = [rscript, "-e", _QUERY, *packages]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    version, *versions = ran.stdout.split()
    return RRuntime(version, {p: None if v == "-" else v for p, v in zip(packages, versions, strict=True)})
