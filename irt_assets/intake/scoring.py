"""Scoring rules: scores as given, points with a pass mark, or choices with a key.

This module has these rules, the entry of each rule in an item's record, and the check that a file's scores fit a rule.
"""

import re
from collections import Counter
from collections.abc import Mapping as Map, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.wording import join_names
from irt_assets.intake.cells import encode
from irt_assets.intake.library_files import FILES, open_rows, refusals
from irt_assets.scales.item_keys import Key
from irt_psychometrics.cells import CellPlan, MaxScores, join_options
from irt_psychometrics.commands import Files
from resources.failures import PermanentFailure

WORDS = {"false": 0.0, "true": 1.0, "f": 0.0, "t": 1.0, "incorrect": 0.0, "correct": 1.0, "wrong": 0.0, "right": 1.0}
"""Words for wrong and right. They are not valid for items with a maximum score above 1."""
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
MIN_MARKS = 0.05  # of all scores; codes for missing answers are rarer
MAX_POINTS = 20  # a column of larger numbers is an age or a sum and not an item


@dataclass(frozen=True)
class AsGiven:
    """Scores are 0 and 1, or from 0 to the maximum score of an item in `maxima`.

    If an item has a key in `keys`, the chosen option is scored and no score is read (see `clean`).
    """

    maxima: MaxScores = field(default_factory=MaxScores)
    keys: Map[str, Key] = field(default_factory=dict)

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:  # noqa: ARG002
        """Whether each answer is right, shape (N,); null if the cell is empty or not a score."""
        numbers = points(cells)
        return pa.array(numbers == 1, mask=(numbers != 0) & (numbers != 1))

    def record(self, item: str) -> dict[str, Key]:  # noqa: ARG002
        """The entries to write into the item's `meta`; empty for this rule."""
        return {}


@dataclass(frozen=True)
class FromPoints:
    """An answer is right from `at` points on or, if `at` is None, with the item's full marks in `tops`."""

    at: float | None
    tops: dict[str, float] = field(default_factory=dict)
    maxima: ClassVar[MaxScores] = MaxScores()

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:
        numbers = points(cells)
        marks = encode(items).map(lambda item: self.tops.get(item, np.nan) if self.at is None else self.at)
        return pa.array(numbers >= marks, mask=~(numbers >= 0) | np.isnan(marks))

    def record(self, item: str) -> dict[str, Key]:
        rule = f"full={self.tops[item]:g}" if self.at is None else f"at={self.at:g}"
        return {"dichotomise": rule}


@dataclass(frozen=True)
class ByKey:
    """An answer is right if the item's key has the chosen option. `keys`: item → key (see `responses.item_keys`)."""

    keys: Map[str, Key]
    maxima: ClassVar[MaxScores] = MaxScores()

    @cached_property
    def options(self) -> dict[str, list[str]]:
        """The right options of the items that have any."""
        single = {item: [key] for item, key in self.keys.items() if isinstance(key, str)}
        return single | {item: key for item, key in self.keys.items() if isinstance(key, list) and key}

    @cached_property
    def plan(self) -> CellPlan:
        return CellPlan({item: dict.fromkeys(options, 1) for item, options in self.options.items()})

    def chosen(self, items: pa.StringArray, cells: pa.StringArray) -> pa.StringArray:
        """Write several chosen options in one order, as `CellPlan.chosen` does; null if no option was chosen."""
        given = encode(cells)
        found = self.plan.chosen(encode(items), given)
        if found is given:
            return cells
        return pa.array([text or None for text in found.texts], pa.string()).take(pa.array(found.places))

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:
        credit = pa.array(self.plan.score("", encode(items), encode(cells)).score > 0)
        of_all = pc.is_in(items, pa.array([item for item, key in self.keys.items() if key is True], pa.string()))
        known = pc.and_(pc.is_in(items, pa.array(self.keys, pa.string())), pc.is_valid(cells))
        return pc.if_else(known, pc.or_(credit, of_all), None)

    def record(self, item: str) -> dict[str, Key]:
        return {"key": self.keys[item]} if item in self.keys else {}


@dataclass(frozen=True)
class AsRecorded:
    """Scores are read by the rule in the item's record, and as 0 and 1 if the record has no rule.

    If the record has a pass mark, numbers are points, and an answer is right from the mark on. If it has a key, the
    chosen option is scored and no score is read (see `clean`). If it has a maximum score, scores go from 0 to it.

    Attributes:
        maxima: the maximum scores of items without a pass mark or a key.
        keys: item → key.
        marks: item → pass mark.
    """

    maxima: MaxScores = field(default_factory=MaxScores)
    keys: Map[str, Key] = field(default_factory=dict)
    marks: Map[str, float] = field(default_factory=dict)

    @classmethod
    def from_records(cls, records: Sequence[tuple[Any, ...]], *, choices: bool = True) -> "AsRecorded":
        """Read the rules in the items' records: item, rule of points, key and maximum score.

        `choices`: False if the answers come without the chosen options; keys are not applied then.
        """
        recorded = {item: most for item, rule, key, most in records if most and not (rule or key)}
        keys = {item: key for item, _, key, _ in records if key and choices}
        marks = {item: float(rule.partition("=")[2]) for item, rule, _, _ in records if rule}
        return cls(MaxScores(recorded), keys, marks)

    def right(self, items: pa.StringArray, cells: pa.StringArray) -> pa.BooleanArray:
        given = AsGiven().right(items, cells)
        if not self.marks:
            return given
        numbers = encode(cells).points({})
        marks = encode(items).map(lambda item: self.marks.get(item, np.nan))
        return pc.if_else(pa.array(~np.isnan(numbers + marks)), pa.array(numbers >= marks), given)

    def record(self, item: str) -> dict[str, Key]:  # noqa: ARG002
        """No entries: the record does not change."""
        return {}


Scoring = AsGiven | FromPoints | ByKey | AsRecorded


def scoring_of(
    dichotomise: str | None,
    key: Path | None,
    max_scores: Map[str, int],
    encoding: str | None = None,
    keys: Map[str, str] | None = None,
) -> Scoring:
    """The scoring rule that the options name, or else the keys of the mapping: item → key.

    `encoding`: encoding of a key that is not UTF-8. Raises PermanentFailure if the options contradict each other or
    are invalid, or the key cannot be read.
    """
    if max_scores and (dichotomise or key):
        raise PermanentFailure("--max-score keeps scores, --dichotomise and --key make right and wrong: give one")
    if dichotomise is not None and key is not None:
        raise PermanentFailure("--dichotomise is for points and --key for choices: give one of them")
    if key is not None:
        return ByKey(read_key(key, encoding))
    if keys and not (dichotomise or max_scores):
        return ByKey(key_in_one_order(keys))
    if dichotomise is None:
        return AsGiven(MaxScores(by_pattern=max_scores))
    if dichotomise == "full":
        return FromPoints(None)
    mark = dichotomise.removeprefix("at=")
    if not re.match(NUMBER, mark) or not 0 < float(mark) < MAX_POINTS + 1:
        raise PermanentFailure(
            f"--dichotomise {dichotomise}: it must be full (right is the item's highest score) or at=K (right is K"
            f" points or more, K up to {MAX_POINTS}), such as at=2"
        )
    return FromPoints(float(mark))


def max_scores_of(options: Sequence[str]) -> dict[str, int]:
    """Read the options `--max-score` (see `Files.max_scores`). Returns item or pattern → maximum score.

    Raises PermanentFailure if an option has another form, or M is out of range.
    """
    with refusals():
        found = FILES.max_scores(*options)
    return {**found.by_pattern, **found.by_item}


def read_key(path: Path, encoding: str | None = None) -> dict[str, Key]:
    """Read a key, as `Files.key` does. Returns item → key, without items that have no key.

    Raises PermanentFailure if the file is not a key, or an item's options have different scores.
    """
    with refusals():
        return keys_of_scores(str(path), Files(partial(open_rows, encoding=encoding)).key(path))


def keys_of_scores(file: str, scores: Map[str, Map[str, int]], *, equal: bool = True) -> dict[str, Key]:
    """Return the options with a score as the keys of items.

    Raises PermanentFailure if `equal` and the options of an item have different scores.
    """
    keys = {item: [option for option, score in options.items() if score] for item, options in scores.items()}
    uneven = [item for item, options in scores.items() if equal and len({*options.values()} - {0}) > 1]
    if uneven:
        raise PermanentFailure(
            f"{file}: options with different scores cannot be stored as a key ({join_names(uneven, 5)}). Give their"
            " scores in a mapping file, item_values: {q1: {A: 2, C: 1, B: 0}} and max_scores: {q1: 2}"
        )
    return {item: options[0] if len(options) == 1 else options for item, options in keys.items()}


def key_in_one_order(keys: Map[str, str]) -> dict[str, str]:
    """Write the keys that are several options together in the order of `ByKey.chosen`."""
    return {item: join_options(key) if ";" in key else key for item, key in keys.items()}


def points(cells: pa.StringArray) -> np.ndarray:
    """The cells as float64; NaN if a cell is empty, or neither a finite number nor a word for right or wrong."""
    return encode(cells).points(WORDS)


@dataclass
class Tally:
    """Counts of the scores of a file.

    Attributes:
        answers: number of answers by item.
        beyond: number of scores above 1 by item.
        between: number of scores between 0 and 1.
        below: number of scores from -1 to below 0.
        tops: highest score of each item that has a score above 1.
    """

    answers: Counter[str] = field(default_factory=Counter)
    beyond: Counter[str] = field(default_factory=Counter)
    between: int = 0
    below: int = 0
    tops: dict[str, float] = field(default_factory=dict)

    def add(self, items: pa.StringArray, cells: pa.StringArray) -> None:
        numbers = points(cells)
        self.answers.update(encode(items.drop_null()).counts())
        self.between += int(((numbers > 0) & (numbers < 1)).sum())
        self.below += int(((numbers < 0) & (numbers >= -1)).sum())
        if (more := numbers > 1).any():
            several = pa.table({"item": items.filter(pa.array(more)), "points": pa.array(numbers[more])}).drop_null()
            for row in several.group_by("item").aggregate([("points", "max"), ("points", "count")]).to_pylist():
                self.beyond[row["item"]] += row["points_count"]
                self.tops[row["item"]] = max(row["points_max"], self.tops.get(row["item"], 1.0))

    @property
    def has_marks_taken_off(self) -> bool:
        """Whether the scores below 0 are too many for codes: marks taken off for wrong answers."""
        return self.below >= MIN_MARKS * self.answers.total() > 0

    def reasons_for_points(self) -> list[str]:
        """The reasons why the scores are points and not 0 and 1; empty if they are 0 and 1, apart from a few typos."""
        if self.between > max(1, self.answers.total() / 100):
            return [f"{self.between:,} scores lie between 0 and 1"]
        total = self.beyond.total()
        everywhere = total > max(1, self.answers.total() / 100)
        many = [item for item, n in self.beyond.items() if everywhere or (n > 1 and n > self.answers[item] / 100)]
        return [f"item {item} has scores up to {self.tops[item]:g}" for item in sorted(many)]


def scores_error(file: str, reasons: Sequence[str]) -> PermanentFailure:
    """The error for scores that are not 0 and 1."""
    more = f" and {len(reasons) - 5} more items" if len(reasons) > 5 else ""
    return PermanentFailure(
        f"{file}: scores are not 0 and 1: {'; '.join(reasons[:5])}{more}. Nothing was imported.\n{REMEDIES}"
    )


REMEDIES = """\
If they are scores (max_score_unknown): --max-score with the highest score that can be reached, such as --max-score 4
for all items, --max-score q7=4 or --max-score 'essay_*=5'; or max_score in the bank (irt import questions, columns
item_id,max_score) and, in a list, a column that is named score.
If they are half points or shares: a mapping file with denominator: 2 (1.5 is then a score of 3) and max_scores.
If they are marks, of which wrong answers have some below 0: the mapping that irt import attempts FILE --suggest writes.
If they are points: --dichotomise full (right is the item's highest score) or --dichotomise at=2 (2 or more).
If they are choices: --key FILE, a table item,key.
If they are codes: --missing 9 for cells without an answer, or a mapping file with values: {correct: …}.
If some columns are not items: name the items in a mapping file, wide: {items: "item_*"}."""
