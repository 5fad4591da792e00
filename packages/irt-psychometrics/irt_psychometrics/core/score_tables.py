"""Scores from the cells of a table: numbers from 0 to a maximum, or choices that a key marks as right.

Errors name the cell's row, item and value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.choices import Choices, sort_options
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.frames import Column, label_of, number_values
from irt_psychometrics.core.options import MAX_SCORE

Key = Mapping[Any, Any]
"""Item → right option. Any option of a list or tuple is right. A set contains the options that must all be chosen, and
no others."""
SEPARATORS = ";,|"
"""Characters between the options of a cell with several options, unless an option of the key contains them."""
CODES = {str(digit) * n for digit in (7, 8, 9) for n in (1, 2, 3, 4)}
"""Numbers that often mean missing answers, such as 99."""
MIN_IDS = 3  # two persons may well have the scores 1 and 2


class ReadCells(NamedTuple):
    """The meaning of N cells.

    Attributes:
        score: shape (N,), the scores; −1 for missing cells.
        choices: the chosen options, or None if no cell's item has a key.
    """

    score: npt.NDArray[np.int8]
    choices: Choices | None


@dataclass(frozen=True)
class Scoring:
    """The rules that turn cells into scores.

    Attributes:
        right: the right options of items with choices; several that must all be chosen are one text.
        separators: the items whose cells may contain several options, and the characters between these options.
        most: the maximum score of each item; 1 for items with choices.
    """

    right: Mapping[str, frozenset[str]]
    separators: Mapping[str, str]
    most: Mapping[str, int]

    @classmethod
    def from_key_or_maximum(
        cls, item_ids: Sequence[str], key: Key | None, max_score: int | Mapping[Any, int] | None
    ) -> Scoring:
        """Make the rules from the arguments of `Responses.from_wide`.

        Raises PsychometricsError for an invalid maximum score, a maximum score of an unknown item, and a key without
        any of the items.
        """
        options = {str(item): _alternatives(options) for item, options in (key or {}).items()}
        separators = {item: _separators(own) for item, own in options.items() if any(map(_is_set, own))}
        right = {
            item: frozenset(_option(option, separators.get(item)) for option in own) for item, own in options.items()
        }
        if right and not set(right) & set(item_ids):
            raise PsychometricsError(
                f"no item of the key ({_some(right)}) is among the items ({_some(item_ids)}). Are the names written "
                "alike?"
            )
        given = {str(item): score for item, score in max_score.items()} if isinstance(max_score, Mapping) else {}
        if unknown := [item for item in given if item not in set(item_ids)]:
            raise PsychometricsError(f"max_score names {_some(unknown)}, not among the items ({_some(item_ids)})")
        of_all = 1 if max_score is None or isinstance(max_score, Mapping) else max_score
        most = {item: 1 if item in right else given.get(item, of_all) for item in item_ids}
        for item, score in most.items():
            if not (isinstance(score, (int, np.integer)) and 1 <= score <= MAX_SCORE):
                raise PsychometricsError(
                    f"the maximum score of {item} must be a whole number from 1 to {MAX_SCORE}, got {score!r}"
                )
        return cls(right, separators, {item: int(score) for item, score in most.items()})

    def categories(self, item_ids: Iterable[str]) -> Ints | None:
        """Return the number of scores of each item, shape (J,), or None if all items have two."""
        sizes = np.array([1 + self.most[item] for item in item_ids], dtype=np.int64)
        return sizes if (sizes > 2).any() else None

    def read(
        self,
        column: Column,
        item_ids: Sequence[str],
        item: Ints,
        location: Callable[[int], str],
        *,
        is_column: bool = False,
    ) -> ReadCells:
        """Read the scores and choices of N cells.

        Args:
            column: the cells.
            item_ids: the J items.
            item: shape (N,), index of each cell's item.
            location: describes the place of a row's cell, for errors.
            is_column: whether the cells are a whole column of the caller's table, for errors.

        Raises PsychometricsError, which names the first item's first wrong cell, for a cell that is not a score.
        """
        seen, has_key = ~column.missing, np.array([name in self.right for name in item_ids], dtype=bool)[item]
        score, choices = np.full(len(item), -1, dtype=np.int8), None
        if has_key.any():
            rows = np.flatnonzero(seen & has_key)
            choices, right = self._choose(column, rows, item_ids, item)
            score[rows] = right
        if not has_key.all():
            seen &= ~has_key
            points = column.numbers()
            most = np.array([self.most[name] for name in item_ids])[item]
            wrong = np.flatnonzero(seen & ~((points >= 0) & (points <= most) & (points == np.floor(points))))
            if wrong.size:
                row = int(wrong[item[wrong].argmin()])
                own = points[seen & (item == item[row])]
                raise PsychometricsError(
                    self._refusal(column, row, item_ids[item[row]], own, location(row), is_column=is_column)
                )
            score[seen] = points[seen]
        return ReadCells(score, choices)

    def _choose(self, column: Column, rows: Ints, item_ids: Sequence[str], item: Ints) -> tuple[Choices, Mask]:
        """Return the choices of N cells, of which `rows` have a choice, and whether each of these is right."""
        values, places = column.distinct()
        if len(item_ids) == 1:
            pair, items, cells = places[rows], [0] * len(values), values
        else:
            first, pair = number_values(item[rows] * np.int64(len(values)) + places[rows])
            items = item[rows[first]].tolist()
            cells = [values[place] for place in places[rows[first]].tolist()]
        texts = [_option(cell, self.separators.get(item_ids[j])) for j, cell in zip(items, cells, strict=True)]
        chosen = [{*self.right.get(name, ())} for name in item_ids]
        for j, text in zip(items, texts, strict=True):
            chosen[j].add(text)
        labels = tuple(map(sort_options, chosen))
        codes = [{text: k for k, text in enumerate(options)} for options in labels]
        option = np.full(len(item), -1, dtype=np.min_scalar_type(-1 - max(map(len, labels), default=0)))
        option[rows] = np.array([codes[j][text] for j, text in zip(items, texts, strict=True)], option.dtype)[pair]
        keys = tuple(self.right.get(name, frozenset()) for name in item_ids)
        right = np.array([text in keys[j] for j, text in zip(items, texts, strict=True)], dtype=bool)[pair]
        return Choices(option, labels, keys), right

    def _refusal(self, column: Column, row: int, name: str, points: Floats, location: str, *, is_column: bool) -> str:
        """Describe a cell that is not a score of the item, and what to do.

        `points` are the item's cells as numbers, and `is_column` tells whether they are a whole column of the table.
        """
        most, cell, number = self.most[name], column.cell(row), column.numbers()[row]
        below = np.max(points, where=points < number, initial=-np.inf)
        is_code = number < 0 or (f"{number:g}" in CODES and number - below > 1)
        top = below if is_code and number > MAX_SCORE else np.max(points, where=~np.isnan(points), initial=0)
        scales = [f"if scores go up to {max(int(top), 2)}, give max_score="] if most < top <= MAX_SCORE else []
        choices = f"choices need key={{{name!r}: the right option, …}}"
        if is_column and _are_ids(points):
            differ = f"because its {len(points)} whole numbers all differ"
            remedy = f"give person={name!r}, or leave the column out with item_ids="
            ways = [f"the column {name} looks like an id or a row number, {differ}: {remedy}", *scales]
        elif is_code:
            code = f"if {cell!r} means a missing answer, replace it by None or NaN"
            ways = [code, *scales, choices]
        elif number > most and number.is_integer() and not scales:
            ways = [f"no item has a score above {MAX_SCORE}"]
            ways += ["leave the column out with item_ids= if it is not an item"] if is_column else []
            ways += [choices]
        else:
            ways = [*(scales if number > most and number.is_integer() else []), choices]
            if np.isnan(number) and is_column:
                out = "leave the column out with item_ids= if it is not an item"
                ways += [f"{out}, or name it in person= if it holds persons"]
            ways += ["a cell that was not seen is None, NaN or empty"]
        scores = "0 or 1" if most == 1 else f"whole numbers from 0 to {most}"
        return f"{location}: {cell!r} is not a score of item {name}, whose scores are {scores}. {_sentence(ways)}"


def number_persons(column: Column, place: str) -> tuple[Ints, tuple[str | int, ...]]:
    """Number the persons of N rows in the order in which they first occur.

    Returns each row's number, shape (N,), and the persons' labels. Raises PsychometricsError, which names the row and
    the `place` of the labels, if a label is missing.
    """
    if column.missing.any():
        row = int(np.flatnonzero(column.missing)[0])
        raise PsychometricsError(f"row {row} has no person in {place}; name the person, or drop the row")
    values, places = column.distinct()
    labels = [*map(label_of, values)]
    if len(distinct := dict.fromkeys(labels)) < len(labels):  # 1 and 1.0 are one label
        number = {label: k for k, label in enumerate(distinct)}
        places = np.array([number[label] for label in labels], dtype=np.int64)[places]
    return places, tuple(distinct)


def _are_ids(points: Floats) -> bool:
    """Check whether numbers could be ids: whole, at least 0, and each of them only once."""
    is_id = (points >= 0) & (points == np.floor(points))
    return len(points) >= MIN_IDS and bool(is_id.all()) and len(np.unique(points)) == len(points)


def _is_several(options: Any) -> bool:
    return isinstance(options, (list, tuple, set, frozenset, np.ndarray))


def _is_set(options: Any) -> bool:
    return isinstance(options, (set, frozenset))


def _alternatives(options: Any) -> list[Any]:
    """Return the right options of an item; each may be a set of options that must all be chosen."""
    return [*options] if _is_several(options) and not _is_set(options) else [options]


def _separators(alternatives: Iterable[Any]) -> str:
    """Return the characters that separate options, of which no option contains any."""
    texts = [_option(option) for own in alternatives for option in (own if _is_set(own) else [own])]
    return "".join(character for character in SEPARATORS if not any(character in text for text in texts))


def _option(cell: Any, separators: str | None = None) -> str:
    """Return an option as text; 3, 3.0 and "3" are the same option.

    With `separators`, the cell has one option or several, whose order does not matter.
    """
    if separators is not None:
        text = _option(cell)
        parts = cell if _is_several(cell) else re.split(f"[{separators}]", text) if separators else [text]
        return ";".join(sort_options(filter(None, map(_option, parts))))
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def _some(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(map(str, known[:5])) + (f" and {len(known) - 5} more" if len(known) > 5 else "")


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return text[0].upper() + text[1:]
