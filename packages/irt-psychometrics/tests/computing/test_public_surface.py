"""Every public name is found in any order of imports, documented arguments work, and type checkers find mistakes."""

import doctest
import importlib
import inspect
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import irt_psychometrics
import irt_psychometrics as irt
from irt_psychometrics.estimation import FitOptions

MODULES = (
    *("responses", "items", "estimation", "scoring", "alignment", "linking", "itemfit", "classical", "drift", "dif"),
    *("equating", "assembly", "information", "simulation", "datasets", "plots"),
)
HERE = Path(irt_psychometrics.__file__).parent
MODULES_WITH_EXAMPLES = [
    ".".join(path.relative_to(HERE).with_suffix("").parts)
    for path in sorted(HERE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]
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
for public in ("fit", "latent_regression", "link", "compare", "find_drift", "find_dif", "simulate_responses"):
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


@pytest.mark.parametrize("module", MODULES_WITH_EXAMPLES)
def test_examples_of_docstrings_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"irt_psychometrics.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


def public_objects() -> dict[str, Any]:
    """Return the classes and functions among the public names of the package and of its modules."""
    modules = [irt, *(importlib.import_module(f"irt_psychometrics.{name}") for name in (*MODULES, "adaptive", "cells"))]
    found = {f"{module.__name__}.{name}": getattr(module, name) for module in modules for name in module.__all__}
    return {name: one for name, one in found.items() if inspect.isfunction(one) or inspect.isclass(one)}


def test_public_functions_have_examples_and_state_their_results() -> None:
    functions = {name: one.__doc__ for name, one in public_objects().items() if inspect.isfunction(one)}
    assert {name for name, text in functions.items() if ">>> " not in text or "Returns\n" not in text} == set()


def test_public_methods_have_docstrings() -> None:
    without = set()
    for name, owner in public_objects().items():
        for method, found in vars(owner).items() if inspect.isclass(owner) else ():
            own = getattr(found, "__func__", None) or getattr(found, "fget", None) or found
            if inspect.isfunction(own) and own.__module__.startswith("irt_psychometrics") and not own.__doc__:
                without |= set() if method.startswith("_") else {f"{name}.{method}"}
    assert without == set()


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


# -- documented arguments ----------------------------------------------------------------------------

ITEMS = irt.ItemParameters.from_frame(
    {"item": [f"q{j}" for j in range(6)], "a": np.linspace(0.8, 1.6, 6), "b": np.linspace(-1, 1, 6)}
)
X = irt.simulate_responses(ITEMS, np.random.default_rng(1).normal(size=600), random_state=1)
HALVES = ["first", "second"] * 300
UNIT = np.ones(600)
CALLS: dict[str, list[dict[str, Any]]] = {
    "fit": [
        {"x": X, "model": "2pl", "priors": irt.Priors(a=irt.LogNormal(0, 0.5)), "progress": lambda *_: None},
        {"x": X, "groups": HALVES, "reference": "second", "anchors": ITEMS.select(["q0", "q1"])},
        {"x": X, "latent": "histogram", "nodes": 41, "tolerance": 1e-4, "max_iterations": 300, "threads": 1},
        {"x": X, "weights": UNIT},
        {"x": X, "sampling_weights": UNIT},
        {"x": X, "testlets": {"q0": "t", "q1": "t"}},
        {"x": X, "likelihood_only": True},
        {"x": X, "abilities_known": True},
        {"x": X, "learners": np.arange(600) // 2},
        {"x": X, "model": "rsm", "blocks": {"q0": "b"}, "prior_on_rare_steps": False},
        {
            "x": {"who": [*range(60)], "q1": [*"AAABBB"] * 10, "q2": [*"CCDDDC"] * 10},
            "model": "rasch",
            "person": "who",
            "key": {"q1": "A", "q2": "C"},
        },
        {"x": {"q1": [0, 1, 2] * 20, "q2": [0, 1, 1] * 20, "q3": [0, 1] * 30}, "model": "pcm", "max_score": {"q1": 2}},
        {"x": X, "model": "3pl", "guessing": {"q0": 0.2}},
        {"x": X, "dimensions": 2},
    ],
    "latent_regression": [
        {"responses": X, "items": ITEMS, "covariates": {"half": HALVES}, "reference": {"half": "second"}},
        {"responses": X, "items": ITEMS, "groups": HALVES, "sampling_weights": UNIT, "clusters": np.arange(600) // 20},
        {"responses": X, "model": "rasch"},
    ],
    "link": [{"anchors": [*X.item_ids], "method": "haebara", "symmetric": True}],
    "compare": [{}],
    "find_drift": [{"anchors": [*X.item_ids], "responses": X}],
    "find_dif": [{"x": X, "groups": HALVES, "model": "2pl", "reference": "first"}],
    "simulate_responses": [{"items": ITEMS, "theta": [0.0, 1.0], "random_state": 1}],
}
"""Calls of each public function by the names of arguments."""


def documented_arguments(function: Callable[..., object]) -> Iterator[str]:
    """Yield the arguments in the signature and in the section Parameters of the docstring."""
    of_signature = inspect.signature(function).parameters.values()
    yield from (one.name for one in of_signature if one.kind is not one.VAR_KEYWORD)
    section = re.search(r"Parameters\n-+\n(.*?)\n\n", inspect.getdoc(function) or "", re.DOTALL)
    for line in section.group(1).splitlines() if section else ():
        if not line.startswith(" "):
            yield from (FitOptions.__annotations__ if line == "options" else line.split(", "))


@pytest.mark.filterwarnings("ignore")
def test_public_functions_accept_every_documented_argument() -> None:
    fitted = irt.fit(X)
    shared: dict[str, dict[str, Any]] = {
        "link": {"new": fitted, "old": ITEMS},
        "find_drift": {"new": fitted, "old": ITEMS},
        "compare": {"first": irt.fit(X, "1pl"), "second": fitted},
    }
    CALLS["fit"].append({"x": X, "start": fitted.calibration})
    functions = {name: getattr(irt, name) for name in irt.__all__ if inspect.isfunction(getattr(irt, name))}
    assert set(functions) == set(CALLS), "each public function needs calls in CALLS"
    without_call = []
    for name, function in functions.items():
        calls = [shared.get(name, {}) | call for call in CALLS[name]]
        for call in calls:
            function(**call)
        named = set().union(*calls)
        without_call += [f"{name}({argument}=)" for argument in documented_arguments(function) if argument not in named]
    assert not without_call, f"no call in CALLS has {', '.join(without_call)}"


# -- type checkers -----------------------------------------------------------------------------------

MISTAKES = """
import irt_psychometrics as irt

x = irt.Responses.from_wide([[1, 0, 1], [0, 1, 1]])
f = irt.fit(x, "2pl", groups=["a", "b"], max_iterations=10)
f.score(x, "wle")
frame = f.to_frame("pandas").set_index("item")
irt.fit(x, modle="2pl")  # mistake
irt.fit(x, "2lp")  # mistake
f.score(x, method="eapp")  # mistake
f.to_frame(kind="panda")  # mistake
irt.fit(f)  # mistake
"""


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_find_the_five_mistakes_of_a_file(checker: str, tmp_path: Path) -> None:
    beside = Path(sys.executable).parent / checker
    command = str(beside) if beside.exists() else shutil.which(checker)
    if command is None:
        pytest.skip(f"{checker} is not installed")
    file = tmp_path / "mistakes.py"
    file.write_text(MISTAKES)
    options = {
        "mypy": ["--strict", "--config-file=", "--follow-imports=silent", "--python-executable", sys.executable],
        "pyright": ["--pythonpath", sys.executable],
    }[checker]
    found = subprocess.run([command, *options, file.name], cwd=tmp_path, capture_output=True, text=True, check=False)
    lines = {int(line) for line in re.findall(r"mistakes\.py:(\d+):(?:\d+ -)? error", found.stdout)}
    assert lines == {k for k, line in enumerate(MISTAKES.splitlines(), 1) if "# mistake" in line}, found.stdout
