"""Fit with `py-irt` on the CPU in that package's own Python: py_irt.py MODEL FILE.npy NODES. Prints a line of JSON.

Variational Bayes with 2000 epochs, its default, and hierarchical priors: its default prior of b has an SD of .1. This
leaves the scale free, so it is fixed afterwards: the abilities' posterior gets mean 0 and SD 1."""

import json
import sys
from importlib.metadata import version

import numpy as np
import pandas as pd
import pyro
from py_irt.config import IrtConfig
from py_irt.dataset import Dataset
from py_irt.training import IrtModelTrainer

has = {"version": version("py-irt"), "models": "1PL, 2PL, 3PL, 4PL, 2PL with several factors", "anchors": "yes"}
if sys.argv[1] != "2pl":
    print(json.dumps(has))
    sys.exit()

x = np.load(sys.argv[2]).astype(float)
x[x < 0] = np.nan
pyro.set_rng_seed(1)
data = Dataset.from_pandas(pd.DataFrame(x, columns=[f"i{j:03d}" for j in range(x.shape[1])]))
fit = IrtModelTrainer(
    data_path=None, dataset=data, config=IrtConfig(model_type="2pl", priors="hierarchical", seed=1), verbose=False
)
fit.train()
at, spread = (pyro.param(name).detach().numpy() for name in ("loc_ability", "scale_ability"))
mean, sd = at.mean(), np.sqrt(at.var() + (spread**2).mean())
order = [int(fit.last_params["item_ids"][k][1:]) for k in range(x.shape[1])]
a, b = np.empty(len(order)), np.empty(len(order))
a[order] = np.array(fit.last_params["disc"]) * sd
b[order] = (np.array(fit.last_params["diff"]) - mean) / sd
print(json.dumps(has | {"a": a.tolist(), "b": b.tolist()}))
