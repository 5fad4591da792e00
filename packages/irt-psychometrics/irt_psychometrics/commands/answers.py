"""Answers from a table, a matrix of scores or a list with a line for each answer, and errors in them."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.cells.choices import OptionCounts, choices_of
from irt_psychometrics.cells.columns import FREQUENCY_NAMES, MAX_PARTS, PARTLY, Cells
from irt_psychometrics.cells.derived_columns import FirstRows
from irt_psychometrics.cells.notes import describe_cells, sums_of
from irt_psychometrics.cells.reading import CellPlan, KeyScores
from irt_psychometrics.commands.tables import PERSON_NAMES, Batch, Table, faults
from irt_psychometrics.core.arrays import Ints, Mask
from irt_psychometrics.core.choices import Choices
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import MAX_POINTS, MAX_SCORE
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.wording import some_of

BLOCK = 2**20
"""Number of answers whose persons and items are looked up at once."""
SCORE_NAMES = ("score", "correct", "response", "resp")
LAYOUTS = (
    "Scores are 0, 1 or blank (not seen), or whole numbers up to --max-score; choices need --key. A file of"
    " answers is a matrix (a row per person, a column per item, scores or blank in the cells; a column named"
    " person, student, user_id, id … holds names) or a list with the columns person, item and score"
)

NEGATIVE = (
    "Scores are not below 0. If wrong answers have this mark, use `--marks-off {mark:g}`; if it means no answer, use"
    " `--missing={text}`"
)
ZERO = (
    "Is a {text} an omitted answer? Use `--omitted {text}` if it counts as wrong, or `--missing {text}` if it does not"
    " count"
)
PARTS = "If they are parts of a point, use `--denominator {parts} --max-score {top}`"
POINTS = (
    "If they are points, `--max-score {top}` analyses the items without a model. A fit takes scores up to {most}: group"
    " points in a mapping file, values: {{correct: {{'{top}': {most}}}}}"
)
RIGHT_ALONE = "every answer is right: use --omitted '' if empty cells are wrong answers"
TABLE = (
    "If they are scores, give `--max-score FILE`, a table item,max_score with each item's maximum (cells reach"
    " {reached}), or `--max-score {top}` if it is the maximum of every item. If they are choices, give `--key FILE`"
)


class LayoutError(PsychometricsError):
    """A file that is neither a matrix of scores nor a list of answers."""


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


def read_answers(table: Table, reading: CellPlan, groups: str | None = None) -> Answers:
    """Read a matrix of scores or a list `person,item,score`; blank, NA and NaN mean that the item was not seen.

    `groups` is the column with the persons' groups. A column of a matrix is left out, with a note, if the key does not
    have it or, without a key, if most of its cells cannot be scores or if it is derived (see `derived_columns`).
    Without a column of names, persons are numbered by row from 1, and empty rows at the end are ignored. A matrix with
    a column of frequencies has a row for each pattern of answers, and its persons are numbered.

    Raises LayoutError if the file is neither a matrix nor a list, and PsychometricsError, which names file, line and
    item, for rows of the wrong length, other scores, pairs or columns that occur twice, keys that nobody chose, and
    persons without a group or with two.
    """
    table.require_unique_columns()
    path, key = table.path, reading.key
    person, item, score = table.person, table.item, table.first_of(SCORE_NAMES)
    if item is not None and score is not None and person is None:
        raise LayoutError(
            f"{path} looks like a list, because it has the columns {item} and {score}: name the column of persons"
            f" {' or '.join(PERSON_NAMES[:2])}"
        )
    if person is not None and item is not None and score is None:
        raise LayoutError(
            f"{path} looks like a list, because it has the columns {person} and {item}: name the column of scores"
            f" {' or '.join(SCORE_NAMES)}, or the column {item} otherwise if the file is a matrix"
        )
    is_list = None not in (person, item, score)
    frequency = table.first_of(FREQUENCY_NAMES)
    patterns: list[str] = []
    if not (is_list or frequency is None or frequency in (key or {}) or frequency in reading.max_scores):
        table, person = table.repeat_rows(frequency), None
        patterns = [f"{frequency} is the number of persons who gave a row's answers"]
    names = [name for name in table.columns if name not in (person, groups)]
    columns = [str(score)] if is_list else _item_columns(path, names, key)
    cells = _Cells(reading, {} if is_list else {name: k for k, name in enumerate(columns)}, OptionCounts(key or {}))
    labels: list[tuple[int, str, str]] = []
    n_rows = 0
    for batch in table.batches():
        rows = range(n_rows + 1, n_rows + len(batch.lines) + 1)
        n_rows += len(batch.lines)
        of_person = Cells.of(map(str, rows)) if person is None else batch.ids(person)
        of_item = batch.ids(str(item)) if is_list else None
        _check_key(path, [name for name in (of_item.texts if of_item else ()) if name], key)
        cells.add(batch, columns, of_person, of_item)
        if groups is not None:
            told = zip(batch.lines.tolist(), of_person.to_list(), batch.text(groups).to_list(), strict=True)
            labels += [row for row in told if row[1]]
    derived = {} if is_list or key is not None else cells.first.derived(reading.max_scores)
    aside = [] if is_list else [*derived, *cells.columns_aside(derived)]
    wrong = {name: found for name, found in cells.wrong.items() if found and name not in aside}
    by_item = [
        [
            f"line {line}, item {name}: score {text!r}" + (f", and its scores are 0 … {most}" if most > 1 else "")
            for line, text in found
        ]
        for name, found in wrong.items()
        for most in [reading.maximum(name)]
    ]
    messages = [message for nth in zip_longest(*by_item) for message in nth if message]  # no item alone is to blame
    messages += [f"line {line}: an answer without a person or an item" for line in dict.fromkeys(cells.nameless)]
    if messages:
        tops = {name: None if is_list else cells.highest(name) for name in wrong}
        raise _matrix_error(path, messages, tops, len(columns) - len(aside), cells.wrong_texts(wrong), reading)
    items = sorted(cells.items) if is_list else [name for name in columns if name not in aside]
    read, n_unseen = cells.answers(path, items, numbered=person is None)
    if groups is not None:
        read = replace(read, groups=_group_of_each(path, read.person_ids, labels))
    blanks = sum((cells.blanks[name] for name in columns if name not in aside), Counter[str]())
    without = [name for name in names if key is not None and name not in key and not is_list]
    del blanks[""]
    blanks[""] = n_unseen - blanks.total()
    notes = patterns + describe_cells(blanks, [*read.person_ids, *items], *sums_of(read.responses))
    if cells.n_partly:
        notes.append(f"partly right answers count as wrong: {cells.n_partly:,}")
    if reading.key is None and n_unseen and read.responses.score.all():
        notes.append(RIGHT_ALONE)
    left_out = {
        "most cells are not scores": aside[len(derived) :],
        "they are not items": [f"{name} ({why})" for name, why in derived.items()],
        "the key does not have them": without,
    }
    notes += [f"left out, because {why}: {some_of(named)}" for why, named in left_out.items() if named]
    return replace(read, notes=(*cells.options.notes(str(path)), *(f"{path}: {note}" for note in notes)))


def read_groups(table: Table, answers: Answers) -> tuple[str, ...]:
    """Read the group of each person of `answers`.

    The table has the columns person and group, or group alone in the order of the persons. Raises PsychometricsError if
    persons have no group or two groups, or if the number of groups is not the number of persons.
    """
    table.require_unique_columns()
    rows, path = table.rows(), table.path
    group = table.first_of(("group",))
    if group is None:
        raise PsychometricsError(f"{path}: groups are a table person,group; its columns are {', '.join(table.columns)}")
    person = table.person
    if person is None:
        if len(rows) != len(answers.person_ids):
            raise PsychometricsError(
                f"{path} has {len(rows)} groups for {len(answers.person_ids)} persons: give one line for each person in"
                " their order, or a table person,group"
            )
        return tuple(row[group] for _, row in rows)
    return _group_of_each(path, answers.person_ids, ((line, row[person], row[group]) for line, row in rows))


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


# -- answers of both layouts ---------------------------------------------------------------------------------------


@dataclass
class _Cells:
    """The cells of a file, batch by batch.

    Attributes:
        items: item → its number. A matrix has them from the start, a list in the order in which they occur.
        persons: person → number, in the order in which they occur.
        blanks: column → counts of the texts that mean that an item was not seen.
        wrong: column of a matrix, or item of a list → lines and texts of cells that are neither a score nor blank.
        nameless: lines with an answer without a person or an item.
        n_scores, n_unseen: column → number of cells with a score, and of cells without one in rows with names.
        texts: chosen option → its code, in the order in which they occur.
        options: numbers of answers with each option.
        first: the first rows of a matrix.
        n_partly: number of partly right answers.
        rows: person and line of each row.
        columns: row, item, score and omission of each answer, and the code of the chosen option if there is a key.
    """

    reading: CellPlan
    items: dict[str, int]
    options: OptionCounts
    persons: dict[str, int] = field(default_factory=dict)
    blanks: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wrong: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    nameless: list[int] = field(default_factory=list)
    n_scores: Counter[str] = field(default_factory=Counter)
    n_unseen: Counter[str] = field(default_factory=Counter)
    texts: dict[str, int] = field(default_factory=dict)
    first: FirstRows = field(default_factory=FirstRows)
    n_partly: int = 0
    rows: list[npt.NDArray[np.int64]] = field(default_factory=list)
    columns: list[npt.NDArray[Any]] = field(
        default_factory=lambda: [np.empty(0, dtype=own) for own in (np.int32, np.int32, np.int8, np.bool_, np.int32)]
    )

    def add(self, batch: Batch, columns: Sequence[str], of_person: Cells, of_item: Cells | None) -> None:
        """Add the columns of a batch. `of_item` is None if the columns are items."""
        named = ~of_person.in_words([""]) if of_item is None else ~(of_person.in_words([""]) | of_item.in_words([""]))
        row_numbers = np.arange(len(named), dtype=np.int32) + sum(rows.shape[1] for rows in self.rows)
        self.rows.append(np.stack([_numbers(of_person, named, self.persons), batch.lines]))
        block: list[tuple[npt.NDArray[Any], ...]] = []
        for column in columns:
            items = of_item or Cells([column], np.zeros(len(named), dtype=np.int64))
            cells = self.reading.chosen(items, batch.text(column))
            self.first.add(column, cells)
            scored = self.reading.score(column, items, cells)
            self.blanks[column] += cells.counts(scored.blank)
            seen = scored.score >= 0
            self.n_partly += int((seen & cells.in_words([PARTLY] if self.reading.key is None else [])).sum())
            has_choice = seen & ~scored.omitted if self.reading.key else np.zeros_like(seen)
            code = _numbers(cells, has_choice, self.texts)
            code[~has_choice] = -1
            if self.reading.key:
                self.options.add(items, cells, has_choice & named)
            for row in scored.wrong.tolist():
                wrong = self.wrong[items.texts[items.places[row]]]
                wrong.append((int(batch.lines[row]), cells.texts[cells.places[row]]))
            self.nameless += batch.lines[seen & ~named].tolist()
            self.n_scores[column] += int(seen.sum())
            self.n_unseen[column] += int((named & ~seen).sum())
            item = _numbers(items, named, self.items)
            arrays = (
                row_numbers,
                item.astype(np.int32),
                scored.score,
                scored.omitted,
                *([code.astype(np.int32)] if self.reading.key else []),
            )
            block.append(tuple(array[seen & named] for array in arrays))
        joined = tuple(map(np.concatenate, zip(*block, strict=True)))
        order = np.argsort(joined[0], kind="stable")  # so that a matrix is sorted by person
        for known, new in zip(self.columns, joined, strict=False):
            known.resize(known.size + new.size, refcheck=False)  # without a second copy, as a list of parts would need
            known[-new.size or known.size :] = new[order]

    def highest(self, item: str) -> int | None:
        """The largest wrong cell of an item, if all of them are whole numbers that can be scores; otherwise None."""
        return highest_score((text for _, text in self.wrong[item]), MAX_SCORE)

    def wrong_texts(self, items: Iterable[str]) -> Cells:
        """The distinct wrong cells of some items."""
        return Cells.of(dict.fromkeys(text for item in items for _, text in self.wrong[item]))

    def columns_aside(self, derived: Collection[str]) -> list[str]:
        """Other columns of a matrix most of whose cells cannot be scores, whatever the maximum; empty if all are."""
        names = [name for name in self.items if name not in derived]
        mostly = [name for name in names if len(self.wrong[name]) > self.n_scores[name]]
        found = [name for name in mostly if self.highest(name) is None and not parts_of_point(self.wrong_texts([name]))]
        return found if len(found) < len(names) else []

    def answers(self, path: Path, items: Sequence[str], *, numbered: bool) -> tuple[Answers, int]:
        """The answers to these items, sorted by person and item, and the number of cells without an answer.

        `numbered`: persons are numbers, and rows after the last answer do not count. Raises PsychometricsError if a
        person answered an item twice.
        """
        row, item, score, omitted, code = self.columns
        of_row, lines = np.concatenate([np.empty((2, 0), dtype=np.int64), *self.rows], axis=1)
        rank = np.full(len(self.items), -1)
        rank[[self.items[name] for name in items]] = np.arange(len(items))
        person, last, is_sorted = np.empty_like(row), -1, True
        for part in (slice(first, first + BLOCK) for first in range(0, row.size, BLOCK)):
            places, person[part], item[part] = rank[item[part]], of_row[row[part]], rank[item[part]]
            places += person[part].astype(np.int64) * len(items)
            is_sorted &= bool((np.diff(places, prepend=last) > 0).all() and (item[part] >= 0).all())
            last = places[-1]
        if not is_sorted:
            order = np.lexsort((item, person))
            order = order[item[order] >= 0]
            row, person, item, score, omitted = (x[order] for x in (row, person, item, score, omitted))
            code = code[order] if code.size else code
        persons = [*self.persons][: person.max(initial=-1) + 1 if numbered else None]
        if not is_sorted and (twice := np.flatnonzero((np.diff(person) == 0) & (np.diff(item) == 0))).size:
            repeats = [
                f"person {persons[person[k]]}, item {items[item[k]]} in lines {lines[row[k]]} and {lines[row[k + 1]]}"
                for k in twice.tolist()
            ]
            remedy = "A person answers an item once: decide which answer counts and delete the others"
            raise faults(path, repeats, remedy)
        self.columns = []
        del row
        categories = np.array([self.reading.maximum(name) for name in items], dtype=np.int64) + 1
        scored = bool((categories > 2).any())
        responses = Responses(
            person,
            item,
            score,
            len(persons),
            tuple(items),
            categories if scored else None,
        )
        choices = None
        if self.reading.key is not None:
            choices = choices_of(items, item, code, [*self.texts], self.reading.key, self.options.by_item)
        n_unseen = sum(n for name, n in self.n_unseen.items() if name not in self.items or name in items)
        n_unseen -= (len(self.persons) - len(persons)) * len(items)
        return Answers(responses, tuple(persons), omitted, choices), n_unseen


def highest_score(texts: Iterable[str], limit: int) -> int | None:
    """Return the largest of some scores, or None if one of them is not a whole number from 0 to `limit`."""
    values = {text.removesuffix(".0") for text in texts}
    numbers = [int(value) for value in values if value.isdecimal() and int(value) <= limit]
    return max(numbers) if values and len(numbers) == len(values) else None


def parts_of_point(texts: Cells) -> int:
    """Return the smallest number of parts of a point, above 1, in which all cells are scores, or else 0."""
    if not (texts.points() >= 0).all():
        return 0
    fitting = (parts for parts in range(2, MAX_PARTS + 1) if (texts.scores(MAX_SCORE, parts) <= MAX_SCORE).all())
    return next(fitting, 0)


def _item_columns(path: Path, names: Sequence[str], key: KeyScores | None) -> list[str]:
    items = [name for name in names if key is None or name in key]
    if not items:
        _check_key(path, names, key)
        raise LayoutError(f"{path} has no column that is an item. {LAYOUTS}")
    return items


def _matrix_error(
    path: Path, messages: Sequence[str], tops: Mapping[str, int | None], n_items: int, texts: Cells, reading: CellPlan
) -> PsychometricsError:
    """Return the error for wrong cells of a file with `n_items` items.

    `tops`: item → its highest wrong cell, None if a cell cannot be a score of any item. `texts`: the wrong cells.
    """
    top = max((top or 0 for top in tops.values()), default=0)
    numbers = texts.points()
    if not texts.texts:
        return faults(path, messages, LAYOUTS)
    if {*numbers.tolist()} == {0.0} and reading.marks:
        return faults(path, messages, ZERO.format(text=texts.texts[0]))
    if (below := np.flatnonzero(numbers < 0)).size:
        return faults(path, messages, NEGATIVE.format(mark=-numbers[below[0]], text=texts.texts[below[0]]))
    if not top or None in tops.values():
        if points := highest_score(texts.texts, MAX_POINTS):
            return faults(path, messages, POINTS.format(top=points, most=MAX_SCORE))
        if parts := parts_of_point(texts):
            whole = max(parts, int(texts.scores(MAX_SCORE, parts).max()))
            return faults(path, messages, PARTS.format(parts=parts, top=whole))
        return LayoutError(str(faults(path, messages, LAYOUTS)))
    if len(tops) < n_items or {*tops.values()} != {top}:
        reached = some_of([f"{name},{most}" for name, most in tops.items()])
        return faults(path, messages, TABLE.format(reached=reached, top=top))
    remedy = f"Use `--max-score {top}` if cells up to {top} are scores, and `--key FILE` if they are choices"
    if n_items > 1:
        return PsychometricsError(f"{path}: cells go up to {top} in all {n_items} columns. {remedy}")
    return faults(path, messages, remedy)


def _check_key(path: Path, items: Sequence[str], key: KeyScores | None) -> None:
    without = [item for item in items if key is not None and item not in key]
    if without:
        raise faults(
            path,
            [f"item {item} has no key" for item in without],
            "Give every item its right option in the table item,key, or delete the column if it is not an item",
        )


def _numbers(names: Cells, kept: Mask, known: dict[str, int]) -> Ints:
    """The number of each row's name, −1 for names of no kept row. New names get the next numbers in the order in which
    they first occur."""
    numbers = np.full(len(names.texts), -1, dtype=np.int64)
    first = np.unique(names.places[kept], return_index=True)
    for place in first[0][np.argsort(first[1])].tolist():
        numbers[place] = known.setdefault(names.texts[place], len(known))
    return numbers[names.places]
