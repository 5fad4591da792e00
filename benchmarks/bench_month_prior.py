"""Errors of provisional items in a month's fit: with the bank's prior, and with the weak prior on slopes alone.

    python -m benchmarks.bench_month_prior --replications 40

Learners, θ ~ N(0, 1), answer 30 of 60 published items, so that each has about 1,000 responses, and some of 20
unpublished items, all drawn at random. ln a ~ N(.2, .3²) and b ~ N(0, 1) for both kinds of items, or the unpublished
ones are .5 harder. The first column is the number of responses to each unpublished item. The last columns are the mean
and largest change of a published item's b, in SE, and the CPU time of the second fit as a share of the first fit's. An
item whose answers are all right or all wrong has no estimate, and is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from irt_assets.calibration.request import FitRequest, calibrate
from irt_assets.engines.em import EmEngine
from irt_assets.scales.scale import Scale
from irt_psychometrics import Calibration
from irt_psychometrics.responses import Responses

LEARNERS, PUBLISHED, SEEN, NEW = 2000, 60, 30, 20
WORLDS = {"as the bank": 0.0, ".5 harder": 0.5}


def simulate(rng: np.random.Generator, answers: int, harder: float) -> tuple[np.ndarray, np.ndarray, Responses]:
    """Return ln a and b of the unpublished items, and the answers to all items."""
    J = PUBLISHED + NEW
    ln_a, b, theta = rng.normal(0.2, 0.3, J), rng.normal(0, 1, J), rng.normal(0, 1, (LEARNERS, 1))
    b[PUBLISHED:] += harder
    x = (rng.random((LEARNERS, J)) < 1 / (1 + np.exp(-np.exp(ln_a) * (theta - b)))).astype(float)
    x[:, :PUBLISHED][rng.random((LEARNERS, PUBLISHED)).argsort(axis=1) >= SEEN] = np.nan
    x[:, PUBLISHED:][rng.random((LEARNERS, NEW)).argsort(axis=0) >= answers] = np.nan
    return ln_a[PUBLISHED:], b[PUBLISHED:], Responses.from_wide(x, [f"q{k}" for k in range(J)])


def fit(responses: Responses, *, published: bool) -> tuple[Calibration, float]:
    """Fit a month. If no item is published, the unpublished items have only the weak prior on slopes."""
    items = responses.item_ids
    known = frozenset(items[:PUBLISHED]) if published else frozenset()
    request = FitRequest(
        scale=Scale("s", model="2pl"), responses=responses, provisional=items[PUBLISHED:], left_out={}, published=known
    )
    began = time.process_time()
    found = calibrate(EmEngine(1), request, "hash").calibration
    return found, time.process_time() - began


def measure(answers: int, harder: float, replications: int, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the errors by each kind of fit."""
    off: dict[str, list[np.ndarray]] = {"weak": [], "bank": []}
    moved, ratio = [], []
    for number in range(replications):
        ln_a, b, responses = simulate(np.random.default_rng([seed, answers, harder > 0, number]), answers, harder)
        (weak, first), (bank, both) = (fit(responses, published=published) for published in (False, True))
        for name, found in (("weak", weak), ("bank", bank)):
            new = found.items.among(found.item_ids[PUBLISHED:])
            errors = np.stack([new.b - b, np.log(new.a) - ln_a])
            off[name].append(np.stack([errors, errors / np.stack([new.b_se, new.a_se / new.a])]))
        moved.append((np.abs(bank.b - weak.b) / weak.b_se)[:PUBLISHED])
        ratio.append(both / first - 1)
    for name, parts in off.items():
        errors, z = np.concatenate(parts, axis=2)
        estimated = np.isfinite(errors).all(axis=0)
        errors, z = errors[:, estimated], z[:, estimated]
        yield (
            name,
            {
                "RMSE b": float(np.sqrt((errors[0] ** 2).mean())),
                "bias b": float(errors[0].mean()),
                "coverage b": float((np.abs(z[0]) < 1.96).mean()),
                "RMSE ln a": float(np.sqrt((errors[1] ** 2).mean())),
                "coverage ln a": float((np.abs(z[1]) < 1.96).mean()),
                "moved": float(np.nanmean(moved)) if name == "bank" else 0.0,
                "at most": float(np.nanmax(moved)) if name == "bank" else 0.0,
                "time": float(np.median(ratio)) if name == "bank" else 0.0,
            },
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--replications", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    for world, harder in WORLDS.items():
        for answers in (50, 100, 200):
            for name, row in measure(answers, harder, chosen.replications, chosen.seed):
                print(f"{world:12} {answers:4} {name:5}", *(f"{what} {value:.3f}" for what, value in row.items()))
