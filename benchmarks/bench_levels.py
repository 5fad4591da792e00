"""Bias of item parameters where items are assigned by what was known of a learner before the window.

    python benchmarks/bench_levels.py --replications 20 --learners 3000

Learners have θ ~ N(0, 1) in the look-back and answer `lookback` items of the bank there, chosen at random; until the
window θ grows by N(0.1, 0.3²). In the window each answers 20 items drawn from those with |b − θ̂| ≤ width (the nearest
where these are too few), θ̂ being the EAP of all look-back answers, or θ itself. A third of the bank are anchors, with
the errors of a calibration of 1000. Prints a Markdown table of the mean bias of ln a and b over items with ≥ 200
responses: after θ is put in the unit of the true θ of the window (mean and SD), and as linked to the anchors.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.models import Calibration, Floats, Responses
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.psychometrics.estimation import levels
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.estimation.levels import LevelledFit, fit_by_level
from irt_assets.psychometrics.linking.linking import LinkingError, link, transform
from irt_assets.psychometrics.scoring.abilities import eap
from irt_assets.psychometrics.simulation.scenario import calibration_covariance

ANCHOR_N = 1000
SEEN_OFTEN = 200


@dataclass(frozen=True)
class World:
    """What is simulated; `by`: items follow the "estimate" of the look-back's answers or the "true" θ."""

    learners: int = 2000
    items: int = 60
    answers: int = 20
    width: float = 1.0
    by: str = "estimate"
    lookback: tuple[int, int] = (5, 40)
    growth: tuple[float, float] = (0.1, 0.3)


@dataclass(frozen=True)
class Simulated:
    window: Responses
    earlier: Responses
    anchors: AnchorSet
    a: Floats
    b: Floats
    theta: Floats


def simulate(rng: np.random.Generator, world: World) -> Simulated:
    N, J = world.learners, world.items
    a, b = np.exp(rng.normal(0, 0.25, J)), rng.normal(0, 1, J)
    before = rng.normal(size=N)
    theta = before + rng.normal(*world.growth, N)
    count = rng.integers(world.lookback[0], world.lookback[1] + 1, N)
    shown = np.argsort(np.argsort(rng.random((N, J)), axis=1), axis=1) < count[:, None]
    first = np.where(shown, rng.random((N, J)) < expit(a * (before[:, None] - b)), np.nan)
    ids = [f"i{j:03d}" for j in range(J)]
    earlier = Responses.from_wide(first, ids)
    known = before if world.by == "true" else eap(earlier, a, -a * b, np.zeros(J)).theta
    distance = np.abs(b - known[:, None])
    order = np.argsort(np.where(distance <= world.width, rng.random((N, J)) - 1, distance), axis=1)
    window = np.full((N, J), np.nan)
    given = order[:, : world.answers]
    right = rng.random(given.shape) < expit(a[given] * (theta[:, None] - b[given]))
    np.put_along_axis(window, given, right.astype(float), axis=1)
    return Simulated(Responses.from_wide(window, ids), earlier, _anchors(rng, a, b, ids), a, b, theta)


def _anchors(rng: np.random.Generator, a: Floats, b: Floats, ids: list[str]) -> AnchorSet:
    place = np.arange(0, a.size, 3)
    cov = calibration_covariance(a[place], b[place], np.zeros(place.size), ANCHOR_N)
    error = np.einsum("jkl,jl->jk", np.linalg.cholesky(cov), rng.standard_normal((place.size, 2)))
    return AnchorSet(
        scale_id="simulated",
        version="1",
        item_ids=tuple(ids[j] for j in place),
        a=a[place] + error[:, 0],
        b=b[place] + error[:, 1],
        c=np.zeros(place.size),
        a_se=np.sqrt(cov[:, 0, 0]),
        b_se=np.sqrt(cov[:, 1, 1]),
        cov_ab=cov[:, 0, 1],
        topics=(None,) * place.size,
        errors_assumed=np.zeros(place.size, dtype=bool),
    )


def by_level(world: Simulated) -> LevelledFit:
    return fit_by_level(
        lambda groups, reference, _: fit_em(world.window, groups=groups, reference=reference),
        world.earlier,
        world.anchors,
    )


def by_anchors_only(world: Simulated) -> Calibration:
    """Groups by what the anchors among the look-back's answers say, and nothing else."""
    known = world.anchors
    earlier = levels.Earlier.scored(world.earlier, known.item_ids, known.a, -known.a * known.b, known.c)
    groups = earlier.groups()
    names = sorted(set(groups))
    return fit_em(world.window, groups=groups, reference=names[len(names) // 2])


def bias_of(world: Simulated, fit: Calibration) -> tuple[float, float]:
    """Mean bias of ln a and of b in the unit of the window's true θ."""
    slope = float(world.theta.std() / fit.latent_sd)
    return _bias(world, fit.rescaled(slope, float(world.theta.mean()) - slope * fit.latent_mean))


def linked_bias_of(world: Simulated, fit: Calibration) -> tuple[float, float]:
    """Mean bias of ln a and of b as linked to the anchors; NaN where too few of them agree."""
    try:
        return _bias(world, transform(fit, link(fit, world.anchors, rules=Rules(min_anchor_share=0.5))))
    except LinkingError:
        return float("nan"), float("nan")


def _bias(world: Simulated, fit: Calibration) -> tuple[float, float]:
    counted = fit.estimated & (fit.a > 0) & (fit.n >= SEEN_OFTEN)
    slopes = np.log(fit.a[counted] / world.a[counted])
    return float(slopes.mean()), float((fit.b[counted] - world.b[counted]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=20)
    parser.add_argument("--learners", type=int, default=3000)
    parser.add_argument("--items", type=int, default=80)
    parser.add_argument("--levels", type=int, nargs="*", default=[5, 20])
    parser.add_argument("--by", nargs="*", default=["estimate", "true"])
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    usual = levels.LEVELS
    print(f"{options.replications} × {options.learners} learners, {options.items} items, seed {options.seed}\n")
    print("| items follow | within | fit | ln a | SD | b | ln a, linked | b, linked | linked |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|")
    for by in options.by:
        for width in (1.0, 0.5):
            found: dict[str, list[tuple[float, ...]]] = {}
            for number in range(options.replications):
                settings = World(learners=options.learners, items=options.items, width=width, by=by)
                world = simulate(np.random.default_rng([options.seed, number]), settings)
                fits = {"one distribution": fit_em(world.window)}
                for count in options.levels:
                    levels.LEVELS = count
                    fits[f"{count} levels"] = by_level(world).calibration
                levels.LEVELS = usual
                fits[f"{usual} levels by the anchors alone"] = by_anchors_only(world)
                for name, fit in fits.items():
                    found.setdefault(name, []).append(bias_of(world, fit) + linked_bias_of(world, fit))
            for name, values in found.items():
                x = np.array(values)
                linked = np.isfinite(x[:, 2])
                mean = [*x[:, :2].mean(axis=0), *(x[linked, 2:].mean(axis=0) if linked.any() else (np.nan, np.nan))]
                print(
                    f"| {'θ̂' if by == 'estimate' else 'true θ'} | {width:g} SD | {name} | {mean[0]:+.3f} "
                    f"| {x[:, 0].std(ddof=1):.3f} | {mean[1]:+.3f} | {mean[2]:+.3f} | {mean[3]:+.3f} "
                    f"| {linked.sum()} of {len(x)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
