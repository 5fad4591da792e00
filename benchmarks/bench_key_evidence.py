"""Answers until a wrong key is named, and right keys that are named, by the sequential test `KeyEvidence`.

    python -m benchmarks.bench_key_evidence --wrong 500 --right 100000 --beyond 8000 --answers 1000 --seed 1

An item is named when its evidence reaches 1,000. θ ~ N(0, 1), and rest scores of reliability .85 are standardised and
rounded to sixths of an SD, or to whole SDs in short forms. Options follow a nominal model, in which only the right
option of an item with a wrong key depends on θ; its slope gives the option–rest correlation r in the table, and the
intercepts give the options' shares. *Limit* is the expected number of answers of Wald's test that knows the
distributions of the rest scores of both options, ln 1,000 divided by the information of an answer.

Right keys include those at the border of the null hypothesis, with a second option that is exactly as good, and
distractors for learners with partial knowledge. In one kind learners become abler by 1 SD, which the null
hypothesis excludes. Prints the item-years whose evidence ever reached 10, 100 and 1,000; by Ville's inequality 10 %,
1 % and .1 % are expected at most. The same for kinds of answers that the proof does not include.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, softmax

from irt_psychometrics.classical import KeyEvidence
from irt_psychometrics.core.arrays import Floats, Ints

NAMED = 1_000
RELIABILITY = 0.85
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(101)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
WRONG = {
    "½, key ⅓": (0.50, 0.33, 0.10, 0.07),
    "½, key ¼": (0.50, 0.25, 0.15, 0.10),
    "½, key ⅙": (0.50, 0.17, 0.17, 0.16),
    "¼, key ¼": (0.25, 0.25, 0.25, 0.25),
}
"""Shares of the right option, of the option that is the key by mistake, and of two more."""
OPTIONS = np.array(list("ABCDE"))


def nominal(rng: np.random.Generator, theta: Floats, slopes: Floats, intercepts: Floats) -> Ints:
    eta = theta[:, None] * slopes + intercepts
    return np.asarray((eta + rng.gumbel(size=eta.shape)).argmax(axis=1))


def rest_scores(rng: np.random.Generator, theta: Floats, steps: int = 6) -> Floats:
    error = rng.normal(size=len(theta))
    return np.asarray(np.round((np.sqrt(RELIABILITY) * theta + np.sqrt(1 - RELIABILITY) * error) * steps) / steps)


def wrong_key(shares: tuple[float, ...], r: float) -> tuple[float, Floats, float]:
    """Slope of the right option, intercepts of all, and the expected number of answers of Wald's test."""

    def intercepts_of(slope: float) -> tuple[Floats, Floats]:
        intercepts, p = np.log(shares), np.empty(0)
        for _ in range(200):
            p = softmax(np.outer(NODES, [slope, 0, 0, 0]) + intercepts, axis=1)
            intercepts = intercepts + np.log(shares) - np.log(WEIGHTS @ p)
        return intercepts, p

    def excess(slope: float) -> float:
        _, p = intercepts_of(slope)
        return float(np.sqrt(RELIABILITY) * (WEIGHTS * NODES) @ p[:, 0] / np.sqrt(shares[0] * (1 - shares[0])) - r)

    slope = brentq(excess, 0.01, 20)
    intercepts, _ = intercepts_of(slope)
    theta = np.sqrt(RELIABILITY) * NODES[:, None] + np.sqrt(1 - RELIABILITY) * NODES  # given each rest score
    given_rest = np.einsum("q,rqo->ro", WEIGHTS, softmax(theta[..., None] * [slope, 0, 0, 0] + intercepts, axis=2))
    return slope, intercepts, float(np.log(NAMED) / information(given_rest))


def information(p: Floats) -> float:
    """Information of an answer about option and rest score, of those who choose one of the first two options."""
    pair = p[:, :2]
    given = pair / pair.sum(axis=1, keepdims=True)
    share = WEIGHTS @ pair / (WEIGHTS @ pair).sum()
    return float(WEIGHTS @ (pair * np.log(given / share)).sum(axis=1))


def first_named(found: KeyEvidence, options: list[str], rest: Floats) -> float:
    """Number of answers until the evidence reaches 1,000; infinity if it does not."""
    if found.update(options, rest).e_value < NAMED:
        return np.inf
    low, high = 0, len(options)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found.update(options[:middle], rest[:middle]).e_value >= NAMED else (middle, high)
    return high


def print_wrong_keys(replications: int, rng: np.random.Generator) -> None:
    print(f"Wrong keys: answers until named, {replications} items each\n")
    print("| right option | r | key's r | limit | median | 90 % | named wrongly |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, shares in WRONG.items():
        for r in (0.5, 0.4, 0.3, 0.2):
            slope, intercepts, limit = wrong_key(shares, r)
            n, others, key_r = [], 0, []
            for seed in range(replications):
                theta = rng.normal(size=int(4 * limit))
                chosen = nominal(rng, theta, np.array([slope, 0, 0, 0]), intercepts)
                rest = rest_scores(rng, theta)
                options = OPTIONS[chosen].tolist()
                n.append(first_named(KeyEvidence.start(["B"], seed), options, rest))
                key_r.append(np.corrcoef(chosen == 1, rest)[0, 1])
                if np.isfinite(n[-1]):
                    end = int(n[-1])
                    others += KeyEvidence.start(["B"], seed).update(options[:end], rest[:end]).option != "A"
            median, late = np.quantile(n, [0.5, 0.9])
            print(f"| {name} | {r:.1f} | {np.mean(key_r):.2f} | {limit:.0f} | {median:.0f} | {late:.0f} | {others} |")


def equal_options(rng: np.random.Generator, theta: Floats) -> Ints:
    return nominal(rng, theta, np.array([1.0, 1, 0, 0]), np.array([0.5, 0.5, 0, 0]))


def rarer_equal_option(rng: np.random.Generator, theta: Floats) -> Ints:
    return nominal(rng, theta, np.array([1.0, 1, 0, 0]), np.array([-0.3, 0.9, 0, 0]))


def abler_learners_later(rng: np.random.Generator, theta: Floats) -> Ints:
    theta += np.linspace(-0.5, 0.5, len(theta))
    return equal_options(rng, theta)


def unknown(rng: np.random.Generator, theta: Floats) -> Ints:
    return nominal(rng, theta, np.zeros(4), np.zeros(4))


def attractive(rng: np.random.Generator, theta: Floats) -> Ints:
    return nominal(rng, theta, np.array([1.2, 0.6, 0, 0]), np.array([-0.5, 0.7, 0, 0]))


def partial_knowledge(rng: np.random.Generator, theta: Floats) -> Ints:
    """Choices of the key by those who know it, of one distractor by those who know a part, and otherwise guesses."""
    guessed = rng.integers(4, size=len(theta))
    partial = rng.random(len(theta)) < expit(1.2 * theta)
    knows = rng.random(len(theta)) < expit(1.7 * (theta - 1.5))
    return np.where(knows, 0, np.where(partial, 1, guessed))


def ordinary(rng: np.random.Generator, theta: Floats) -> Ints:
    slopes = np.concatenate([rng.uniform(0.4, 2, 1), rng.uniform(-0.5, 0.3, 4)])
    return nominal(rng, theta, slopes, np.concatenate([rng.normal(1, 1, 1), rng.normal(0, 0.7, 4)]))


def taught_by_class(rng: np.random.Generator, theta: Floats) -> Ints:
    """Choices of one of two right options, which each class of 25 is taught. Classes explain 20 % of θ's variance."""
    of_class = np.arange(len(theta)) // 25
    theta *= np.sqrt(0.8)
    theta += np.sqrt(0.2) * rng.normal(size=of_class[-1] + 1)[of_class]
    taught = rng.integers(2, size=of_class[-1] + 1)[of_class]
    chosen = equal_options(rng, theta)
    return np.where(chosen < 2, taught, chosen)


def for_the_able(rng: np.random.Generator, theta: Floats) -> Ints:
    return nominal(rng, theta, np.array([1.0, 1.3, 0, 0]), np.array([0.5, 0.5, 0, 0]))


class Kind(NamedTuple):
    """A kind of items with a right key: choices by θ, rest scores in 1/`steps` of an SD, and rows per learner."""

    choose: Callable[[np.random.Generator, Floats], Ints]
    steps: int = 6
    copies: int = 1


RIGHT = {
    "two right options": Kind(equal_options),
    "two right options, short forms": Kind(equal_options, steps=1),
    "two right options, the key is the rarer": Kind(rarer_equal_option),
    "two right options, abler learners later": Kind(abler_learners_later),
    "nobody knows the answer": Kind(unknown),
    "hard, attractive distractor": Kind(attractive),
    "hard, distractor for partial knowledge": Kind(partial_knowledge),
    "ordinary, five options": Kind(ordinary),
}
BEYOND = {
    "ordinary, every learner under two ids": Kind(ordinary, copies=2),
    "two right options, every learner under two ids": Kind(equal_options, copies=2),
    "two right options, each class is taught one": Kind(taught_by_class),
    "a second right option with abler choosers": Kind(for_the_able),
}
"""Kinds that the proof does not include."""


def print_right_keys(kinds: Mapping[str, Kind], item_years: int, answers: int, rng: np.random.Generator) -> None:
    each = -(-item_years // len(kinds))
    print(f"\nRight keys: {each * len(kinds):,} item-years of {answers:,} answers\n")
    print("| kind | p | r | item-years | 10 | 100 | 1,000 |\n|---|--:|--:|--:|--:|--:|--:|")
    total = np.zeros(3, dtype=int)
    for name, (choose, steps, copies) in kinds.items():
        most, p, r = np.empty(each), np.empty(each), np.empty(each)
        for k in range(each):
            theta = rng.normal(size=answers // copies)
            chosen, rest = (np.repeat(x, copies) for x in (choose(rng, theta), rest_scores(rng, theta, steps)))
            p[k], r[k] = (chosen == 0).mean(), np.corrcoef(chosen == 0, rest)[0, 1]
            most[k] = KeyEvidence.start(["A"], k).update(OPTIONS[chosen].tolist(), rest).e_value
        reached = (most[:, None] >= [10, 100, 1_000]).sum(axis=0)
        total += reached
        mean = (round(float(values.mean()), 2) + 0.0 for values in (p, r))
        print("| " + " | ".join([name, *map(str, mean), f"{each:,}", *map(str, reached)]) + " |", flush=True)
    print(f"| all | | | {each * len(kinds):,} | {' | '.join(f'{x:,}' for x in total)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wrong", type=int, default=500, help="items with a wrong key in each row")
    parser.add_argument("--right", type=int, default=100_000, help="item-years with a right key")
    parser.add_argument("--beyond", type=int, default=8_000, help="item-years that the proof does not include")
    parser.add_argument("--answers", type=int, default=1_000, help="answers in an item-year with a right key")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    if args.wrong:
        print_wrong_keys(args.wrong, rng)
    if args.right:
        print_right_keys(RIGHT, args.right, args.answers, rng)
    if args.beyond:
        print_right_keys(BEYOND, args.beyond, args.answers, rng)


if __name__ == "__main__":
    main()
