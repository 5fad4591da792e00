"""Fits of all item models by em and by R mirt: log L, parameters, standard errors and C₂.

    R_LIBS=… IRT_SHARED=../shared python -m benchmarks.bench_against_mirt

The sets are four published ones, complete, and six simulated ones: 20 items with 3 and 4 scores of which each learner
sees half, 10 items with 7 scores, and 20 multiple-choice items beside 8 with 4 scores. mirt's parameters are slopes,
intercepts d_k, and logit c with the prior N(−1.386, .5²), which both programs have; steps have no prior. The table has
the largest absolute difference of slopes and of the other parameters, the largest relative difference of their standard
errors, and the relative difference of C₂ (complete sets; M₂ if all scores are 0 and 1). mirt's derivatives of a GPCM's
expected scores by the slope are wrong, so C₂ is compared with mirt's by numerical derivatives, too.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import irt_psychometrics as irt
from benchmarks.bench_item_models import Items
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.model_families import GRM
from irt_psychometrics.itemfit.m2 import form_fit

SHARED = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[2] / "shared"))
PEER = Path(__file__).parents[1] / "packages/irt-psychometrics/tests/computing/models_reference.R"
GUESSING = irt.Priors(c=irt.LogitNormal(-1.386294, 0.5))
PUBLISHED = (
    ("Science", "science_wide.csv", "", ("gpcm", "grm", "pcm")),
    ("verbal aggression, 0 … 2", "verbal_aggression_poly_wide.csv", "S", ("gpcm", "grm", "pcm")),
    ("verbal aggression, 0 and 1", "verbal_aggression_binary_wide.csv", "S", ("2pl",)),
    ("LSAT7", "lsat7_wide.csv", "item", ("2pl",)),
    ("SAT12", "sat12_scored_wide.csv", "item", ("2pl", "3pl")),
    ("irtoys", "irtoys_scored_wide.csv", "item", ("2pl", "3pl")),
    ("SPISA", "spisa_wide.csv.gz", "item", ("2pl",)),
)
SIMULATED = (
    ("half of 20 items seen, 0 … 3", (0, 20), 4, 0.5, ("gpcm", "grm")),
    ("half of 20 items seen, 0 … 2", (0, 20), 3, 0.5, ("gpcm", "grm")),
    ("10 items, 0 … 6", (0, 10), 7, 1.0, ("gpcm", "grm")),
    ("20 multiple choice, 8 items 0 … 3", (20, 8), 4, 1.0, ("3pl+gpcm", "3pl+grm")),
)


def read(name: str, prefix: str) -> tuple[list[str], np.ndarray]:
    """Return the items that begin with the prefix, without `person`, and scores from 0."""
    path = SHARED / "data" / name
    with (gzip.open if name.endswith("gz") else open)(path, "rt") as file:
        head, *rows = csv.reader(file)
    at = [k for k, column in enumerate(head) if column != "person" and column.startswith(prefix)]
    x = np.array([[float(row[k]) if row[k] else np.nan for k in at] for row in rows])
    return [head[k] for k in at], x - np.nanmin(x, axis=0)


def simulate(sizes: tuple[int, int], categories: int, seen: float, model: str) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng([2026, categories, len(model)])
    items = Items.draw(rng, model, sizes, categories)
    x = items.responses(rng, rng.normal(0, 1, 3000)).score.reshape(3000, -1).astype(float)
    if seen < 1:
        x[rng.random(x.shape).argsort(axis=1) >= round(seen * x.shape[1])] = np.nan
    return items.ids, x


def sets() -> Iterator[tuple[str, str, list[str], np.ndarray, list[str]]]:
    """Yield name, model, items, scores and each item's model of all comparisons."""
    for name, file, prefix, models in PUBLISHED:
        ids, x = read(file, prefix)
        for model in models:
            yield name, model, ids, x, [model] * len(ids)
    for name, sizes, categories, seen, models in SIMULATED:
        for model in models:
            ids, x = simulate(sizes, categories, seen, model)
            yield name, model, ids, x, [model.split("+")[0] if item[0] == "m" else model.split("+")[-1] for item in ids]


def by_mirt(ids: list[str], x: np.ndarray, models: list[str]) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        csv.writer(file).writerows([ids, *(["" if np.isnan(v) else int(v) for v in row] for row in x)])
        file.flush()
        done = subprocess.run(
            ["Rscript", str(PEER), file.name, ",".join(models)], capture_output=True, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def in_mirts_form(fit: irt.Calibration, j: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a, d_1 … d_m and logit c of an item, and their standard errors by the delta method."""
    parameters, n = fit.parameters[:, j], int(fit.n_categories[j])
    if item_model(fit.models[j]).highest_score == 1:
        size = 3 if fit.models[j] == "3pl" else 2
        values, by = parameters[:size], np.eye(size)
    else:
        own, size = parameters[: 2 + n], 2 + n
        if item_model(fit.models[j]) is GRM:
            steps, by_steps = GRM.steps(own)
            intercepts = -own[0] * steps
            by = -own[0] * by_steps - steps[:, None] * np.eye(1, size)
        else:
            intercepts = np.arange(1, n) * own[1] + own[3:]
            by = np.column_stack([np.zeros(n - 1), np.arange(1, n), np.eye(n)[1:]])
        values, by = np.concatenate([own[:1], intercepts]), np.vstack([np.eye(1, size), by])
    return values, np.sqrt(np.einsum("kp,pq,kq->k", by, fit.cov[j, :size, :size], by))


def compare(ids: list[str], x: np.ndarray, models: list[str]) -> dict[str, float]:
    """Differences between em and mirt, and between their C₂ if the set is complete."""
    peer = by_mirt(ids, x, models)
    most = {item: int(np.nanmax(column)) for item, column in zip(ids, x.T, strict=True)}
    responses = irt.Responses.from_wide(x, ids, max_score=most)
    priors = GUESSING if "3pl" in models else None
    of_items = dict(
        zip(ids, ["rasch" if m == "pcm" and most[i] == 1 else m for i, m in zip(ids, models, strict=True)], strict=True)
    )
    fit = irt.fit(responses, of_items, priors=priors, prior_on_rare_steps=False)
    found: dict[str, list[float]] = {"a": [], "d": [], "logit c": [], "SE": []}
    for j, item in enumerate(ids):
        values, errors = in_mirts_form(fit.calibration, j)
        other = peer["items"][item]
        for name, value, error, true, true_error in zip(
            other["names"], values, errors, other["estimates"], other["errors"], strict=True
        ):
            found["a" if name == "a1" else "logit c" if "g" in name else "d"].append(abs(value - true))
            if true_error not in (None, "NA"):
                found["SE"].append(abs(error / true_error - 1))
    worst = {kind: max(values) for kind, values in found.items() if values}
    worst = {"log L": fit.calibration.convergence.loglik - peer["loglik"]} | worst
    if peer["corrected"]:
        (form,) = form_fit(responses, fit.calibration)
        worst["df"] = form.df - peer["corrected"]["df"]
        worst["C₂"] = abs(form.m2 / peer["corrected"]["M2"] - 1)
        worst["C₂ as mirt has it"] = abs(form.m2 / peer["c2"]["M2"] - 1)
    return worst


def main() -> None:
    warnings.simplefilter("ignore", irt.PsychometricsWarning)
    kinds = ("log L", "a", "d", "logit c", "SE", "df", "C₂", "C₂ as mirt has it")
    print(f"| set | model | {' | '.join(kinds)} |\n|---|---{'|--:' * len(kinds)}|")
    for name, model, ids, x, models in sets():
        found = compare(ids, x, models)
        cells = [f"{found[kind]:.1e}" if kind in found else "" for kind in kinds]
        print(f"| {name}, {len(x):,} × {len(ids)} | {model} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
