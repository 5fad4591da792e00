"""What runs in the Python of an executor to say what it is, and to refuse work for others. It is imported there, so it
needs nothing but pyarrow.

What does not belong here: what is made of the answers (see `spark`).
"""

from __future__ import annotations

import json
import platform
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resources.failures import PermanentFailure
from resources.version import installed_version

if TYPE_CHECKING:
    import pyarrow as pa

PACKAGES = ("numba", "numpy", "pyarrow")
"""What numbers depend on, besides our own code."""
CODE = ("irt_assets", "irt_psychometrics", "resources")
"""The packages of ours that executors import."""
TASK_LASTS_S = 0.2
"""So that one core does not answer for all."""


@dataclass(frozen=True)
class ExecutorPython:
    """`python`: its path. `versions`: of Python, of our package and of PACKAGES, None where one is missing."""

    host: str
    python: str
    versions: Mapping[str, str | None]
    cpu: str

    def require(self, versions: Mapping[str, str | None]) -> None:
        """Raises PermanentFailure that names this executor where it has other versions than the driver has."""
        differences = [
            f"{name} {self.versions.get(name) or 'missing'} (here {version})"
            for name, version in versions.items()
            if self.versions.get(name) != version
        ]
        if differences:
            raise PermanentFailure(
                f"the executor on {self.host} ({self.python}) has other packages than this process: "
                f"{', '.join(differences)}; install the same lock file there, or name its Python by PYSPARK_PYTHON"
            )

    def as_row(self) -> dict[str, str]:
        return {**vars(self), "versions": json.dumps(self.versions)}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> ExecutorPython:
        return cls(row["host"], row["python"], json.loads(row["versions"]), row["cpu"])


def describe_this_python() -> ExecutorPython:
    """The Python that this is called in."""
    versions = {"Python": platform.python_version(), "irt_assets": _ours()} | {
        name: installed_version(name) for name in PACKAGES
    }
    return ExecutorPython(socket.gethostname(), sys.executable, versions, _cpu())


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """For mapInArrow: a row that describes the Python of the task."""
    import pyarrow as pa  # only executors need it

    for _ in batches:
        pass
    time.sleep(TASK_LASTS_S)
    yield pa.RecordBatch.from_pylist([describe_this_python().as_row()])


def with_same_packages(
    work: Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]],
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """For mapInArrow: `work`, which an executor refuses where it has other packages, as one that joined later may."""
    versions = describe_this_python().versions

    def checked(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        describe_this_python().require(versions)
        return work(batches)

    return checked


def folders_of_code() -> list[str]:
    """The folders that hold our packages: what an executor on the same disks needs in PYTHONPATH."""
    return list(dict.fromkeys(str(_folder(package)) for package in CODE))


def _folder(package: str) -> Path:
    return Path(str(files(package))).resolve().parent


@cache
def _ours() -> str | None:
    """Release and a hash of the code, as a checkout keeps its release while it changes."""
    release = installed_version("irt-assets")
    digest = sha256()
    for package in CODE:
        folder = _folder(package)
        for path in sorted((folder / package).rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return f"{release or ''}+{digest.hexdigest()[:12]}"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
