"""The cache of kernels: bits of loaded and of compiled kernels, with and without numba's registries."""

import os
import subprocess
import sys
from pathlib import Path

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
