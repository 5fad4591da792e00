"""Fit the answers again with irt-psychometrics, and compare the parameters with parameters.csv.

Run it in its folder: python reproduce.py. Exit code 0: no parameter differs by more than 1e-4.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from irt_psychometrics import Responses
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.items import ItemRow, Priors

folder = Path(__file__).parent
settings = json.loads((folder / "settings.json").read_text("utf-8"))
with (folder / "responses.csv").open(encoding="utf-8", newline="") as file:
    answers = list(csv.DictReader(file))
with (folder / "parameters.csv").open(encoding="utf-8", newline="") as file:
    known = {row["item"]: row for row in csv.DictReader(file)}

columns = {name: [row[name] for row in answers] for name in ("learner_key", "item", "score")}
items = sorted(set(columns["item"]))
x = Responses.from_long(
    columns,
    person="learner_key",
    item_ids=items,
    max_score={item: settings["items"][item]["max_score"] for item in items},
)
fit = fit_em(
    x,
    model=[settings["items"][item]["model"] for item in items],
    priors=Priors.from_dict(settings["priors"]),
    latent=settings["latent"],
    guessing=settings["guessing"],
    blocks=settings["blocks"],
    prior_on_rare_steps=settings["prior_on_rare_steps"],
)

worst = 0.0
for j, item in enumerate(fit.item_ids):
    if not np.isfinite(fit.a[j]) or not known[item]["mirt_a1"]:
        continue
    found = ItemRow(fit.a[j], fit.b[j], fit.c[j], further=fit.further_of(j)).columns("mirt")
    for name, value in found.items():
        worst = max(worst, abs(value - float(known[item][f"mirt_{name}"] or 0)))
print(f"log-likelihood {fit.convergence.loglik:.6f}, in the platform {settings['loglik']:.6f}")
print(f"largest difference of a parameter: {worst:.2g}")
sys.exit(not worst <= 1e-4)
