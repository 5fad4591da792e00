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

WORDS = {"false": 0.0, "true": 1.0}
"""Words for wrong and right. They are scores only of items with the maximum score 1."""
WHOLE = 1e-6  # tolerance for shares: 0.3333333 of 3 points is 1 point
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d{1,2})", re.ASCII)  # with three digits, it may group thousands


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

    @classmethod
    def of(cls, texts: Iterable[str]) -> Self:
        """Build a column from the text of each row."""
        known: dict[str, int] = {}
        places = np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)
        return cls([*known], places)

    def map(self, function: Callable[[str], float]) -> Floats:
        """Return the value of `function` for each row's text, shape (n_rows,)."""
        return np.array([function(text) for text in self.texts], dtype=np.float64)[self.places]

    def in_words(self, words: Collection[str]) -> Mask:
        """Check whether each row's text is one of the lower-case `words`, ignoring case; shape (n_rows,)."""
        return self.map(lambda text: text.lower() in words).astype(bool)

    def points(self, words: Mapping[str, float] = WORDS) -> Floats:
        """Read numbers with a decimal point or comma, and lower-case words with their values.

        Returns
        -------
        Floats
            Shape (n_rows,); NaN for other texts and for infinity.
        """
        return self.map(partial(_number, words=words))

    def scores(self, most: npt.ArrayLike, denominator: int = 1, words: Mapping[str, float] = WORDS) -> Floats:
        """Read scores: numbers that become whole if they are multiplied by the denominator, such as half points by 2.

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
        """
        scaled = self.points(words) * denominator
        whole = np.round(scaled)
        is_score = np.abs(scaled - whole) <= (WHOLE if denominator > 1 else 0.0)
        return np.where(is_score & ~(self.in_words(words) & (np.asarray(most) > 1)), whole, np.nan)

    def counts(self, rows: Mask | slice = slice(None)) -> Counter[str]:
        """Count the texts of the rows in which `rows` is true."""
        counts = np.bincount(self.places[rows], minlength=len(self.texts)).tolist()
        return Counter({text: n for text, n in zip(self.texts, counts, strict=True) if n})

    def to_list(self) -> list[str]:
        """Return the text of each row."""
        return [self.texts[k] for k in self.places.tolist()]


def _number(text: str, words: Mapping[str, float]) -> float:
    text = _DECIMAL_COMMA.sub(r"\1.\2", lower) if _DECIMAL_COMMA.fullmatch(lower := text.lower()) else lower
    value = float(text) if _NUMBER.fullmatch(text) else words.get(text, math.nan)
    return value if math.isfinite(value) else math.nan
