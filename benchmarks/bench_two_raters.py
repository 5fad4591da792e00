"""The error of θ with essays that two raters read: four ways to score their ratings.

    python -m benchmarks.bench_two_raters

Twenty items of multiple choice and four essays with ratings 0 … 4. The quality of an essay is 1.2·θ + N(0, 1). A rater
sees it with an error of SD `--rater-sd` and compares it with the same four cuts. The standard error must be as
large as the root mean square of θ̂ − θ. The last column is the share of persons whose θ is within 1.96 standard errors.
"""

from __future__ import annotations

import argparse

import numpy as np

import irt_psychometrics as irt

CHOICE, ESSAYS = 20, 4
CUTS = (-1.5, -0.5, 0.5, 1.5)
WAYS = {
    "one rating": lambda first, _: first,
    "sum of both, 0 … 8": lambda first, second: first + second,
    "mean, rounded up": lambda first, second: (first + second + 1) // 2,
    "two items": lambda first, second: np.hstack([first, second]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=4000)
    parser.add_argument("--rater-sd", type=float, nargs="+", default=(0.3, 0.6, 1.0))
    options = parser.parse_args()
    print(f"{'rater SD':>8} {'agreement':>9}  {'scored as':20} {'RMS error':>9} {'RMS SE':>7} {'inside':>7}")
    for sd in options.rater_sd:
        rng = np.random.default_rng(1)
        theta = rng.standard_normal(options.persons)
        p = 1 / (1 + np.exp(np.linspace(-2, 2, CHOICE) - theta[:, None]))
        choice = (rng.random(p.shape) < p).astype(float)
        quality = 1.2 * theta[:, None] + rng.standard_normal((len(theta), ESSAYS))
        first, second = (np.searchsorted(CUTS, quality + rng.normal(0, sd, quality.shape)) for _ in range(2))
        for name, way in WAYS.items():
            found, se = _score(choice, way(first, second).astype(float))
            error = found - theta
            print(
                f"{sd:8.1f} {np.mean(first == second):9.2f}  {name:20} {np.sqrt(np.mean(error**2)):9.3f}"
                f" {np.sqrt(np.mean(se**2)):7.3f} {np.mean(np.abs(error) < 1.96 * se):7.1%}"
            )


def _score(choice: np.ndarray, essays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit 2PL and GPCM items together and return θ and its standard errors, shape (N,) each."""
    x = np.hstack([choice, essays])
    models = {f"m{j}": "2pl" for j in range(choice.shape[1])} | {f"e{j}": "gpcm" for j in range(essays.shape[1])}
    most = dict(zip(models, x.max(axis=0).astype(int).tolist(), strict=True))
    responses = irt.Responses.from_wide(x, [*models], max_score=most)
    found = irt.fit(responses, models).score(responses)
    return np.asarray(found.theta), np.asarray(found.se)


if __name__ == "__main__":
    main()
