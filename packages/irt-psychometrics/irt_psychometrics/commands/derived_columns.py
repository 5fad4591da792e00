"""Columns of a matrix that follow from other columns or from the rows, and are not items: totals, numbers of rows."""

import re
from collections.abc import Collection, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask

MIN_ROWS = 10  # with fewer rows, an item may look like a total by chance
MIN_FAMILY = 3  # columns whose names differ only by numbers
ROUNDED = 0.0051  # means are written with two or more decimals


class _Total(NamedTuple):
    """The sum or the mean of the columns in `group`, shape (n_rows,), and how near a column must come."""

    what: str
    values: Floats
    near: float
    group: Sequence[int]


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
    free = {j for members in kin.values() if len(members) < MIN_FAMILY for j in members}
    families = [members for members in kin.values() if len(members) >= MIN_FAMILY]
    cells, seen = np.nan_to_num(numbers), ~np.isnan(numbers)
    found = {j: why for j in free if (why := _pattern(numbers[:, j]))}
    varied = [j for j in np.flatnonzero(np.ptp(cells, axis=0) > 0).tolist() if j not in found]
    while totals := _totals(varied, free, families, cells, seen):
        found |= {j: f"the {one.what} of {names[one.group[0]]} … {names[one.group[-1]]}" for j, one in totals.items()}
        varied = [j for j in varied if j not in totals]
    return {names[j]: why for j, why in sorted(found.items())}


def _pattern(column: Floats) -> str:
    """Describe a column that counts rows or is constant; "" for other columns."""
    low, high = column.min(), column.max()
    if low == high > 1:
        return "the same for everyone"
    counts = low + np.arange(len(column)) % (high - low + 1) if 0 <= low < high else np.nan
    return "a number of the rows" if low <= 1 < high and np.array_equal(column, counts) else ""


def _totals(
    columns: Sequence[int], free: Collection[int], families: Sequence[Sequence[int]], cells: Floats, seen: Mask
) -> dict[int, _Total]:
    """Find the free columns that are the sum or the mean of others: column → this sum or mean.

    The others are all of `columns`, a family, or the columns from one to the left neighbour.
    """
    prefix = np.cumsum([0.0, *cells[:, columns].sum(axis=0)]).round(6).tolist()
    start_of = {total: place for place, total in enumerate(prefix)}
    of_families = [_sum_and_mean(cells[:, group].sum(axis=1), seen[:, group].sum(axis=1), group) for group in families]
    total, n = cells[:, columns].sum(axis=1), seen[:, columns].sum(axis=1)
    found = {}
    for place, j in enumerate(columns):
        if j not in free:
            continue
        run = columns[start_of.get(round(2 * prefix[place] - prefix[place + 1], 6), place) : place]
        ends = [k for k in (*columns[:2], *columns[-2:]) if k != j] if len(columns) > 2 else []
        is_whole = not (cells[:, j] % 1).any()  # equal columns are means of one another
        of_others = _sum_and_mean(total - cells[:, j], n - seen[:, j], ends)
        of_run = _sum_and_mean(cells[:, run].sum(axis=1), seen[:, run].sum(axis=1), run)
        for one in chain(of_others, *of_families, of_run):
            first = abs(cells[0, j] - one.values[0]) <= one.near  # nearly all columns fail here
            if is_whole and one.what == "mean":
                continue
            if len(one.group) > 1 and first and np.allclose(cells[:, j], one.values, rtol=0, atol=one.near):
                found[j] = one
    return found


def _sum_and_mean(total: Floats, n: Ints, group: Sequence[int]) -> list[_Total]:
    return [_Total("sum", total, 1e-6, group), _Total("mean", total / np.maximum(n, 1), ROUNDED, group)]
