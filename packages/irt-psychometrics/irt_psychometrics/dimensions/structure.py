"""The dimensions that each item measures.

This module contains no estimates. Estimates are in `calibration`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.frames import read_frame
from irt_psychometrics.core.results import Result
from irt_psychometrics.core.wording import some_of

GENERAL = "general"
"""Name of the primary dimension of a bifactor model."""
MAX_PRIMARY = 3
"""Maximum number of primary dimensions. The product grid has a power of nodes: 15⁴ nodes would take a minute a step."""
FREE = "free"


@dataclass(frozen=True, eq=False, repr=False)
class Dimensions(Result):
    """The dimensions that each of J items measures: P primary and S specific ones, D = P + S in all.

    All dimensions have mean 0 and SD 1. Primary dimensions may be correlated. Specific dimensions are independent of
    all other dimensions, and an item measures at most one of them (Cai 2010).

    Attributes
    ----------
    item_ids
        J names of items.
    names
        D names of dimensions, the primary ones first.
    n_primary
        P, from 1 to 3.
    free
        Shape (J, D), whether a slope is estimated.
    fixed
        Shape (J, D), values of the slopes that are not estimated; 0 if the item does not measure the dimension.
    tied
        Shape (J, D), number of each estimated slope, −1 elsewhere. Slopes with the same number are equal.
    free_correlations
        Shape (P, P), whether the correlation of two primary dimensions is estimated. Others are 0.
    exploratory
        Whether the zeros among the slopes only fix the rotation.

    References
    ----------
    Cai, L. (2010). A two-tier full-information item factor analysis model with applications. Psychometrika, 75,
    581-612.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> topics = {"q1": "algebra", "q2": "algebra", "q3": "algebra", "q4": None, "q5": None}
    >>> irt.Dimensions.bifactor(topics).names
    ('general', 'algebra')
    """

    item_ids: tuple[str, ...]
    names: tuple[str, ...]
    n_primary: int
    free: Mask
    fixed: Floats
    tied: Ints
    free_correlations: Mask
    exploratory: bool = False
    frame_kind = None

    def __post_init__(self) -> None:
        if not self.item_ids:
            raise PsychometricsError("no item is left: dimensions need items with answers of two scores or more")
        _require_unique("item", self.item_ids)
        _require_unique("dimension", self.names)
        if not 1 <= self.n_primary <= MAX_PRIMARY:
            raise PsychometricsError(
                f"the number of primary dimensions must be 1 to {MAX_PRIMARY}, got {self.n_primary}: use bifactor with "
                "one general dimension, or mirt's MHRM"
            )
        several: Mask = np.sum(self.measured[:, self.n_primary :], axis=1) > 1
        self._refuse_items(several, "measure several specific dimensions and may measure only one")
        self._refuse_items(
            self.measured.sum(axis=1) == 0, "measure no dimension. Leave them out, or add a row for them"
        )
        self._require_identified()

    def _refuse_items(self, wrong: Mask, reason: str) -> None:
        if wrong.any():
            raise PsychometricsError(f"the items {some_of(np.array(self.item_ids, dtype=object)[wrong])} {reason}")

    def _require_identified(self) -> None:
        """Raise PsychometricsError if the answers cannot determine the slopes of a dimension."""
        for k, name in enumerate(self.names):
            items = int(self.measured[:, k].sum())
            slopes = len(np.unique(self.tied[self.free[:, k], k]))
            correlated = k < self.n_primary and bool(self.free_correlations[k].any())
            if items < (2 if correlated or items > slopes else 3) and slopes:
                raise PsychometricsError(
                    f"the dimension {name!r} must have at least three items, or two with equal slopes, got {items}. "
                    "Drop the dimension, or give its slopes the same label (from_frame)"
                )
            if k >= self.n_primary and slopes == self.n_items:
                raise PsychometricsError(
                    f"the specific dimension {name!r} must not measure all items with free slopes, because it could "
                    "not be told from the primary one. Leave items without it, or use explore"
                )
        primary = self.free[:, : self.n_primary]
        restrictions = int((~primary).sum() + ((~self.free_correlations).sum() - self.n_primary) // 2)
        least = self.n_primary * (self.n_primary - 1)
        if restrictions < least:
            raise PsychometricsError(
                f"{self.n_primary} primary dimensions with these slopes can be rotated: {least} slopes must be fixed, "
                f"got {restrictions}. Fix slopes to 0, or use explore"
            )

    @classmethod
    def bifactor(cls, topics: Mapping[str, str | None]) -> Self:
        """Let all items measure one general dimension, and the items of each topic a specific one.

        Parameters
        ----------
        topics
            Item → topic. Items with the topic None measure the general dimension alone.

        Returns
        -------
        Dimensions
            The dimension "general" and a specific one for each topic, in the order of their first items.

        Raises
        ------
        PsychometricsError
            If a topic has fewer than three items, or all items.

        Examples
        --------
        >>> from irt_psychometrics import Dimensions
        >>> topics = {"q1": "a", "q2": "a", "q3": "a", "q4": "b", "q5": "b", "q6": "b"}
        >>> Dimensions.bifactor(topics).free.sum(axis=0).tolist()
        [6, 3, 3]
        """
        labels = _labels(topics)
        measured = [(item, topic) for item, topic in labels.items() if topic]
        names = tuple(dict.fromkeys(topic for _, topic in measured))
        if GENERAL in names:
            raise PsychometricsError(f"a topic must not be named {GENERAL!r}, the name of the dimension of all items")
        return cls._from_pairs([*((item, GENERAL) for item in labels), *measured], (GENERAL, *names), 1)

    @classmethod
    def between(cls, dimensions: Mapping[str, str]) -> Self:
        """Let each item measure one of two or three correlated dimensions.

        Parameters
        ----------
        dimensions
            Item → dimension.

        Returns
        -------
        Dimensions
            The dimensions, in the order of their first items, with free correlations.

        Raises
        ------
        PsychometricsError
            If there are more than three dimensions, or a dimension with one item.

        Examples
        --------
        >>> from irt_psychometrics import Dimensions
        >>> Dimensions.between({"q1": "read", "q2": "read", "q3": "write", "q4": "write"}).names
        ('read', 'write')
        """
        pairs = [(item, name) for item, name in _labels(dimensions).items() if name]
        names = tuple(dict.fromkeys(name for _, name in pairs))
        return cls._from_pairs(pairs, names, len(names))

    @classmethod
    def explore(cls, item_ids: Sequence[str], k: int) -> Self:
        """Let all items measure k uncorrelated dimensions, which are rotated after the fit.

        Parameters
        ----------
        item_ids
            Names of the items.
        k
            Number of dimensions, from 1 to 3.

        Returns
        -------
        Dimensions
            The dimensions F1, F2, …; slopes of the first items are 0 to fix the rotation.

        Raises
        ------
        PsychometricsError
            If k is not 1, 2 or 3, or if there are too few items.

        Examples
        --------
        >>> from irt_psychometrics import Dimensions
        >>> Dimensions.explore(["q1", "q2", "q3", "q4"], 2).free[0].tolist()
        [True, False]
        """
        if not isinstance(k, int) or isinstance(k, bool):
            raise PsychometricsError(f"the number of dimensions must be 2 or 3, got {k!r}")
        names = tuple(f"F{d + 1}" for d in range(k))
        pairs = [(item, name) for j, item in enumerate(item_ids) for name in names[: j + 1]]
        return cls._from_pairs(pairs, names, k, exploratory=True)

    @classmethod
    def from_frame(cls, table: Any, specific: Collection[str] = ()) -> Self:
        """Read the dimensions from a table with a row for each item and dimension.

        Parameters
        ----------
        table
            A data frame of any kind, or a mapping column → cells, with the columns item, dimension and slope. A slope
            is "free", a number (the fixed value), or another text: slopes with the same text are equal. Without a
            column slope all slopes are free.
        specific
            The names of the specific dimensions. Others are primary, with free correlations.

        Returns
        -------
        Dimensions
            The primary dimensions, and then the specific ones, in the order of their first rows.

        Raises
        ------
        PsychometricsError
            If a column or cell is missing, if an item has two rows for a dimension, if no row has a specific dimension,
            or if answers cannot determine the slopes.

        Examples
        --------
        >>> from irt_psychometrics import Dimensions
        >>> rows = {"item": ["q1", "q2", "q3"], "dimension": ["x", "x", "x"], "slope": ["free", "same", "same"]}
        >>> Dimensions.from_frame(rows).tied.ravel().tolist()
        [0, 1, 1]
        """
        frame = read_frame(table)
        if frame is None:
            raise PsychometricsError("dimensions are read from a data frame or a mapping column → cells")
        columns = [frame.column("item", "items"), frame.column("dimension", "dimensions")]
        columns += [frame.column("slope", "slopes")] if "slope" in frame.columns else []
        for column, use in zip(columns, ("item", "dimension", "slope"), strict=False):
            if column.missing.any():
                raise PsychometricsError(f"row {int(column.missing.argmax())} has no {use}")
        rows = range(len(columns[0].missing))
        pairs = [(str(columns[0].label(row)), str(columns[1].label(row))) for row in rows]
        slopes = [columns[2].cell(row) if len(columns) > 2 else FREE for row in rows]
        names = dict.fromkeys(name for _, name in pairs)
        if unknown := [name for name in specific if name not in names]:
            raise PsychometricsError(f"no row has the specific dimension {unknown[0]!r}; there are {some_of(names)}")
        primary = [name for name in names if name not in specific]
        return cls._from_pairs(pairs, (*primary, *(n for n in names if n in specific)), len(primary), slopes)

    @classmethod
    def _from_pairs(
        cls,
        pairs: Sequence[tuple[str, str]],
        names: tuple[str, ...],
        n_primary: int,
        slopes: Sequence[Any] | None = None,
        *,
        exploratory: bool = False,
    ) -> Self:
        """Make the dimensions from (item, dimension) pairs and a slope of each, as in `from_frame`."""
        if twice := [pair for pair, n in Counter(pairs).items() if n > 1]:
            raise PsychometricsError(f"item {twice[0][0]} has several rows for the dimension {twice[0][1]!r}; keep one")
        items = {item: j for j, item in enumerate(dict.fromkeys(item for item, _ in pairs))}
        free = np.zeros((len(items), len(names)), dtype=bool)
        fixed, tied = np.zeros(free.shape), np.full(free.shape, -1)
        numbers: dict[Any, int] = {}
        for pair, slope in zip(pairs, slopes or [FREE] * len(pairs), strict=True):
            at = items[pair[0]], names.index(pair[1])
            if (value := _number(slope)) is not None:
                fixed[at] = value
                continue
            free[at] = True
            tied[at] = numbers.setdefault(pair if slope == FREE else slope, len(numbers))
        correlated = ~np.eye(n_primary, dtype=bool) & (not exploratory)
        return cls(tuple(items), names, n_primary, free, fixed, _in_order(tied), correlated, exploratory)

    def among(self, item_ids: Sequence[str]) -> Self:
        """Select items, in this order.

        Parameters
        ----------
        item_ids
            Names of items.

        Returns
        -------
        Dimensions
            The dimensions of these items.

        Raises
        ------
        PsychometricsError
            If the dimensions of an item are not known, or if a dimension has too few of these items.

        Examples
        --------
        >>> from irt_psychometrics import Dimensions
        >>> Dimensions.explore(["q1", "q2", "q3", "q4"], 2).among(["q4", "q3", "q2", "q1"]).item_ids
        ('q4', 'q3', 'q2', 'q1')
        """
        place = {item: j for j, item in enumerate(self.item_ids)}
        if lacking := [item for item in item_ids if item not in place]:
            raise PsychometricsError(
                f"the dimensions of the items {some_of(lacking)} are not known. Name them in `dimensions`, or leave "
                "their answers out"
            )
        if self.exploratory:  # the zeros belong to the first items, whichever they are
            return type(self).explore(item_ids, self.n_primary)
        at = [place[item] for item in item_ids]
        tied = _in_order(self.tied[at])
        return type(self)(
            tuple(item_ids), self.names, self.n_primary, self.free[at], self.fixed[at], tied, self.free_correlations
        )

    @property
    def n_items(self) -> int:
        """J, the number of items."""
        return len(self.item_ids)

    @property
    def n_slopes(self) -> int:
        """Number of different estimated slopes."""
        return int(self.tied.max(initial=-1)) + 1

    @property
    def measured(self) -> Mask:
        """Whether an item measures a dimension, shape (J, D). Explored dimensions are measured by all items."""
        return self.free | (self.fixed != 0) | self.exploratory

    @property
    def specific(self) -> Ints:
        """The number of each item's specific dimension, from 0, shape (J,); −1 for items without one."""
        own = self.measured[:, self.n_primary :]
        return np.where(own.any(axis=1), own.argmax(axis=1), -1) if own.shape[1] else np.full(self.n_items, -1)

    def _title(self) -> str:
        return f"{self.n_items:,} items, {', '.join(self.names)}"

    def _columns(self) -> dict[str, Any]:
        rows, columns = np.nonzero(self.measured)
        shared = Counter(self.tied[self.free].tolist())

        def slope(j: int, k: int) -> str:
            if not self.free[j, k]:
                return f"{self.fixed[j, k]:g}"
            return FREE if shared[self.tied[j, k]] == 1 else f"slope {self.tied[j, k]}"

        return {
            "item": [self.item_ids[j] for j in rows],
            "dimension": [self.names[k] for k in columns],
            "slope": [slope(j, k) for j, k in zip(rows.tolist(), columns.tolist(), strict=True)],
        }


def _labels(labels: Any) -> dict[str, str | None]:
    """Return the label of each item as text, None for missing ones, from a mapping or a pandas Series."""
    if not hasattr(labels, "keys") or not len(labels):
        raise PsychometricsError(f"topics and dimensions must be a mapping item → name, got {labels!r}")
    cells = {str(item): label for item, label in dict(labels).items()}
    return {item: None if label in (None, "") or label != label else str(label) for item, label in cells.items()}


def _in_order(tied: Ints) -> Ints:
    """Number the slopes from 0, item by item; −1 stays."""
    numbers: dict[int, int] = {-1: -1}
    return np.array([[numbers.setdefault(k, len(numbers) - 1) for k in row] for row in tied.tolist()])


def _require_unique(what: str, names: Sequence[str]) -> None:
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise PsychometricsError(f"each {what} must have a name of its own, and {twice[0]!r} occurs twice")


def _number(slope: Any) -> float | None:
    """Return the value of a fixed slope and None for a text."""
    try:
        value = float(slope)
    except ValueError:
        return None
    if not np.isfinite(value):
        raise PsychometricsError(f"a fixed slope must be a finite number, got {slope}")
    return value
