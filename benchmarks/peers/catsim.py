"""Estimate abilities with `catsim`: catsim.py abilities FILE.npz NODES. Prints a line of JSON.

catsim does not estimate items.
"""

import json
import sys
from importlib.metadata import version

import numpy as np

has = {"version": version("catsim"), "models": "abilities only, 1PL–4PL", "anchors": "items are given"}
if sys.argv[1] != "abilities":
    print(json.dumps(has))
    sys.exit()

from catsim.estimation import NumericalSearchEstimator  # noqa: E402
from catsim.item_bank import ItemBank  # noqa: E402

items = np.load(sys.argv[2])
x, a, b = items["x"], items["a"], items["b"]
bank = ItemBank(np.column_stack([a, b, np.zeros_like(a), np.ones_like(a)]))
by = NumericalSearchEstimator()
every = list(range(len(a)))
theta = [
    by.estimate(item_bank=bank, administered_items=every, response_vector=[bool(v) for v in row], est_theta=0.0)
    for row in x
]
print(json.dumps(has | {"method": "ML", "theta": theta}))
