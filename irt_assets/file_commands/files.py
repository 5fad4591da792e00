"""Files of answers in, whole files out.

What belongs here: the two layouts of answers (a matrix, or one line per answer), what is wrong with a file, and
writing that never leaves half a file. What a file is (CSV, TSV, gzip, Parquet) is recognised by
`responses.importing.readers`; tables of item parameters are in `tables`.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.wording import with_capital
from irt_assets.intake.cells import as_ids, as_text, shortened, shortened_ids, trimmed
from irt_assets.intake.choices import Choices, not_answered, spellings
from irt_assets.intake.mapping import load_mapping
from irt_assets.intake.readers import open_source
from irt_assets.intake.scoring import points
from irt_assets.intake.sources import Batch, Source
from irt_psychometrics import Responses
from irt_psychometrics.items import MAX_SCORE
from resources.failures import PermanentFailure

ITEM_NAMES = ("item", "item_id", "question", "question_id")
SCORE_NAMES = ("score", "correct", "response")
BLANK = ("", "na", "nan")
LETTERS = ("f", "t")  # more often an option or a gender than a score
LAYOUTS = (
    "Scores are 0, 1 or blank (not seen), or whole numbers up to what --max-score says; choices need --key. A file of"
    " answers is a matrix (a row per person, a column per item, scores or blank in the cells; a column named"
    " person, student, user_id, id … holds names) or a list with the columns person, item and score"
)


@dataclass(frozen=True)
class Answers:
    """Contents of a file: persons in the order of the file; items in the order of its columns, or of a list by name.

    `notes`: how cells were read that are neither a score nor an option of the key.
    """

    responses: Responses
    person_ids: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Shape (n_persons,): who has at least one answer."""
        return np.bincount(self.responses.person, minlength=self.responses.n_persons) > 0


@dataclass(frozen=True)
class MaxScores:
    """The highest score of each item; of items that it does not name, `otherwise`. It is never taken from the answers,
    in which nobody may have reached it."""

    of: Mapping[str, int] = field(default_factory=dict)
    otherwise: int = 1

    def __getitem__(self, item: str) -> int:
        return self.of.get(item, self.otherwise)

    def wrong(self, item: str, cell: str) -> str:
        """What is wrong with a cell that is not a score of the item."""
        scored = f", and its scores are 0 … {self[item]}" if self[item] > 1 else ""
        return f"item {item}: score {cell!r}{scored}"


def read_max_scores(text: str) -> MaxScores:
    """That of every item, where `text` is a number, or else from a file, a table item,max_score, in which items that
    have none are scored 0 and 1. Raises PermanentFailure, naming the item, for anything but 1 … 20."""
    way_out = f"A maximum score is a whole number from 1 to {MAX_SCORE}"
    if text.isdecimal():
        if not 1 <= int(text) <= MAX_SCORE:
            raise PermanentFailure(f"--max-score {text}: {way_out[0].lower()}{way_out[1:]}")
        return MaxScores(otherwise=int(text))
    columns, rows = rows_of(Path(text))
    item = next((name for name in ITEM_NAMES if name in columns), None)
    if item is None or "max_score" not in columns:
        raise PermanentFailure(f"{text}: maximum scores are a table item,max_score; it has {', '.join(columns)}")
    filled = [(line, row[item], row["max_score"].removesuffix(".0")) for line, row in rows if row["max_score"]]
    known = {name: int(x) for _, name, x in filled if x.isdecimal() and 1 <= int(x) <= MAX_SCORE}
    if wrong := [f"line {line}, item {name}: max_score {x!r}" for line, name, x in filled if name not in known]:
        raise faults(Path(text), wrong, way_out)
    return MaxScores(known)


def read_answers(path: Path, key: Mapping[str, str] | None = None, max_scores: MaxScores | None = None) -> Answers:
    """A matrix of scores or a list `person,item,score`; blank, NA and NaN are "not seen".

    `key`: item → its right option, where cells are choices; every item needs one. `max_scores`: of items that are
    scored with more than 0 and 1.

    Without a column of names, persons are numbered by row from 1; empty rows at the end are ignored.
    Raises PermanentFailure naming file, line and item: ragged rows, other scores, pairs or columns that occur twice,
    keys that nobody chose.
    """
    source = open_source(path)
    columns = _columns_of(source)
    person = _person_column(columns)
    item = next((name for name in ITEM_NAMES if name in columns), None)
    score = next((name for name in SCORE_NAMES if name in columns), None)
    most = MaxScores() if max_scores is None else max_scores
    if person is not None and item is not None and score is not None:
        return _read_list(source, person, item, score, key, most)
    return _read_matrix(source, person, [name for name in columns if name != person], key, most)


def read_groups(path: Path, answers: Answers) -> tuple[str, ...]:
    """A group for each person of `answers`: from a table `person,group`, or `group` alone in the order of the persons.

    Raises PermanentFailure naming persons without a group or with two, or the two lengths.
    """
    columns, rows = rows_of(path)
    if "group" not in columns:
        raise PermanentFailure(f"{path}: groups are a table person,group; its columns are {', '.join(columns)}")
    person = _person_column(columns)
    if person is None:
        if len(rows) != len(answers.person_ids):
            raise PermanentFailure(
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


def rows_of(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a small table and its rows, each with its line number; all values as text, empty rows left out."""
    source = open_source(path)
    columns = _columns_of(source)
    ids = (*ITEM_NAMES, "group", _person_column(columns))
    rows = []
    for batch in _sound(source):
        cells = [
            (_ids if name in ids else _text)(batch.rows.column(k), name).to_pylist() for k, name in enumerate(columns)
        ]
        for line, *values in zip(batch.lines.tolist(), *cells, strict=True):
            if any(values):
                rows.append((line, dict(zip(columns, values, strict=True))))
    return columns, rows


def is_blank(text: str) -> bool:
    return text.lower() in BLANK


def faults(path: Path, what: Sequence[str], way_out: str) -> PermanentFailure:
    """One error for everything that is wrong with a file: the first five faults, their number, and the way out."""
    more = f"; and {len(what) - 5} more" if len(what) > 5 else ""
    return PermanentFailure(f"{path}: {'; '.join(what[:5])}{more}. {way_out}")


def write_whole(folder: Path, files: Mapping[str, str]) -> None:
    """Write `files` (name: content) into `folder`, made where it is missing.

    All are written under temporary names first and then renamed, so that each name holds the old file or the new one.
    """
    parts: list[tuple[Path, Path]] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            handle, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
            parts.append((Path(part), folder / name))
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(part).chmod(0o644)
        for fresh, place in parts:
            fresh.replace(place)
    except OSError as error:
        raise PermanentFailure(f"{folder}: results cannot be written there: {error}") from error
    finally:
        for fresh, _ in parts:
            fresh.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Raises PermanentFailure where results could not be written: before the work, not after it."""
    existing = next(place for place in [folder, *folder.absolute().parents] if place.exists())
    if not existing.is_dir():
        raise PermanentFailure(f"{folder}: results go into a folder, and {existing} is a file")
    if not os.access(existing, os.W_OK):
        raise PermanentFailure(f"{folder}: results cannot be written there: no permission to write in {existing}")


# -- the two layouts -----------------------------------------------------------------------------------------------


def _read_matrix(
    source: Source, person: str | None, items: list[str], key: Mapping[str, str] | None, most: MaxScores
) -> Answers:
    if not items:
        raise PermanentFailure(f"{source.path} has no column that is an item. {LAYOUTS}")
    _check_key(source.path, items, key)
    ids: list[str] = []
    lines: list[npt.NDArray[np.int64]] = []
    blocks: list[npt.NDArray[np.int8]] = []
    wrong: list[str] = []
    choices, blanks = Choices(key or {}), Counter[str]()
    odd: set[str] = set()
    no_items: set[str] = set()
    highest: dict[str, int] = {}
    for batch in _sound(source):
        names = batch.rows.schema.names
        block = np.empty((batch.rows.num_rows, len(items)), dtype=np.int8)
        for k, item in enumerate(items):
            cells = _text(batch.rows.column(names.index(item)), item)
            block[:, k], bad = _scores(cells, most[item]) if key is None else _score_key(cells, key[item])
            blanks.update(_blanks(cells, block[:, k]))
            if key is not None:
                choices.add(pa.repeat(item, len(cells)), pc.if_else(pa.array(block[:, k] >= 0), cells, None))
            named = [f"line {batch.lines[r]}, {most.wrong(item, cells[int(r)].as_py())}" for r in bad]
            if bad.size:
                values = [one.removesuffix(".0") for one in cells.take(pa.array(bad)).unique().to_pylist()]
                sound = block[:, k] >= 0
                sound[bad] = False
                if all(value.isdecimal() and int(value) <= MAX_SCORE for value in values):
                    highest[item] = max(highest.get(item, 0), *map(int, values))
                elif not sound.any():
                    no_items.add(item)
                    named = [f"{named[0]}, and not one score in the column: delete it if it is not an item"]
                odd.add(item)
            wrong += named
        kept = np.ones(len(block), dtype=bool)
        if person is not None:
            cells = _ids(batch.rows.column(names.index(person)), person)
            nameless = np.asarray(pc.equal(cells, ""))
            kept = ~nameless | (block >= 0).any(1)
            wrong += [f"line {line}: answers without a person" for line in batch.lines[nameless & kept]]
            ids += cells.filter(pa.array(kept)).to_pylist()
        blocks.append(block[kept])
        lines.append(batch.lines[kept])
    if wrong:
        raise faults(source.path, wrong, _way_out(highest, len(no_items - highest.keys()), len(odd)))
    matrix = np.concatenate([np.empty((0, len(items)), dtype=np.int8), *blocks])
    if person is None:
        filled = np.flatnonzero((matrix >= 0).any(1))
        matrix = matrix[: filled[-1] + 1 if filled.size else 0]
        ids = [str(row + 1) for row in range(len(matrix))]
    blanks[""] = int((matrix < 0).sum()) - blanks.total()
    notes = [*choices.check(str(source.path)), *_not_answered(source, blanks)]
    row, item_index = np.nonzero(matrix >= 0)
    place = {name: k for k, name in enumerate(dict.fromkeys(ids))}
    person_index = np.array([place[name] for name in ids], dtype=np.int64)[row]
    at = np.concatenate([np.empty(0, dtype=np.int64), *lines])[row]
    read = _answers(source.path, list(place), items, person_index, item_index, matrix[row, item_index], at, most)
    return _with_notes(source, read, notes)


def _way_out(highest: Mapping[str, int], n_no_items: int, n_wrong: int) -> str:
    """Remedy for the wrong cells of a matrix. `highest`: the largest wrong cell in each column with whole numbers;
    `n_no_items`: columns without any score; `n_wrong`: columns with wrong cells."""
    if len(highest) + n_no_items < n_wrong or not n_wrong:
        return LAYOUTS
    found = []
    if highest:
        top = max(highest.values())
        found.append(f"use `--max-score {top}` if cells up to {top} are scores, and `--key FILE` if they are choices")
    if n_no_items:
        found.append("groups of persons go into a table person,group for `--groups`")
    return with_capital("; ".join(found))


def _read_list(
    source: Source, person: str, item: str, score: str, key: Mapping[str, str] | None, most: MaxScores
) -> Answers:
    persons: dict[str, int] = {}
    items: dict[str, int] = {}
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    wrong: list[str] = []
    choices, blanks = Choices(key or {}), Counter[str]()
    for batch in _sound(source):
        names = batch.rows.schema.names
        columns = [_ids(batch.rows.column(names.index(name)), name) for name in (person, item)]
        columns.append(_text(batch.rows.column(names.index(score)), score))
        if key is None:
            named = columns[1].dictionary_encode()
            highest = np.array([most[name] for name in named.dictionary.to_pylist()], dtype=np.int64)
            values, bad = _scores(columns[2], highest[np.asarray(named.indices)])
        else:
            _check_key(source.path, [name for name in columns[1].unique().to_pylist() if name], key)
            names = pa.array(key, pa.string())
            right = pa.array(key.values(), pa.string()).take(pc.index_in(columns[1], names))
            values, bad = _score_key(columns[2], pc.fill_null(right, ""))
            choices.add(columns[1], pc.if_else(pa.array(values >= 0), columns[2], None))
        blanks.update(_blanks(columns[2], values))
        for r in bad:
            name, cell = columns[1][int(r)].as_py(), columns[2][int(r)].as_py()
            wrong.append(f"line {batch.lines[r]}, {most.wrong(name, cell)}")
        nameless = np.asarray(pc.or_(pc.equal(columns[0], ""), pc.equal(columns[1], "")))
        wrong += [f"line {n}: an answer without a person or an item" for n in batch.lines[nameless & (values >= 0)]]
        kept = pa.array(~nameless)
        blanks[""] += int(((values < 0) & ~nameless).sum())
        parts.append(
            (
                _codes(columns[0].filter(kept), persons),
                _codes(columns[1].filter(kept), items),
                values[~nameless],
                batch.lines[~nameless],
            )
        )
    if wrong:
        raise faults(source.path, wrong, LAYOUTS)
    empty = np.empty(0, dtype=np.int64)
    p, i, s, at = (np.concatenate([empty, *column]) for column in (zip(*parts, strict=True) if parts else [()] * 4))
    by_name = sorted(items)
    rank = np.empty(len(items), dtype=np.int64)
    rank[[items[name] for name in by_name]] = np.arange(len(items))
    seen = s >= 0
    blanks[""] -= blanks.total() - blanks[""]
    notes = [*choices.check(str(source.path)), *_not_answered(source, blanks)]
    read = _answers(source.path, list(persons), by_name, p[seen], rank[i[seen]], s[seen], at[seen], most)
    return _with_notes(source, read, notes)


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
    """Sorted by person and item; raises where a person answered an item twice."""
    categories = np.array([most[name] for name in items], dtype=np.int64) + 1
    pair = person.astype(np.int64) * len(items) + item
    order = np.argsort(pair, kind="stable")
    twice = np.flatnonzero(np.diff(pair[order]) == 0)
    if twice.size:
        what = [
            f"person {persons[person[now]]}, item {items[item[now]]} in lines {line[now]} and {line[again]}"
            for now, again in zip(order[twice], order[twice + 1], strict=True)
        ]
        raise faults(path, what, "A person answers an item once: decide which answer counts and delete the others")
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


def _columns_of(source: Source) -> list[str]:
    repeated = [
        name for name in source.columns if name.endswith(" (2)") and name.removesuffix(" (2)") in source.columns
    ]
    if repeated or len(set(source.columns)) < len(source.columns):
        names = [name.removesuffix(" (2)") for name in repeated] or sorted(
            {name for name in source.columns if source.columns.count(name) > 1}
        )
        raise faults(source.path, [f"column {name} occurs twice" for name in names], "Names of columns are unique")
    return source.columns


def _person_column(columns: Sequence[str]) -> str | None:
    """The column of the learner, as in the import: its preset `wide` knows the names."""
    preset = load_mapping("wide")
    assert preset is not None
    named = preset.find("user_id", columns)
    return named[0] if named else None


def _sound(source: Source) -> Iterator[Batch]:
    """All batches; raises at the end where rows could not be read as such."""
    bad = []
    for batch in source.batches():
        bad += batch.bad
        yield batch
    if bad:
        what = [f"line {row.line}: {row.value}" for row in bad]
        raise faults(source.path, what, "Every row needs as many cells as the header")


def _text(cells: pa.Array, name: str) -> pa.StringArray:
    """Trimmed text without nulls; booleans as 0 and 1."""
    if pa.types.is_boolean(cells.type):
        cells = pc.cast(cells, pa.int8())
    return pc.fill_null(trimmed(as_text(cells, name)), "")


def _ids(cells: pa.Array, name: str) -> pa.StringArray:
    """Like `_text`, but refuses numbers that may stand for more than one id."""
    return pc.fill_null(trimmed(as_ids(cells, name)), "")


def _scores(
    cells: pa.StringArray, most: int | npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Scores from 0 to the most that an answer can get, and −1 (blank), and the places of anything else."""
    numbers = np.where(_is_in(cells, LETTERS), np.nan, points(cells))
    known = (numbers >= 0) & (numbers <= most) & (numbers == np.floor(numbers))
    return np.where(known, numbers, -1).astype(np.int8), np.flatnonzero(~known & ~_is_in(cells, BLANK))


def _score_key(
    cells: pa.StringArray, right: str | pa.StringArray
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """1 where the right option was chosen, 0 where another one was, −1 (blank); a choice is never anything else."""
    blank = _is_in(cells, BLANK)
    return np.where(blank, -1, np.asarray(pc.equal(cells, right))).astype(np.int8), np.empty(0, dtype=np.int64)


def _is_in(cells: pa.StringArray, words: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Whether each cell is one of these words, in any case."""
    return np.asarray(pc.is_in(pc.utf8_lower(cells), pa.array(words)), dtype=bool)


def _blanks(cells: pa.StringArray, scores: npt.NDArray[np.int8]) -> Counter[str]:
    """How often each word stands for a blank."""
    if (scores >= 0).all():
        return Counter()
    words = pc.and_(pa.array(_is_in(cells, BLANK)), pc.not_equal(cells, ""))
    return spellings(cells.filter(words))


def _not_answered(source: Source, blanks: Mapping[str, int]) -> list[str]:
    noted = not_answered(blanks)
    return [f"{source.path}: {noted}"] if noted else []


def _with_notes(source: Source, read: Answers, notes: list[str]) -> Answers:
    if ids := shortened(pa.array([*read.person_ids, *read.responses.item_ids], pa.string())):
        notes = [*notes, f"{source.path}: {shortened_ids(ids)}"]
    return replace(read, notes=tuple(notes))


def _check_key(path: Path, items: Sequence[str], key: Mapping[str, str] | None) -> None:
    without = [item for item in items if key is not None and item not in key]
    if without:
        raise faults(
            path,
            [f"item {item} has no key" for item in without],
            "Give every item its right option in the table item,key, or delete the column if it is not an item",
        )


def _codes(names: pa.StringArray, known: dict[str, int]) -> npt.NDArray[np.int64]:
    """Numbers of the names; a name that is new gets the next."""
    encoded = names.dictionary_encode()
    numbers = [known.setdefault(name, len(known)) for name in encoded.dictionary.to_pylist()]
    return np.array(numbers, dtype=np.int64)[np.asarray(encoded.indices)]
