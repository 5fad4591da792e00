"""Recovery of known parameters on several dimensions, and coverage of 95 % intervals.

    python -m benchmarks.bench_dimensions_coverage --replications 400

Each replication draws new items and new learners. "bifactor": 20 items in 4 topics; general slopes are
1.2·LogNormal(0, .3), specific slopes .8·LogNormal(0, .3). "between": 20 items, 10 on each of two dimensions with a
correlation of .6; slopes are 1.2·LogNormal(0, .3). "graded": the same with three scores per item. Intercepts are
N(0, 1). `--missing` is the share of answers that are missing at random. Intervals are estimate ± 1.96 SE, and for
abilities EAP ± 1.96 posterior SD with the estimated parameters. The errors of bias and coverage are based on
replications, not on items or learners. Fits that do not converge, and fits with a parameter without error, are counted
and excluded. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.errors import dimensions_errors
from irt_psychometrics.dimensions.fitting import fit_dimensions
from irt_psychometrics.dimensions.scores import dimensions_scores
from irt_psychometrics.dimensions.structure import Dimensions
from psychometrics_testbed.dimension_worlds import draw_dimensions, known_dimensions

Array = npt.NDArray[np.float64]
ITEMS, Z95 = 20, 1.959964
IDS = [f"q{j}" for j in range(ITEMS)]


def bifactor(rng: np.random.Generator) -> DimensionsCalibration:
    dimensions = Dimensions.bifactor({item: f"topic {j % 4}" for j, item in enumerate(IDS)})
    slopes = np.exp(rng.normal(0, 0.3, (ITEMS, 5))) * [1.2, 0.8, 0.8, 0.8, 0.8]
    return known_dimensions(dimensions, slopes, rng.normal(0, 1, ITEMS))


def between(rng: np.random.Generator) -> DimensionsCalibration:
    slopes = 1.2 * np.exp(rng.normal(0, 0.3, (ITEMS, 2)))
    return known_dimensions(_pair(), slopes, rng.normal(0, 1, ITEMS), correlation=0.6)


def graded(rng: np.random.Generator) -> DimensionsCalibration:
    slopes, further = 1.2 * np.exp(rng.normal(0, 0.3, (ITEMS, 2))), np.zeros((ITEMS, 3))
    further[:, 1] = rng.normal(0.3, 0.2, ITEMS)
    return known_dimensions(
        _pair(),
        slopes,
        rng.normal(0, 1, ITEMS),
        models=["grm"] * ITEMS,
        categories=(3,) * ITEMS,
        further=further,
        correlation=0.6,
    )


def _pair() -> Dimensions:
    return Dimensions.between({item: f"dimension {j % 2}" for j, item in enumerate(IDS)})


DESIGNS: dict[str, Callable[[np.random.Generator], DimensionsCalibration]] = {
    "bifactor": bifactor,
    "between": between,
    "graded": graded,
}


def kinds(truth: DimensionsCalibration) -> dict[str, npt.NDArray[np.int64]]:
    """Return the places of the parameters of each kind."""
    places, P = truth.places, truth.dimensions.n_primary
    found = {
        "primary slopes": places.slopes[:, :P],
        "specific slopes": places.slopes[:, P:],
        "intercepts": places.intercepts,
        "steps": places.further,
        "correlation": np.triu(places.correlations + 1, 1) - 1,
    }
    return {name: at[at >= 0] for name, at in found.items() if (at >= 0).any()}


def study(name: str, options: argparse.Namespace) -> None:
    differences: dict[str, list[Array]] = {}
    covered: dict[str, list[float]] = {}
    unconverged = without = 0
    began = time.perf_counter()
    for number in range(options.replications):
        rng = np.random.default_rng([options.seed, [*DESIGNS].index(name), number])
        truth = DESIGNS[name](rng)
        responses, theta = draw_dimensions(truth, options.persons, rng, options.missing)
        fit = fit_dimensions(responses, truth.dimensions, truth.models, threads=1)
        if not fit.convergence.converged:
            unconverged += 1
            continue
        fit = dimensions_errors(responses, fit, threads=1)
        if fit.missing_errors or fit.cov is None:
            without += 1
            continue
        scores = dimensions_scores(responses, fit, threads=1)
        off, se = fit.vector - truth.vector, np.sqrt(fit.cov.diagonal())
        intervals = {kind: (off[at], se[at]) for kind, at in kinds(truth).items()}
        deviations = np.sqrt(np.diagonal(scores.cov, axis1=1, axis2=2))
        for d, dimension in enumerate(truth.dimensions.names):
            intervals[f"abilities, {dimension}"] = scores.theta[:, d] - theta[:, d], deviations[:, d]
        for kind, (difference, error) in intervals.items():
            differences.setdefault(kind, []).append(difference)
            covered.setdefault(kind, []).append(float((np.abs(difference) <= Z95 * error).mean()))
    for kind, each in differences.items():
        means, rates = np.array([x.mean() for x in each]), 100 * np.array(covered[kind])
        rmse, root = np.sqrt(np.mean([(x**2).mean() for x in each])), np.sqrt(len(each))
        cells = (
            f"{means.mean():+.4f} ± {means.std(ddof=1) / root:.4f}",
            f"{rmse:.3f}",
            f"{rates.mean():.1f} ± {rates.std(ddof=1) / root:.1f}",
        )
        print(f"| {name} | {kind} | {len(each)} | {' | '.join(cells)} |", flush=True)
    seconds = time.perf_counter() - began
    print(f"| {name} | {unconverged} not converged, {without} without errors, {seconds:.0f} s | | | | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--persons", type=int, default=2000)
    parser.add_argument("--missing", type=float, default=0.0)
    parser.add_argument("--designs", nargs="+", choices=[*DESIGNS], default=[*DESIGNS])
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    print("| design | parameters | fits | bias | RMSE | coverage, % |")
    print("|---|---|--:|--:|--:|--:|")
    for name in options.designs:
        study(name, options)


if __name__ == "__main__":
    main()
