"""Machine code of the numeric kernels, taken from an earlier run on this machine and kept for the next one.

    python -m tests.testbed.compiled take
    python -m tests.testbed.compiled keep

A new clone compiles all of them, for more than a minute of processor time, though most commits change none. numba sees
that a file changed, but not that one changed which it imports from: so all are kept under one key, made from every file
of the numeric core. What does not belong here: how they are compiled (`core/kernels`).
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
    """What the machine code is made from: the sources, the compiler and the processor."""
    sources = sorted(CORE.rglob("*.py"))
    features = sorted(name for name, there in llvm.get_host_cpu_features().items() if there)
    return fingerprint(*sources, version("numba"), version("llvmlite"), llvm.get_host_cpu_name(), *features)


def copy(source: Path, target: Path) -> None:
    """The files of machine code below `source` that `target` does not have."""
    for file in source.rglob("*"):
        there = target / file.relative_to(source)
        if file.suffix in ENDINGS and not there.exists():
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, there)


def main(verb: str) -> None:
    folder = kept("kernels", key(), lambda _: None)
    if verb == "take":
        copy(folder, CORE)
    else:
        copy(CORE, folder)


if __name__ == "__main__":
    main(sys.argv[1])
