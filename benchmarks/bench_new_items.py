"""Estimates of new items from few answers: RMSE, coverage, and the number of answers that a choice of persons saves.

    python -m benchmarks.bench_new_items --replications 40

Published items have errors of 500 answers. Learners, θ ~ N(0, 1), have 20 published answers each and answer five new
items, all drawn at random. ln a ~ N(.2, .3²) and b ~ N(0, 1), of 150 published and 30 new items. The first table
compares `new_items.estimate_new_items` with a fit of all answers with the published items held: with the same prior
(`one fit`), and with the priors ln a ~ N(0, .5²) and b ~ N(0, 1) of `Priors.weakly_informative` (`weak priors`). The
second has the coverage of 95 % intervals if the bank's b are skewed, if one topic of five is 1 SD harder, and if the
mean of the prior is wrong by .5 (b) or .3 (ln a). The third has the largest difference to a flat prior in SE.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np

import irt_psychometrics as irt
from irt_psychometrics.new_items import (
    BankPrior,
    NewItemEstimates,
    PersonPosteriors,
    estimate_new_items,
    theta_effects,
)
from tests.testbed.item_year import PER_LEARNER, PUBLISHED, estimated_bank

NEW, TOPICS, SEEN = 30, 5, 5
WORLDS = ("as the bank", "skewed b", "one topic 1 SD harder", "prior mean of b + .5", "prior mean of ln a + .3")


@dataclass(frozen=True)
class World:
    """A bank with estimates, new items, and answers: published (P, 150) and new (P, 30), NaN where not seen."""

    bank: irt.ItemParameters
    topics: tuple[str, ...]
    ln_a: np.ndarray
    b: np.ndarray
    published: irt.Responses
    new: np.ndarray

    @property
    def new_ids(self) -> list[str]:
        return [f"new{j}" for j in range(NEW)]


def draw_items(rng: np.random.Generator, n: int, world: str) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    topic = np.arange(n) % TOPICS
    b = rng.gamma(2, np.sqrt(0.5), n) - np.sqrt(2) if world == "skewed b" else rng.normal(0, 1, n)
    b = b + (topic == 0) * (world == "one topic 1 SD harder")
    return rng.normal(0.2, 0.3, n), b, tuple(f"topic {k}" for k in topic)


def answer(rng: np.random.Generator, theta: np.ndarray, ln_a: np.ndarray, b: np.ndarray, seen: int) -> np.ndarray:
    """Answers of P persons to `seen` items each, shape (P, J); items are seen about equally often."""
    order = rng.random((len(theta), len(b))).argsort(axis=1)
    right = rng.random(order.shape) < 1 / (1 + np.exp(-np.exp(ln_a) * (theta[:, None] - b)))
    return np.where(order < seen, right.astype(float), np.nan)


def simulate(rng: np.random.Generator, world: str, answers: int) -> World:
    """Simulate a bank and exactly `answers` answers to each new item."""
    ln_a, b, _ = draw_items(rng, PUBLISHED, world)
    bank = estimated_bank(rng, ln_a, b)
    new_ln_a, new_b, topics = draw_items(rng, NEW, world)
    theta = rng.normal(0, 1, answers * NEW // SEEN)
    published = irt.Responses.from_wide(answer(rng, theta, ln_a, b, PER_LEARNER), list(bank.item_ids))
    places = np.argsort(rng.random((answers * NEW // SEEN // (NEW // SEEN), NEW)), axis=1).reshape(-1, SEEN)
    new, right = np.full((len(theta), NEW), np.nan), answer(rng, theta, new_ln_a, new_b, NEW)
    np.put_along_axis(new, places, np.take_along_axis(right, places, axis=1), axis=1)
    return World(bank, topics, new_ln_a, new_b, published, new)


def bank_prior(world: World, name: str) -> BankPrior:
    topics = tuple(f"topic {k % TOPICS}" for k in range(PUBLISHED))
    found = BankPrior.from_items(world.bank, topics if "topic" in name else None)
    if name == "prior mean of b + .5":
        return replace(found, difficulty=irt.Normal(found.difficulty.mean + 0.5, found.difficulty.sd))
    if name == "prior mean of ln a + .3":
        return replace(found, slope=irt.Normal(found.slope.mean + 0.3, found.slope.sd))
    return found


def estimate(world: World, prior: BankPrior | None) -> NewItemEstimates:
    person, item = np.nonzero(np.isfinite(world.new))
    return estimate_new_items(
        world.new_ids,
        item,
        person,
        world.new[person, item],
        PersonPosteriors.from_responses(world.published, world.bank),
        prior,
        topics=world.topics,
        theta_effects=theta_effects(world.published, world.bank),
    )


def fit_all(world: World, prior: BankPrior | None) -> irt.ItemParameters:
    """Fit all answers with the published items held."""
    ids, wide = world.published.item_ids, np.full((world.published.n_persons, PUBLISHED), np.nan)
    wide[world.published.person, world.published.item] = world.published.score
    x = irt.Responses.from_wide(np.hstack([wide, world.new]), [*ids, *world.new_ids])
    weak = replace(irt.Priors.weakly_informative(), only=tuple(world.new_ids))
    priors = weak if prior is None else prior.priors(only=world.new_ids)
    return irt.fit(x, "2pl", anchors=world.bank, priors=priors).calibration.items.among(world.new_ids)


def compare_with_fits(answers: int, replications: int, seed: int) -> dict[str, float]:
    """RMSE of b by the pipeline's estimate, by one fit with the same prior, and by one fit with weak priors."""
    off: dict[str, list[np.ndarray]] = {}
    for number in range(replications):
        world = simulate(np.random.default_rng([seed, answers, number]), WORLDS[0], answers)
        prior = bank_prior(world, WORLDS[0])
        found = {"new": estimate(world, prior).items, "fit": fit_all(world, prior), "weak": fit_all(world, None)}
        for name, items in found.items():
            off.setdefault(name, []).append(items.b - world.b)
    return {name: float(np.sqrt(np.nanmean(np.square(parts)))) for name, parts in off.items()}  # NaN: no estimate


def cover(name: str, answers: int, replications: int, seed: int) -> dict[str, float]:
    """Coverage of 95 % intervals, mean errors and RMSE of b and ln a."""
    z, off = [], []
    for number in range(replications):
        world = simulate(np.random.default_rng([seed, WORLDS.index(name), answers, number]), name, answers)
        found = estimate(world, bank_prior(world, name))
        errors = np.array([found.items.b - world.b, np.log(found.items.a) - world.ln_a])
        off.append(errors)
        z.append(errors / np.array([found.items.b_se, found.ln_a_se]))
    covered, (b, ln_a) = np.abs(np.concatenate(z, axis=1)) < 1.96, np.concatenate(off, axis=1)
    return {
        "b": float(covered[0].mean()),
        "ln a": float(covered[1].mean()),
        "rmse": float(np.sqrt((b**2).mean())),
        "bias b": float(b.mean()),
        "bias ln a": float(ln_a.mean()),
    }


def differences_to_flat(answers: int, replications: int, seed: int) -> np.ndarray:
    """|estimate − estimate without a prior| in SE, of b and ln a, shape (2, items)."""
    parts = []
    for number in range(replications):
        world = simulate(np.random.default_rng([seed, answers, number, 3]), WORLDS[0], answers)
        found, flat = estimate(world, bank_prior(world, WORLDS[0])), estimate(world, None)
        parts.append(
            [(found.items.b - flat.items.b) / flat.items.b_se, np.log(found.items.a / flat.items.a) / flat.ln_a_se]
        )
    return np.abs(np.concatenate(parts, axis=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=40)
    parser.add_argument("--answers", type=int, nargs="*", default=[50, 100, 200])
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    print(f"{options.replications} replications, seed {options.seed}\n")
    print("| answers | RMSE of b | one fit | weak priors | ratio to one fit | ratio to weak priors |")
    print("|--:|--:|--:|--:|--:|--:|")
    for n in options.answers:
        x = compare_with_fits(n, options.replications, options.seed)
        ratios = f"{x['new'] / x['fit']:.3f} | {x['new'] / x['weak']:.2f}"
        print(f"| {n} | {x['new']:.3f} | {x['fit']:.3f} | {x['weak']:.3f} | {ratios} |", flush=True)
    print("\n| new items | answers | coverage of b | of ln a | RMSE of b | mean error of b | of ln a |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in WORLDS:
        for n in options.answers:
            x = cover(name, n, options.replications, options.seed)
            print(
                f"| {name} | {n} | {x['b']:.1%} | {x['ln a']:.1%} | {x['rmse']:.3f} "
                f"| {x['bias b']:+.3f} | {x['bias ln a']:+.3f} |",
                flush=True,
            )
    b, ln_a = np.quantile(
        differences_to_flat(1000, max(options.replications // 8, 1), options.seed), [0.5, 1], axis=1
    ).T
    print("\nDifference to a flat prior at 1,000 answers in SE, median and largest: ", end="")
    print(f"b {b[0]:.3f} and {b[1]:.3f}, ln a {ln_a[0]:.3f} and {ln_a[1]:.3f}")


if __name__ == "__main__":
    main()
