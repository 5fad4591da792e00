"""One fit by the library, as a process of its own: ours.py MODEL FILE.npy NODES; a line of JSON."""

import json
import sys
from importlib.metadata import version

import numpy as np

from irt_psychometrics import Responses
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.scoring import score

model, path, nodes = sys.argv[1], sys.argv[2], int(sys.argv[3])
has = {
    "version": version("irt-psychometrics"),
    "models": "Rasch, 1PL, 2PL, 3PL, PCM, RSM, GPCM, mixed",
    "anchors": "yes, item by item",
}
if model == "graded":
    print(json.dumps(has))
    sys.exit()

given = np.load(path)
x = given["x"] if model == "abilities" else given
person, item = np.nonzero(x >= 0)
categories = None if model != "gpcm" else x.max(axis=0).astype(np.int64) + 1
responses = Responses(
    person.astype(np.int32),
    item.astype(np.int32),
    x[person, item],
    len(x),
    tuple(f"i{j:03d}" for j in range(x.shape[1])),
    categories,
)
if model == "abilities":
    scores = score(responses, given["a"], -given["a"] * given["b"], np.zeros_like(given["a"]), method="ml")
    print(json.dumps(has | {"method": "ML", "theta": scores.theta.tolist()}))
    sys.exit()

fit = fit_em(responses, model=model, nodes=nodes)
found = {"a": fit.a, "a_se": fit.a_se, "b": fit.b, "b_se": fit.b_se}
if categories is not None:
    rows = [fit.further_of(j) for j in range(fit.n_items)]
    log_odds = np.array([[row[f"t{k}"] for k in range(categories.max())] for row in rows])
    # the log-odds of a score k are a·k·θ + d_k; its step is where k and k − 1 are as likely
    d = log_odds + fit.d[:, None] * np.arange(categories.max())
    found["b"] = -np.diff(d) / fit.a[:, None]
    found["b_se"] = [[row[f"b{k}_se"] for k in range(1, categories.max())] for row in rows]
print(json.dumps(has | {"loglik": fit.convergence.loglik} | {k: np.asarray(v).tolist() for k, v in found.items()}))
