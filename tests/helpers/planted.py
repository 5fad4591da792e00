"""Run tests that a test writes, with the plugins of this folder, to check how a run reports faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.selection import BASE
from tests.testbed.patience import VARIABLE, patient

ROOT = Path(__file__).parents[2]
CONFTEST = 'pytest_plugins = ["tests.helpers.record", "tests.helpers.selection", "tests.helpers.leftovers"]\n'


def pytest_of(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the tests in `folder` with this folder as root."""
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = on_change\n")
    (folder / "conftest.py").write_text(CONFTEST)
    of_this_run = ("PYTEST_", BASE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(of_this_run)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", folder, folder, *options],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT), VARIABLE: "0.2"},
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(300),
    )
