"""Columns of a matrix that follow from other columns or from the rows, and are not items: totals, numbers of rows."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from irt_psychometrics.core.arrays import Floats, Mask

MIN_ROWS = 10  # with fewer rows, an item may look like a total by chance
MIN_FAMILY = 3  # columns whose names differ only by numbers
ROUNDED = 0.0051  # means are written with two or more decimals


def derived_columns(names: Sequence[str], numbers: Floats) -> dict[str, str]:
    """Find columns that are derived: column → description.

    A column is derived if it counts the rows, in all or again and again to one number, if it has the same number above
    1 everywhere, or if it is the sum or the mean of the other columns, of a family of columns, or of the columns before
    it. Members of a family, such as q1 … q9, are never derived.

    Args:
        names: the columns.
        numbers: the cells, shape (n_rows, n_columns); NaN for cells that are not numbers.
    """
    if len(numbers) < MIN_ROWS:
        return {}
    kin: dict[str, list[int]] = {}
    for j, name in enumerate(names):
        kin.setdefault(re.sub(r"\d+", "#", name), []).append(j)
    cells, seen = np.nan_to_num(numbers), ~np.isnan(numbers)
    varied = np.flatnonzero(np.ptp(cells, axis=0) > 0).tolist()
    families = [[j for j in members if j in varied] for members in kin.values() if len(members) >= MIN_FAMILY]
    free = [j for members in kin.values() if len(members) < MIN_FAMILY for j in members]
    found = {j: why for j in free if (why := _pattern(numbers[:, j]))}
    while totals := {
        j: f"the {what} of {names[group[0]]} … {names[group[-1]]}"
        for j in {*free} - found.keys()
        for group, what in _summands(j, [k for k in varied if k not in found], families, cells, seen)
    }:
        found |= totals
    return {names[j]: why for j, why in sorted(found.items())}


def _pattern(column: Floats) -> str:
    """Describe a column that counts rows or is constant; "" for other columns."""
    low, high = column.min(), column.max()
    if low == high > 1:
        return "the same for everyone"
    counts = low + np.arange(len(column)) % (high - low + 1) if 0 <= low < high else np.nan
    return "a number of the rows" if low <= 1 < high and np.array_equal(column, counts) else ""


def _summands(
    j: int, columns: Sequence[int], families: Sequence[Sequence[int]], cells: Floats, seen: Mask
) -> Iterator[tuple[Sequence[int], str]]:
    """Yield each group of columns of which column j is the sum or the mean, with this word."""
    others = [k for k in columns if k != j]
    before = [k for k in others if k < j]
    column, sums = cells[:, j], cells.sum(axis=0)
    equal = np.isclose(np.cumsum(sums[before][::-1]), sums[j])
    for group in (others, *families, *(before[-k - 1 :] for k in np.flatnonzero(equal).tolist())):
        if len(group) < 2 or not (np.isclose(sums[group].sum(), sums[j]) or (column % 1).any()):
            continue
        total, n = cells[:, group].sum(axis=1), np.maximum(seen[:, group].sum(axis=1), 1)
        for what, numbers, near in (("sum", total, 1e-6), ("mean", total / n, ROUNDED)):
            if np.allclose(column, numbers, rtol=0, atol=near):
                yield group, what
