"""Recognise rows and columns of a table by signals in their names and values, for `suggest`.

Every function is pure. The words are in `words`.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, product
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from irt_assets.intake import words
from irt_assets.intake.mapping import TimeRules
from irt_assets.intake.reshape import FILE, ROW
from irt_assets.intake.scoring import MIN_MARKS
from irt_assets.intake.times import EXCEL, MISSING, parse_times
from irt_psychometrics.cells import Cells, FirstRows
from irt_psychometrics.items import MAX_SCORE

POINTS = r"([+-]?\d+(?:[.,]\d+)?) *(?:/|of|out of) *(\d+(?:[.,]\d+)?)"
TIME = (  # a day and a clock, seconds or milliseconds since 1970, or a serial number of Excel from 2000 to 2099
    r"[ T]\d?\d:\d\d|^\d{8}T\d{6}|^\d{10}(\d{3})?$|^(3[7-9]|[4-6]\d|7[0-2])\d{3}\.\d+$"
)
KINDS: dict[str, Callable[[str], object]] = {
    "number": re.compile(r"[+-]?\d*[.,]?\d+").fullmatch,
    "points": re.compile(POINTS).fullmatch,
    "word": lambda text: text.lower() in words.RIGHT_OR_WRONG,
    "time": re.compile(r"\d:\d\d|^\d{4}-\d\d-\d\d$|^\d{8}T\d{6}").search,
    "label": lambda text: len(text) <= words.MAX_LABEL,
}
"""Kind of a column → the test that all its texts pass."""
FORMS = (None, *map("".join, product(words.DATES, (" ", ", "), words.CLOCKS, ("", " %z"))), EXCEL)
"""Formats of times in a mapping; the first is the format that an import reads without a rule."""
SCORED = ("number", "points", "word")
NO_TIME_RECORDED = "1980-01-01"  # as a survey writes it
MIN_FAMILY = 3  # columns whose names differ only by numbers
MIN_PERSONS = 20  # rows from which on alpha distinguishes ratings from options
MIN_ALPHA = 0.5
MAX_RATED = 50  # items from which alpha is computed
MIN_SHARE = 0.95  # of a column's cells or values; the others may be faults
HEADER_ROWS = 3  # most rows that continue a header
FIRST_ROWS = 60  # rows from which a header is recognised


@dataclass(frozen=True, eq=False)
class Column:
    """A column: its name, its cells as trimmed text, "" if empty, and the cells' lines in the file."""

    name: str
    cells: Sequence[str]
    lines: Sequence[int] = ()

    @cached_property
    def counts(self) -> Counter[str]:
        """Count each text, without texts that mean that there is no answer."""
        return Counter(cell for cell in self.cells if cell and cell.lower() not in words.NOTHING)

    @cached_property
    def kind(self) -> str:
        """The first of `KINDS` that fits all texts; "text" if nothing fits, and "" if the column is empty."""
        kinds = (kind for kind, test in KINDS.items() if all(map(test, self.counts)))
        return next(kinds, "text") if self.counts else ""

    @cached_property
    def label(self) -> str:
        """The name as lower-case words: ResponseId and response_id are both `response id`."""
        return re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", self.name)).strip().lower()

    @cached_property
    def codes(self) -> set[str]:
        """The numbers that mean that there is no answer: negative ones, and 9, 99 … beyond a gap."""
        numbers = {text: number(text) for text in self.counts} if self.kind == "number" else {}
        scores = sorted({x for x in numbers.values() if x >= 0})
        while len(scores) > 1 and scores[-1] in words.CODES and scores[-1] - scores[-2] > 1:
            scores.pop()
        return {text for text, x in numbers.items() if x not in scores}

    @property
    def answers(self) -> list[str]:
        """The distinct texts, without codes."""
        return [text for text in self.counts if text not in self.codes]

    @cached_property
    def scores(self) -> list[float]:
        """The distinct numbers, sorted, without codes; empty if a text is not a number."""
        return sorted({*map(number, self.answers)}) if self.kind == "number" else []

    @property
    def repeats(self) -> bool:
        return self.counts.total() > len(self.counts)

    @property
    def is_filled(self) -> bool:
        return self.counts.total() >= MIN_SHARE * len(self.cells) > 0

    @property
    def is_answer(self) -> bool:
        """Whether the values may be answers to an item: scores, or a few short texts."""
        if self.kind == "number":
            return self.scores[-1:] <= [MAX_SCORE] and len(self.scores) <= MAX_SCORE
        return self.kind in SCORED or (self.kind == "label" and len(self.counts) <= words.MAX_LABELS)

    @cached_property
    def times(self) -> list[str]:
        """The distinct texts that look like a day with a time of day, or like seconds since 1970."""
        return [text for text in self.counts if re.search(TIME, text) and not text.startswith(NO_TIME_RECORDED)]

    @property
    def looks_like_times(self) -> bool:
        return len(self.times) >= MIN_SHARE * len(self.counts) > 0

    @cached_property
    def time_formats(self) -> list[str]:
        """Formats of the times, as for strptime; "" if an import reads them unchanged. Empty if they are not times.

        If day and month may be swapped, there are two formats. The first reads the times as lying closer together.
        """
        fitting = (form or "" for form in FORMS if _reads(self.times[:20], form) and _reads(self.times, form))
        form = next(fitting, None) if self.looks_like_times else None
        if form is None:
            return []
        swapped = re.sub("%[dm]", lambda part: {"%d": "%m", "%m": "%d"}[part[0]], form)
        both = swapped.startswith(words.DATES) and _reads(self.times, swapped)
        if not both or (read_times(self.times, form) == read_times(self.times, swapped)).all():
            return [form]
        return sorted((form, swapped), key=lambda form: np.ptp(read_times(self.times, form)))

    @property
    def unlike_times(self) -> list[str]:
        """The first time, and the first in another form; the first alone if its form is unknown."""
        known = [read_times(self.times, form) != MISSING for form in FORMS if _reads(self.times[:1], form)]
        others = [int(max(known, key=np.sum).argmin())] if known else []
        return [self.times[k] for k in (0, *others)]

    def line_of(self, text: str) -> int:
        """Find the line of the first cell with this text."""
        return self.lines[self.cells.index(text)]


def read_times(texts: Sequence[str], form: str | None) -> np.ndarray:
    """Read times by a format, as microseconds since 1970."""
    return parse_times(pa.array(texts, pa.string()), TimeRules(format=form), "UTC", None)


def _reads(texts: Sequence[str], form: str | None) -> bool:
    return bool((read_times(texts, form) != MISSING).all())


TESTS: dict[str, Callable[[Column], object]] = {
    "item_id": lambda column: column.is_filled and not column.repeats,
    "started_at": lambda column: column.is_filled and column.time_formats,
    "completed_at": lambda column: column.is_filled and column.time_formats,
    "score": lambda column: column.kind in SCORED,
    "maximum": lambda column: column.scores,
    "b": lambda column: column.kind == "number",
    "attempt_id": lambda column: not column.repeats,
}
"""Our column → the test that its values must pass, besides its name."""


def number(text: str) -> float:
    return float(text.replace(",", "."))


def named(columns: Iterable[Column], patterns: Sequence[str]) -> Column | None:
    """The first column whose label matches the earliest pattern."""
    fitting = (c for pattern in patterns for c in columns if re.search(pattern, c.label))
    return next(fitting, None)


def by_name(columns: Iterable[Column], wanted: Mapping[str, Sequence[str]]) -> dict[str, Column]:
    """Our column → the file's column, by the labels `wanted` and `TESTS`. A column is used once."""
    found: dict[str, Column] = {}
    for ours, patterns in wanted.items():
        free = [c for c in columns if c.counts and c not in found.values() and TESTS.get(ours, bool)(c)]
        if column := named(free, patterns):
            found[ours] = column
    return found


# -- rows -------------------------------------------------------------------------------------------


def rows_of_header(table: pd.DataFrame) -> int:
    """Number of rows that continue the header: in the columns of numbers or times, they have texts or are empty."""
    kinds = table.head(FIRST_ROWS).map(lambda cell: Column("", [cell]).kind)
    filled, texts = kinds != "", ~kinds.isin(["number", "points", "time", ""])
    typed = filled.any() & (2 * texts.sum() < filled.sum())
    n_filled = filled.loc[:, typed].sum(axis=1)
    continues = (2 * texts.loc[:, typed].sum(axis=1) > n_filled) | (n_filled == 0)
    return int(continues.head(HEADER_ROWS).cumprod().sum()) if typed.any() else 0


def rows_beside_answers(table: pd.DataFrame) -> dict[int, tuple[str, str]]:
    """Rows of keys, maxima or totals, by a word in one of the first columns: row → kind and this column."""
    found: dict[int, tuple[str, str]] = {}
    for (name, cells), (kind, pattern) in product(table.iloc[:, :6].items(), words.ROWS.items()):
        once = ~cells.duplicated(keep=False)
        for row in table.index[once & cells.str.fullmatch(pattern, case=False)]:
            found.setdefault(row, (kind, str(name)))
    return found


# -- columns ----------------------------------------------------------------------------------------


def has_decimal_commas(columns: Iterable[Column]) -> bool:
    texts = [text for c in columns if c.kind == "number" for text in c.counts]
    return any(re.search(r",(\d{1,2}|\d{4,})$", text) for text in texts) and not any("." in text for text in texts)


def are_questions(columns: Sequence[Column], found: Mapping[str, Column]) -> bool:
    """Whether the table has a row for each item: with a difficulty, or without learners and with a key or a topic.

    `found`: the columns by the names in `words.QUESTION`.
    """
    learners = named([c for c in columns if c not in found.values()], words.USER)
    return "item_id" in found and ("b" in found or (learners is None and bool({"key", "topic_id"} & found.keys())))


def learner_columns(columns: Sequence[Column], *, one_row_each: bool) -> list[str]:
    """The columns that identify learners: an id, else first and last name, else a text, else the file and the row."""
    filled = [c for c in columns if c.is_filled and not (one_row_each and len(c.counts) < MIN_SHARE * len(c.cells))]
    repeating = [c for c in filled if c.repeats and not one_row_each]
    ids = [c for c in (named(repeating, words.USER), named(filled, words.USER)) if c]
    texts = [c for c in filled[:3] if one_row_each and c.kind == "label" and not re.search(words.NOT_ITEM, c.label)]
    parts = columns_of_parts(columns, words.USER_PARTS)
    found = ids[:1] or parts or texts[:1]
    return [c.name for c in found] or ([FILE, ROW] if one_row_each else [FILE])


def columns_of_parts(columns: Sequence[Column], patterns: Sequence[str]) -> list[Column]:
    """One column for each pattern; empty if one is absent."""
    found = [c for pattern in patterns if (c := named(columns, (pattern,)))]
    return found if len(found) == len(patterns) else []


def graded_column(columns: Sequence[Column]) -> tuple[Column, list[str]] | None:
    """Merge the marks of people with the marks of programs. Returns them with both names if the table has both."""
    both = columns_of_parts(columns, words.GRADED)
    if not both:
        return None
    cells = [a if Column("", [a]).counts else b for a, b in zip(*(c.cells for c in both), strict=True)]
    return Column(both[0].name, cells, both[0].lines), [c.name for c in both]


def items_of_parts(columns: Sequence[Column]) -> dict[str, dict[str, Column]]:
    """The items with scores or a key beside their answers: item → part, as in `words.PARTS` → column.

    The maximum score may be in the name of the column of scores. If all scores follow from keys, they are unused;
    otherwise, the keys are.
    """
    groups: dict[str, dict[str, Column]] = {}
    for before, column in zip([Column("", ()), *columns], columns, strict=False):
        beside = f"{before.name}\t{column.name}"  # `4501: Capital?` beside `1.0` is like `4501 /1.0`
        merged = re.sub(r"^(\d+): .*\t([\d.]+)(?: \(\d+\))?$", r"\1 /\2", beside)
        name = merged.rpartition("\t")[2]
        matches = ((part, m.groupdict()) for part, pattern in words.PARTS if (m := re.fullmatch(pattern, name, re.I)))
        part, found = next(matches, ("answer", {"item": name}))
        group = groups.setdefault(found["item"], {})
        group.setdefault(part, column)
        if "\t" not in merged:
            group["answer"] = before
        if "maximum" in found:
            group["maximum"] = Column("", [found["maximum"]])
    items = {}
    for base, group in groups.items():
        if len(group) > 1 and "score" in group and group["score"].kind in SCORED:
            items[next(iter(group["id"].counts)) if "id" in group else base] = group
        elif {"answer", "key"} <= group.keys():
            items[group["answer"].name] = group
    keyed = [parts for parts in items.values() if {"answer", "score", "key"} <= parts.keys()]
    unused = "score" if all(map(_follows_from_key, keyed)) else "key"
    for parts in keyed:
        parts[f"unused {unused}"] = parts.pop(unused)
    return items if len(items) > 1 else {}


def _follows_from_key(parts: Mapping[str, Column]) -> bool:
    """Check whether an item's scores are full marks for the key's option, and 0 for the others."""
    answer, score, key = (parts[name] for name in ("answer", "score", "key"))
    if score.kind != "number" or len(key.counts) > 1:
        return False
    rows = zip(answer.cells, score.cells, key.cells, strict=True)
    given = [(chosen == right, number(x)) for chosen, x, right in rows if chosen in answer.counts and x in score.counts]
    return all(points == (score.scores[-1] if is_right else 0) for is_right, points in given)


def answer_columns(columns: Sequence[Column]) -> list[Column]:
    """The items of a matrix, of the usual kind, numbers or texts: a family of names, or else columns that share values
    and have names of other kinds than facts about persons."""
    candidates = [c for c in columns if c.is_answer and not re.search(words.NEVER_ITEM, c.label)]
    families = Counter(re.sub(r"\d+", "#", c.name) for c in candidates)
    found = [c for c in candidates if families[re.sub(r"\d+", "#", c.name)] >= MIN_FAMILY]
    if not found:
        free = [c for c in candidates if not re.search(words.NOT_ITEM, c.label)]
        values = Counter(text for c in free for text in c.counts)  # in how many columns
        found = [c for c in free if c.scores[1:] or any(values[x] > 1 or x.lower() in words.LABELS for x in c.counts)]
    numbers, texts = ([c for c in found if (c.kind == "number") == numeric] for numeric in (True, False))
    return [c for c in found if c.kind in ("number", "word")] if len(numbers) >= len(texts) else texts


def derived(columns: Sequence[Column]) -> dict[str, str]:
    """Find the columns that are totals or numbers of rows: name → description."""
    first = FirstRows()
    for column in columns:
        first.add(column.name, Cells.of(column.cells))
    return first.derived()


# -- values -----------------------------------------------------------------------------------------


def are_ratings(items: Sequence[Column]) -> bool:
    """Whether numbers from 1 on are ratings and not options, by standardised alpha. True for a few persons or items."""
    numbers = pd.DataFrame({c.name: pd.to_numeric(pd.Series(c.cells), errors="coerce") for c in items[:MAX_RATED]})
    n_persons, n = numbers.shape
    if n_persons < MIN_PERSONS or n < MIN_FAMILY:
        return True
    correlations = numbers.corr().fillna(0).to_numpy()
    return bool(n / (n - 1) * (1 - np.trace(correlations) / max(correlations.sum(), 1)) > MIN_ALPHA)


def marks_taken_off(columns: Iterable[Column]) -> list[str]:
    """Find the marks of wrong answers: numbers from -1 to below 0, not rare, beside the scores 0 and 1 alone."""
    numbers = [c for c in columns if c.kind == "number"]
    counts = sum((c.counts for c in numbers), Counter[str]())
    marks = [text for text in counts if -1 <= number(text) < 0]
    is_binary = {1} <= {score for c in numbers for score in c.scores} <= {0, 1}
    return marks if is_binary and sum(counts[text] for text in marks) >= MIN_MARKS * counts.total() else []


def words_beside_numbers(texts: Mapping[str, Sequence[str]]) -> dict[str, bool]:
    """Find the words for right and wrong of items beside items with numbers: word → whether right."""
    worded = [found for found in texts.values() if not all(map(KINDS["number"], found))]
    said = {*chain(*worded)}
    beside = len(worded) < len(texts) and all(map(KINDS["word"], said))
    return {text: words.RIGHT_OR_WRONG[text.lower()] for text in said} if beside else {}


def items_from_1(texts: Mapping[str, list[str]], maxima: Collection[str]) -> dict[str, list[str]]:
    """Find items without a 0 and with more points than the items with a 0: item → sorted texts."""
    numbers = {item: [*map(number, found)] for item, found in texts.items() if found}
    top = max((max(scores) for scores in numbers.values() if min(scores) == 0), default=np.inf)
    low = [item for item, scores in numbers.items() if min(scores) == 1 and max(scores) > max(top, 1)]
    return {item: sorted(texts[item], key=number) for item in low if item not in maxima}


def scale_of(texts: Collection[str], *, has_maxima: bool, options: bool) -> tuple[dict[str, Any], int] | None:
    """Text → score, empty if the texts are scores, and the parts of a point that are a score of 1.

    Returns None if the texts look like options; `options`: whether numbers from 1 on do.
    """
    if not all(map(KINDS["number"], texts)):
        labels = ordered_labels(texts)
        return (labels, 1) if labels else None
    numbers = {text: number(text) for text in texts}
    if min(numbers.values(), default=0) >= 1 < max(numbers.values(), default=0) and not has_maxima:  # nobody has a 0
        ratings = {*texts, *map(str, range(1, int(max(numbers.values())) + 1))}
        return None if options else ({text: round(number(text)) - 1 for text in ratings}, 1)
    parts, exact = denominator(numbers.values())
    return {} if exact else {text: round(x * parts) for text, x in numbers.items()}, parts


def ordered_labels(texts: Iterable[str]) -> dict[str, int | bool]:
    """Label → score, if all are words for right and wrong, labels of a rating scale, or begin or end with their number.

    Empty if they are not.
    """
    labels = {text: text.lower() for text in texts}
    if {*labels.values()} <= words.RIGHT_OR_WRONG.keys():
        return {text: words.RIGHT_OR_WRONG[label] for text, label in labels.items()}
    for scale in words.ORDERED:
        used = [label for label in scale if label in labels.values()]
        if {*labels.values()} == {*used}:
            return {text: used.index(label) for text, label in labels.items()}
    numbered = [re.fullmatch(r"(\d+)\W.*|[A-Z]{1,3}0*(\d+)", text) for text in labels]
    values = {m[0]: int(m[1] or m[2]) for m in numbered if m}
    return {text: x - min(1, *values.values()) for text, x in values.items()} if all(numbered) else {}


def denominator(values: Iterable[float]) -> tuple[int, bool]:
    """The smallest number of parts of a point of which all values are multiples, and whether they are so exactly."""
    points, tolerances = np.array(list(values)), {True: 1e-6, False: 0.02}
    fitting = (
        (parts, exact)
        for (exact, near), parts in product(tolerances.items(), range(1, 13))
        if (np.abs(points * parts - np.rint(points * parts)) < near).all()
    )
    return next(fitting, (1, True))
