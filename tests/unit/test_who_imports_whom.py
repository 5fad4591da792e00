"""What no contract of import-linter says: tests and benchmarks, which are not installed, do not import each other, and
few imports stand within a function."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.helpers.imported_files import imported_names
from tests.testbed.house import PRODUCT, imports_within_functions

ROOT = Path(__file__).parents[2]
NOT_TESTS = {"benchmarks", "testbed"}
TESTS = sorted({path.parent.name for path in ROOT.glob("tests/*/*.py")} - NOT_TESTS)
MOST_WITHIN = 90
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
        if any(each.rpartition(".")[2] in path.read_text("utf-8") for each in MUST_NOT_IMPORT[folder])
        for line, name in imported_names(ROOT, path)
        if f"{name}.".startswith(tuple(f"{each}." for each in MUST_NOT_IMPORT[folder]))
    ]
    assert not found, f"what tests and benchmarks share is in tests/testbed: {found}"


def test_few_imports_stand_within_a_function() -> None:
    """A circle, a package that may be absent, or what takes long to load and few need: the reason stands beside it."""
    texts = [path.read_text("utf-8") for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")]
    indented = [text for text in texts if re.search(r"^[ \t]+(?:import|from)\b", text, re.MULTILINE)]
    assert sum(len(imports_within_functions(ast.parse(text))) for text in indented) <= MOST_WITHIN


def test_benchmarks_import_each_other_as_modules_of_the_package() -> None:
    """A benchmark that is started with `python -m` does not find a file beside it by its name alone."""
    files = sorted((ROOT / "tests/benchmarks").glob("*.py"))
    beside = {path.stem for path in files}
    imported = [(path.name, line, name) for path in files for line, name in imported_names(ROOT, path)]
    assert any(name.startswith("tests.benchmarks.") for _, _, name in imported)
    assert [one for one in imported if one[2].partition(".")[0] in beside] == []
