"""Bias of new items that the pymc engine puts on a bank's scale, for a cohort that differs from the bank's cohort.

    nice python -m benchmarks.bias_pymc_anchors [--months 16] [--processes 1] [--independent]

A bank is calibrated once per simulated month, by em, on learners with mean 0 and SD 1, who define the scale. Its
anchors have the resulting errors and covariances of a and b. The month's learners are N(0.5, 1.2²) and answer anchors
and new items. Prints the mean error of the new items' b and ln a over all items and months, and its standard error
over months. `--independent` leaves out the covariances of the anchors' a and b. Exit status 1 if |bias of b| + two
standard errors is not below 0.03 or the standard error is above 0.008.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

from irt_assets.engines.pymc_engine import PymcEngine
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from psychometrics_testbed.made_anchors import anchor_set_of

MEAN, SD = 0.5, 1.2
BANK_LEARNERS, LEARNERS, ANCHORS, NEW = 3000, 2500, 20, 20


def answers(rng: np.random.Generator, theta: np.ndarray, a: np.ndarray, b: np.ndarray, ids: list[str]) -> Responses:
    p = 1 / (1 + np.exp(-a * (theta[:, None] - b)))
    return Responses.from_wide((rng.random(p.shape) < p).astype(float), ids)


def anchor_set(bank: Calibration, *, independent: bool) -> AnchorSet:
    cov_ab = bank.cov_ab[:, 0, 1]
    return anchor_set_of(
        scale_id="default",
        version="1",
        item_ids=bank.item_ids,
        a=bank.a,
        b=bank.b,
        c=np.zeros(bank.n_items),
        a_se=bank.a_se,
        b_se=bank.b_se,
        cov_ab=np.zeros_like(cov_ab) if independent else cov_ab,
        topics=(None,) * bank.n_items,
        errors_assumed=np.zeros(bank.n_items, dtype=bool),
    )


def month(seed: int, independent: bool) -> tuple[float, float, float, float]:
    """Returns the mean error of the new items' b and ln a, and the latent mean and SD."""
    rng = np.random.default_rng([2026, seed])
    a, b = np.exp(rng.normal(0, 0.3, ANCHORS + NEW)), rng.normal(0.2, 0.9, ANCHORS + NEW)
    ids = [f"i{j:02d}" for j in range(ANCHORS + NEW)]
    theta = rng.normal(size=BANK_LEARNERS)
    theta = (theta - theta.mean()) / theta.std()
    bank = fit_em(answers(rng, theta, a[:ANCHORS], b[:ANCHORS], ids[:ANCHORS]), threads=1)
    now = answers(rng, rng.normal(MEAN, SD, LEARNERS), a, b, ids)
    engine = PymcEngine(anchors=anchor_set(bank, independent=independent), draws=400, tune=200, chains=2, seed=seed)
    fit = engine.calibrate(now, model="2pl", data_hash="")
    new = slice(ANCHORS, None)
    return (
        float(np.mean(fit.b[new] - b[new])),
        float(np.mean(np.log(fit.a[new] / a[new]))),
        fit.latent_mean,
        fit.latent_sd,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=16)
    parser.add_argument("--first", type=int, default=0, help="seed of the first month")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--independent", action="store_true")
    options = parser.parse_args()
    rows = []
    with ProcessPoolExecutor(options.processes) as pool:
        seeds = range(options.first, options.first + options.months)
        for row in pool.map(partial(month, independent=options.independent), seeds):
            rows.append(row)
            print(f"month {len(rows)}: " + ", ".join(f"{x:+.4f}" for x in row), flush=True)
    table = np.array(rows)
    means, errors = table.mean(axis=0), table.std(axis=0, ddof=1) / np.sqrt(len(table))
    names = ("bias of b", "bias of ln a", "latent mean", "latent SD")
    for name, mean, error in zip(names, means, errors, strict=True):
        print(f"{name}: {mean:.4f} ± {error:.4f}")
    sys.exit(0 if abs(means[0]) + 2 * errors[0] < 0.03 and errors[0] <= 0.008 else 1)


if __name__ == "__main__":
    main()
