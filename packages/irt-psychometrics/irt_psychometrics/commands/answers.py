"""Answers from a table, a matrix of scores or a list with a line for each answer, and errors in them."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.commands.choices import Choices, blanks_described, shortened_ids
from irt_psychometrics.commands.tables import Cells, Table, faults
from irt_psychometrics.core.arrays import Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import MAX_SCORE
from irt_psychometrics.core.responses import Responses

SCORE_NAMES = ("score", "correct", "response")
BLANK = ("", "na", "nan")
WORDS = {"false": 0.0, "true": 1.0}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d{1,2})", re.ASCII)  # with three digits, it may group thousands
LAYOUTS = (
    "Scores are 0, 1 or blank (not seen), or whole numbers up to --max-score; choices need --key. A file of"
    " answers is a matrix (a row per person, a column per item, scores or blank in the cells; a column named"
    " person, student, user_id, id … holds names) or a list with the columns person, item and score"
)
Scores = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Answers:
    """The answers in a file.

    Persons are in the order of the file. Items are in the order of the columns of a matrix, or sorted by name if the
    file is a list.

    Attributes:
        responses: the scores.
        person_ids: the persons' ids.
        notes: sentences about cells that are neither a score nor an option of the key.
    """

    responses: Responses
    person_ids: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def seen(self) -> Mask:
        """Mask of the persons with at least one answer, shape (n_persons,)."""
        return np.bincount(self.responses.person, minlength=self.responses.n_persons) > 0


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


def read_answers(table: Table, key: Mapping[str, str] | None = None, max_scores: MaxScores | None = None) -> Answers:
    """Read a matrix of scores or a list `person,item,score`; blank, NA and NaN mean that the item was not seen.

    `key` (item → its right option) is needed if cells are choices, and then for every item. `max_scores` is needed if
    items have scores above 1. Without a column of names, persons are numbered by row from 1, and empty rows at the end
    are ignored.

    Raises PsychometricsError, which names file, line and item, for rows of the wrong length, other scores, pairs or
    columns that occur twice, and keys that nobody chose.
    """
    table.require_unique_columns()
    person, item, score = table.person, table.item, table.first_of(SCORE_NAMES)
    most = MaxScores() if max_scores is None else max_scores
    if person is not None and item is not None and score is not None:
        return _read_list(table, person, item, score, key, most)
    return _read_matrix(table, person, [name for name in table.columns if name != person], key, most)


def read_groups(table: Table, answers: Answers) -> tuple[str, ...]:
    """Read the group of each person of `answers`.

    The table has the columns person and group, or group alone in the order of the persons. Raises PsychometricsError if
    persons have no group or two groups, or if the number of groups is not the number of persons.
    """
    table.require_unique_columns()
    rows, path = table.rows(), table.path
    if "group" not in table.columns:
        raise PsychometricsError(f"{path}: groups are a table person,group; its columns are {', '.join(table.columns)}")
    person = table.person
    if person is None:
        if len(rows) != len(answers.person_ids):
            raise PsychometricsError(
                f"{path} has {len(rows)} groups for {len(answers.person_ids)} persons: give one line for each person in"
                " their order, or a table person,group"
            )
        return tuple(row["group"] for _, row in rows)
    group: dict[str, str] = {}
    wrong = []
    for line, row in rows:
        if group.setdefault(row[person], row["group"]) != row["group"]:
            wrong.append(f"line {line}: person {row[person]} is in {row['group']} and in {group[row[person]]}")
    wrong += [f"person {name} has no group" for name in answers.person_ids if not group.get(name)]
    if wrong:
        raise faults(path, wrong, "Every person who answers belongs to one group")
    return tuple(group[name] for name in answers.person_ids)


def is_blank(text: str) -> bool:
    return text.lower() in BLANK


# -- the two layouts -----------------------------------------------------------------------------------------------


def _read_matrix(
    table: Table, person: str | None, items: list[str], key: Mapping[str, str] | None, most: MaxScores
) -> Answers:
    if not items:
        raise PsychometricsError(f"{table.path} has no column that is an item. {LAYOUTS}")
    _check_key(table.path, items, key)
    ids: list[str] = []
    lines: list[Ints] = []
    blocks: list[Scores] = []
    wrong: list[str] = []
    choices, blanks = Choices(key or {}), Counter[str]()
    odd: set[str] = set()
    no_items: set[str] = set()
    highest: dict[str, int] = {}
    for batch in table.batches():
        block = np.empty((len(batch.lines), len(items)), dtype=np.int8)
        for k, item in enumerate(items):
            cells = batch.text(item)
            if key is None:
                block[:, k], bad = _scores(cells, most[item])
            else:
                block[:, k], bad = _score_choices(cells, cells.equal(key[item]))
                choices.add(Cells([item], np.zeros(len(block), dtype=np.int64)), cells, block[:, k] >= 0)
            _count_blanks(blanks, cells, block[:, k])
            if not bad.size:
                continue
            texts = [cells.texts[place] for place in cells.places[bad]]
            named = [
                f"line {line}, {most.wrong(item, text)}" for line, text in zip(batch.lines[bad], texts, strict=True)
            ]
            values = [text.removesuffix(".0") for text in dict.fromkeys(texts)]
            sound = block[:, k] >= 0
            sound[bad] = False
            if all(value.isdecimal() and int(value) <= MAX_SCORE for value in values):
                highest[item] = max(highest.get(item, 0), *map(int, values))
            elif not sound.any():
                no_items.add(item)
                named = [f"{named[0]}, and no score in the column: delete it if it is not an item"]
            odd.add(item)
            wrong += named
        kept = np.ones(len(block), dtype=bool)
        if person is not None:
            cells = batch.ids(person)
            nameless = cells.equal("")
            kept = ~nameless | (block >= 0).any(1)
            wrong += [f"line {line}: answers without a person" for line in batch.lines[nameless & kept]]
            ids += [cells.texts[place] for place in cells.places[kept].tolist()]
        blocks.append(block[kept])
        lines.append(batch.lines[kept])
    if wrong:
        raise faults(table.path, wrong, _remedy(highest, len(no_items - highest.keys()), len(odd)))
    matrix = np.concatenate([np.empty((0, len(items)), dtype=np.int8), *blocks])
    if person is None:
        filled = np.flatnonzero((matrix >= 0).any(1))
        matrix = matrix[: filled[-1] + 1 if filled.size else 0]
        ids = [str(row + 1) for row in range(len(matrix))]
    blanks[""] = int((matrix < 0).sum()) - blanks.total()
    row, item_index = np.nonzero(matrix >= 0)
    place = {name: k for k, name in enumerate(dict.fromkeys(ids))}
    person_index = np.array([place[name] for name in ids], dtype=np.int64)[row]
    at = np.concatenate([np.empty(0, dtype=np.int64), *lines])[row]
    notes = _notes(table, choices, blanks)
    read = _answers(table.path, list(place), items, person_index, item_index, matrix[row, item_index], at, most)
    return _with_notes(table, read, notes)


def _remedy(highest: Mapping[str, int], n_no_items: int, n_wrong: int) -> str:
    """The remedy for wrong cells of a matrix.

    `highest` is the largest wrong cell in each column with whole numbers, `n_no_items` the number of columns without
    any score, and `n_wrong` the number of columns with wrong cells.
    """
    if len(highest) + n_no_items < n_wrong or not n_wrong:
        return LAYOUTS
    found = []
    if highest:
        top = max(highest.values())
        found.append(f"use `--max-score {top}` if cells up to {top} are scores, and `--key FILE` if they are choices")
    if n_no_items:
        found.append("groups of persons go into a table person,group for `--groups`")
    text = "; ".join(found)
    return text[:1].upper() + text[1:]


def _read_list(
    table: Table, person: str, item: str, score: str, key: Mapping[str, str] | None, most: MaxScores
) -> Answers:
    persons: dict[str, int] = {}
    items: dict[str, int] = {}
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    wrong: list[str] = []
    choices, blanks = Choices(key or {}), Counter[str]()
    for batch in table.batches():
        of_person, of_item, cells = batch.ids(person), batch.ids(item), batch.text(score)
        if key is None:
            values, bad = _scores(cells, of_item.map(most.__getitem__))
        else:
            _check_key(table.path, [name for name in of_item.texts if name], key)
            options = {text: k for k, text in enumerate(cells.texts)}
            right = of_item.map(partial(_place_of_key, key, options))
            values, bad = _score_choices(cells, cells.places == right)
            choices.add(of_item, cells, values >= 0)
        _count_blanks(blanks, cells, values)
        for row in bad:
            name, cell = of_item.texts[of_item.places[row]], cells.texts[cells.places[row]]
            wrong.append(f"line {batch.lines[row]}, {most.wrong(name, cell)}")
        nameless = of_person.equal("") | of_item.equal("")
        wrong += [f"line {n}: an answer without a person or an item" for n in batch.lines[nameless & (values >= 0)]]
        blanks[""] += int(((values < 0) & ~nameless).sum())
        numbers = (_numbers(of_person, ~nameless, persons), _numbers(of_item, ~nameless, items))
        parts.append((*numbers, values[~nameless], batch.lines[~nameless]))
    if wrong:
        raise faults(table.path, wrong, LAYOUTS)
    empty = np.empty(0, dtype=np.int64)
    p, i, s, at = (np.concatenate([empty, *column]) for column in (zip(*parts, strict=True) if parts else [()] * 4))
    by_name = sorted(items)
    rank = np.empty(len(items), dtype=np.int64)
    rank[[items[name] for name in by_name]] = np.arange(len(items))
    seen = s >= 0
    blanks[""] -= blanks.total() - blanks[""]
    notes = _notes(table, choices, blanks)
    read = _answers(table.path, list(persons), by_name, p[seen], rank[i[seen]], s[seen], at[seen], most)
    return _with_notes(table, read, notes)


def _answers(
    path: Path,
    persons: list[str],
    items: list[str],
    person: npt.NDArray[Any],
    item: npt.NDArray[Any],
    score: npt.NDArray[Any],
    line: npt.NDArray[Any],
    most: MaxScores,
) -> Answers:
    """The answers sorted by person and item. Raises PsychometricsError if a person answered an item twice."""
    categories = np.array([most[name] for name in items], dtype=np.int64) + 1
    pair = person.astype(np.int64) * len(items) + item
    order = np.argsort(pair, kind="stable")
    twice = np.flatnonzero(np.diff(pair[order]) == 0)
    if twice.size:
        repeats = [
            f"person {persons[person[now]]}, item {items[item[now]]} in lines {line[now]} and {line[again]}"
            for now, again in zip(order[twice], order[twice + 1], strict=True)
        ]
        raise faults(path, repeats, "A person answers an item once: decide which answer counts and delete the others")
    responses = Responses(
        person[order].astype(np.int32),
        item[order].astype(np.int32),
        score[order].astype(np.int8),
        len(persons),
        tuple(items),
        categories if (categories > 2).any() else None,
    )
    return Answers(responses, tuple(persons))


# -- cells ---------------------------------------------------------------------------------------------------------


def points(text: str) -> float:
    """The number in a cell, with a decimal point or comma; 0 and 1 for false and true, NaN for anything else."""
    text = _DECIMAL_COMMA.sub(r"\1.\2", lower) if _DECIMAL_COMMA.fullmatch(lower := text.lower()) else lower
    value = float(text) if _NUMBER.fullmatch(text) else WORDS.get(text, math.nan)
    return value if math.isfinite(value) else math.nan


def _place_of_key(key: Mapping[str, str], options: Mapping[str, int], item: str) -> int:
    """The place of an item's key among the options that persons chose, −1 if nobody chose it."""
    return options.get(key.get(item, ""), -1)


def _scores(cells: Cells, most: int | npt.NDArray[Any]) -> tuple[Scores, Ints]:
    """Scores from 0 to `most` (−1 for all other cells), and the places of cells that are neither score nor blank."""
    numbers = cells.map(points)
    known = (numbers >= 0) & (numbers <= most) & (numbers == np.floor(numbers))
    return np.where(known, numbers, -1).astype(np.int8), np.flatnonzero(~known & ~cells.in_words(BLANK))


def _score_choices(cells: Cells, right: Mask) -> tuple[Scores, Ints]:
    """1 for the right option, 0 for other options, −1 for blank cells. The places are empty, because no choice is
    invalid."""
    return np.where(cells.in_words(BLANK), -1, right).astype(np.int8), np.empty(0, dtype=np.int64)


def _count_blanks(blanks: Counter[str], cells: Cells, scores: Scores) -> None:
    """Count the words that mean that an item was not seen."""
    if (scores >= 0).all():
        return
    counts = np.bincount(cells.places, minlength=len(cells.texts)).tolist()
    blanks.update({text: n for text, n in zip(cells.texts, counts, strict=True) if n and text and is_blank(text)})


def _notes(table: Table, choices: Choices, blanks: Mapping[str, int]) -> list[str]:
    described = blanks_described(blanks)
    return [*choices.check(str(table.path)), *([f"{table.path}: {described}"] if described else [])]


def _with_notes(table: Table, read: Answers, notes: list[str]) -> Answers:
    if warned := shortened_ids([*read.person_ids, *read.responses.item_ids]):
        notes = [*notes, f"{table.path}: {warned}"]
    return replace(read, notes=tuple(notes))


def _check_key(path: Path, items: Sequence[str], key: Mapping[str, str] | None) -> None:
    without = [item for item in items if key is not None and item not in key]
    if without:
        raise faults(
            path,
            [f"item {item} has no key" for item in without],
            "Give every item its right option in the table item,key, or delete the column if it is not an item",
        )


def _numbers(names: Cells, kept: Mask, known: dict[str, int]) -> Ints:
    """Numbers of the names in the kept rows; new names get the next numbers in the order in which they first occur."""
    places = names.places[kept]
    numbers = np.zeros(len(names.texts), dtype=np.int64)
    first = np.unique(places, return_index=True)
    for place in first[0][np.argsort(first[1])].tolist():
        numbers[place] = known.setdefault(names.texts[place], len(known))
    return numbers[places]
