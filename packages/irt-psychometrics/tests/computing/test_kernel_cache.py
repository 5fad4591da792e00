"""Compiled kernels: bits with and without numba's registries, copies, results that are arrays, and the notice."""

import ast
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numba.core.caching import NullCache

import irt_psychometrics
from irt_psychometrics.commands import main
from irt_psychometrics.core import kernel_cache
from irt_psychometrics.core.kernels import _in_place_kernel, _inlined_kernel, _kernel

SCRIPT = """
import sys
import numba
import numpy as np
from irt_psychometrics.core import kernel_cache, kernels, layout_kernels

if sys.argv[1] == "unknown":
    kernel_cache.KNOWN_NUMBA = None
probabilities = np.empty((2, 2, 5))
kernels.logistic_table(np.array([0.5, 2.0]), np.array([0.1, -1.0]), np.linspace(-3, 3, 5), *probabilities)
registries = "numba.typed.dictimpl" in sys.modules
compiled_later = numba.njit(lambda n: {n: np.arange(n).sum()})(4)
print(registries, compiled_later, probabilities.tobytes().hex())
"""


def test_loaded_kernels_need_no_registries_and_match_compiled_kernels_bitwise(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    def run(numba: str) -> list[str]:
        command = [sys.executable, "-c", SCRIPT, numba]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()

    compiled, loaded, by_numba = run("known"), run("known"), run("unknown")
    assert [found[0] for found in (compiled, loaded, by_numba)] == ["True", "False", "True"]
    assert compiled[1:] == loaded[1:] == by_numba[1:]


@_inlined_kernel
def shifted(x, by):  # type: ignore[no-untyped-def]
    return x + by


@_kernel
def shifted_by_literals_and_a_variable(x, n):  # type: ignore[no-untyped-def]
    by = 0
    for k in range(n):
        x = shifted(x, by) + shifted(x, 1) + shifted(x, -1)
        by = k
    return x


@_in_place_kernel
def unchanged(table):  # type: ignore[no-untyped-def]
    return table


@_kernel
def sum_of_unchanged(table):  # type: ignore[no-untyped-def]
    return unchanged(table).sum()


def test_kernel_called_with_several_literals_is_compiled_once() -> None:
    for kernel in (shifted, shifted_by_literals_and_a_variable):
        kernel.dispatcher._cache = NullCache()  # a kernel from the cache compiles nothing that it calls
    assert shifted_by_literals_and_a_variable(1.0, 2) == 9.0
    assert len(shifted.dispatcher.signatures) == 1


def test_in_place_kernel_that_returns_an_array_to_a_kernel_is_rejected() -> None:
    """The kernel that calls it would free the array, which it does not own."""
    with pytest.raises(TypeError, match="unchanged returns an array"):
        sum_of_unchanged(np.ones((2, 2)))


def test_kernels_assign_no_arrays_to_slices() -> None:
    """numba compiles the text of an error for arrays of two shapes, which takes longer than most kernels."""
    found = []
    for path in Path(irt_psychometrics.__file__).parent.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(
                "kernel" in ast.unparse(d) for d in function.decorator_list
            ):
                found += [
                    f"{path.name}: {ast.unparse(line)}"
                    for line in ast.walk(function)
                    if isinstance(line, ast.Assign | ast.AugAssign) and not isinstance(line.value, ast.Constant)
                    for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
                    if any(isinstance(part, ast.Slice) for part in ast.walk(target))
                ]
    assert found == []


@pytest.mark.parametrize("enabled", [True, False])
def test_garbage_collector_is_paused_while_kernels_are_compiled(enabled: bool) -> None:
    compilation = kernel_cache.Compilation()
    kernel = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=kernel_cache.compile_kernel)})
    before, states = gc.isenabled(), []
    (gc.enable if enabled else gc.disable)()
    try:
        for change in (compilation.on_start, compilation.on_start, compilation.on_end, compilation.on_end):
            change(kernel)
            states.append(gc.isenabled())
    finally:
        (gc.enable if before else gc.disable)()
    assert states == [False, False, False, enabled]


def test_compilation_is_explained_once_to_a_person_who_waits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 0.1, 0.2, 2.0, 3.0, 9.0, 10.0])
    monkeypatch.setattr(kernel_cache.time, "monotonic", lambda: next(now))
    monkeypatch.setattr(kernel_cache, "_is_watched", lambda: True)
    compilation = kernel_cache.Compilation()
    kernel = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=kernel_cache.compile_kernel)})
    called = SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=np.sum)})
    for number in range(2):
        compilation.on_start(kernel)
        compilation.on_start(called)
        compilation.on_end(called)
        if number == 0:
            compilation.on_end(kernel)
            assert capsys.readouterr().err == ""
    compilation.on_start(kernel)
    compilation.on_end(kernel)
    compilation.on_end(kernel)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "python -m irt_psychometrics warm-up" in told
    assert (compilation.kernels, round(compilation.seconds, 6)) == (3, 8.9)


def test_warm_up_prints_how_many_kernels_it_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warm-up", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"kernels", "seconds"}
