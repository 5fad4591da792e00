"""Coverage of group statistics by plausible values, and the bias of the same statistics of EAP scores.

    python -m benchmarks.bench_plausible_values

Three groups of 100, 300 and 600 persons have normal abilities with means −.5, 0 and .3 and SDs .8, 1 and 1.2. They
answer 5 to 40 2PL items. In each replication the latent regression on groups (mean and SD of each), ten plausible
values and `pooled` estimate means, differences to the largest group, SDs, percentiles and shares above .5. Beside it:
the same with *groups left out* of the regression, which has one mean and one SD for all, and statistics of EAP scores
with this common prior; these two are repeated 100 times. With
`--item-se` the held item parameters have independent errors of this size, in a and b, which the analysis knows.

A row is one statistic of all groups: the largest mean bias of a group, the ratio of mean SE to SD of the estimates, and
the share of 95 % intervals that contain the truth, also in the group with the lowest share (its standard error is 1.1 %
in 400 replications). Intervals of EAP statistics are for a simple random sample.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

import irt_psychometrics as irt

SIZES, MEANS, SDS = (100, 300, 600), (-0.5, 0.0, 0.3), (0.8, 1.0, 1.2)
NAMES = ("small", "middle", "large")
PERCENTS, CUT = (10, 50, 90), 0.5
BIASED = 100
"""Replications of the analyses with a bias, which is large."""
GROUP = np.repeat(NAMES, SIZES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=(5, 10, 20, 40))
    parser.add_argument("--replications", type=int, default=400)
    parser.add_argument("--item-se", type=float, default=0.0)
    options = parser.parse_args()
    print(f"{'items':>5}  {'analysis':15} {'statistic':11} {'bias':>6} {'SE:SD':>6} {'coverage':>8} {'lowest':>7}")
    for n_items in options.items:
        found: dict[str, list[np.ndarray]] = {}
        failed = 0
        for seed in range(options.replications):
            try:
                own = replicate(n_items, options.item_se, np.random.default_rng([seed, n_items]), seed < BIASED)
            except (irt.PsychometricsError, MemoryError, np.linalg.LinAlgError):
                failed += 1
                continue
            for name, rows in own.items():
                found.setdefault(name, []).append(rows)
        print(f"{n_items:5}  {failed} of {options.replications} regressions failed")
        for name, rows in found.items():
            report(n_items, name, np.array(rows))


def replicate(n_items: int, item_se: float, rng: np.random.Generator, all_analyses: bool) -> dict[str, np.ndarray]:
    """Estimates and standard errors of all statistics under each analysis, with intervals, shape (statistics, 4)."""
    a, b = np.linspace(0.8, 1.8, n_items)[rng.permutation(n_items)], np.linspace(-1.8, 1.8, n_items)
    names = [f"q{j}" for j in range(n_items)]
    truth = irt.ItemParameters.from_frame({"item": names, "a": a, "b": b})
    theta = np.concatenate([rng.normal(m, s, n) for n, m, s in zip(SIZES, MEANS, SDS, strict=True)])
    x = irt.simulate_responses(truth, theta, random_state=int(rng.integers(2**31)))
    errors = {"a_se": np.full(n_items, item_se), "b_se": np.full(n_items, item_se), "cov_ab": np.zeros(n_items)}
    moved = {"a": a + item_se * rng.standard_normal(n_items), "b": b + item_se * rng.standard_normal(n_items)}
    items = irt.ItemParameters.from_frame({"item": names, **moved, **(errors if item_se else {})})
    seed = int(rng.integers(2**31))
    found = {"groups": statistics(irt.latent_regression(x, items, groups=GROUP).plausible_values(10, seed))}
    if all_analyses:
        together = irt.latent_regression(x, items)
        found["groups left out"] = statistics(together.plausible_values(10, seed))
        found["EAP"] = eap_statistics(together)
    return found


def statistics(values: irt.PlausibleValues) -> np.ndarray:
    frames = [
        values.pooled("mean", by=GROUP),
        values.pooled("mean", by=GROUP, reference="large"),
        values.pooled("sd", by=GROUP),
        values.pooled("percentile", PERCENTS, by=GROUP),
        values.pooled("share_above", CUT, by=GROUP),
    ]
    return np.vstack([np.asarray(frame[["estimate", "se", "low", "high"]]) for frame in frames])


def eap_statistics(found: irt.LatentRegression) -> np.ndarray:
    """Statistics of posterior means, with the errors of a simple random sample of known values."""
    nodes, weights = found.posterior()
    eap = weights @ nodes
    rows = []
    own = {name: eap[name == GROUP] for name in sorted(NAMES)}
    squares = {name: v.var(ddof=1) / len(v) for name, v in own.items()}
    rows += [(v.mean(), squares[name] ** 0.5) for name, v in own.items()]
    base = own["large"].mean()
    rows += [(v.mean() - base, (squares[name] + squares["large"]) ** 0.5) for name, v in own.items() if name != "large"]
    rows += [(v.std(ddof=1), v.std(ddof=1) / (2 * len(v)) ** 0.5) for v in own.values()]
    for v in own.values():
        for p in PERCENTS:
            density = norm.pdf(norm.ppf(p / 100)) / v.std(ddof=1)
            rows.append((np.percentile(v, p), (p / 100 * (1 - p / 100) / len(v)) ** 0.5 / density))
    for v in own.values():
        share = (v > CUT).mean()
        rows.append((share, (share * (1 - share) / len(v)) ** 0.5))
    estimate, se = np.array(rows).T
    return np.stack([estimate, se, estimate - 1.96 * se, estimate + 1.96 * se], axis=1)


def true_values() -> tuple[np.ndarray, np.ndarray]:
    """Names and values of the statistics, in the order of `statistics`: groups are in alphabetical order."""
    order = [NAMES.index(name) for name in sorted(NAMES)]
    mean, sd = np.array(MEANS)[order], np.array(SDS)[order]
    percentiles = mean[:, None] + sd[:, None] * norm.ppf(np.array(PERCENTS) / 100)
    parts = {
        "mean": mean,
        "difference": mean[1:] - mean[0],
        "sd": sd,
        "percentile": percentiles.ravel(),
        "share": norm.sf((CUT - mean) / sd),
    }
    names = np.concatenate([[name] * len(own) for name, own in parts.items()])
    names[names == "percentile"] = [f"percentile {p}" for _ in order for p in PERCENTS]
    return names, np.concatenate([*parts.values()])


def report(n_items: int, analysis: str, rows: np.ndarray) -> None:
    names, truth = true_values()
    estimate, se, low, high = np.moveaxis(rows, 2, 0)
    bias, inside = estimate.mean(axis=0) - truth, ((low <= truth) & (truth <= high)).mean(axis=0)
    ratio = np.sqrt((se**2).mean(axis=0)) / estimate.std(axis=0, ddof=1)
    for name in dict.fromkeys(names.tolist()):
        own = names == name
        most = bias[own][np.abs(bias[own]).argmax()]
        print(
            f"{n_items:5}  {analysis:15} {name:13} {most:+6.3f} {ratio[own].mean():6.2f} {inside[own].mean():8.1%}"
            f" {inside[own].min():7.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
