"""Which R this machine has, which of the packages that engines need, and how to install what is missing.

R is asked in a short-lived process. Running models in it is the engines' business.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata

R_PACKAGES = {"mirt": ("mirt",), "brms": ("brms", "rstan")}
"""Of each engine in R, those it needs."""
INSTALL_R = "apt install r-base-core r-base-dev"
INSTALL_RPY2 = "make venv EXTRAS=r"
RPY2 = "rpy2-rinterface"
_DEBIAN = {"brms": "r-cran-brms", "rstan": "r-cran-rstan", "eRm": "r-cran-erm"}
INSTALL_R_FOR_ALL = " ".join([INSTALL_R, *(_DEBIAN[name] for name in ("brms", "rstan"))])
"""R with every Debian package that an engine needs."""
_ASK = """cat(as.character(getRversion()), sapply(commandArgs(TRUE), function(package)
  if (nzchar(system.file(package = package))) as.character(packageVersion(package)) else "-"))"""
_SECONDS = 60  # a loaded machine takes several for what an idle one does in a quarter


@dataclass(frozen=True)
class RRuntime:
    """`packages`: version of each, None where it is not installed."""

    version: str
    packages: dict[str, str | None]


def r_runtime() -> RRuntime | None:
    """None where there is no Rscript on the PATH, or it does not answer. Asked once per process and library path."""
    rscript = shutil.which("Rscript")
    return None if rscript is None else _ask(rscript, os.environ.get("R_LIBS", ""))


def install_hint(package: str) -> str:
    """The command that installs an R package."""
    if package in _DEBIAN:
        return f"apt install {_DEBIAN[package]}"
    return f"""Rscript -e 'install.packages("{package}")'"""


def why_absent(engine: str) -> str | None:
    """None where R, rpy2 and the packages of an engine of `R_PACKAGES` are there; else what is missing and its way."""
    runtime = r_runtime()
    if runtime is None:
        return f"engine {engine} needs R, and there is no Rscript on the PATH that answers: {INSTALL_R}"
    if rpy2_version() is None:
        return f"engine {engine} needs the package {RPY2}: {INSTALL_RPY2}"
    missing = [package for package in R_PACKAGES[engine] if runtime.packages[package] is None]
    return f"engine {engine} needs the R package {missing[0]}: {install_hint(missing[0])}" if missing else None


def rpy2_version() -> str | None:
    try:
        return metadata.version(RPY2)
    except metadata.PackageNotFoundError:
        return None


@lru_cache
def _ask(rscript: str, _libraries: str) -> RRuntime | None:
    packages = sorted({package for needed in R_PACKAGES.values() for package in needed})
    command = [rscript, "-e", _ASK, *packages]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    version, *found = ran.stdout.split()
    return RRuntime(version, {p: None if v == "-" else v for p, v in zip(packages, found, strict=True)})
