"""Scored items, and 3PL items beside them: coverage of intervals, sound items that are named, and speed.

    python -m benchmarks.bench_item_models --replications 100
    python -m benchmarks.bench_item_models coverage --replications 200 --learners 1000

Items of multiple choice have ln a ~ N(.2, .25²), b ~ N(0, 1) and c ~ Beta(5, 17); the others are scored 0 … 3. The
first table has the share of 95 % intervals that contain the truth, by kind of parameter over all items, with the Monte
Carlo error from the spread between replications. Steps and thresholds count if 10 or more learners have each of the
two scores beside them. θ is N(0, 1), or a gamma variable with shape 4, mean 0 and SD 1, whose distribution the fit
estimates as a histogram. The second table has the share of items that `find_drift` and `find_dif` name (q < .05, and
a severity) in a second sample of the same items with mean .3, and the share of named items whose b moved by .5. The
third has CPU seconds.
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

SIZES = {"grm": (0, 20), "gpcm": (0, 20), "3pl+gpcm": (20, 10), "3pl+grm": (20, 10)}
MOVED = 0.5
LATENT = {"normal": "normal", "histogram": "skewed, as a histogram"}
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

    def step_deviations(self, x: irt.Responses, fit: irt.Calibration) -> np.ndarray:
        """Deviations from the true steps in standard errors, if ten learners have each of the two scores beside one."""
        found = []
        for j in range(len(self.a), len(self.ids)):
            scores = np.bincount(x.score[x.item == j], minlength=self.categories)
            if not fit.estimated[j] or (scores == 0).any():
                continue
            steps, by = self.scored.steps(fit.parameters[: 2 + self.categories, j])
            size = 2 + self.categories
            errors = np.sqrt(np.einsum("kp,pq,kq->k", by, fit.cov[j, :size, :size], by))
            true = self.scored.steps(self.parameters[:, j - len(self.a)])[0]
            found.append(((steps - true) / errors)[np.minimum(scores[:-1], scores[1:]) >= 10])
        return np.concatenate(found) if found else np.zeros(0)

    def responses(self, rng: np.random.Generator, theta: np.ndarray, moved: int = 0) -> irt.Responses:
        """Draw answers at these θ. The b of the first `moved` items of each kind is higher by `MOVED`."""
        now = self.parameters.copy()
        now[1, :moved] -= MOVED * now[0, :moved]
        b = self.b + MOVED * (np.arange(len(self.b)) < moved)
        right = self.c + (1 - self.c) / (1 + np.exp(-self.a * (theta[:, None] - b)))
        p = self.scored.probabilities(theta, now, np.full(now.shape[1], self.categories))
        score = (rng.random((*p.shape[:2], 1)) > np.cumsum(p, axis=2)).sum(axis=2).T
        x = np.hstack([rng.random(right.shape) < right, score]).astype(float)
        most = {item: 1 if item[0] == "m" else self.categories - 1 for item in self.ids}
        return irt.Responses.from_wide(x, self.ids, max_score=most)


def draw_theta(rng: np.random.Generator, learners: int, latent: str) -> np.ndarray:
    return rng.normal(0, 1, learners) if latent == "normal" else (rng.gamma(4, 1, learners) - 4) / 2


def cover(model: str, latent: str, replications: int, learners: int, seed: int) -> dict[str, str]:
    """Share of intervals that contain the truth with its error, by kind of parameter."""
    inside: dict[str, list[tuple[int, int]]] = {}
    for number in range(replications):
        rng = np.random.default_rng([seed, len(model), number])
        items = Items.draw(rng, model, SIZES[model])
        x = items.responses(rng, draw_theta(rng, learners, latent))
        fit = irt.fit(x, items.models, latent=latent).calibration
        choice = len(items.a)
        logit_c = np.log(items.c / (1 - items.c))
        deviations = {
            "a": (fit.a - np.concatenate([items.a, items.parameters[0]])) / fit.a_se,
            "b": (fit.b[:choice] - items.b) / fit.b_se[:choice],
            "steps": items.step_deviations(x, fit),
            "c": (fit.parameters[2, :choice] - logit_c) / np.sqrt(fit.cov[:choice, 2, 2]),
        }
        for kind, z in deviations.items():
            known = z[np.isfinite(z)]
            inside.setdefault(kind, []).append((int((np.abs(known) < 1.96).sum()), known.size))
    return {kind: _share(np.array(counts, dtype=float)) for kind, counts in inside.items() if np.sum(counts)}


def _share(counts: np.ndarray) -> str:
    """Share of R replications' counts (R, 2), and the error of this ratio."""
    hits, n = counts.T
    share = hits.sum() / n.sum()
    error = np.sqrt(((hits - share * n) ** 2).sum()) / n.sum()
    return f"{share:.1%} ± {error:.1%} ({n.sum():,.0f})"


def named(model: str, replications: int, learners: int, seed: int) -> dict[str, float]:
    """Share of sound items that drift and DIF name, and of moved ones."""
    found, seen = Counter[str](), Counter[str]()
    for number in range(replications):
        rng = np.random.default_rng([seed, len(model), number, 1])
        items, moved = Items.draw(rng, model, SIZES[model]), number % 2
        old, new = (items.responses(rng, rng.normal(mean, 1, learners), moved if mean else 0) for mean in (0, 0.3))
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
    x = made.responses(rng, draw_theta(rng, learners, "normal"))
    irt.fit(x, "grm", threads=1)
    spent = []
    for likelihood_only in (False, True):
        start = time.process_time()
        irt.fit(x, "grm", threads=1, likelihood_only=likelihood_only)
        spent.append(time.process_time() - start)
    return spent[0], spent[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="?", choices=("coverage", "named", "speed"))
    parser.add_argument("--replications", type=int, default=100)
    parser.add_argument("--learners", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    warnings.simplefilter("ignore", irt.PsychometricsWarning)
    study = options.replications, options.learners, options.seed
    print(f"{options.replications} replications, {options.learners:,} learners, seed {options.seed}\n")
    if options.only in (None, "coverage"):
        for latent in ("normal", "histogram"):
            for model in SIZES:
                parts = " | ".join(f"{kind} {share}" for kind, share in cover(model, latent, *study).items())
                print(f"| coverage, θ {LATENT[latent]} | {model} | {parts} |", flush=True)
    if options.only in (None, "named"):
        for model in SIZES:
            parts = " | ".join(f"{name} {share:.1%}" for name, share in named(model, *study).items())
            print(f"| share of items named | {model} | {parts} |", flush=True)
    if options.only in (None, "speed"):
        for size in SPEED:
            with_errors, without = seconds(*size, options.seed)
            print(
                f"| graded, {' × '.join(map(str, size))} | {with_errors:.2f} s | without errors {without:.2f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
