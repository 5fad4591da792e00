"""Fit with `irtorch` on the CPU in that package's own Python: irtorch.py MODEL FILE.npy NODES. Prints a line of JSON.

It uses its default settings: equally spaced nodes on [−3, 3] with weights that are not normalised, so its log L is left
out."""

import contextlib
import io
import json
import sys
from importlib.metadata import version

import numpy as np
import torch
from irtorch.estimation_algorithms import MML
from irtorch.models import GeneralizedPartialCredit, GradedResponse, TwoParameterLogistic

model, path, nodes = sys.argv[1], sys.argv[2], int(sys.argv[3])
x = torch.tensor(np.load(path), dtype=torch.float32)  # −1: not seen
torch.manual_seed(1)
kind = {"2pl": TwoParameterLogistic, "graded": GradedResponse, "gpcm": GeneralizedPartialCredit}[model]
of = kind(items=x.shape[1]) if model == "2pl" else kind(item_categories=[int(m) + 1 for m in x.max(dim=0).values])
with contextlib.redirect_stdout(io.StringIO()):
    of.fit(x, algorithm=MML(), quadrature_points=nodes, device="cpu")
table = of.item_parameters().to_numpy()
a, d = table[:, 0], table[:, 1:]
b = {"graded": -d / a[:, None], "gpcm": -d / a[:, None], "2pl": -d[:, 0] / a}[model]
print(
    json.dumps(
        {
            "version": version("irtorch"),
            "models": "1PL, 2PL, 3PL, graded, GPCM, nominal, nested logit, splines, monotone networks, up to 3 factors",
            "anchors": "no",
            "a": a.tolist(),
            "b": b.tolist(),
        }
    )
)
