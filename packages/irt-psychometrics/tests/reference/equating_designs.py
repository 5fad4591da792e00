"""Simulate the designs of equating.json: python equating_designs.py > designs.json.

Two forms of 30 items and an anchor of 12, from the two-parameter model. 1,500 learners answer each form, the new form's
.3 SD above the old form's. With the internal anchor, its items count in the forms' scores. 1,200 learners of the single
group answer the first 20 items of both forms.
"""

import json

import numpy as np

rng = np.random.default_rng(20261129)


def form(size):
    return rng.lognormal(0, 0.25, size), rng.normal(0, 1, size)


def scores(theta, a, b):
    return (rng.random((theta.size, a.size)) < 1 / (1 + np.exp(-a * (theta[:, None] - b)))).sum(1)


def counts(rows, columns, shape):
    found = np.zeros(shape, int)
    np.add.at(found, (rows, columns), 1)
    return found.tolist()


new_a, new_b = form(30)
old_a, old_b = form(30)
anchor_a, anchor_b = form(12)
new_b = new_b + 0.2
out = {}
for name in ("internal", "external"):
    t1, t2 = rng.normal(0.3, 1, 1500), rng.normal(0, 1, 1500)
    v1, v2 = scores(t1, anchor_a, anchor_b), scores(t2, anchor_a, anchor_b)
    x, y = scores(t1, new_a, new_b), scores(t2, old_a, old_b)
    if name == "internal":
        x, y = x + v1, y + v2
    shape = (43 if name == "internal" else 31, 13)
    out[f"{name} new"], out[f"{name} old"] = counts(x, v1, shape), counts(y, v2, shape)
t = rng.normal(0, 1, 1200)
out["single group"] = counts(scores(t, new_a[:20], new_b[:20]), scores(t, old_a[:20], old_b[:20]), (21, 21))
print(json.dumps(out))
