"""What makes an answer right: a score as it is given, points from some mark on, or the option that a key names.

What belongs here: the three rules, the highest scores of items, what each leaves in the item's record, and when a
file's scores fit none.
"""

import re
from collections import Counter
from collections.abc import Mapping as Map
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.intake.cells import as_text, trimmed
from irt_assets.intake.mapping import matches
from irt_assets.intake.readers import open_source
from irt_assets.intake.sources import names_of
from irt_psychometrics.items import MAX_SCORE
from resources.failures import PermanentFailure

USUAL = pa.array(["0", "1", "false", "true"])
WORDS = pa.array(["false", "true", "f", "t"])
"""Words for wrong and right; right ones at the odd places. They name no number of points of an item with several."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
DECIMAL_COMMA = r"^([+-]?\d+),(\d{1,2})$"  # with three digits, it may group thousands
WHOLE = 1e-6  # a share whose points are so close to a whole number has these: 0.3333333 of 3
MOST_POINTS = 20  # a column of larger numbers is an age or a sum, and no item
KEY_COLUMNS = {"item": ("item", "item_id", "question"), "key": ("key", "answer", "correct")}


@dataclass(frozen=True)
class Maxima:
    """The highest scores of items that have more than right and wrong.

    `recorded`: by item, those that the bank says; `declared`: by name or pattern, those that an import says.
    """

    recorded: Map[str, int] = field(default_factory=dict)
    declared: Map[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(most > 1 for most in chain(self.recorded.values(), self.declared.values()))

    def declared_of(self, item: str) -> int | None:
        """What the import says of an item: by its name, or else by the first pattern that fits."""
        fitting = (most for pattern, most in self.declared.items() if matches(item, pattern))
        return self.declared.get(item) or next(fitting, None)

    def names(self, item: str) -> bool:
        """Whether the item is named, and not only by a pattern."""
        return item in self.recorded or item in self.declared

    def of_item(self, item: str) -> int:
        return self.recorded.get(item) or self.declared_of(item) or 1

    def of(self, items: pa.StringArray) -> np.ndarray:
        """Those of the answers' items, 1 of the others."""
        if not self:
            return np.ones(len(items))
        encoded = items.dictionary_encode()
        of_each = [1 if item is None else self.of_item(item) for item in encoded.dictionary.to_pylist()]
        most = pa.array([*of_each, 1], pa.float64())
        return np.asarray(most.take(pc.fill_null(encoded.indices, len(of_each))))


@dataclass(frozen=True)
class AsGiven:
    """Scores are 0 and 1, or those of `maxima`."""

    maxima: Maxima = Maxima()

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:  # noqa: ARG002
        """For each answer whether it is right; null where the cell is empty or no score."""
        usual = pc.index_in(pc.utf8_lower(cells), USUAL, skip_nulls=True)
        if usual.null_count == cells.null_count:  # most often, and in half the time
            return pc.equal(pc.bit_wise_and(usual, 1), 1)
        numbers = points(cells)
        return pa.array(numbers == 1, mask=(numbers != 0) & (numbers != 1))

    def record(self, item: str) -> dict[str, str]:  # noqa: ARG002
        """What the item's `meta` then says of it."""
        return {}


@dataclass(frozen=True)
class FromPoints:
    """Right from `at` points on; with None, at the item's highest of `tops`."""

    at: float | None
    tops: dict[str, float] = field(default_factory=dict)
    maxima: ClassVar[Maxima] = Maxima()

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:
        numbers = points(cells)
        if self.at is None:
            names = pa.array(self.tops, pa.string())
            marks = pa.array(self.tops.values(), pa.float64()).take(pc.index_in(items, names))
        else:
            marks = pa.repeat(pa.scalar(self.at), len(cells))
        return pc.greater_equal(pa.array(numbers, mask=~(numbers >= 0)), marks)

    def record(self, item: str) -> dict[str, str]:
        rule = f"full={self.tops[item]:g}" if self.at is None else f"at={self.at:g}"
        return {"dichotomise": rule}


@dataclass(frozen=True)
class ByKey:
    """Right where the chosen option is the key's."""

    keys: Map[str, str]
    maxima: ClassVar[Maxima] = Maxima()

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:
        names = pa.array(self.keys, pa.string())
        return pc.equal(cells, pa.array(self.keys.values(), pa.string()).take(pc.index_in(items, names)))

    def record(self, item: str) -> dict[str, str]:
        return {"key": self.keys[item]} if item in self.keys else {}


class Recorded(NamedTuple):
    """What an item's record says of its scoring."""

    item_id: str
    dichotomise: str | None
    key: str | None
    max_score: int | None = None


@dataclass(frozen=True)
class AsRecorded:
    """Scores are 0 and 1; of items whose record names a mark, numbers are points and right from it on; of items whose
    record names a key, the chosen option is scored and no score is read (see `clean`).

    `records`: rows of `Recorded`. `choices`: False if the answers come without the options that
    were chosen; then no key is applied.
    """

    records: Sequence[Sequence[str | int | None]]
    declared: Map[str, int] = field(default_factory=dict)
    choices: bool = True

    @cached_property
    def _known(self) -> list[Recorded]:
        return [Recorded(*row) for row in self.records]  # type: ignore[arg-type]

    @cached_property
    def marks(self) -> dict[str, float]:
        return {one.item_id: float(one.dichotomise.partition("=")[2]) for one in self._known if one.dichotomise}

    @cached_property
    def keys(self) -> dict[str, str]:
        return {one.item_id: one.key for one in self._known if one.key and self.choices}

    @cached_property
    def maxima(self) -> Maxima:
        scored = (one for one in self._known if not (one.dichotomise or one.key))
        return Maxima({one.item_id: one.max_score for one in scored if one.max_score}, self.declared)

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:
        given = AsGiven().right(items, cells)
        if not self.marks:
            return given
        marks = pa.array(self.marks.values(), pa.float64()).take(pc.index_in(items, pa.array(self.marks, pa.string())))
        numbers = pc.fill_null(pc.match_substring_regex(cells, NUMBER), False)
        return pc.if_else(pc.and_(numbers, pc.is_valid(marks)), pc.greater_equal(points(cells), marks), given)

    def record(self, item: str) -> dict[str, str]:  # noqa: ARG002
        """The record stays as it is."""
        return {}


Scoring = AsGiven | FromPoints | ByKey | AsRecorded


def scoring_of(
    dichotomise: str | None, key: Path | None, max_scores: Map[str, int], encoding: str | None = None
) -> Scoring:
    """The rule that the options name; `encoding`: of a key that is not UTF-8. Raises PermanentFailure if they
    contradict each other."""
    if max_scores and (dichotomise or key):
        raise PermanentFailure("--max-score keeps scores, --dichotomise and --key make right and wrong: give one.")
    if dichotomise is not None and key is not None:
        raise PermanentFailure("--dichotomise is for points and --key for choices: give one of them.")
    if key is not None:
        return ByKey(read_key(key, encoding))
    if dichotomise is None:
        return AsGiven(Maxima(declared=max_scores))
    if dichotomise == "full":
        return FromPoints(None)
    mark = dichotomise.removeprefix("at=")
    if not re.match(NUMBER, mark) or not 0 < float(mark) < MOST_POINTS + 1:
        raise PermanentFailure(
            f"--dichotomise {dichotomise}: it takes full (right is the item's highest score) or at=K (right is K"
            f" points or more, K up to {MOST_POINTS}), such as at=2."
        )
    return FromPoints(float(mark))


def max_scores_of(options: Sequence[str]) -> dict[str, int]:
    """By name or pattern of items, what `--max-score ITEM=M` says. Raises PermanentFailure where it says nothing."""
    found = {}
    for option in options:
        name, _, most = option.rpartition("=")
        if not name or not most.isdecimal() or not 1 <= int(most) <= MAX_SCORE:
            raise PermanentFailure(
                f"--max-score {option}: it takes ITEM=M, an item or a pattern and its highest score from 1 to "
                f"{MAX_SCORE}, such as q7=4 or 'essay_*=5'."
            )
        found[name] = int(most)
    return found


def read_key(path: Path, encoding: str | None = None) -> dict[str, str]:
    """Each item's right option, from a table with the columns item and key; items without one are left out."""
    source = open_source(path, encoding)
    found = {
        ours: next((name for name in names if name in source.columns), None) for ours, names in KEY_COLUMNS.items()
    }
    if None in found.values():
        which = f"; its columns are {names_of(source.columns)}" if len(source.columns) > 1 else ""
        raise PermanentFailure(f"{path}: a key is a table item,key{which}.")
    keys: dict[str, str] = {}
    for batch in source.batches():
        if batch.bad:
            raise PermanentFailure(
                f"{path}, line {batch.bad[0].line}: {batch.bad[0].value}. A key is a table item,key."
            )
        columns = [(batch.rows.column(source.columns.index(name)), name) for name in found.values() if name]
        texts = [pc.fill_null(trimmed(as_text(cells, name)), "").to_pylist() for cells, name in columns]
        for line, item, key in zip(batch.lines.tolist(), *texts, strict=True):
            if item and key and keys.setdefault(item, key) != key:
                raise PermanentFailure(f"{path}, line {line}: item {item} has the keys {keys[item]} and {key}.")
    if not keys:
        raise PermanentFailure(f"{path}: no item has a key.")
    return keys


def points(cells: pa.StringArray) -> np.ndarray:
    """float64; NaN where a cell is empty or neither a finite number nor a word for right or wrong."""
    encoded = cells.dictionary_encode()  # a file has few different scores
    lower = pc.replace_substring_regex(pc.utf8_lower(encoded.dictionary), DECIMAL_COMMA, r"\1.\2")
    shaped = pc.fill_null(pc.match_substring_regex(lower, NUMBER), False)
    numbers = pc.cast(pc.if_else(shaped, lower, None), pa.float64())
    words = pc.bit_wise_and(pc.index_in(lower, WORDS, skip_nulls=True), 1)
    values = pc.coalesce(numbers, pc.cast(words, pa.float64())).take(encoded.indices)
    found = np.asarray(pc.fill_null(values, np.nan))
    return np.where(np.isfinite(found), found, np.nan)


@dataclass
class Tally:
    """What the scores of a file are: answers to each item, those with points beyond 1, and those between 0 and 1.

    `tops`: the highest score of each item that has any beyond 1.
    """

    answers: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)
    between: int = 0
    tops: dict[str, float] = field(default_factory=dict)

    def add(self, items: pa.StringArray, cells: pa.StringArray) -> None:
        numbers = points(cells)
        self.answers.update(_counts(items))
        self.between += int(((numbers > 0) & (numbers < 1)).sum())
        if (more := numbers > 1).any():
            several = pa.table({"item": items.filter(pa.array(more)), "points": pa.array(numbers[more])}).drop_null()
            for row in several.group_by("item").aggregate([("points", "max"), ("points", "count")]).to_pylist():
                self.beyond[row["item"]] += row["points_count"]
                self.tops[row["item"]] = max(row["points_max"], self.tops.get(row["item"], 1.0))

    def half_read(self) -> list[str]:
        """Items whose scores are points, so that 0 and 1 are only some of them; slips of the pen are none."""
        if self.between > max(1, self.answers.total() / 100):
            return [f"{self.between:,} scores lie between 0 and 1"]
        total = self.beyond.total()
        everywhere = total > max(1, self.answers.total() / 100)
        many = [item for item, n in self.beyond.items() if everywhere or (n > 1 and n > self.answers[item] / 100)]
        return [f"item {item} has scores up to {self.tops[item]:g}" for item in sorted(many)]


def refusal(file: str, what: Sequence[str]) -> PermanentFailure:
    """The error for scores that are not 0 and 1."""
    more = f" and {len(what) - 5} more items" if len(what) > 5 else ""
    return PermanentFailure(
        f"{file}: scores are not 0 and 1: {'; '.join(what[:5])}{more}. Nothing was imported.\n{WAYS_OUT}"
    )


WAYS_OUT = """\
Where they are scores (max_score_unknown): --max-score ITEM=M, such as --max-score q7=4 or --max-score 'essay_*=5', with
the most that can be reached; or max_score in the bank (irt import questions, columns item_id,max_score) and, in a list,
a column that is named score.
Where they are half points or shares: a mapping file with denominator: 2 (1.5 is then a score of 3) and max_scores.
Where they are points: --dichotomise full (right is the item's highest score) or --dichotomise at=2 (2 or more).
Where they are choices: --key FILE, a table item,key.
Where they are codes: a mapping file with null_values: ["9"] for answers that are none, or values: {correct: …}.
Columns that are not items: name those that are in a mapping file, wide: {items: "item_*"}."""


def _counts(items: pa.StringArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(items.drop_null()).to_pylist()}
