"""Machine code of the numeric kernels, copied from an earlier run on this machine and kept for the next run.

    python -m tests.testbed.compiled take
    python -m tests.testbed.compiled keep

A new clone compiles all kernels, which takes more than a minute of processor time, although most commits change none
of them. numba detects a changed file but no change in files it imports. So all kernels are kept under one key,
computed from every file of the numeric core. `core/kernels` compiles them.
"""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import llvmlite.binding as llvm

from tests.testbed.kept import fingerprint, kept

ROOT = Path(__file__).parents[2]
CORE = ROOT / "packages/irt-psychometrics/irt_psychometrics"
ENDINGS = (".nbi", ".nbc")


def key() -> str:
    """Key of the machine code: a hash of the sources, the compiler and the processor."""
    sources = sorted(CORE.rglob("*.py"))
    features = sorted(name for name, present in llvm.get_host_cpu_features().items() if present)
    return fingerprint(*sources, version("numba"), version("llvmlite"), llvm.get_host_cpu_name(), *features)


def copy(source: Path, target: Path) -> None:
    """Copy the files of machine code below `source` that are missing in `target`."""
    for file in source.rglob("*"):
        copied = target / file.relative_to(source)
        if file.suffix in ENDINGS and not copied.exists():
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)


def main(verb: str) -> None:
    folder = kept("kernels", key(), lambda _: None)
    if verb == "take":
        copy(folder, CORE)
    else:
        copy(CORE, folder)


if __name__ == "__main__":
    main(sys.argv[1])
