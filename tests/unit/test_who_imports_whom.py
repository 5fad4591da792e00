"""What no contract of import-linter says, as tests and benchmarks are not installed: neither imports the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.imported_files import imported_names

ROOT = Path(__file__).parents[2]
MUST_NOT_IMPORT = {
    "benchmarks": {"tests"},
    "irt_assets": {"benchmarks", "testbed", "tests"},
    "jobs": {"benchmarks", "testbed", "tests"},
    "resources": {"benchmarks", "testbed", "tests"},
    "services": {"benchmarks", "testbed", "tests"},
    "testbed": {"benchmarks", "tests"},
    "tests": {"benchmarks"},
}


@pytest.mark.parametrize("folder", MUST_NOT_IMPORT)
def test_only_what_it_may(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in imported_names(ROOT, path)
        if name.partition(".")[0] in MUST_NOT_IMPORT[folder]
    ]
    assert not found, f"what tests and benchmarks share is in testbed: {found}"
