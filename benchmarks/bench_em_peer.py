"""Fit with a package of PyPI in that package's own Python: bench_em_peer.py NAME ANSWERS PERSONS ITEMS REPEATS.

Prints a line of JSON. Imports nothing of irt-assets; ANSWERS as in bench_em_peer.R.
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path

import numpy as np

name, path, n_persons, n_items, repeats = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
x = np.fromfile(path, dtype=np.int8).reshape(n_persons, n_items).astype(np.int64)
if name == "girth":
    from girth import twopl_mml
    from girth.utilities import INVALID_RESPONSE

    data = np.where(x < 0, INVALID_RESPONSE, x).T.copy()

    def fit():
        result = twopl_mml(data, {"quadrature_n": 61, "quadrature_bounds": (-6, 6)})
        return result["Discrimination"], -result["Discrimination"] * result["Difficulty"]
else:
    from mirt import fit_mirt

    def fit():
        model = fit_mirt(x, "2PL", n_quadpts=61, compute_standard_errors=name == "mirt-errors").model
        return model.parameters["discrimination"].ravel(), -(
            model.parameters["discrimination"].ravel() * model.parameters["difficulty"].ravel()
        )


seconds, cpu = [], []
for _ in range(repeats):
    wall, used = time.perf_counter(), time.process_time()
    a, d = fit()
    seconds.append(time.perf_counter() - wall)
    cpu.append(time.process_time() - used)
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
package = name.removesuffix("-errors")
print(
    json.dumps(
        {
            "seconds": seconds[1:] or seconds,  # the first fit is a warm-up
            "cpu": cpu[1:] or cpu,
            "a": list(a),
            "d": list(d),
            "peak_mb": int(status["VmHWM"].split()[0]) / 1024,
            "version": importlib.metadata.version(package),
        }
    )
)
