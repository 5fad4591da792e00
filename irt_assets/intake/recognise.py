"""Recognise rows and columns of a table by signals in their names and values, for `suggest`.

Every function is pure. The words are in `words`.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from os.path import commonprefix
from typing import NamedTuple

import numpy as np
import pandas as pd

from irt_assets.intake import words
from irt_psychometrics.items import MAX_SCORE

NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")
POINTS = re.compile(r"([+-]?\d+(?:[.,]\d+)?) *(?:/|of|out of) *(\d+(?:[.,]\d+)?)")
CLOCK = re.compile(r"\d:\d\d|^\d{10}(\d{3})?$|^\d{4}-\d\d-\d\d$")
AS_IT_IS = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d|\d{10}(\d{3})?$|\d{8}T\d{6}")
MIN_FAMILY = 3  # columns whose names differ only by a number
MIN_PERSONS = 20  # rows from which on alpha distinguishes ratings from options
MIN_ALPHA = 0.5
MIN_SHARE = 0.95  # of a column's values that are times; the others may be faults


@dataclass(frozen=True)
class Column:
    """A column: its name, and its cells as trimmed text, "" if empty."""

    name: str
    cells: Sequence[str]

    @cached_property
    def counts(self) -> Counter[str]:
        """Count each text, without texts that mean that there is no answer."""
        return Counter(cell for cell in self.cells if cell and cell.lower() not in words.NOTHING)

    @property
    def label(self) -> str:
        """The name as lower-case words: ResponseId and response_id are both `response id`."""
        return re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name)).strip().lower()

    @property
    def stem(self) -> str:
        """The name without its numbers."""
        return re.sub(r"\d+", "#", self.name)

    def every(self, test: Callable[[str], object]) -> bool:
        return bool(self.counts) and all(map(test, self.counts))

    @cached_property
    def numbers(self) -> list[float]:
        """The distinct values, sorted; empty if one of them is not a number."""
        return sorted({*map(number, self.counts)}) if self.every(NUMBER.fullmatch) else []

    @property
    def scores(self) -> list[float]:
        """The numbers without codes for missing answers: negative ones, and 9, 99 … beyond a gap."""
        found = [x for x in self.numbers if x >= 0]
        while len(found) > 1 and found[-1] in words.CODES and found[-1] - found[-2] > 1:
            found.pop()
        return found

    @property
    def repeats(self) -> bool:
        return self.counts.total() > len(self.counts)

    @property
    def is_filled(self) -> bool:
        return 20 * self.counts.total() >= 19 * len(self.cells) > 0

    @property
    def is_score(self) -> bool:
        """Whether it has small numbers, points such as 1 / 2, or words for right and wrong."""
        if self.numbers:
            return self.scores[-1:] <= [100]
        return self.every(POINTS.fullmatch) or self.every(lambda text: text.lower() in words.RIGHT_OR_WRONG)

    @property
    def is_answer(self) -> bool:
        """Whether it may be an item: scores, words for right and wrong, or a few short texts."""
        if self.numbers:
            return self.scores[-1:] <= [MAX_SCORE] and len(self.scores) <= MAX_SCORE
        short = max(map(len, self.counts), default=words.MAX_LABEL + 1) <= words.MAX_LABEL
        return self.is_score or (short and len(self.counts) <= words.MAX_LABELS and not self.is_time)

    @property
    def is_time(self) -> bool:
        return self.every(CLOCK.search)


class Companion(NamedTuple):
    """The item of a column of scores, and its maximum from a neighbouring column or the name; 0 if unknown."""

    item: str
    maximum: float


def number(text: str) -> float:
    return float(text.replace(",", "."))


def named(
    columns: Iterable[Column], patterns: Sequence[str], test: Callable[[Column], object] = lambda column: column.counts
) -> Column | None:
    """The first column that passes the test and whose label matches the earliest pattern."""
    fitting = [column for column in columns if test(column)]
    return next((c for pattern in patterns for c in fitting if re.search(pattern, c.label)), None)


def header_row(rows: Sequence[Sequence[str]]) -> int:
    """Number of the first row, from 1, that has a text in more than half of the usual number of columns."""
    width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 1
    return next((n for n, row in enumerate(rows, 1) if 2 * sum(map(bool, row)) > width), 1)


def regularity(rows: Sequence[Sequence[str]]) -> tuple[float, int]:
    """The share of rows with the usual number of cells, and this number; 0 if it is one."""
    width, n = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
    return (n / len(rows) if width > 1 else 0.0), width


def rows_of_header(columns: Sequence[Column]) -> int:
    """Number of rows that continue the header: texts in most columns in which all later cells are numbers or times."""

    def is_value(text: str) -> bool:
        value = NUMBER.fullmatch(text) or CLOCK.search(text) or POINTS.fullmatch(text)
        return bool(value) or text.lower() in words.NOTHING

    for n_rows in (3, 2, 1):
        typed = [c for c in columns if Column("", c.cells[n_rows:]).every(is_value)]
        above = [[c.cells[n] for c in typed if c.cells[n]] for n in range(n_rows)] if typed else [[]]
        if all(row and 2 * sum(not is_value(text) for text in row) > len(row) for row in above):
            return n_rows
    return 0


def rows_beside_answers(columns: Sequence[Column]) -> list[tuple[str, Column, int]]:
    """Rows of keys, maximum scores or totals, by a word in one of the first columns: (kind, column, row)."""
    found: dict[int, tuple[str, Column, int]] = {}
    for column in columns[:6]:
        for n, cell in enumerate(column.cells):
            kind = next((kind for kind, pattern in words.ROWS.items() if re.fullmatch(pattern, cell, re.I)), None)
            if kind and column.counts[cell] == 1:
                found.setdefault(n, (kind, column, n))
    return list(found.values())


def time_format(column: Column) -> str | None:
    """How a column's times are written: "" if an import reads them as they are, else as for strptime.

    Returns None if they are not times of day.
    """
    shaped = [text for text in column.counts if CLOCK.search(text) and (":" in text or AS_IT_IS.match(text))]
    if all(text.startswith("1980-01-01") for text in shaped):  # the time of a survey that records no times
        return None
    if len(shaped) < MIN_SHARE * len(column.counts):
        return None
    if all(map(AS_IT_IS.match, shaped)):
        return ""
    texts = pd.Series([re.sub(r" ?(?:UTC|GMT)[+-]\d\d?$", " +00:00", text) for text in shaped])
    for parts in product(words.DATES, (" ", ", "), words.CLOCKS, ("", " %z")):
        if pd.to_datetime(texts, format="".join(parts), errors="coerce", utc=True).notna().all():
            return "".join(parts)
    return None


def are_questions(columns: Sequence[Column]) -> bool:
    """Whether the table has a row for each item: with a difficulty, or without learners and with a key or a topic."""
    item = named(columns, words.QUESTION["item_id"], lambda column: column.is_filled and not column.repeats)
    others = [c for c in columns if c is not item]
    facts = named(others, (*words.KEY, *words.QUESTION["topic_id"])) and not named(others, words.USER)
    return bool(item and (facts or named(others, words.PARAMETERS, lambda column: column.numbers)))


def score_columns(columns: Sequence[Column]) -> dict[str, Companion]:
    """Columns of scores that name their item by a part of their name, or by the column beside them."""
    found = {}
    for before, column in zip([None, *columns], columns, strict=False):
        companion = column.is_score and (_by_name(column, columns) or _by_number(column, columns))
        if column.is_score and before and re.fullmatch(r"\d+(\.\d+)?( \(\d+\))?", column.name):
            companion = Companion(re.sub(r"^(\d+): .*", r"\1", before.name), number(column.name.split(" ")[0]))
        if companion:
            found[column.name] = companion
    return found if len({companion.item for companion in found.values()}) == len(found) > 1 else {}


def _by_name(column: Column, columns: Sequence[Column]) -> Companion | None:
    """`Q. 1 /2.00`, or `Capital? [Score]` beside `Capital?`, or `Problem 1 (Earned)` beside `… (Possible)`."""
    if of := next((m for pattern in words.MAXIMUM_NAMES if (m := re.fullmatch(pattern, column.name, re.I))), None):
        return None if re.search(words.NOT_ITEM, Column(of[1], []).label) else Companion(of[1], number(of[2]))
    base = next((m[1] for pattern in words.SCORE_NAMES if (m := re.match(pattern, column.name, re.I))), None)
    for other in columns if base else ():
        if re.fullmatch(rf"{re.escape(str(base))}({words.BESIDE})?", other.name, re.I):
            return Companion(str(base), 0)
        if re.fullmatch(rf"{re.escape(str(base))}\W*(points )?possible\W*", other.name, re.I) and other.numbers:
            return Companion(str(base), other.numbers[-1])
    return None


def _by_number(column: Column, columns: Sequence[Column]) -> Companion | None:
    """`Auto Score 1` beside `Question ID 1` and `Possible Points 1`."""
    name = re.fullmatch(r"(?:auto )?(?:score|points|mark|earned) (\d+)", column.label)
    group = [c for c in columns if name and c is not column and re.search(rf"\D{name[1]}$", c.name)]
    most = named(group, ("possible|max",), lambda c: c.numbers)
    ids = named(group, (r"\bid\b",), lambda c: len(c.counts) == 1)
    item = next(iter(ids.counts)) if ids else column.name
    return Companion(item, most.numbers[-1] if most else 0) if group else None


def key_columns(columns: Sequence[Column]) -> dict[str, str]:
    """`Response 1` → the usual text of `Right answer 1`."""
    keys = {}
    for column in columns:
        name = re.fullmatch(r"(?:response|answer) (\d+)", column.label)
        key = name and named(columns, (rf"^(right|correct) (answer|response|option) {name[1]}$",))
        if key:
            keys[column.name] = key.counts.most_common(1)[0][0]
    return keys


def answer_columns(columns: Sequence[Column]) -> list[Column]:
    """The items of a matrix, of the usual kind, numbers or texts: a family of names, or else columns that share values
    and have names of other kinds than facts about persons."""
    candidates = [c for c in columns if c.is_answer and not re.search(words.NEVER_ITEM, c.label)]
    families = {stem for stem, n in Counter(c.stem for c in candidates).items() if n >= MIN_FAMILY}
    found = [c for c in candidates if c.stem in families]
    if not found:
        free = [c for c in candidates if not re.search(words.NOT_ITEM, c.label)]
        values = Counter(text for c in free for text in c.counts)  # in how many columns
        found = [c for c in free if c.numbers[1:] or any(values[x] > 1 or x.lower() in words.LABELS for x in c.counts)]
        found = found if len(found) > 1 else [c for c in free if c.repeats]
    numbers = [c for c in found if c.numbers]
    texts = [c for c in found if not c.numbers]
    options = not all(text.lower() in {*words.LABELS, *words.RIGHT_OR_WRONG} for c in texts for text in c.counts)
    return numbers if len(numbers) >= len(texts) else found if options else texts


def totals(items: Sequence[Column]) -> set[str]:
    """Names of the columns that are the sum of all others, and larger."""
    if len(items) < MIN_FAMILY or not all(c.numbers for c in items):
        return set()
    values = np.array([[number(x) if NUMBER.fullmatch(x) else 0.0 for x in c.cells] for c in items])
    sums = np.abs(2 * values - values.sum(axis=0)).max(axis=1)
    tops = sorted(c.numbers[-1] for c in items)
    return {c.name for c, far in zip(items, sums, strict=True) if far < 0.01 and c.numbers[-1] == tops[-1] > tops[-2]}


def are_ratings(items: Sequence[Column]) -> bool:
    """Whether numbers from 1 on are ratings and not options: alpha of the numbers, or True for a few persons."""
    values = np.array([[number(x) if NUMBER.fullmatch(x) else np.nan for x in c.cells] for c in items])
    values = values[:, ~np.isnan(values).any(axis=0)]
    if values.shape[1] < MIN_PERSONS or len(items) < MIN_FAMILY:
        return True
    total = values.sum(axis=0).var()
    alpha = len(items) / (len(items) - 1) * (1 - values.var(axis=1).sum() / total) if total else 0.0
    return bool(alpha > MIN_ALPHA)


def ordered_labels(texts: Iterable[str]) -> dict[str, int] | None:
    """Label → score from 0, if all are labels of one rating scale or begin or end with their number."""
    listed = list(texts)
    for scale in words.ORDERED:
        if all(text.lower() in scale for text in listed):
            ranks = sorted(listed, key=lambda text: scale.index(text.lower()))
            return {text: n for n, text in enumerate(ranks)}
    ends = [re.fullmatch(r"(\d+)\W.*|[A-Z]{1,3}0*(\d+)", text) for text in listed]
    if all(ends) and listed:
        values = {text: int(m[1] or m[2]) for text, m in zip(listed, ends, strict=True) if m}
        return {text: x - min(*values.values(), 1) for text, x in sorted(values.items(), key=lambda pair: pair[1])}
    return None


def denominator(values: Iterable[float]) -> tuple[int, bool]:
    """The smallest number of parts of a point of which all values are multiples, and whether they are so exactly."""
    listed = np.array(list(values))
    for exact, near in ((True, 1e-6), (False, 0.02)):
        for parts in range(1, 13):
            if (np.abs(listed * parts - np.rint(listed * parts)) < near).all():
                return parts, exact
    return 1, True


def common_pattern(names: Sequence[str], others: Iterable[str]) -> str | None:
    """A pattern such as `q*` that matches these names alone. Returns None if no such pattern exists."""
    stem = re.sub(r"\d+$", "", commonprefix(list(names)))  # noqa: RUF071 - names, not paths
    taken = any(name.startswith(stem) for name in {*others} - {*names})
    numbered = all(re.fullmatch(r"[\w.]+", name.removeprefix(stem)) for name in names)
    return None if taken or not (stem and numbered) or len(names) < MIN_FAMILY or set("*?[") & set(stem) else f"{stem}*"


def codes(items: Sequence[Column]) -> Mapping[str, list[str]]:
    """Item → its numbers that mean that there is no answer, as in the file."""
    found = {c.name: [text for text in c.counts if c.numbers and number(text) not in c.scores] for c in items}
    return {name: texts for name, texts in found.items() if texts}
