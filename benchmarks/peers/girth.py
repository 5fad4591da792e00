"""Fit with `girth` in that package's own Python: girth.py MODEL FILE.npy NODES. Prints a line of JSON."""

import json
import sys
from importlib.metadata import version

import numpy as np
from girth import grm_mml, pcm_mml, twopl_mml
from girth.utilities import INVALID_RESPONSE

model, path, nodes = sys.argv[1], sys.argv[2], int(sys.argv[3])
x = np.load(path).astype(np.int64)
data = np.where(x < 0, INVALID_RESPONSE, x).T.copy()
fit = {"2pl": twopl_mml, "graded": grm_mml, "gpcm": pcm_mml}[model]  # its pcm_mml estimates a slope for each item
result = fit(data, {"quadrature_n": nodes, "quadrature_bounds": (-6, 6)})
print(
    json.dumps(
        {
            "version": version("girth"),
            "models": "Rasch, 1PL, 2PL, 3PL, graded, PCM with slopes, unfolding",
            "anchors": "no",
            "a": result["Discrimination"].tolist(),
            "b": result["Difficulty"].tolist(),
        }
    )
)
