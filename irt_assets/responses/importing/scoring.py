"""What makes an answer right: a score as it is given, points from some mark on, or the option that a key names.

What belongs here: the three rules, what each leaves in the item's record, and when a file's scores fit none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.responses.importing.readers import open_source
from resources.failures import PermanentFailure

SCORES = pa.array(["0", "1", "0.0", "1.0", "false", "true", "f", "t"])  # the odd places are right answers
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
MOST_POINTS = 20  # a column of larger numbers is an age or a sum, and no item
KEY_COLUMNS = {"item": ("item", "item_id", "question"), "key": ("key", "answer", "correct")}


@dataclass(frozen=True)
class AsGiven:
    """Scores are 0 and 1."""

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:  # noqa: ARG002
        """For each answer whether it is right; null where the cell is empty or no score."""
        scores = pc.index_in(pc.utf8_lower(cells), SCORES, skip_nulls=True)
        return pc.equal(pc.bit_wise_and(scores, 1), 1)

    def record(self, item: str) -> dict[str, str]:  # noqa: ARG002
        """What the item's `meta` then says of it."""
        return {}


@dataclass(frozen=True)
class FromPoints:
    """Right from `at` points on; with None, at the item's highest of `tops`."""

    at: float | None
    tops: dict[str, float] = field(default_factory=dict)

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

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:
        names = pa.array(self.keys, pa.string())
        return pc.equal(cells, pa.array(self.keys.values(), pa.string()).take(pc.index_in(items, names)))

    def record(self, item: str) -> dict[str, str]:
        return {"key": self.keys[item]}


@dataclass(frozen=True)
class AsRecorded:
    """Scores are 0 and 1; of items whose record names a mark, numbers are points and right from it on; of items whose
    record names a key, the chosen option is scored and no score is read (see `clean`).

    `records`: of items the id, the rule (`dichotomise`) and the key, as far as there are any; read when first needed.
    """

    records: Iterable[tuple[str, str | None, str | None]]

    @cached_property
    def _known(self) -> list[tuple[str, str | None, str | None]]:
        return list(self.records)

    @cached_property
    def marks(self) -> dict[str, float]:
        return {item: float(rule.partition("=")[2]) for item, rule, _ in self._known if rule}

    @cached_property
    def keys(self) -> dict[str, str]:
        return {item: key for item, _, key in self._known if key}

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


def scoring_of(dichotomise: str | None, key: Path | None) -> Scoring:
    """The rule that the options name. Raises PermanentFailure where they name none or two."""
    if dichotomise is not None and key is not None:
        raise PermanentFailure("--dichotomise is for points and --key for choices: give one of them.")
    if key is not None:
        return ByKey(read_key(key))
    if dichotomise is None:
        return AsGiven()
    if dichotomise == "full":
        return FromPoints(None)
    mark = dichotomise.removeprefix("at=")
    if not re.match(NUMBER, mark) or not 0 < float(mark) < MOST_POINTS + 1:
        raise PermanentFailure(
            f"--dichotomise {dichotomise}: it takes full (right is the item's highest score) or at=K (right is K"
            f" points or more, K up to {MOST_POINTS}), such as at=2."
        )
    return FromPoints(float(mark))


def read_key(path: Path) -> dict[str, str]:
    """Each item's right option, from a table with the columns item and key; items without one are left out."""
    source = open_source(path)
    found = {
        ours: next((name for name in names if name in source.columns), None) for ours, names in KEY_COLUMNS.items()
    }
    if None in found.values():
        raise PermanentFailure(f"{path}: a key is a table item,key; its columns are {', '.join(source.columns)}.")
    keys: dict[str, str] = {}
    for batch in source.batches():
        if batch.bad:
            raise PermanentFailure(
                f"{path}, line {batch.bad[0].line}: {batch.bad[0].value}. A key is a table item,key."
            )
        columns = [batch.rows.column(batch.rows.schema.names.index(name)) for name in found.values()]
        texts = [
            pc.fill_null(pc.utf8_trim_whitespace(pc.cast(cells, pa.string())), "").to_pylist() for cells in columns
        ]
        for line, item, key in zip(batch.lines.tolist(), *texts, strict=True):
            if item and key and keys.setdefault(item, key) != key:
                raise PermanentFailure(f"{path}, line {line}: item {item} has the keys {keys[item]} and {key}.")
    if not keys:
        raise PermanentFailure(f"{path}: no item has a key.")
    return keys


def points(cells: pa.StringArray) -> np.ndarray:
    """float64; NaN where a cell is empty or neither a finite number nor a score."""
    encoded = cells.dictionary_encode()  # a file has few different scores
    lower = pc.utf8_lower(encoded.dictionary)
    shaped = pc.fill_null(pc.match_substring_regex(lower, NUMBER), False)
    numbers = pc.cast(pc.if_else(shaped, lower, None), pa.float64())
    scores = pc.bit_wise_and(pc.index_in(lower, SCORES, skip_nulls=True), 1)
    values = pc.coalesce(numbers, pc.cast(scores, pa.float64())).take(encoded.indices)
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
Where they are points: --dichotomise full (right is the item's highest score) or --dichotomise at=2 (2 or more).
Where they are choices: --key FILE, a table item,key.
Where they are codes: a mapping file with null_values: ["9"] for answers that are none, or values: {correct: …}.
Columns that are not items: name those that are in a mapping file, wide: {items: "item_*"}."""


def _counts(items: pa.StringArray) -> dict[str, int]:
    return {row["values"]: row["counts"] for row in pc.value_counts(items.drop_null()).to_pylist()}
