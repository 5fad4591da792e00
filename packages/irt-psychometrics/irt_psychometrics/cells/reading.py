"""How cells become scores: maximum scores, keys, and codes for missing and omitted answers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from irt_psychometrics.cells.columns import ROUNDED, Cells
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.choices import sort_options
from irt_psychometrics.core.frames import number_values

T = TypeVar("T")
SPECIAL = re.compile(r"[*?[]")
CHARACTER_CLASS = re.compile(r"\[!?\]?[^]]*\]")
BLANK = ("", "na", "nan")
KeyScores = Mapping[str, Mapping[str, int]]
"""Item → option → score; other options have the score 0. Options that must all be chosen are joined by ";"."""
Codes = Mapping[str, Sequence[str]]
"""Column, or pattern of columns → texts."""


class ByPattern(Generic[T]):
    """Values by name or pattern, such as `essay_*`. Brackets denote a class of characters or themselves.

    A name is compared only with patterns that have the same beginning and, without `*`, the same length, because a
    file may have thousands of columns, each with a value.

    Parameters
    ----------
    values
        Name or pattern → value.

    Examples
    --------
    >>> codes = ByPattern({"*": "NA", "essay_*": "-"})
    >>> codes.fitting("essay_1"), codes.fitting("q7")
    (['NA', '-'], ['NA'])
    """

    def __init__(self, values: Mapping[str, T]) -> None:
        self._values = values
        self._places = {name: place for place, name in enumerate(values)}
        self._patterns: dict[tuple[str, int | None], list[str]] = {}
        for name in values:
            if start := SPECIAL.search(name):
                lengths = {None} if "*" in name else {len(CHARACTER_CLASS.sub("?", name))}
                for length in lengths | ({len(name)} if "?" in name else set()):
                    self._patterns.setdefault((name[: start.start()], length), []).append(name)
        self._lengths = {len(beginning) for beginning, _ in self._patterns}

    def fitting(self, name: str) -> list[T]:
        """Look up a name.

        Parameters
        ----------
        name
            The name, for example of a column.

        Returns
        -------
        list[T]
            The values for the name itself and for patterns that match it, in their order.

        Examples
        --------
        >>> ByPattern({"essay_?": 5, "essay_10": 8}).fitting("essay_10")
        [8]
        """
        keys = ((name[:n], length) for n in self._lengths for length in (None, len(name)))
        patterns = chain.from_iterable(self._patterns.get(key, ()) for key in keys)
        fitting = {pattern for pattern in patterns if _matches(name, pattern)} | ({name} & self._values.keys())
        return [self._values[pattern] for pattern in sorted(fitting, key=self._places.__getitem__)]


@dataclass(frozen=True)
class MaxScores:
    """Maximum scores of items. They are never inferred from answers, because perhaps nobody reached them.

    Items without a maximum score are scored 0 and 1.

    Attributes
    ----------
    by_item
        Item → maximum score, as in a bank of items.
    by_pattern
        Name or pattern of items → maximum score, for items that are not in `by_item`.

    Examples
    --------
    >>> most = MaxScores({"q1": 4}, {"essay_*": 5})
    >>> most["q1"], most["essay_2"], most["q2"]
    (4, 5, 1)
    """

    by_item: Mapping[str, int] = field(default_factory=dict)
    by_pattern: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(most > 1 for most in chain(self.by_item.values(), self.by_pattern.values()))

    def __getitem__(self, item: str) -> int:
        return self.by_item.get(item) or self.fitting(item) or 1

    def __contains__(self, item: object) -> bool:
        """Check whether the item has a maximum score by name, and not only by a pattern."""
        return item in self.by_item or item in self.by_pattern

    def of_rows(self, items: Cells) -> Floats:
        """Look up the maximum score of each row's item.

        Parameters
        ----------
        items
            Item of each row.

        Returns
        -------
        Floats
            Shape (n_rows,).

        Examples
        --------
        >>> MaxScores({"q1": 4}).of_rows(Cells.of(["q1", "q2", "q1"])).tolist()
        [4.0, 1.0, 4.0]
        """
        return items.map(self.__getitem__)

    def fitting(self, item: str) -> int | None:
        """Look up an item in `by_pattern`.

        Parameters
        ----------
        item
            Name of the item.

        Returns
        -------
        int | None
            The maximum score by name, or else by the first matching pattern, or None.

        Examples
        --------
        >>> MaxScores(by_pattern={"essay_*": 5}).fitting("essay_2")
        5
        """
        return self.by_pattern.get(item) or next(iter(self._patterns.fitting(item)), None)

    @cached_property
    def _patterns(self) -> ByPattern[int]:
        return ByPattern(self.by_pattern)


class ScoredCells(NamedTuple):
    """Scores of cells, and cells without a score.

    Attributes
    ----------
    score
        Shape (n_rows,), −1 for cells without a score.
    blank
        Shape (n_rows,), whether the cell means that the item was not seen.
    omitted
        Shape (n_rows,), whether the item was seen and omitted. The score is then 0.

    Examples
    --------
    >>> scored = CellPlan(omitted={"*": ["-"]}).score("q1", Cells.of(["q1"] * 3), Cells.of(["1", "-", "x"]))
    >>> scored.score.tolist(), scored.omitted.tolist(), scored.wrong.tolist()
    ([1, 0, -1], [False, True, False], [2])
    """

    score: npt.NDArray[np.int8]
    blank: Mask
    omitted: Mask

    @property
    def wrong(self) -> Ints:
        """Indices of the rows with a cell that is neither a score nor blank."""
        return np.flatnonzero((self.score < 0) & ~self.blank)


@dataclass(frozen=True)
class CellPlan:
    """Plan by which cells become scores.

    Attributes
    ----------
    key
        Item → option → score, if cells are choices; other options have the score 0. If options such as "A;C" must all
        be chosen, cells of the item may have them in any order, with ; , or | between them.
    max_scores
        Maximum scores of the items.
    missing
        Column or pattern → texts that mean, like blank, NA and NaN, that the item was not seen.
    omitted
        Column or pattern → texts that mean that the item was seen and omitted, which counts as wrong.
    denominator
        The factor that makes scores whole numbers, such as 2 for half points.
    marks
        Mark → score, if marks are taken off for wrong answers; no other number is then a score.

    Examples
    --------
    >>> items, cells = Cells.of(["q1"] * 4), Cells.of(["1", "9", "3", "NA"])
    >>> scored = CellPlan(missing={"*": ["9"]}).score("q1", items, cells)
    >>> scored.score.tolist(), scored.wrong.tolist()
    ([1, -1, -1, -1], [2])
    """

    key: KeyScores | None = None
    max_scores: MaxScores = field(default_factory=MaxScores)
    missing: Codes = field(default_factory=dict)
    omitted: Codes = field(default_factory=dict)
    denominator: int = 1
    marks: Mapping[float, int] = field(default_factory=dict)

    def maximum(self, item: str) -> int:
        """Look up the maximum score of an item.

        Parameters
        ----------
        item
            Name of the item.

        Returns
        -------
        int
            The highest score in the key or of the marks, or else the maximum in `max_scores`.

        Examples
        --------
        >>> CellPlan(key={"q1": {"A": 2, "C": 1}}).maximum("q1")
        2
        """
        scores = (self.key or {}).get(item, {}).values()
        return max(scores or self.marks.values(), default=0) or self.max_scores[item]

    def chosen(self, items: Cells, cells: Cells) -> Cells:
        """Write several chosen options in one order, in cells of items that several options together answer.

        Parameters
        ----------
        items
            Item of each row.
        cells
            Cell of each row.

        Returns
        -------
        Cells
            The chosen options, several joined by ";", shortest first.

        Examples
        --------
        >>> plan = CellPlan(key={"q1": {"A;C": 1}, "q2": {"A": 1}})
        >>> plan.chosen(Cells.of(["q1", "q1", "q2"]), Cells.of(["C, A", "C", "C, A"])).to_list()
        ['A;C', 'C', 'C, A']
        """
        options = ((item, option) for item, scores in (self.key or {}).items() for option in scores if ";" in option)
        several = {item for item, option in options if option == join_options(option)}
        if not several:
            return cells
        both = [*cells.texts, *map(join_options, cells.texts)]
        number = {text: k for k, text in enumerate(dict.fromkeys(both))}
        of_several = items.map(several.__contains__).astype(np.int64)
        index = np.array([number[text] for text in both], dtype=np.int64)
        return Cells([*number], index[cells.places + of_several * len(cells.texts)])

    @cached_property
    def _codes(self) -> tuple[ByPattern[Sequence[str]], ByPattern[Sequence[str]]]:
        return ByPattern(self.missing), ByPattern(self.omitted)

    def score(self, column: str, items: Cells, cells: Cells) -> ScoredCells:
        """Score cells of a column.

        Parameters
        ----------
        column
            Name of the column, for codes.
        items
            Item of each row.
        cells
            Cell of each row, as `chosen` returns it.

        Returns
        -------
        ScoredCells
            Scores, blank cells and omitted items. Other cells are in `wrong`, and raise no error.

        Examples
        --------
        >>> plan = CellPlan(key={"q1": {"A": 1}})
        >>> plan.score("q1", Cells.of(["q1"] * 3), Cells.of(["A", "B", "NA"])).score.tolist()
        [1, 0, -1]
        """
        omitted = cells.in_words(_words(self._codes[1], column))
        blank = cells.in_words({*BLANK, *_words(self._codes[0], column)}) & ~omitted
        if self.key is None:
            most = items.map(self.maximum)
            points = cells if self.max_scores or self.marks or self.denominator > 1 else cells.percent_as_points()
            whole = points.map(self._score_of_mark) if self.marks else points.scores(most, self.denominator)
            known = (whole >= 0) & (whole <= most) & ~blank
            score = np.where(omitted, 0, np.where(known, whole, -1)).astype(np.int8)
        else:
            first, pair = number_values(items.places * np.int64(max(len(cells.texts), 1)) + cells.places)
            pairs = zip(items.places[first].tolist(), cells.places[first].tolist(), strict=True)
            credits_of_pairs = [self.key.get(items.texts[k], {}).get(cells.texts[option], 0) for k, option in pairs]
            credit = np.array(credits_of_pairs, dtype=np.int64)[pair]
            score = np.where(blank, -1, np.where(omitted, 0, credit)).astype(np.int8)
        return ScoredCells(score, blank, omitted)

    def _score_of_mark(self, text: str) -> float:
        [mark] = Cells([text], np.zeros(1, dtype=np.int64)).points()
        return next((score for known, score in self.marks.items() if abs(mark - known) <= ROUNDED), np.nan)


def join_options(text: str) -> str:
    """Write several options in one order, joined by ";".

    Parameters
    ----------
    text
        Options with ; , or | between them.

    Returns
    -------
    str
        The options, shortest first.

    Examples
    --------
    >>> join_options("C | A")
    'A;C'
    """
    return ";".join(sort_options(filter(None, map(str.strip, re.split("[;,|]", text)))))


def codes_by_column(options: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
    """Parse options `TEXT`, for all columns, and `COLUMN=TEXT`, for a column or a pattern such as `essay_*`.

    Parameters
    ----------
    options
        The options; None: there are none.

    Returns
    -------
    dict[str, tuple[str, ...]]
        Column or pattern → texts.

    Examples
    --------
    >>> codes_by_column(["9", "essay_*=-"])
    {'*': ('9',), 'essay_*': ('-',)}
    """
    codes: dict[str, tuple[str, ...]] = {}
    for option in options or ():
        column, _, text = option.rpartition("=")
        codes[column or "*"] = (*codes.get(column or "*", ()), text)
    return codes


def is_blank(text: str) -> bool:
    """Check whether a text means that there is no value."""
    return text.lower() in BLANK


def _words(codes: ByPattern[Sequence[str]], column: str) -> set[str]:
    return {text.lower() for texts in codes.fitting(column) for text in texts}


def _matches(name: str, pattern: str) -> bool:
    return any(fnmatchcase(name, form) for form in (pattern, pattern.replace("[", "[[]")))
