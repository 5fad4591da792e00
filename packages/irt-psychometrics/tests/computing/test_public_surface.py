"""Every public name is found in any order of imports, and the examples of the docstrings run."""

import doctest
import importlib
import random
import subprocess
import sys

import pytest

import irt_psychometrics

MODULES = (
    *("responses", "items", "estimation", "scoring", "alignment", "linking", "itemfit", "classical", "drift", "dif"),
    *("equating", "assembly", "information", "simulation", "plots"),
)
IN_RANDOM_ORDER = """
import importlib, types
names = {names}
for name in names:
    module = importlib.import_module("irt_psychometrics." + name if name else "irt_psychometrics")
    for public in module.__all__:
        getattr(module, public)
import irt_psychometrics as irt
for name in names:
    if name:
        assert isinstance(getattr(irt, name), types.ModuleType), name
for public in ("fit", "link", "compare", "find_drift", "find_dif", "simulate_responses"):
    assert isinstance(getattr(irt, public), types.FunctionType), public
assert not set(irt.__all__) & {{name for name in names if name}}
"""


@pytest.mark.parametrize("seed", range(3))
def test_functions_stay_functions_and_modules_modules_in_any_order_of_imports(seed: int) -> None:
    names = ["", *MODULES]
    random.Random(seed).shuffle(names)
    subprocess.run([sys.executable, "-c", IN_RANDOM_ORDER.format(names=names)], check=True)


def test_modules_are_attributes_of_the_package_before_they_are_imported() -> None:
    code = "import irt_psychometrics as irt\nfor name in {}: assert name in dir(irt), name; getattr(irt, name).__all__"
    subprocess.run([sys.executable, "-c", code.format([*MODULES, "adaptive", "cells"])], check=True)


def test_package_lists_unique_names_and_has_them_all() -> None:
    names = irt_psychometrics.__all__
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(irt_psychometrics))
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = irt_psychometrics.fitt  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "module",
    [
        *("core.responses", "core.items", "fitting", "links", "comparison", "simulation.from_items"),
        *("cells.columns", "cells.reading", "cells.choices", "cells.derived_columns", "cells.notes"),
    ],
)
def test_examples_of_docstrings_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"irt_psychometrics.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


WITHOUT = """
import sys
import irt_psychometrics as irt
dir(irt)
loaded = {"numpy", "scipy", "numba", "narwhals", "pandas", "polars", "pyarrow", "tqdm"} & set(sys.modules)
assert not loaded, loaded
"""


def test_importing_the_package_imports_no_dependency() -> None:
    """The import takes little time, and each public name imports only the modules that it needs."""
    subprocess.run([sys.executable, "-c", WITHOUT], check=True)
