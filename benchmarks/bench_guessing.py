"""Share of 2PL months in which guessing is reported, with and without actual guessing, and the sign that detects it.

    python -m benchmarks.bench_guessing --months 200 --seed 1
    python -m benchmarks.bench_guessing --like spisa_wide.csv.gz --learners 500 --months 200

Months are drawn as in `bench_normality`, with all items answered. Items have c = 0, or c = .2, or c = .2 in three of
ten items. Other rows have items with c = 0 whose curve is not logistic, with a uniform distribution of a and a mixture
for b. `--like` instead uses θ ~ N(0, 1) and the parameters of a 3PL fitted to a file of answers with a column of 0 and
1 per item; other columns are ignored. Prints the share of months in which guessing is found by either sign, with its
Monte Carlo error, and by each of the two signs, and the share of months whose curve does not fit, where the signs alone
would report guessing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, ndtr

from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.options import Latent, Model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.latent_shape import Shape
from psychometrics_testbed.abilities import abilities

GUESSING = {"0": 0.0, ".2 in 30 % of items": 0.3, ".2 in all": 1.0}
"""Share of items with c = .2."""
NORMAL_OGIVE, CLOGLOG = "0, normal ogive", "0, complementary log-log"
ROWS = (
    *((learners, items, theta, "0") for theta in ("normal", "χ²₄", "−χ²₄")
      for learners, items in ((2000, 40), (1000, 20), (500, 40))),
    (2000, 150, "normal", ".2 in 30 % of items"), (2000, 40, "normal", ".2 in 30 % of items"),
    (2000, 40, "normal", ".2 in all"), (1000, 20, "normal", ".2 in all"), (500, 40, "normal", ".2 in all"),
    (2000, 40, "χ²₄", ".2 in all"),
    (10_000, 60, "normal", NORMAL_OGIVE), (10_000, 60, "normal", CLOGLOG),
)  # fmt: skip
"""Number of learners and of items, θ and c of each row."""


@dataclass(frozen=True)
class Bank:
    a: Floats
    d: Floats
    c: Floats
    curve: str = "logistic"

    @classmethod
    def draw(cls, items: int, guessed: str, rng: np.random.Generator) -> Bank:
        if guessed in (NORMAL_OGIVE, CLOGLOG):
            a = rng.uniform(0.6, 1.9, items)
            b = np.where(rng.random(items) < 0.6, rng.normal(-0.6, 0.7, items), rng.normal(1.0, 0.5, items))
            return cls(a, -a * b, np.zeros(items), guessed)
        a, b = np.exp(rng.normal(0.1, 0.3, items)), rng.normal(0, 1, items)
        return cls(a, -a * b, np.where(np.arange(items) % 10 < 10 * GUESSING[guessed], 0.2, 0.0))

    def answers(self, theta: Floats, rng: np.random.Generator) -> Responses:
        z = self.a * theta[:, None] + self.d
        if self.curve == NORMAL_OGIVE:
            p = ndtr(z / 1.702)
        elif self.curve == CLOGLOG:
            p = -np.expm1(-np.exp(0.8 * z - 0.37))
        else:
            p = self.c + (1 - self.c) * expit(z)
        return Responses.from_wide((rng.random(p.shape) < p).astype(float))


def fit(some: Responses, model: Model, latent: Latent, **options: Any) -> Calibration:
    return fit_em(some, model=model, latent=latent, threads=1, **options)


def draw_shape(learners: int, items: int, theta: str, guessed: str, seed: list[int]) -> Shape:
    rng = np.random.default_rng(seed)
    bank = Bank.draw(items, guessed, rng)
    return fit_shape(bank.answers(abilities(theta, learners, rng), rng))


def fit_shape(responses: Responses) -> Shape:
    return Shape.fit(fit, responses, "2pl", "auto")[1]


def read_matrix(path: Path) -> Floats:
    table = pd.read_csv(path)
    return table.loc[:, [set(column.dropna().unique()) <= {0, 1} for _, column in table.items()]].to_numpy(float)


def shares_found(shapes: list[Shape]) -> str:
    share = np.mean([shape.guessing for shape in shapes])
    by_likelihood, by_items, other_curve = (
        np.mean([sign in shape.why and shape.guessing is guessing for shape in shapes])
        for sign, guessing in (("a 3PL raises", True), ("score tests find", True), ("curve does not fit", False))
    )
    error = np.sqrt(share * (1 - share) / len(shapes))
    return f"{len(shapes)} | {share:.1%} ± {error:.1%} | {by_likelihood:.1%} | {by_items:.1%} | {other_curve:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--months", type=int, default=200, help="a row")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, nargs="*", default=range(len(ROWS)))
    parser.add_argument("--like", type=Path, help="a file of answers")
    parser.add_argument("--learners", type=int, default=500, help="of a month like the file")
    arguments = parser.parse_args()
    print(
        "| learners × items | θ | c | months | found | by the 3PL's likelihood | by single items | curve does not fit |"
    )
    print("|---|---|---|--:|--:|--:|--:|--:|", flush=True)
    if arguments.like:
        like = fit(Responses.from_wide(read_matrix(arguments.like)), "3pl", "normal")
        bank, shapes = Bank(like.a, like.d, like.c), []
        for k in range(arguments.months):
            rng = np.random.default_rng([arguments.seed, k])
            shapes.append(fit_shape(bank.answers(rng.normal(size=arguments.learners), rng)))
        size = f"{arguments.learners:,} × {like.n_items}"
        print(f"| {size} | normal | like {arguments.like.name} | {shares_found(shapes)} |")
        return
    for row in (ROWS[k] for k in arguments.rows):
        learners, items, theta, guessed = row
        shapes = [draw_shape(*row, [arguments.seed, k]) for k in range(arguments.months)]
        print(f"| {learners:,} × {items} | {theta} | {guessed} | {shares_found(shapes)} |", flush=True)


if __name__ == "__main__":
    main()
