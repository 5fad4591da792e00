"""Bias of item parameters if items are assigned by a learner's answers before the window.

    python -m benchmarks.bench_levels --replications 20 --learners 3000

Learners have θ ~ N(0, 1) in the look-back, in which they answer `lookback` random items of the bank. Until the window,
θ grows by N(0.1, 0.3²). In the window each learner answers 20 items drawn from those with |b − θ̂| ≤ width, or the
nearest items if these are too few. θ̂ is the EAP of all look-back answers, or θ itself. A third of the bank are
anchors, with the errors of a calibration with 1000 learners. Prints a Markdown table of the mean bias of ln a and b
over items with ≥ 200 responses: with θ in the unit of the window's true θ (mean and SD), and after linking to the
anchors.
"""

from __future__ import annotations

import argparse

import numpy as np

from irt_psychometrics.core.models import Calibration
from irt_psychometrics.estimation import levels
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.linking.linking import link_to_anchors
from irt_psychometrics.linking.placement import LinkingError
from psychometrics_testbed.levels import SimulatedMonth, World, bias_of, bias_on_the_scale, by_level, simulate


def by_anchors_only(world: SimulatedMonth) -> Calibration:
    """Fit with groups defined only by the look-back's answers to anchors."""
    anchors = world.anchors
    earlier = levels.EarlierTheta.from_answers(world.earlier, anchors.item_ids, anchors.curves)
    groups = earlier.groups()
    names = sorted(set(groups))
    return fit_em(world.window, groups=groups, reference=names[len(names) // 2])


def linked_bias(world: SimulatedMonth, fit: Calibration) -> tuple[float, float]:
    """Mean bias of ln a and b after linking to the anchors, or NaN if too few anchors agree."""
    try:
        return bias_on_the_scale(world, link_to_anchors(fit, world.anchors).transform(fit))
    except LinkingError:
        return float("nan"), float("nan")


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
            results: dict[str, list[tuple[float, ...]]] = {}
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
                    results.setdefault(name, []).append(bias_of(world, fit) + linked_bias(world, fit))
            for name, values in results.items():
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
