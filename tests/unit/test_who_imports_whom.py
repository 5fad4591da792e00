"""What no contract of import-linter says, as tests and benchmarks are not installed: neither imports the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.imported_files import imported_names

ROOT = Path(__file__).parents[2]
NOT_TESTS = {"benchmarks", "testbed"}
TESTS = sorted({path.parent.name for path in ROOT.glob("tests/*/*.py")} - NOT_TESTS)
MUST_NOT_IMPORT = {
    "irt_assets": ("tests",),
    "jobs": ("tests",),
    "resources": ("tests",),
    "services": ("tests",),
    "tests/testbed": tuple(f"tests.{other}" for other in TESTS),
    "tests/benchmarks": tuple(f"tests.{other}" for other in TESTS),
    **{f"tests/{folder}": ("tests.benchmarks",) for folder in TESTS},
}


@pytest.mark.parametrize("folder", MUST_NOT_IMPORT)
def test_only_what_it_may(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in imported_names(ROOT, path)
        if f"{name}.".startswith(tuple(f"{each}." for each in MUST_NOT_IMPORT[folder]))
    ]
    assert not found, f"what tests and benchmarks share is in tests/testbed: {found}"
