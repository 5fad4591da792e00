"""Fit with the library in its own process: ours.py MODEL FILE.npy NODES. Prints a line of JSON."""

import json
import sys
from importlib.metadata import version

import numpy as np

import irt_psychometrics as irt
from irt_psychometrics.scoring import estimate_abilities

model, path, nodes = sys.argv[1], sys.argv[2], int(sys.argv[3])
has = {
    "version": version("irt-psychometrics"),
    "models": "Rasch, 1PL, 2PL, 3PL, PCM, RSM, GPCM, graded, mixed",
    "anchors": "yes, item by item",
}
items_given = np.load(path)
answers = items_given["x"] if model == "abilities" else items_given
most = None if model not in ("gpcm", "graded") else {f"i{j + 1}": int(m) for j, m in enumerate(answers.max(axis=0))}
x = irt.Responses.from_wide(np.where(answers < 0, np.nan, answers), max_score=most)
if model == "abilities":
    scores = estimate_abilities(
        x, items_given["a"], -items_given["a"] * items_given["b"], np.zeros_like(items_given["a"]), method="ml"
    )
    print(json.dumps(has | {"method": "ML", "theta": scores.theta.tolist()}))
    sys.exit()

fit = irt.fit(x, "grm" if model == "graded" else model, nodes=nodes)
items = fit.items
b, b_se = items.b, items.b_se
if items.steps:
    names = [name for name in items.steps if not name.endswith("_se")]
    b = np.column_stack([items.steps[name] for name in names])
    b_se = np.column_stack([items.steps[f"{name}_se"] for name in names])
scores = {"a": items.a, "a_se": items.a_se, "b": b, "b_se": b_se}
print(json.dumps(has | {"loglik": fit.log_likelihood} | {k: v.tolist() for k, v in scores.items()}))
