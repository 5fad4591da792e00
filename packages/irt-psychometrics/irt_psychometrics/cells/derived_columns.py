"""Columns of a matrix that follow from other columns or from the rows, and are not items: totals, numbers of rows."""

import re
from collections import defaultdict
from collections.abc import Collection, Container, Sequence
from itertools import product

import numpy as np

from irt_psychometrics.cells.columns import Cells
from irt_psychometrics.core.arrays import Floats, Ints

MIN_ROWS = 10  # with fewer rows, an item may look like a total by chance
MIN_FAMILY = 3  # columns whose names differ only by numbers
NEAR = {"sum": 1e-6, "mean": 0.0051}  # means are written with two or more decimals


class FirstRows:
    """First rows of a matrix, which show the columns that are totals or numbers of rows.

    Examples
    --------
    >>> rows = FirstRows()
    >>> rows.add("row", Cells.of(map(str, range(1, 21))))
    >>> rows.derived()
    {'row': 'a number of the rows'}
    """

    SIZE = 1_000

    def __init__(self) -> None:
        self._columns: dict[str, Floats] = {}

    def add(self, name: str, cells: Cells) -> None:
        """Add the first cells of a column. Further cells of the same column are ignored.

        Parameters
        ----------
        name
            Name of the column.
        cells
            The cells of the first rows.

        Examples
        --------
        >>> FirstRows().add("q1", Cells.of(["1", "0"]))
        """
        if name not in self._columns:
            self._columns[name] = Cells(cells.texts, cells.places[: self.SIZE]).points()

    def derived(self, items: Container[str] = ()) -> dict[str, str]:
        """Find columns that are derived.

        A column is derived if it counts the rows, in all or again and again to one number, if it has the same number
        above 1 everywhere, or if it is the sum or the mean of the other columns, of a family of columns, or of the
        columns before it. Members of a family, such as q1 … q9, are never derived.

        Parameters
        ----------
        items
            Columns that are items, whatever they contain.

        Returns
        -------
        dict[str, str]
            Column → description. Empty for a few rows, which may look like totals by chance.

        Examples
        --------
        >>> rows = FirstRows()
        >>> for name, texts in {"a": "0101100101", "b": "0011010111", "sum": "0112110212"}.items():
        ...     rows.add(name, Cells.of(texts))
        >>> rows.derived()
        {'sum': 'the sum of a … b'}
        """
        names, numbers = [*self._columns], np.array([*self._columns.values()]).T
        if len(numbers) < MIN_ROWS:
            return {}
        kin = defaultdict[str, list[int]](list)
        for j, name in enumerate(names):
            kin[re.sub(r"\d+", "#", name)].append(j)
        families = [np.array(members) for members in kin.values() if len(members) >= MIN_FAMILY]
        free = {*range(len(names))}.difference(*families)
        found = {j: why for j in free if (why := _pattern(numbers[:, j]))}
        varies = np.ptp(np.nan_to_num(numbers), axis=0) > 0
        varied = np.array([j for j in np.flatnonzero(varies).tolist() if j not in found], dtype=np.int64)
        while totals := _totals(varied, free, families, names, numbers):
            found |= totals
            varied = np.setdiff1d(varied, [*totals])
        return {names[j]: why for j, why in sorted(found.items()) if names[j] not in items}


def _pattern(column: Floats) -> str:
    """Describe a column that counts rows or is constant; "" for other columns."""
    low, high = column.min(), column.max()
    if low == high > 1:
        return "the same for everyone"
    counts = low + np.arange(len(column)) % (high - low + 1) if 0 <= low < high else np.nan
    return "a number of the rows" if low <= 1 < high and np.array_equal(column, counts) else ""


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
