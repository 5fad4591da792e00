"""Fit with `raschpy` in that package's own Python: raschpy.py MODEL FILE.npy NODES. Prints a line of JSON.

It fits only the Rasch family, by comparisons of pairs of items: instead of a 2PL it fits a Rasch model, instead of a
GPCM a
partial credit model. Difficulties are centred at 0."""

import json
import sys
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd
from raschpy import PCM, SLM

warnings.simplefilter("ignore")
model, path = sys.argv[1:3]
has = {"version": version("raschpy"), "models": "Rasch, PCM, RSM, many facets", "anchors": "a shift after the fit"}
if model == "graded":
    print(json.dumps(has))
    sys.exit()

x = np.load(path).astype(float)
x[x < 0] = np.nan
data = pd.DataFrame(x, columns=[f"i{j:03d}" for j in range(x.shape[1])])
of = SLM(data) if model == "2pl" else PCM(data, max_score_vector=[int(m) for m in np.nanmax(x, axis=0)])
of.calibrate()
of.std_errors()
if model == "2pl":
    print(json.dumps(has | {"b": of.items.tolist(), "b_se": of.item_se.tolist()}))
else:
    print(json.dumps(has | {"b": of.thresholds_uncentred.loc[list(data)].to_numpy().tolist()}))
