"""The options that were chosen in responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Ints, Mask


@dataclass(frozen=True, eq=False)
class Choices:
    """The options that were chosen in the R responses of a `Responses`.

    `Responses.from_wide` and `Responses.from_long` make the choices if they have a key.

    Attributes
    ----------
    option
        Shape (R,), index into the labels of the response's item; −1 if no choice is known.
    labels
        The options of each of the J items, as text. Several options of one response are joined by ";".
    keys
        The right options of each item; empty for items without options.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> x = irt.Responses.from_wide({"q1": ["A", "C", "B"], "q2": [1, 0, 1]}, key={"q1": "A"})
    >>> x.choices.labels, x.choices.option.tolist()
    ((('A', 'B', 'C'), ()), [0, -1, 2, -1, 1, -1])
    """

    option: Ints
    labels: tuple[tuple[str, ...], ...]
    keys: tuple[frozenset[str], ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Choices):
            return NotImplemented
        same = (self.labels, self.keys) == (other.labels, other.keys)
        return same and bool(np.array_equal(self.option, other.option))

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def unknown(cls, n_responses: int, n_items: int) -> Choices:
        """Make choices of items without options.

        Parameters
        ----------
        n_responses, n_items
            Numbers of responses and items.

        Returns
        -------
        Choices
            Choices with the option −1 in each response.

        Examples
        --------
        >>> Choices.unknown(3, 1).option.tolist()
        [-1, -1, -1]
        """
        return cls(np.full(n_responses, -1, dtype=np.int8), ((),) * n_items, (frozenset(),) * n_items)

    @classmethod
    def join_columns(cls, columns: Sequence[Choices], seen: Mask) -> Choices:
        """Join the choices of J columns of a table with a row for each of N persons.

        Parameters
        ----------
        columns
            Choices of one item each, with N options.
        seen
            Shape (N, J), cells that are responses.

        Returns
        -------
        Choices
            The choices of the responses, sorted by person.

        Examples
        --------
        >>> one = Choices(np.array([1, 0]), (("A", "B"),), (frozenset("A"),))
        >>> Choices.join_columns([one, Choices.unknown(2, 1)], np.array([[True, True], [False, True]])).option.tolist()
        [1, -1, -1]
        """
        option = np.stack([column.option for column in columns], axis=1)[seen]
        labels = tuple(labels for column in columns for labels in column.labels)
        return cls(option, labels, tuple(keys for column in columns for keys in column.keys))

    def of_rows(self, rows: Any) -> Choices:
        """Select the choices of some responses.

        Parameters
        ----------
        rows
            The responses: a mask (R,), or indices.

        Returns
        -------
        Choices
            The choices of these responses.

        Examples
        --------
        >>> Choices(np.array([1, 0, 1]), (("A", "B"),), (frozenset("A"),)).of_rows([0, 2]).option.tolist()
        [1, 1]
        """
        return replace(self, option=self.option[rows])

    def of_items(self, items: Iterable[int]) -> Choices:
        """Replace the items, without a change of the responses.

        Parameters
        ----------
        items
            Index of each new item among the J items; −1 means an item without options.

        Returns
        -------
        Choices
            The same options with the labels and keys of the new items.

        Examples
        --------
        >>> choices = Choices(np.array([0, 1]), (("A", "B"),), (frozenset("A"),))
        >>> choices.of_items([-1, 0]).labels
        ((), ('A', 'B'))
        """
        labels, keys = (*self.labels, ()), (*self.keys, frozenset[str]())
        kept = list(items)
        return replace(self, labels=tuple(labels[j] for j in kept), keys=tuple(keys[j] for j in kept))


def sort_options(options: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct options, shortest first, so that 10 follows 9."""
    return tuple(sorted({*options}, key=lambda option: (len(option), option)))
