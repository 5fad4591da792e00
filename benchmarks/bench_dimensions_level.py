"""Level and power of the likelihood ratio of several dimensions against one ability, by parametric bootstrap.

    python -m benchmarks.bench_dimensions_level [--replications 500] [--persons 500] [--designs bifactor explore]

Each replication draws answers to twelve 2PL items (a ~ LogNormal(0, 0.3), b ~ N(0, 1)), fits one ability and several
dimensions, and simulates one set of answers from the fit on one ability, which is fitted in the same way. The rates of
rejection at 5 % use the 95 % quantile of the simulated ratios of all replications (the warp-speed method of Giacomini,
Politis & White 2013), so they take 4 fits a replication instead of 2 (B + 1). "χ²" is the rate with the quantile of χ²,
which is wrong. Strength is the slope of the specific dimensions (bifactor: three topics of four items) or of the second
dimension (explore: half of the items measure it instead of the first one, relative to their slope).
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import chi2

from irt_psychometrics.core.options import Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dimensions.comparison import compare_with_one
from irt_psychometrics.dimensions.fitting import fit_dimensions
from irt_psychometrics.dimensions.structure import Dimensions

ITEMS = [f"q{j}" for j in range(12)]
DESIGNS = {
    "bifactor": Dimensions.bifactor({item: "abc"[j // 4] for j, item in enumerate(ITEMS)}),
    "explore": Dimensions.explore(ITEMS, 2),
}


def draw(design: str, strength: float, n_persons: int, rng: np.random.Generator) -> Responses:
    a, b = rng.lognormal(0, 0.3, len(ITEMS)), rng.normal(size=len(ITEMS))
    if design == "bifactor":
        slopes = np.column_stack([a, *[strength * (np.arange(12) // 4 == k) for k in range(3)]])
    else:
        share = strength * (np.arange(12) % 2)
        slopes = np.column_stack([a * np.sqrt(1 - share**2), a * share])
    theta = rng.normal(size=(n_persons, slopes.shape[1]))
    p = 1 / (1 + np.exp(-(theta @ slopes.T - a * b)))
    return Responses.from_wide((rng.random(p.shape) < p).astype(float), ITEMS)


def ratios(design: str, strength: float, n_persons: int, seed: int) -> tuple[float, float, int]:
    """Return a likelihood ratio, a simulated one, and the number of further parameters."""
    responses = draw(design, strength, n_persons, np.random.default_rng([seed, n_persons]))
    models: list[Model] = ["2pl"] * len(ITEMS)
    fit = fit_dimensions(responses, DESIGNS[design], models, threads=1)
    found = compare_with_one(responses, fit, replicates=1, random_state=seed, threads=1)
    return found.likelihood_ratio, float(found.simulated[0]), fit.convergence.n_parameters - 2 * len(ITEMS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=500)
    parser.add_argument("--persons", type=int, default=500)
    parser.add_argument("--designs", nargs="+", choices=DESIGNS, default=[*DESIGNS])
    parser.add_argument("--strengths", nargs="+", type=float, default=[0.0, 0.5, 0.8])
    arguments = parser.parse_args()
    print("| design | persons | strength | replications | rejected, % | ± | χ², % |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for design in arguments.designs:
        for strength in arguments.strengths:
            drawn = [ratios(design, strength, arguments.persons, seed) for seed in range(arguments.replications)]
            observed, simulated, further = (np.array(column) for column in zip(*drawn, strict=True))
            rate = 100 * np.mean(observed > np.quantile(simulated, 0.95))
            wrong = 100 * np.mean(observed > chi2.ppf(0.95, further[0]))
            error = 100 * np.sqrt(2 * 0.05 * 0.95 / len(drawn)) if strength == 0 else float("nan")
            row = design, arguments.persons, f"{strength:g}", len(drawn), f"{rate:.1f}", f"{error:.1f}", f"{wrong:.1f}"
            print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
