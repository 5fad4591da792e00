"""The library imports only its declared dependencies, and the platform and its tests import only public names of the
library."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "packages/irt-psychometrics/irt_psychometrics"
PUBLIC = (
    "responses", "items", "estimation", "scoring", "alignment", "linking", "itemfit", "classical", "drift", "dif",
    "information", "equating", "adaptive", "new_items", "assembly", "simulation", "datasets", "plots", "cells",
    "commands",
)  # fmt: skip
NEEDED = {"narwhals", "numba", "numpy", "scipy"}
OF_THE_CALLER = {"highspy", "matplotlib", "plotly", "sklearn", "tqdm"}
"""Optional packages, each imported only in the function that needs it."""
TYPES = {"pandas", "polars", "pyarrow"}
"""Optional packages whose data frames `to_frame` names in its types."""
PRIVATE = {"tests/engines/test_desk_cli.py", "tests/unit/test_file_analysis_memory.py"}
"""Tests that replace private parts of the library's file commands. No other test may do so."""


def imports(folder: Path, word: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield file, module and name of each import of the files that contain `word`. The name is empty if a module is
    imported."""
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text if word in text else "")):
            if isinstance(node, ast.Import):
                yield from ((path.relative_to(ROOT).as_posix(), name.name, "") for name in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield from ((path.relative_to(ROOT).as_posix(), node.module, name.name) for name in node.names)


def names_of_the_library(*folders: str) -> list[tuple[str, str, str]]:
    """Return the imports from the library in these folders, by default in the platform: file, module and name."""
    folders = folders or ("irt_assets", "jobs", "resources", "services", "deploy")
    found = [one for folder in folders for one in imports(ROOT / folder, LIBRARY.name)]
    return [one for one in found if one[1].partition(".")[0] == "irt_psychometrics"]


@pytest.mark.parametrize("folders", [(), ("tests",)], ids=["platform", "tests"])
def test_platform_and_its_tests_import_only_public_names_of_the_library(folders: tuple[str, ...]) -> None:
    modules = {"irt_psychometrics", *(f"irt_psychometrics.{module}" for module in PUBLIC)}
    exported = {(module, name) for module in modules for name in import_module(module).__all__}
    exported.add(("irt_psychometrics", ""))
    private = [one for one in names_of_the_library(*folders) if one[0] not in PRIVATE and one[1:] not in exported]
    assert private == [], "a test of private parts of the library belongs in packages/irt-psychometrics/tests"


def test_no_class_of_files_and_cells_hides_functions_of_other_modules() -> None:
    """A class with functions of other modules as attributes hides them from the number of names in use."""
    for path in [*(LIBRARY / "cells").rglob("*.py"), *(LIBRARY / "commands").rglob("*.py")]:
        assert "staticmethod(" not in path.read_text("utf-8"), path.name


def test_every_exported_name_exists_and_is_listed_once() -> None:
    for module in ("irt_psychometrics", *(f"irt_psychometrics.{module}" for module in PUBLIC)):
        public = import_module(module)
        assert len(set(public.__all__)) == len(public.__all__), module
        assert [name for name in public.__all__ if not hasattr(public, name)] == [], module


def test_library_imports_only_declared_dependencies() -> None:
    allowed = {*sys.stdlib_module_names, "irt_psychometrics", *NEEDED, *OF_THE_CALLER}
    others = [one for one in imports(LIBRARY) if one[1].partition(".")[0] not in allowed]
    results = (LIBRARY / "core/results.py").relative_to(ROOT).as_posix()
    assert [one for one in others if one[0] != results or one[1] not in TYPES] == []


OF_A_POPULATION = {
    *("Abilities.normal", "Classification.from_items", "Curves.from_items", "Observed.by_ability"),
    *("ScoreTable.from_items", "SelectionPlan", "equate_by_items", "estimate_abilities", "simulate_tests"),
}
"""Functions of the library with a mean and an SD of θ."""


POPULATIONS = {("mu", "sigma"), ("mean", "sd"), ("latent_mean", "latent_sd")}
"""Attributes with the population: of a scale, of records that copied them, and of a fit."""


def calls_of_a_population(path: Path) -> Iterator[tuple[str, str, tuple[str | None, str | None]]]:
    """Yield place, function and the last names of mean and SD of each call in a file, also by `partial`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        by_partial = bool(node.args) and ast.unparse(node.func) == "partial"
        function = ast.unparse(node.args[0] if by_partial else node.func)
        if function in OF_A_POPULATION:
            given = dict(zip(("mean", "sd"), node.args[-2:], strict=False)) if len(node.args) >= 2 else {}
            given |= {word.arg: word.value for word in node.keywords if word.arg}
            names = [getattr(given.get(word), "attr", None) for word in ("mean", "sd")]
            yield f"{path.relative_to(ROOT)}:{node.lineno}", function, (names[0], names[1])


def test_platform_passes_the_population_to_each_function_that_needs_it() -> None:
    """The scale's N(μ₀, σ₀²), or the population of a fit; numbers in a call would be right for some scales only."""
    paths = [path for folder in ("irt_assets", "jobs", "services") for path in sorted((ROOT / folder).rglob("*.py"))]
    calls = [call for path in paths for call in calls_of_a_population(path)]
    assert [call for call in calls if call[2] not in POPULATIONS] == []
    assert len(calls) > 10
    assert {"Classification.from_items", "ScoreTable.from_items", "SelectionPlan", "equate_by_items"} <= {
        function for _, function, _ in calls
    }
