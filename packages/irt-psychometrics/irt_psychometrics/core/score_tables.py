"""Scores from the cells of a table: numbers from 0 to a maximum, or choices that a key marks as right.

Errors name the cell's row, item and value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.frames import Column
from irt_psychometrics.core.options import MAX_SCORE

Key = Mapping[str, Any]
"""Item → right option, or several of them in a list, tuple or set."""


@dataclass(frozen=True)
class Scoring:
    """The rules that turn cells into scores.

    Attributes:
        right: the right options of items with choices.
        most: the maximum score of each item; 1 for items with choices.
    """

    right: Mapping[str, frozenset[str]]
    most: Mapping[str, int]

    @classmethod
    def from_key_or_maximum(
        cls, item_ids: Sequence[str], key: Key | None, max_score: int | Mapping[str, int] | None
    ) -> Scoring:
        """Make the rules from the arguments of `Responses.from_wide`.

        Raises PsychometricsError for an invalid maximum score, a maximum score of an unknown item, and a key without
        any of the items.
        """
        right = {item: _options(options) for item, options in (key or {}).items()}
        if right and not set(right) & set(item_ids):
            raise PsychometricsError(
                f"no item of the key ({_some(right)}) is among the items ({_some(item_ids)}). Are the names written "
                "alike?"
            )
        given = max_score if isinstance(max_score, Mapping) else {}
        if unknown := [item for item in given if item not in set(item_ids)]:
            raise PsychometricsError(f"max_score names {_some(unknown)}, not among the items ({_some(item_ids)})")
        of_all = 1 if max_score is None or isinstance(max_score, Mapping) else max_score
        most = {item: 1 if item in right else given.get(item, of_all) for item in item_ids}
        for item, score in most.items():
            if not (isinstance(score, (int, np.integer)) and 1 <= score <= MAX_SCORE):
                raise PsychometricsError(
                    f"the maximum score of {item} must be a whole number from 1 to {MAX_SCORE}, got {score!r}"
                )
        return cls(right, {item: int(score) for item, score in most.items()})

    def categories(self, item_ids: Iterable[str]) -> Ints | None:
        """The number of scores of each item, shape (J,). Returns None if all items have two."""
        sizes = np.array([1 + self.most[item] for item in item_ids], dtype=np.int64)
        return sizes if (sizes > 2).any() else None

    def scores(self, column: Column, item: str, location: Callable[[int], str]) -> Floats:
        """The scores of one item's cells, shape (N,); NaN for missing cells.

        `location` describes a row's cell, for errors. Raises PsychometricsError for a cell that is not a score.
        """
        out = np.full(len(column.missing), np.nan)
        seen = np.flatnonzero(~column.missing)
        if item in self.right:
            right = self.right[item]
            out[seen] = [_option(column.cells[row]) in right for row in seen.tolist()]
            return out
        if isinstance(column.cells, np.ndarray):
            out[seen] = column.cells[seen]
            wrong = seen[(out[seen] < 0) | (out[seen] > self.most[item]) | (out[seen] != np.floor(out[seen]))]
        else:
            wrong = np.array([], dtype=int)
            for row in seen.tolist():
                score = _number(column.cells[row])
                if score is None or not (0 <= score <= self.most[item] and score.is_integer()):
                    wrong = np.array([row])
                    break
                out[row] = score
        if wrong.size:
            row = int(wrong[0])
            raise PsychometricsError(self._refusal(column.cells[row], item, location(row)))
        return out

    def _refusal(self, cell: Any, item: str, location: str) -> str:
        number, most = _number(cell), self.most[item]
        shown = repr(cell.item() if isinstance(cell, np.generic) else cell)
        ways = [f"choices need key={{{item!r}: the right option, …}}"]
        if number is not None and number > most and number.is_integer():
            ways.insert(0, f"if scores go up to {max(int(number), 2)}, give max_score=")
        elif number is None:
            ways += [
                "leave the column out with item_ids= if it is not an item, or name it in person= if it holds persons"
            ]
        ways += ["a cell that was not seen is None, NaN or empty"]
        scores = "0 or 1" if most == 1 else f"whole numbers from 0 to {most}"
        return f"{location}: {shown} is not a score of item {item}, whose scores are {scores}. {_sentence(ways)}"


def person_labels(column: Column, name: str) -> list[str | int]:
    """The label of each row's person. Raises PsychometricsError, which names the row, if a label is missing."""
    if column.missing.any():
        row = int(np.flatnonzero(column.missing)[0])
        raise PsychometricsError(f"row {row} has no person in column {name!r}; name the person, or drop the row")
    return [column.label(row) for row in range(len(column.missing))]


def number_labels(labels: Sequence[str | int]) -> tuple[Ints, tuple[str | int, ...]]:
    """The number of each row's label, shape (N,), and the labels in the order in which they first occur."""
    number: dict[str | int, int] = {}
    code = np.array([number.setdefault(label, len(number)) for label in labels], dtype=np.int64)
    return code, tuple(number)


def _options(options: Any) -> frozenset[str]:
    several = options if isinstance(options, (list, tuple, set, frozenset, np.ndarray)) else [options]
    return frozenset(_option(option) for option in several)


def _option(cell: Any) -> str:
    """An option as text; 3, 3.0 and "3" are the same option."""
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def _number(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def _some(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(map(str, known[:5])) + (f" and {len(known) - 5} more" if len(known) > 5 else "")


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return text[0].upper() + text[1:]
