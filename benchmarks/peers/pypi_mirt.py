"""Fit with `mirt` of PyPI in that package's own Python: pypi_mirt.py MODEL FILE.npy NODES. Prints a line of JSON."""

import json
import sys
from importlib.metadata import version

import numpy as np
from mirt import fit_mirt, fscores

model, path, nodes = sys.argv[1], sys.argv[2], int(sys.argv[3])
has = {
    "version": version("mirt"),
    "models": "1PL–5PL, graded, PCM, GPCM, RSM, nominal, mixed, several factors, bifactor, testlet, DINA, …",
    "anchors": "yes, `fixed=`",
}
parameters = np.load(path)
if model == "abilities":
    x = parameters["x"].astype(np.int64)
    items = {"discrimination": parameters["a"], "difficulty": parameters["b"]}  # it scores only with fitted models
    fit = fit_mirt(x, "2PL", start_values=items, fixed=dict.fromkeys(items, True), compute_standard_errors=False)
    scores = fscores(fit, x, method="ML")
    print(json.dumps(has | {"method": "ML", "theta": np.ravel(scores.theta).tolist()}))
    sys.exit()

x = parameters.astype(np.int64)  # −1: not seen
fit = fit_mirt(x, {"2pl": "2PL", "graded": "GRM", "gpcm": "GPCM"}[model], n_quadpts=nodes)
b = {"2pl": "difficulty", "graded": "thresholds", "gpcm": "steps"}[model]
print(
    json.dumps(
        has
        | {
            "loglik": fit.log_likelihood,
            "a": fit.model.parameters["discrimination"].tolist(),
            "b": fit.model.parameters[b].tolist(),
            "a_se": fit.standard_errors["discrimination"].tolist(),
            "b_se": fit.standard_errors[b].tolist(),
        }
    )
)
