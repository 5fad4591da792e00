"""Functions that run in the Python of an executor: they report its versions, and refuse work if these differ.

Executors import this module, so it needs only pyarrow. `spark` compares the reports.
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
"""Packages on which numerical results depend, in addition to our own code."""
CODE = ("irt_assets", "irt_psychometrics", "resources")
"""Our packages that executors import."""
TASK_DURATION_S = 0.2
"""Duration of a task, long enough that a single core does not run all tasks."""


@dataclass(frozen=True)
class ExecutorPython:
    """The Python of an executor or of this process.

    Attributes:
        python: path of the interpreter.
        versions: versions of Python, of our code and of PACKAGES, or None if a package is missing.
        cpu: name of the processor.
    """

    host: str
    python: str
    versions: Mapping[str, str | None]
    cpu: str

    def require(self, versions: Mapping[str, str | None]) -> None:
        """Raise PermanentFailure if the versions differ from the driver's `versions`."""
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
    """The Python of this process."""
    versions = {"Python": platform.python_version(), "irt_assets": _code_version()} | {
        name: installed_version(name) for name in PACKAGES
    }
    return ExecutorPython(socket.gethostname(), sys.executable, versions, _cpu())


def rows_of(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield one row that describes the Python of the task (for mapInArrow)."""
    import pyarrow as pa  # only executors need it

    for _ in batches:
        pass
    time.sleep(TASK_DURATION_S)
    yield pa.RecordBatch.from_pylist([describe_this_python().as_row()])


def require_same_packages(
    work: Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]],
) -> Callable[[Iterable[pa.RecordBatch]], Iterable[pa.RecordBatch]]:
    """Wrap `work` (for mapInArrow) so that an executor with other packages refuses it.

    An executor that joined after the session's start may have other packages.
    """
    versions = describe_this_python().versions

    def checked(batches: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        describe_this_python().require(versions)
        return work(batches)

    return checked


def folders_of_code() -> list[str]:
    """The folders of our packages, for PYTHONPATH of executors that see the same disks."""
    return list(dict.fromkeys(str(_folder(package)) for package in CODE))


def _folder(package: str) -> Path:
    return Path(str(files(package))).resolve().parent


@cache
def _code_version() -> str | None:
    """The release and a hash of our code, because a checkout changes while its release stays the same."""
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
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()
