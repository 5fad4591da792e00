"""How the cells of a file become scores: maximum scores, keys, and codes for missing and omitted answers."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from irt_psychometrics.commands.tables import Cells, Table, faults
from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import MAX_SCORE

BLANK = ("", "na", "nan")
WORDS = {"false": 0.0, "true": 1.0}
WHOLE = 1e-6  # tolerance for shares: 0.3333333 of 3 points is 1 point
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d{1,2})", re.ASCII)  # with three digits, it may group thousands
Scores = npt.NDArray[np.int8]
Codes = Mapping[str, Sequence[str]]
"""Column, or pattern of columns → texts."""


@dataclass(frozen=True)
class MaxScores:
    """The highest score of each item. It is never inferred from the answers, because perhaps nobody reached it.

    Attributes:
        of: item → its highest score.
        otherwise: the highest score of other items.
    """

    of: Mapping[str, int] = field(default_factory=dict)
    otherwise: int = 1

    def __getitem__(self, item: str) -> int:
        return self.of.get(item, self.otherwise)

    def wrong(self, item: str, cell: str) -> str:
        """A description of a cell that is not a score of the item, for errors."""
        scored = f", and its scores are 0 … {self[item]}" if self[item] > 1 else ""
        return f"item {item}: score {cell!r}{scored}"


class ScoredCells(NamedTuple):
    """Scores of cells, and cells without a score.

    Attributes:
        score: shape (n_rows,), −1 for cells without a score.
        wrong: the places of cells that are neither a score nor blank.
        omitted: shape (n_rows,), whether the item was seen and omitted. The score is then 0.
    """

    score: Scores
    wrong: Ints
    omitted: Mask


@dataclass(frozen=True)
class Reading:
    """How cells become scores.

    Attributes:
        key: item → right option, if cells are choices.
        max_scores: the items' maximum scores.
        missing: column or pattern → texts that mean, like blank, NA and NaN, that the item was not seen.
        omitted: column or pattern → texts that mean that the item was seen and omitted, which counts as wrong.
        denominator: the factor that makes scores whole numbers, such as 2 for half points.
    """

    key: Mapping[str, str] | None = None
    max_scores: MaxScores = MaxScores()
    missing: Codes = field(default_factory=dict)
    omitted: Codes = field(default_factory=dict)
    denominator: int = 1

    def blanks(self, column: str) -> tuple[str, ...]:
        """Lower-case texts of cells of the column that mean that the item was not seen."""
        return (*BLANK, *_texts_of(self.missing, column))

    def score(self, column: str, cells: Cells, most: int | npt.NDArray[np.float64], right: Mask | None) -> ScoredCells:
        """Score cells of a column.

        Args:
            column: its name.
            cells: its cells.
            most: maximum score of each cell's item.
            right: whether each cell is its item's right option, if there is a key.
        """
        omitted = cells.in_words(_texts_of(self.omitted, column))
        blank = cells.in_words(self.blanks(column)) & ~omitted
        if right is None:
            whole = whole_scores(cells.map(points), self.denominator)
            known = (whole >= 0) & (whole <= most) & ~blank
            score = np.where(omitted, 0, np.where(known, whole, -1)).astype(np.int8)
        else:
            score = np.where(blank, -1, right & ~omitted).astype(np.int8)
        return ScoredCells(score, np.flatnonzero((score < 0) & ~blank), omitted)

    def count_blanks(self, blanks: Counter[str], column: str, cells: Cells, scored: ScoredCells) -> None:
        """Count the words that mean that an item was not seen."""
        if (scored.score >= 0).all():
            return
        words = self.blanks(column)
        counts = np.bincount(cells.places[~scored.omitted], minlength=len(cells.texts)).tolist()
        named = zip(cells.texts, counts, strict=True)
        blanks.update({text: n for text, n in named if n and text and text.lower() in words})


def codes_by_column(options: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
    """Parse options `TEXT`, for all columns, and `COLUMN=TEXT`, for a column or a pattern such as `essay_*`.

    None: there are no options.
    """
    codes: dict[str, tuple[str, ...]] = {}
    for option in options or ():
        column, _, text = option.rpartition("=")
        codes[column or "*"] = (*codes.get(column or "*", ()), text)
    return codes


def read_max_scores(text: str, open_table: Callable[[Path], Table]) -> MaxScores:
    """Read maximum scores from `text`, a number for all items or the path of a table item,max_score.

    Items without a maximum score in the table are scored 0 and 1. Raises PsychometricsError, which names the item, for
    maximum scores other than 1 … 20.
    """
    remedy = f"A maximum score is a whole number from 1 to {MAX_SCORE}"
    if text.isdecimal():
        if not 1 <= int(text) <= MAX_SCORE:
            raise PsychometricsError(f"--max-score {text}: {remedy[0].lower()}{remedy[1:]}")
        return MaxScores(otherwise=int(text))
    table = open_table(Path(text))
    table.require_unique_columns()
    item = table.item
    if item is None or "max_score" not in table.columns:
        raise PsychometricsError(
            f"{text}: maximum scores are a table item,max_score; it has {', '.join(table.columns)}"
        )
    rows = table.rows()
    filled = [(line, row[item], row["max_score"].removesuffix(".0")) for line, row in rows if row["max_score"]]
    known = {name: int(x) for _, name, x in filled if x.isdecimal() and 1 <= int(x) <= MAX_SCORE}
    if wrong := [f"line {line}, item {name}: max_score {x!r}" for line, name, x in filled if name not in known]:
        raise faults(table.path, wrong, remedy)
    return MaxScores(known)


def points(text: str, words: Mapping[str, float] = WORDS) -> float:
    """The number in a cell, with a decimal point or comma, or the value of a lower-case word; otherwise NaN."""
    text = _DECIMAL_COMMA.sub(r"\1.\2", lower) if _DECIMAL_COMMA.fullmatch(lower := text.lower()) else lower
    value = float(text) if _NUMBER.fullmatch(text) else words.get(text, math.nan)
    return value if math.isfinite(value) else math.nan


def whole_scores(numbers: npt.ArrayLike, denominator: int) -> Floats:
    """The numbers times the denominator if this is whole, otherwise NaN; any shape."""
    scaled = np.asarray(numbers, dtype=np.float64) * denominator
    near = np.abs(scaled - np.round(scaled)) <= (WHOLE if denominator > 1 else 0.0)
    return np.where(near, np.round(scaled), np.nan)


def matches(name: str, pattern: str) -> bool:
    """Whether a name equals or matches the pattern. Brackets denote a class of characters or themselves."""
    return name == pattern or any(fnmatchcase(name, form) for form in (pattern, pattern.replace("[", "[[]")))


def is_blank(text: str) -> bool:
    return text.lower() in BLANK


def _texts_of(codes: Codes, column: str) -> tuple[str, ...]:
    fitting = (texts for name, texts in codes.items() if matches(column, name))
    return tuple(text.lower() for texts in fitting for text in texts)
