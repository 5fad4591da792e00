"""Graded items, and 3PL items beside scored ones: coverage of intervals, sound items that are named, and speed.

    python -m benchmarks.bench_item_models --replications 100

Items of multiple choice have ln a ~ N(.2, .25²), b ~ N(0, 1) and c ~ Beta(5, 17); the others are scored 0 … 3. θ is
N(0, 1). The first table has the share of 95 % intervals that contain the truth, by kind of parameter, over all items.
The second has the share of items that `find_drift` and `find_dif` name (q < .05, and a severity) in a second
sample of the same items with mean .3, and the share of named items whose b moved by .5. The third has CPU seconds.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections import Counter
from dataclasses import dataclass

import numpy as np

import irt_psychometrics as irt
from irt_psychometrics.core.model_families import GPCM, GRM, ItemModel

SIZES = {"grm": (0, 20), "3pl+gpcm": (20, 10), "3pl+grm": (20, 10)}
MOVED = 0.5
SPEED = ((2000, 40, 5), (10_000, 100, 5))


@dataclass(frozen=True)
class Items:
    """True parameters: a, b and c of items of multiple choice, and `parameters` of scored items."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    scored: ItemModel
    parameters: np.ndarray
    categories: int

    @classmethod
    def draw(cls, rng: np.random.Generator, model: str, sizes: tuple[int, int], categories: int = 4) -> Items:
        choice, n = sizes
        a, b, c = np.exp(rng.normal(0.2, 0.25, choice)), rng.normal(0, 1, choice), rng.beta(5, 17, choice)
        scored = GRM if "grm" in model else GPCM
        slope, where = np.exp(rng.normal(0.3 if scored is GRM else -0.3, 0.2, n)), rng.normal(0, 0.6, n)
        shape = (categories - 2, n)
        inner = np.log(rng.uniform(0.6, 1.6, shape) * slope) if scored is GRM else rng.normal(0.3, 0.4, shape)
        return cls(a, b, c, scored, np.vstack([slope, -slope * where, np.zeros(n), inner, np.zeros(n)]), categories)

    @property
    def ids(self) -> list[str]:
        return [*(f"m{k}" for k in range(len(self.a))), *(f"s{k}" for k in range(self.parameters.shape[1]))]

    @property
    def models(self) -> dict[str, str]:
        return {item: "3pl" if item[0] == "m" else self.scored.name for item in self.ids}

    def responses(self, rng: np.random.Generator, learners: int, mean: float = 0.0, moved: int = 0) -> irt.Responses:
        """Draw answers. The b of the first `moved` items of each kind is higher by `MOVED`."""
        theta, now = rng.normal(mean, 1, learners), self.parameters.copy()
        now[1, :moved] -= MOVED * now[0, :moved]
        b = self.b + MOVED * (np.arange(len(self.b)) < moved)
        right = self.c + (1 - self.c) / (1 + np.exp(-self.a * (theta[:, None] - b)))
        p = self.scored.probabilities(theta, now, np.full(now.shape[1], self.categories))
        score = (rng.random((*p.shape[:2], 1)) > np.cumsum(p, axis=2)).sum(axis=2).T
        x = np.hstack([rng.random(right.shape) < right, score]).astype(float)
        most = {item: 1 if item[0] == "m" else self.categories - 1 for item in self.ids}
        return irt.Responses.from_wide(x, self.ids, max_score=most)


def cover(model: str, replications: int, learners: int, seed: int) -> dict[str, float]:
    """Share of intervals that contain the truth, by kind of parameter."""
    inside, seen = Counter[str](), Counter[str]()
    for number in range(replications):
        rng = np.random.default_rng([seed, len(model), number])
        items = Items.draw(rng, model, SIZES[model])
        fit = irt.fit(items.responses(rng, learners), items.models).calibration
        choice = len(items.a)
        logit_c = np.log(items.c / (1 - items.c))
        true = np.zeros_like(fit.parameters)
        true[:3, :choice] = items.a, -items.a * items.b, logit_c
        true[:, choice:] = items.parameters
        with np.errstate(invalid="ignore", divide="ignore"):
            z = (fit.parameters - true) / np.sqrt(np.einsum("jkk->kj", fit.cov))
        for kind, part in {"a": z[0], "d": z[1], "c": z[2, :choice], "steps": z[3:5, choice:]}.items():
            known = np.isfinite(part)
            inside[kind] += int((np.abs(part[known]) < 1.96).sum())
            seen[kind] += int(known.sum())
    return {kind: inside[kind] / n for kind, n in seen.items() if n}


def named(model: str, replications: int, learners: int, seed: int) -> dict[str, float]:
    """Share of sound items that drift and DIF name, and of moved ones."""
    found, seen = Counter[str](), Counter[str]()
    for number in range(replications):
        rng = np.random.default_rng([seed, len(model), number, 1])
        items, moved = Items.draw(rng, model, SIZES[model]), number % 2
        old, new = items.responses(rng, learners), items.responses(rng, learners, mean=0.3, moved=moved)
        fits = [irt.fit(x, items.models) for x in (new, old)]
        groups = np.repeat(["new", "old"], learners)
        both = irt.Responses.from_wide(
            np.vstack([x.score.reshape(learners, -1) for x in (new, old)]).astype(float),
            items.ids,
            max_score={item: 1 if item[0] == "m" else items.categories - 1 for item in items.ids},
        )
        of_moved = np.isin(items.ids, ["m0", "s0"]) if moved else np.zeros(len(items.ids), dtype=bool)
        for kind, table in {
            "drift": irt.find_drift(*fits).to_frame("pandas"),
            "dif": irt.find_dif(both, groups, model=items.models).to_frame("pandas"),
        }.items():
            is_named = ((table["q"] < 0.05) & (table["severity"] != "none")).to_numpy()
            for name, part in {f"{kind}, sound": ~of_moved, f"{kind}, moved": of_moved}.items():
                found[name] += int(is_named[part].sum())
                seen[name] += int(part.sum())
    return {name: found[name] / n for name, n in seen.items() if n}


def seconds(learners: int, items: int, categories: int, seed: int) -> tuple[float, float]:
    """CPU seconds of a graded fit on one thread, with the errors and without."""
    rng = np.random.default_rng(seed)
    made = Items.draw(rng, "grm", (0, items), categories)
    x = made.responses(rng, learners)
    irt.fit(x, "grm", threads=1)
    spent = []
    for likelihood_only in (False, True):
        start = time.process_time()
        irt.fit(x, "grm", threads=1, likelihood_only=likelihood_only)
        spent.append(time.process_time() - start)
    return spent[0], spent[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--learners", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    warnings.simplefilter("ignore", irt.PsychometricsWarning)
    print(f"{options.replications} replications, {options.learners:,} learners, seed {options.seed}\n")
    for title, compute in (("coverage", cover), ("share of items named", named)):
        for model in SIZES:
            parts = compute(model, options.replications, options.learners, options.seed)
            print(f"| {title} | {model} | " + " | ".join(f"{name} {x:.1%}" for name, x in parts.items()), flush=True)
    print()
    for size in SPEED:
        with_errors, without = seconds(*size, options.seed)
        print(
            f"| graded, {' × '.join(map(str, size))} | {with_errors:.2f} s | without errors {without:.2f} s |",
            flush=True,
        )


if __name__ == "__main__":
    main()
