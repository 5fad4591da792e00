"""Notes on patterns in answers that deserve a look: persons without any point, and maximum scores nobody comes near."""

from collections.abc import Iterable
from math import exp, lgamma

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of

BLOCK = 2**20
MIN_POINTS = 5  # with fewer points to reach, a total of 0 is usual
MIN_ZEROS = 5  # persons without a point that are too many
MIN_ANSWERS = 30
ROUNDS = 30  # the expected zeros change the distribution from which they are expected


def describe_patterns(responses: Responses) -> list[str]:
    """Return the sentences of this module about answers."""
    most = (np.full(responses.n_items, 2) if responses.categories is None else responses.categories) - 1
    high, counts = np.zeros((2, responses.n_items))
    possible, totals, n = np.zeros((3, responses.n_persons))
    for first in range(0, responses.n_responses, BLOCK):  # sums by bincount need 24 bytes per response
        part = slice(first, first + BLOCK)
        person, item, score = responses.person[part], responses.item[part], responses.score[part]
        np.maximum.at(high, item, score)
        counts += np.bincount(item, minlength=counts.size)
        for sums, weights in ((possible, most[item]), (totals, score), (n, None)):
            sums += np.bincount(person, weights, minlength=n.size)
    items = zip(responses.item_ids, counts.astype(int).tolist(), high.tolist(), most.tolist(), strict=True)
    return [describe_zeros(possible.astype(int), totals, n.astype(int)), describe_unreached(items)]


def describe_zeros(possible: Ints, totals: Floats, n_items: Ints) -> str:
    """Return a sentence on persons with 0 on all items, if there are more than chance explains; otherwise "".

    Args:
        possible: the points that each person could reach on the answered items, shape (n_persons,).
        totals: the points that each person has.
        n_items: the number of items that each person answered.
    """
    enough = possible >= MIN_POINTS
    zero = enough & (totals == 0)
    n, by_chance = int(zero.sum()), 0.0
    if n < MIN_ZEROS:
        return ""
    if (others := enough & ~zero).any():
        by_chance = expected_zeros(possible[others], totals[others])
    if n < 2 * by_chance + 3 * by_chance**0.5:
        return ""
    counts = sorted({*n_items[zero].tolist()})
    items = f"all {counts[0]} items" if len(counts) == 1 else f"all of their {counts[0]} to {counts[-1]} items"
    return (
        f"{n:,} persons have 0 on {items} (by chance: {int(by_chance):,}): leave out persons who did not take the test"
    )


def expected_zeros(possible: Ints, totals: Floats) -> float:
    """Estimate how many further persons have a total of 0, if totals are beta-binomial (Keats & Lord, 1962).

    `possible`, `totals`: as in `describe_zeros`, of the persons with a point.
    """
    share, noise = totals / possible, float(np.mean(1 / possible))
    points, n_persons = np.unique(possible, return_counts=True)
    zeros = 0.0
    for _ in range(ROUNDS):
        n = len(share) + zeros
        mean = share.sum() / n
        spread = mean * (1 - mean)
        variance = (np.square(share - mean).sum() + zeros * mean**2) / n
        true = np.clip((variance - noise * spread) / (1 - noise), 1e-3 * spread, 0.999 * spread)
        size = spread / true - 1
        wrong = (1 - mean) * size
        none = [exp(lgamma(wrong + m) - lgamma(wrong) - lgamma(size + m) + lgamma(size)) for m in points.tolist()]
        zeros = float(n_persons @ [p / (1 - p) for p in none])
    return zeros


def describe_unreached(items: Iterable[tuple[str, int, float, int]]) -> str:
    """Return a sentence on scored items of which nobody has more than 1 point, or "".

    `items`: item, number of answers, highest score, maximum score.
    """
    found = [f"{name} (1 of {most})" for name, n, high, most in items if n >= MIN_ANSWERS and high <= 1 < most]
    return f"nobody has more than 1 point on {some_of(found)}: is 1 the maximum score there?" if found else ""
