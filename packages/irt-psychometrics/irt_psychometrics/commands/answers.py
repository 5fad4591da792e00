"""Answers from a table, a matrix of scores or a list with a line for each answer, and errors in them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.commands.cell_scores import Reading
from irt_psychometrics.commands.choices import ChoiceCounts, blanks_described, shortened_ids
from irt_psychometrics.commands.tables import Batch, Cells, Table, faults
from irt_psychometrics.core.arrays import Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.option_statistics import Choices
from irt_psychometrics.core.options import MAX_SCORE
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of

SCORE_NAMES = ("score", "correct", "response")
LAYOUTS = (
    "Scores are 0, 1 or blank (not seen), or whole numbers up to --max-score; choices need --key. A file of"
    " answers is a matrix (a row per person, a column per item, scores or blank in the cells; a column named"
    " person, student, user_id, id … holds names) or a list with the columns person, item and score"
)


@dataclass(frozen=True)
class Answers:
    """The answers in a file.

    Persons are in the order of the file. Items are in the order of the columns of a matrix, or sorted by name if the
    file is a list.

    Attributes:
        responses: the scores.
        person_ids: the persons' ids.
        omitted: shape (n_responses,), whether the item was omitted; its score is then 0. None: not known.
        choices: the chosen options, if cells are choices.
        groups: the group of each person, if groups were requested.
        notes: sentences about cells that are neither a score nor an option of the key, and about columns left out.
    """

    responses: Responses
    person_ids: tuple[str, ...]
    omitted: Mask | None = None
    choices: Choices | None = None
    groups: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def seen(self) -> Mask:
        """Mask of the persons with at least one answer, shape (n_persons,)."""
        return np.bincount(self.responses.person, minlength=self.responses.n_persons) > 0


def read_answers(table: Table, reading: Reading, groups: str | None = None) -> Answers:
    """Read a matrix of scores or a list `person,item,score`; blank, NA and NaN mean that the item was not seen.

    `groups` is the column with the persons' groups. A column of a matrix is left out, with a note, if the key does not
    have it or, without a key, if most of its cells cannot be scores. Without a column of names, persons are numbered by
    row from 1, and empty rows at the end are ignored.

    Raises PsychometricsError, which names file, line and item, for rows of the wrong length, other scores, pairs or
    columns that occur twice, keys that nobody chose, and persons without a group or with two.
    """
    table.require_unique_columns()
    person, item, score = table.person, table.item, table.first_of(SCORE_NAMES)
    if person is not None and item is not None and score is not None:
        return _read_list(table, person, item, score, reading, groups)
    return _read_matrix(
        table, person, [name for name in table.columns if name not in (person, groups)], reading, groups
    )


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
    return _group_of_each(path, answers.person_ids, ((line, row[person], row["group"]) for line, row in rows))


def _group_of_each(path: Path, persons: Sequence[str], rows: Iterable[tuple[int, str, str]]) -> tuple[str, ...]:
    group: dict[str, str] = {}
    wrong = []
    for line, person, name in rows:
        if group.setdefault(person, name) != name:
            wrong.append(f"line {line}: person {person} is in {name} and in {group[person]}")
    wrong += [f"person {name} has no group" for name in persons if not group.get(name)]
    if wrong:
        raise faults(path, wrong, "Every person who answers belongs to one group")
    return tuple(group[name] for name in persons)


# -- the two layouts -----------------------------------------------------------------------------------------------


@dataclass
class _Rows:
    """Scores, omissions and, with a key, codes of the chosen options of a column's or list's rows, in batches."""

    score: list[npt.NDArray[np.int8]] = field(default_factory=list)
    code: list[Ints] = field(default_factory=list)
    omitted: list[Mask] = field(default_factory=list)


@dataclass
class _Column(_Rows):
    """A column of a matrix. `wrong`: lines and texts of the cells that are neither a score nor blank."""

    wrong: list[tuple[int, str]] = field(default_factory=list)

    @property
    def highest(self) -> int | None:
        """The largest wrong cell, if all of them are whole numbers that can be scores; otherwise None."""
        values = [text.removesuffix(".0") for text in dict.fromkeys(text for _, text in self.wrong)]
        numbers = [int(value) for value in values if value.isdecimal() and int(value) <= MAX_SCORE]
        return max(numbers) if values and len(numbers) == len(values) else None

    @property
    def is_aside(self) -> bool:
        """Whether most of the cells cannot be scores, whatever the maximum score is."""
        found = sum(int((score >= 0).sum()) for score in self.score)
        return len(self.wrong) > found and self.highest is None

    def add(self, name: str, batch: Batch, reading: Reading, choices: ChoiceCounts, blanks: Counter[str]) -> None:
        cells = batch.text(name)
        right = None if reading.key is None else cells.equal(reading.key[name])
        scored = reading.score(name, cells, reading.max_scores[name], right)
        reading.count_blanks(blanks, name, cells, scored)
        chosen = (scored.score >= 0) & ~scored.omitted
        self.score.append(scored.score)
        if right is not None:
            self.code.append(choices.add(Cells([name], np.zeros(len(chosen), dtype=np.int64)), cells, chosen))
        self.omitted.append(scored.omitted)
        lines = batch.lines[scored.wrong].tolist()
        self.wrong += [(line, cells.texts[k]) for line, k in zip(lines, cells.places[scored.wrong], strict=True)]


def _read_matrix(table: Table, person: str | None, names: list[str], reading: Reading, groups: str | None) -> Answers:
    key = reading.key
    items = names if key is None else [name for name in names if name in key]
    if not items:
        _check_key(table.path, names, key)
        raise PsychometricsError(f"{table.path} has no column that is an item. {LAYOUTS}")
    columns = {name: _Column() for name in items}
    choices, blanks = ChoiceCounts(key or {}), {name: Counter[str]() for name in items}
    ids: list[str] = []
    labels: list[str] = []
    lines: list[Ints] = []
    for batch in table.batches():
        for name, column in columns.items():
            column.add(name, batch, reading, choices, blanks[name])
        lines.append(batch.lines)
        ids += batch.ids(person).to_list() if person is not None else [""] * len(batch.lines)
        labels += batch.text(groups).to_list() if groups is not None else []
    aside = [name for name, column in columns.items() if column.is_aside]
    if len(aside) == len(columns):
        aside = []
    items = [name for name in items if name not in aside]
    at = np.concatenate([np.empty(0, dtype=np.int64), *lines])
    filled = np.zeros(len(at), dtype=bool)
    for name in items:
        filled |= _joined(columns[name].score) >= 0
    named = np.array([bool(name) for name in ids], dtype=bool)
    wrong = [
        f"line {line}, {reading.max_scores.wrong(name, text)}" for name in items for line, text in columns[name].wrong
    ]
    wrong += [f"line {line}: answers without a person" for line in at[filled & ~named] if person is not None]
    if wrong:
        raise _matrix_error(table.path, wrong, [columns[name] for name in items])
    kept = named if person is not None else np.arange(len(at)) <= np.flatnonzero(filled).max(initial=-1)
    rows = np.flatnonzero(kept)
    ids = [ids[row] if person is not None else str(row + 1) for row in rows.tolist()]
    place = {name: k for k, name in enumerate(dict.fromkeys(ids))}
    person_index = np.array([place[name] for name in ids], dtype=np.int64)
    matrix = np.stack([_joined(columns[name].score)[kept] for name in items], axis=1)
    row, item = np.nonzero(matrix >= 0)
    omitted = np.stack([_joined(columns[name].omitted)[kept] for name in items], axis=1)[row, item]
    code = None
    if key is not None:
        code = np.stack([_joined(columns[name].code)[kept] for name in items], axis=1)[row, item]
    counts = sum((blanks[name] for name in items), Counter[str]())
    counts[""] = int((matrix < 0).sum()) - counts.total()
    read = _answers(
        table.path,
        [*place],
        items,
        person_index[row],
        item,
        matrix[row, item],
        at[rows][row],
        omitted,
        code,
        reading,
        choices,
    )
    notes = _notes(table, choices, counts)
    if aside:
        notes.append(f"{table.path}: left out, because most cells are not scores: {some_of(aside)}")
    if without := [name for name in names if key is not None and name not in key]:
        notes.append(f"{table.path}: left out, because the key does not have them: {some_of(without)}")
    if groups is not None:
        known = zip(at[rows].tolist(), ids, (labels[k] for k in rows.tolist()), strict=True)
        read = replace(read, groups=_group_of_each(table.path, read.person_ids, known))
    return _with_notes(table, read, notes)


def _matrix_error(path: Path, messages: Sequence[str], columns: Sequence[_Column]) -> PsychometricsError:
    wrong = [column for column in columns if column.wrong]
    highest = [column.highest for column in wrong if column.highest is not None]
    if len(highest) < len(wrong) or not wrong:
        return faults(path, messages, LAYOUTS)
    top = max(highest)
    remedy = f"Use `--max-score {top}` if cells up to {top} are scores, and `--key FILE` if they are choices"
    if len(highest) == len(columns) > 1:
        return PsychometricsError(f"{path}: cells go up to {top} in all {len(columns)} columns. {remedy}")
    return faults(path, messages, remedy)


def _read_list(table: Table, person: str, item: str, score: str, reading: Reading, groups: str | None) -> Answers:
    persons: dict[str, int] = {}
    items: dict[str, int] = {}
    places: list[tuple[Ints, Ints, Ints]] = []
    wrong: list[str] = []
    labels: list[tuple[int, str, str]] = []
    key, rows = reading.key, _Rows()
    choices, blanks = ChoiceCounts(key or {}), Counter[str]()
    for batch in table.batches():
        of_person, of_item, cells = batch.ids(person), batch.ids(item), batch.text(score)
        nameless = of_person.equal("") | of_item.equal("")
        right = None
        if key is not None:
            _check_key(table.path, [name for name in of_item.texts if name], key)
            options = {text: k for k, text in enumerate(cells.texts)}
            right = cells.places == of_item.map(partial(_place_of_key, key, options))
        scored = reading.score(score, cells, of_item.map(reading.max_scores.__getitem__), right)
        values = scored.score
        if right is not None:
            rows.code.append(choices.add(of_item, cells, (values >= 0) & ~scored.omitted)[~nameless])
        reading.count_blanks(blanks, score, cells, scored)
        for row in scored.wrong:
            name, cell = of_item.texts[of_item.places[row]], cells.texts[cells.places[row]]
            wrong.append(f"line {batch.lines[row]}, {reading.max_scores.wrong(name, cell)}")
        wrong += [f"line {n}: an answer without a person or an item" for n in batch.lines[nameless & (values >= 0)]]
        blanks[""] += int(((values < 0) & ~nameless).sum())
        numbers = (_numbers(of_person, ~nameless, persons), _numbers(of_item, ~nameless, items))
        places.append((*numbers, batch.lines[~nameless]))
        rows.score.append(values[~nameless])
        rows.omitted.append(scored.omitted[~nameless])
        if groups is not None:
            told = zip(batch.lines.tolist(), of_person.to_list(), batch.text(groups).to_list(), strict=True)
            labels += [row for row in told if row[1]]
    if wrong:
        raise faults(table.path, wrong, LAYOUTS)
    empty = np.empty(0, dtype=np.int64)
    p, i, at = (np.concatenate([empty, *part]) for part in (zip(*places, strict=True) if places else [()] * 3))
    values, omitted = _joined(rows.score), _joined(rows.omitted)
    by_name = sorted(items)
    rank = np.empty(len(items), dtype=np.int64)
    rank[[items[name] for name in by_name]] = np.arange(len(items))
    seen = values >= 0
    blanks[""] -= blanks.total() - blanks[""]
    code = None if key is None else _joined(rows.code)[seen]
    read = _answers(
        table.path,
        [*persons],
        by_name,
        p[seen],
        rank[i[seen]],
        values[seen],
        at[seen],
        omitted[seen],
        code,
        reading,
        choices,
    )
    if groups is not None:
        read = replace(read, groups=_group_of_each(table.path, read.person_ids, labels))
    return _with_notes(table, read, _notes(table, choices, blanks))


def _answers(
    path: Path,
    persons: list[str],
    items: list[str],
    person: Ints,
    item: Ints,
    score: npt.NDArray[np.int8],
    line: Ints,
    omitted: Mask,
    code: Ints | None,
    reading: Reading,
    choices: ChoiceCounts,
) -> Answers:
    """The answers sorted by person and item. Raises PsychometricsError if a person answered an item twice."""
    categories = np.array([reading.max_scores[name] for name in items], dtype=np.int64) + 1
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
        categories if reading.key is None and (categories > 2).any() else None,
    )
    chosen = None if code is None else choices.chosen(items, responses.item.astype(np.int64), code[order])
    return Answers(responses, tuple(persons), omitted[order], chosen)


def _joined(batches: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.concatenate(batches) if batches else np.empty(0, dtype=np.int8)


# -- cells ---------------------------------------------------------------------------------------------------------


def _place_of_key(key: Mapping[str, str], options: Mapping[str, int], item: str) -> int:
    """The place of an item's key among the options that persons chose, −1 if nobody chose it."""
    return options.get(key.get(item, ""), -1)


def _notes(table: Table, choices: ChoiceCounts, blanks: Mapping[str, int]) -> list[str]:
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
