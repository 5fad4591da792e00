"""The first rows of a file, which show the columns that are not items."""

from collections.abc import Container

import numpy as np

from irt_psychometrics.cells.columns import Cells
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.derived_columns import FIRST_ROWS, derived_columns


class FirstRows:
    """First rows of a matrix, which show the columns that are totals, constants, or numbers of rows or attempts.

    Examples
    --------
    >>> rows = FirstRows()
    >>> rows.add("row", Cells.of(map(str, range(1, 21))))
    >>> rows.derived()
    {'row': 'a number of the rows'}
    """

    SIZE = FIRST_ROWS

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
        """Find columns that are not items.

        These are columns that count the rows, in all or again and again to one number, whole numbers that differ in
        all rows, numbers of attempts by their names, constants above 1 or beside a family of columns, and the sum or
        the mean of the other columns, of a family of columns, or of the columns before it. Members of a family, such
        as q1 … q9, are always items.

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
        return derived_columns([*self._columns], np.array([*self._columns.values()]).T, items)
