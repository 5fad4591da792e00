"""Columns of a matrix that are not items: totals, numbers of rows, persons and attempts, and constants."""

import re
from collections import defaultdict
from collections.abc import Collection, Container, Sequence
from itertools import product

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints

MIN_ROWS = 10  # with fewer rows, an item may look like a total by chance
MIN_IDS = 30  # rows from which on different whole numbers in all rows cannot be scores
MIN_FAMILY = 3  # columns whose names differ only by numbers
NEAR = {"sum": 1e-6, "mean": 0.0051}  # means are written with two or more decimals
FIRST_ROWS = 1_000
"""Number of rows that show whether a column is an item."""
_ATTEMPT = re.compile(
    r"(attempt|trial|try|retake|versuch|intento)s?[\W_]*(no|nr|num|number|index|count)?\W*", re.IGNORECASE
)


def derived_columns(names: Sequence[str], numbers: Floats, items: Container[str] = ()) -> dict[str, str]:
    """Find the columns of a matrix that are not items.

    A column is not an item if it counts the rows, in all or again and again to one number, if its whole numbers differ
    in all rows, if it has the number of an attempt by its name, if everyone has the same number above 1 or, beside
    columns that form a family, any same number, or if it is the sum or the mean of the other columns, of a family of
    columns, or of the columns before it. Members of a family, such as q1 … q9, are always items.

    Args:
        names: the columns.
        numbers: shape (n_rows, n_columns), the cells of the first rows; NaN for cells that are not numbers.
        items: columns that are items, whatever they contain.

    Returns column → description; empty for a few rows, which may look like totals by chance.
    """
    if len(numbers) < MIN_ROWS:
        return {}
    kin = defaultdict[str, list[int]](list)
    for j, name in enumerate(names):
        kin[re.sub(r"\d+", "#", name)].append(j)
    families = [np.array(members) for members in kin.values() if len(members) >= MIN_FAMILY]
    stems = [re.sub(r"[\W\d_].*", "", name, flags=re.DOTALL).lower() for name in names]
    of_families = {stems[members[0]] for members in families}
    free = {*range(len(names))}.difference(*families)
    found = {j: why for j in free if (why := _pattern(names[j], numbers[:, j], beside=bool(of_families - {stems[j]})))}
    varies = np.ptp(np.nan_to_num(numbers), axis=0) > 0
    varied = np.array([j for j in np.flatnonzero(varies).tolist() if j not in found], dtype=np.int64)
    while totals := _totals(varied, free, families, names, numbers):
        found |= totals
        varied = np.setdiff1d(varied, [*totals])
    return {names[j]: why for j, why in sorted(found.items()) if names[j] not in items}


def _pattern(name: str, column: Floats, *, beside: bool) -> str:
    """Describe a column that counts rows, persons or attempts, or is constant; "" for other columns.

    `beside`: whether other columns form a family with another name.
    """
    low, high = column.min(), column.max()
    if not (column % 1 == 0).all():
        return ""
    if low > 0 and _ATTEMPT.fullmatch(name):
        return "the number of an attempt"
    if low == high:
        return "the same for everyone" if low > 1 or beside else ""
    counts = low + np.arange(len(column)) % (high - low + 1)
    if 0 <= low <= 1 < high and np.array_equal(column, counts):
        return "a number of the rows"
    return "another number in each row" if len(column) >= MIN_IDS and len(np.unique(column)) == len(column) else ""


def _totals(
    columns: Ints, free: Collection[int], families: Sequence[Ints], names: Sequence[str], numbers: Floats
) -> dict[int, str]:
    """Describe the free columns that are the sum or the mean of others.

    The others are the columns from one to the left neighbour, a family, or all of `columns`.
    """
    prefix = np.cumsum([0.0, *np.nansum(numbers[:, columns], axis=0)]).round(6).tolist()
    start_of = {total: place for place, total in enumerate(prefix)}
    found = {}
    for place, j in enumerate(columns.tolist()):
        if j not in free:
            continue
        run = columns[start_of.get(round(2 * prefix[place] - prefix[place + 1], 6), place) : place]
        is_whole = not (np.nan_to_num(numbers[:, j]) % 1).any()  # equal columns are means of one another
        groups = (run, *families, np.delete(columns, place))
        for group, kind in product(groups, ["sum"] if is_whole else ["mean", "sum"]):
            # Nearly all columns differ in the first row.
            if len(group) > 1 and _is_total(kind, j, group, numbers[:1]) and _is_total(kind, j, group, numbers):
                found[j] = f"the {kind} of {names[group[0]]} … {names[group[-1]]}"
                break
    return found


def _is_total(kind: str, j: int, group: Ints, numbers: Floats) -> bool:
    """Check whether column `j` is the sum or the mean (`kind`) of the columns in `group`."""
    others = numbers[:, group]
    total = np.nansum(others, axis=1)
    if kind == "mean":
        total /= np.maximum((~np.isnan(others)).sum(axis=1), 1)
    return np.allclose(np.nan_to_num(numbers[:, j]), total, rtol=0, atol=NEAR[kind])
