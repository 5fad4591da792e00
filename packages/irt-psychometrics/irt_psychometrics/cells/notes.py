"""Notes on cells and on patterns in answers that deserve a look: persons with no point, unreached maximum scores."""

import re
from collections.abc import Iterable, Mapping
from math import exp, lgamma

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of

BLOCK = 2**20
MIN_POINTS = 5  # with fewer points to reach, a total of 0 is usual
MIN_ZEROS = 5  # persons without a point that are too many
MIN_ANSWERS = 30
_SHORTENED = re.compile(r"\d(\.\d+)?E\+\d+")
ROUNDS = 30  # the expected zeros change the distribution from which they are expected


def describe_cells(
    blanks: Mapping[str, int],
    ids: Iterable[str],
    possible: Ints,
    totals: Floats,
    n_items: Ints,
    items: Iterable[tuple[str, int, float, int]],
) -> list[str]:
    """Return sentences about cells and answers that deserve a look.

    They list the cells that count as no answer, ids that Excel seems to have shortened, persons with 0 on all items if
    there are more than chance explains, and items of which nobody has more than 1 point.

    Parameters
    ----------
    blanks
        Text → number of cells with this text that count as no answer; "" for empty cells.
    ids
        Ids of persons and items.
    possible
        Points that each person could reach on the answered items, shape (n_persons,).
    totals
        Points that each person has, shape (n_persons,).
    n_items
        Number of items that each person answered, shape (n_persons,).
    items
        Item, number of answers, highest score, maximum score.

    Returns
    -------
    list[str]
        The sentences; empty if nothing deserves a look.

    Examples
    --------
    >>> describe_cells({"": 12, "NA": 3}, ["p1"], *[np.empty(0, dtype=int)] * 3, [])
    ["counted as no answer: 12 empty, 3 × 'NA'"]
    """
    spelled = [f"{n:,} × {text!r}" for text, n in sorted(blanks.items(), key=lambda one: -one[1]) if text and n]
    named = ([f"{blanks['']:,} empty"] if blanks.get("") else []) + spelled
    notes = [f"counted as no answer: {some_of(named)}"] if named else []
    if shortened := sorted(name for name in {*ids} if "E+" in name and _SHORTENED.fullmatch(name)):
        remedy = "Different learners or items may have become one: export the file again with ids as text"
        notes.append(f"ids that look like numbers which Excel has shortened: {some_of(shortened)}. {remedy}")
    return [*notes, *filter(None, (describe_zeros(possible, totals, n_items), describe_unreached(items)))]


def sums_of(responses: Responses) -> tuple[Ints, Floats, Ints, Iterable[tuple[str, int, float, int]]]:
    """Return the sums over responses that `describe_cells` needs, from `possible` on."""
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
    return possible.astype(int), totals, n.astype(int), items


def describe_zeros(possible: Ints, totals: Floats, n_items: Ints) -> str:
    """Return a sentence on persons with 0 on all items, if there are more than chance explains; otherwise "".

    Args:
        possible, totals, n_items: as in `describe_cells`.
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
