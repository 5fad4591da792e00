"""Coverage of 95 % intervals of latent regressions, beside means of EAP scores.

    python -m benchmarks.bench_latent_regression --replications 400

Each replication draws new items (a ~ LogNormal(0, 0.3), b ~ N(0, 1)) and persons. Items are held at their true values
unless a design says otherwise.

- groups: 60, 240 and 700 persons with means 0, .3 and −.5 and SDs 1, .8 and 1.2; means, SDs, and differences to the
  first group. EAPs have the prior N(mean, SD²) of all groups together.
- covariates: 800 persons, θ = .5·x + .4·(level b) − .3·(level c) + ε, with ε ~ N(0, .8²).
- clusters: 50 clusters of 16 persons, an effect of the cluster with SD .4, and a covariate of clusters. The errors with
  and without `clusters`.
- weights: two strata, 10 % and 90 % of a population, with 400 persons of each; the mean and SD of the population.
- items: as covariates, with items that were estimated from 500 other persons. The errors with and without the errors of
  the items.
- free: as covariates, with 500 persons, and items estimated together with the regression.

Prints a Markdown table: the mean of estimate − truth, the ratio of the mean standard error to the SD of the estimates,
and the coverage. A coverage of 95 % has an error of 1.1 points with 400 replications.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

import irt_psychometrics as irt

Z95 = 1.959964
SIZES, MEANS, SDS = (60, 240, 700), np.array([0.0, 0.3, -0.5]), np.array([1.0, 0.8, 1.2])
Floats = npt.NDArray[np.float64]
Row = tuple[float, float, float]
"""Estimate, standard error and truth."""
Rows = dict[str, Row]


def draw_items(rng: np.random.Generator, n_items: int) -> irt.ItemParameters:
    columns = {"a": np.exp(rng.normal(0, 0.3, n_items)), "b": rng.normal(0, 1, n_items)}
    return irt.ItemParameters.from_frame({"item": [f"q{j}" for j in range(n_items)], **columns})


def answer(rng: np.random.Generator, items: irt.ItemParameters, theta: Floats) -> irt.Responses:
    return irt.simulate_responses(items, theta, random_state=int(rng.integers(2**31)))


def groups(rng: np.random.Generator, n_items: int) -> Rows:
    items, group = draw_items(rng, n_items), np.repeat([0, 1, 2], SIZES)
    x = answer(rng, items, MEANS[group] + SDS[group] * rng.normal(size=len(group)))
    found = irt.latent_regression(x, items, groups=np.array(["a", "b", "c"])[group])
    rows: Rows = {}
    for k, own in enumerate(found.populations):
        rows[f"mean {own.name}"] = own.mean, own.mean_se, MEANS[k]
        rows[f"SD {own.name}"] = own.sd, own.sd_se, SDS[k]
    for k in (1, 2):
        rows[f"difference {found.group_names[k]} − a"] = found.coefficients[k], found.se[k], MEANS[k] - MEANS[0]
    everybody = irt.latent_regression(x, items)
    weights, nodes = everybody.posterior()[::-1]
    eap = weights @ nodes
    for k in (1, 2):
        first, own = eap[group == 0], eap[group == k]
        se = np.sqrt(first.var(ddof=1) / first.size + own.var(ddof=1) / own.size)
        rows[f"EAP difference {found.group_names[k]} − a"] = own.mean() - first.mean(), se, MEANS[k] - MEANS[0]
    sd = eap[group == 2].std(ddof=1)
    rows["EAP SD c"] = sd, sd / np.sqrt(2 * SIZES[2]), SDS[2]
    return rows


def _covariates(rng: np.random.Generator, n: int) -> tuple[dict[str, npt.NDArray[np.generic]], Floats]:
    level, x = rng.choice(3, n, p=(0.5, 0.3, 0.2)), rng.normal(size=n)
    theta = 0.5 * x + np.array([0.0, 0.4, -0.3])[level] + 0.8 * rng.normal(size=n)
    return {"x": x, "level": np.array(["a", "b", "c"])[level]}, theta


def _rows(found: irt.LatentRegression, truth: tuple[float, ...], se: Floats | None = None, name: str = "") -> Rows:
    names = [*found.coefficient_names, "residual SD"]
    values = zip(names, found.estimates, found.se if se is None else se, truth, strict=True)
    return {f"{one}{name}": (estimate, error, true) for one, estimate, error, true in values}


def covariates(rng: np.random.Generator, n_items: int) -> Rows:
    columns, theta = _covariates(rng, 800)
    items = draw_items(rng, n_items)
    return _rows(irt.latent_regression(answer(rng, items, theta), items, columns), (0.0, 0.5, 0.4, -0.3, 0.8))


def clusters(rng: np.random.Generator, n_items: int) -> Rows:
    cluster = np.repeat(np.arange(50), 16)
    x = rng.normal(size=50)
    theta = (0.3 * x + 0.4 * rng.normal(size=50))[cluster] + 0.8 * rng.normal(size=800)
    items = draw_items(rng, n_items)
    answers, truth = answer(rng, items, theta), (0.0, 0.3, float(np.hypot(0.4, 0.8)))
    rows = _rows(irt.latent_regression(answers, items, {"x": x[cluster]}, clusters=cluster), truth)
    alone = irt.latent_regression(answers, items, {"x": x[cluster]})
    return rows | _rows(alone, truth, name=", without clusters")


def weights(rng: np.random.Generator, n_items: int) -> Rows:
    theta = np.concatenate([rng.normal(1.0, 1.0, 400), rng.normal(-0.2, 0.8, 400)])
    items = draw_items(rng, n_items)
    found = irt.latent_regression(answer(rng, items, theta), items, sampling_weights=np.repeat([0.1, 0.9], 400))
    mean = 0.1 * 1.0 - 0.9 * 0.2
    sd = np.sqrt(0.1 * (1 + (1 - mean) ** 2) + 0.9 * (0.64 + (-0.2 - mean) ** 2))
    return _rows(found, (mean, float(sd)))


def items(rng: np.random.Generator, n_items: int) -> Rows:
    bank = draw_items(rng, n_items)
    fitted = irt.fit(answer(rng, bank, rng.normal(size=500)), "2pl")
    columns, theta = _covariates(rng, 800)
    found = irt.latent_regression(answer(rng, bank, theta), fitted, columns)
    truth = (0.0, 0.5, 0.4, -0.3, 0.8)
    return _rows(found, truth) | _rows(found, truth, np.sqrt(np.diag(found.cov)), ", items taken as known")


def free(rng: np.random.Generator, n_items: int) -> Rows:
    columns, theta = _covariates(rng, 500)
    found = irt.latent_regression(answer(rng, draw_items(rng, n_items), theta), None, columns)
    rows = _rows(found, (0.0, 0.5 / 0.8, 0.4 / 0.8, -0.3 / 0.8, 1.0))
    return {name: row for name, row in rows.items() if row[1] > 0}


DESIGNS: dict[str, Callable[[np.random.Generator, int], Rows]] = {
    one.__name__: one for one in (groups, covariates, clusters, weights, items, free)
}


def study(design: str, n_items: int, replications: int, seed: int) -> None:
    found: dict[str, list[Row]] = {}
    for number in range(replications):
        rng = np.random.default_rng([seed, [*DESIGNS].index(design), n_items, number])
        for name, row in DESIGNS[design](rng, n_items).items():
            found.setdefault(name, []).append(row)
    for name, rows in found.items():
        estimate, se, truth = np.array(rows).T
        covered = (np.abs(estimate - truth) <= Z95 * se).mean()
        ratio = se.mean() / (estimate - truth).std(ddof=1)
        cells = (
            design,
            str(n_items),
            name,
            f"{(estimate - truth).mean():+.3f}",
            f"{ratio:.2f}",
            f"{100 * covered:.1f}",
        )
        print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--items", type=int, nargs="+", default=[5, 10, 20, 40])
    parser.add_argument("--designs", nargs="+", choices=[*DESIGNS], default=[*DESIGNS])
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    print(f"{options.replications} replications, seed {options.seed}\n")
    print("| design | items | parameter | bias | SE : SD | coverage |\n|---|--:|---|--:|--:|--:|")
    for design in options.designs:
        for n_items in options.items:
            study(design, n_items, options.replications, options.seed)


if __name__ == "__main__":
    main()
