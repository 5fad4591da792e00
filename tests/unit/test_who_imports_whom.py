"""Import rules beyond import-linter's contracts, for code that is not installed: tests and benchmarks do not import
each other, and tests of the library import nothing else of the project."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.imported_files import imported_names
from tests.testbed.house import LIBRARY_TESTS, PRODUCT

ROOT = Path(__file__).parents[2]
NOT_TESTS = {"testbed"}
TESTS = sorted({path.parent.name for path in ROOT.glob("tests/*/*.py")} - NOT_TESTS)
MUST_NOT_IMPORT = {
    **dict.fromkeys(PRODUCT, ("tests", "benchmarks", "psychometrics_testbed")),
    **dict.fromkeys(LIBRARY_TESTS, ("irt_assets", "jobs", "resources", "services", "tests", "benchmarks")),
    "tests/testbed": tuple(f"tests.{other}" for other in TESTS),
    "benchmarks": tuple(f"tests.{other}" for other in TESTS),
    **{f"tests/{folder}": ("benchmarks",) for folder in TESTS},
}


@pytest.mark.parametrize("folder", MUST_NOT_IMPORT)
def test_folder_imports_only_permitted_packages(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if any(each.rpartition(".")[2] in path.read_text("utf-8") for each in MUST_NOT_IMPORT[folder])
        for line, name in imported_names(ROOT, path)
        if f"{name}.".startswith(tuple(f"{each}." for each in MUST_NOT_IMPORT[folder]))
    ]
    assert not found, f"what tests and benchmarks share is in tests/testbed and psychometrics_testbed: {found}"


def test_benchmarks_import_each_other_as_modules_of_the_package() -> None:
    """A benchmark started with `python -m` cannot import a file of its folder by the bare name."""
    files = sorted((ROOT / "benchmarks").glob("*.py"))
    modules = {path.stem for path in files}
    imported = [(path.name, line, name) for path in files for line, name in imported_names(ROOT, path)]
    assert any(name.startswith("benchmarks.") for _, _, name in imported)
    assert [one for one in imported if one[2].partition(".")[0] in modules] == []
