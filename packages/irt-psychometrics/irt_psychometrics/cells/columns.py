"""Columns of text, and the numbers and scores that texts mean."""

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask

FREQUENCY_NAMES = ("freq", "freqs", "frequency", "count", "counts")
"""Columns that may contain the number of persons who gave a row's answers."""
PARTLY = "partially correct"
"""Words for a partly right answer, which counts as wrong."""
WORDS = {"false": 0.0, "true": 1.0, "incorrect": 0.0, "correct": 1.0, "wrong": 0.0, "right": 1.0, PARTLY: 0.0}
"""Words for wrong and right. They are scores only of items with the maximum score 1."""
WHOLE = 1e-6  # tolerance for shares: 0.3333333 of 3 points is 1 point
ROUNDED = 0.0051  # tolerance for a share that is written with two decimals: 0.33 of 3 points is 1 point
MAX_PARTS = 12  # parts of a point that two decimals distinguish
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d{1,2})", re.ASCII)  # with three digits, it may group thousands


_VISIBLE: dict[int, str | None] = {
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad")),
    **dict.fromkeys(map(ord, "\u00a0\u2007\u202f"), " "),
}
"""Code points of invisible characters → their replacement in an id."""


class Cells(NamedTuple):
    """A column of text. A file has few distinct texts, so each is read once.

    Attributes
    ----------
    texts
        Distinct texts without white space around them; "" for empty cells.
    places
        Index of each row's text in `texts`, shape (n_rows,).

    Examples
    --------
    >>> cells = Cells.of(["1", "0,5", "", "1", "x"])
    >>> cells.texts
    ['1', '0,5', '', 'x']
    >>> cells.points().tolist()
    [1.0, 0.5, nan, 1.0, nan]
    """

    texts: Sequence[str]
    places: Ints

    @staticmethod
    def visible(text: str) -> str:
        """Remove the invisible characters from an id, which web forms and copied texts leave.

        Parameters
        ----------
        text
            An id as it is in a file.

        Returns
        -------
        str
            The id without zero-width characters and soft hyphens, with spaces for no-break spaces, and without spaces
            around it.

        Examples
        --------
        >>> Cells.visible("\\ufeffann\\u200b\\u00a0lee ")
        'ann lee'
        """
        return text.translate(_VISIBLE).strip(" ")

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Build a column.

        Parameters
        ----------
        texts
            The text of each row.

        Returns
        -------
        Cells
            The column.

        Examples
        --------
        >>> Cells.of(["A", "B", "A"]).places.tolist()
        [0, 1, 0]
        """
        known: dict[str, int] = {}
        places = np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)
        return cls([*known], places)

    def map(self, function: Callable[[str], float]) -> Floats:
        """Compute a number from each row's text; each distinct text is read once.

        Parameters
        ----------
        function
            Text → number.

        Returns
        -------
        Floats
            Shape (n_rows,).

        Examples
        --------
        >>> Cells.of(["A", "BBB", "A"]).map(len).tolist()
        [1.0, 3.0, 1.0]
        """
        return np.array([function(text) for text in self.texts], dtype=np.float64)[self.places]

    def in_words(self, words: Collection[str]) -> Mask:
        """Check whether each row's text is one of some words, ignoring case.

        Parameters
        ----------
        words
            The words in lower case.

        Returns
        -------
        Mask
            Shape (n_rows,).

        Examples
        --------
        >>> Cells.of(["NA", "1", "na"]).in_words(["na"]).tolist()
        [True, False, True]
        """
        return self.map(lambda text: text.lower() in words).astype(bool)

    def points(self, words: Mapping[str, float] = WORDS) -> Floats:
        """Read numbers with a decimal point or comma, and words.

        Parameters
        ----------
        words
            Lower-case words with their values.

        Returns
        -------
        Floats
            Shape (n_rows,); NaN for other texts and for infinity.

        Examples
        --------
        >>> Cells.of(["0,5", "True", "-"]).points().tolist()
        [0.5, 1.0, nan]
        """
        return self.map(partial(_number, words=words))

    def scores(self, most: npt.ArrayLike, denominator: int = 1, words: Mapping[str, float] = WORDS) -> Floats:
        """Read scores: numbers that become whole if they are multiplied by the denominator, such as half points by 2.

        Shares of a point may be rounded to two decimals: 0.33 times 3 is 1.

        Parameters
        ----------
        most
            Maximum score of each row's item, shape (n_rows,), or of all. Larger scores and scores below 0 are returned
            as they are, because they need different messages.
        denominator
            The factor.
        words
            Lower-case words with their scores, for items with the maximum score 1.

        Returns
        -------
        Floats
            Shape (n_rows,); NaN for texts that are not a score.

        Examples
        --------
        >>> Cells.of(["1.5", "2", "0.3"]).scores(4, denominator=2).tolist()
        [3.0, 4.0, nan]
        """
        scaled = self.points(words) * denominator
        whole = np.round(scaled)
        near = WHOLE if denominator > MAX_PARTS else ROUNDED * denominator
        is_score = np.abs(scaled - whole) <= (near if denominator > 1 else 0.0)
        return np.where(is_score & ~(self.in_words(words) & (np.asarray(most) > 1)), whole, np.nan)

    def percent_as_points(self) -> Self:
        """Replace 0 and 100 per cent by 0 and 1, if no other number occurs.

        Returns
        -------
        Cells
            The column with 1 instead of 100, or the same column.

        Examples
        --------
        >>> Cells.of(["0", "100", ""]).percent_as_points().texts
        ['0', '1', '']
        >>> Cells.of(["0", "100", "1"]).percent_as_points().texts
        ['0', '100', '1']
        """
        numbers = [_number(text, {}) for text in self.texts]
        if not {100.0} <= {x for x in numbers if not math.isnan(x)} <= {0.0, 100.0}:
            return self
        texts = ["1" if x == 100 else text for text, x in zip(self.texts, numbers, strict=True)]
        return type(self)(texts, self.places)

    def counts(self, rows: Mask | slice = slice(None)) -> Counter[str]:
        """Count the texts of some rows.

        Parameters
        ----------
        rows
            The rows, as a mask or a slice; all by default.

        Returns
        -------
        Counter[str]
            Text → number of rows.

        Examples
        --------
        >>> Cells.of(["A", "B", "A"]).counts()
        Counter({'A': 2, 'B': 1})
        """
        counts = np.bincount(self.places[rows], minlength=len(self.texts)).tolist()
        return Counter({text: n for text, n in zip(self.texts, counts, strict=True) if n})

    def to_list(self) -> list[str]:
        """List the text of each row.

        Returns
        -------
        list[str]
            One text per row.

        Examples
        --------
        >>> Cells.of(["A", "B", "A"]).to_list()
        ['A', 'B', 'A']
        """
        return [self.texts[k] for k in self.places.tolist()]


def _number(text: str, words: Mapping[str, float]) -> float:
    text = _DECIMAL_COMMA.sub(r"\1.\2", lower) if _DECIMAL_COMMA.fullmatch(lower := text.lower()) else lower
    value = float(text) if _NUMBER.fullmatch(text) else words.get(text, math.nan)
    return value if math.isfinite(value) else math.nan
