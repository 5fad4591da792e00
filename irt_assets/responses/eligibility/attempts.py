"""Judge the attempts of a scale: give each a score, or the reason why it does not count.

What does not belong here: reading attempts, and finding repeats (the caller marks them).
"""

import dataclasses
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.scales.rules import Rules
from irt_psychometrics import PsychometricsError

Codes = npt.NDArray[np.integer[Any]]
K = TypeVar("K", bound=Hashable)
NO_SCORE = np.iinfo(np.int16).min


@dataclass(frozen=True)
class Attempts:
    """R attempts on J items of one scale. Every array has shape (R,), unless a shape is named.

    Attributes:
        user, item: codes ≥ 0. They should be small, because arrays of max + 1 counts are made from them.
        live: whether the attempt was made in live mode.
        is_test: whether a test account made the attempt.
        unknown_item: whether the item is missing from the bank.
        seen_before: whether the learner met the item earlier within the look-back.
        exam: whether the attempt was made in an exam session.
        answered_later: whether a later item of that session was answered.
        seeded: whether a seed draw chose the item for the session.
        correct: int8; 1 for full credit, 0 for less, −1 if the item was shown and not answered.
        hints: int32; number of hints taken, −1 if unknown.
        time_ms: response time, NaN if unknown.
        item_median_ms: shape (J,) by code of the item; median time of the item's live answers.
        item_n_timed: shape (J,); number of times in that median.
        item_timed: each attempt's index in `item_median_ms` and `item_n_timed`, which then have any length, for items
            with medians as of several dates. None: the index is the item's code.
        score: int16; the score from 0, `NO_SCORE` if only `correct` is known. None: only `correct` is known everywhere.
        max_score: int16; maximum score of the attempt's item. None: 1 everywhere.
    """

    user: Codes
    item: Codes
    live: Mask
    is_test: Mask
    unknown_item: Mask
    seen_before: Mask
    exam: Mask
    answered_later: Mask
    seeded: Mask
    correct: npt.NDArray[np.int8]
    hints: npt.NDArray[np.int32]
    time_ms: Floats
    item_median_ms: Floats
    item_n_timed: Ints
    item_timed: Ints | None = None
    score: npt.NDArray[np.int16] | None = None
    max_score: npt.NDArray[np.int16] | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            column = getattr(self, field.name)
            if column is not None and not field.name.startswith("item_") and column.shape != (self.size,):
                raise PsychometricsError(f"column {field.name} has shape {column.shape}, user has {self.user.shape}")
        if self.size == 0:
            return
        for name in ("user", "item"):
            if getattr(self, name).min() < 0:
                raise PsychometricsError(f"codes of column {name} must be ≥ 0, found {getattr(self, name).min()}")
        if self.correct.min() < -1 or self.correct.max() > 1:
            wrong = np.flatnonzero((self.correct < -1) | (self.correct > 1))
            raise PsychometricsError(
                f"correct must be 1, 0 or −1 (not answered), found {self.correct[wrong[0]]} in row {wrong[0]}"
                f" and {wrong.size - 1} other rows"
            )

    @property
    def size(self) -> int:
        return int(self.user.size)

    @property
    def answered(self) -> Mask:
        return self.correct >= 0

    @property
    def hinted(self) -> Mask:
        return self.answered & (self.hints > 0)

    @property
    def scored(self) -> Mask:
        """Whether the attempt is on a scored item, with a maximum score above 1."""
        return np.zeros(self.size, dtype=bool) if self.max_score is None else self.max_score > 1

    @property
    def points(self) -> npt.NDArray[np.int8]:
        """The score; −1 if unknown. Full credit without a score is the item's maximum score."""
        points = self.correct
        if self.score is not None and self.max_score is not None:
            by_correct = np.where(self.correct == 1, self.max_score, -1)
            known = np.where(self.score != NO_SCORE, self.score, by_correct)
            points = np.where(self.scored, known, points).astype(np.int8)
        return points

    @property
    def contradictory(self) -> Mask:
        """Whether the score is out of the item's range, or disagrees with `correct`."""
        if self.score is None or self.max_score is None:
            return np.zeros(self.size, dtype=bool)
        beyond = (self.score < 0) | (self.score > self.max_score)
        is_given = self.scored & (self.score != NO_SCORE)
        return is_given & (beyond | (self.correct != (self.score == self.max_score)))


@dataclass(frozen=True)
class _Meaning:
    """Properties of a reason.

    Attributes:
        value: stored name.
        explanation: meaning, as a sentence for people.
        applies: function that returns the attempts with this reason, shape (R,). None if the reason is a minimum, which
            depends on more than one attempt.
        is_answer: whether such attempts count in the denominator of the rejected share: answers and omissions of real
            learners in live mode.
        is_rejected: whether such attempts count as rejected.
        shows_drift: whether such answers are used to detect drift of an item. Rapid answers are, as they reveal leaks.
    """

    value: str
    explanation: str
    applies: Callable[[Attempts, Rules], Mask] | None = None
    is_answer: bool = True
    is_rejected: bool = False
    shows_drift: bool = True


def _rapid(attempts: Attempts, rules: Rules) -> Mask:
    """Whether each attempt is a rapid answer; false if its time or the item's median is unknown (NaN)."""
    limit = np.minimum(rules.eligibility.rapid_share * attempts.item_median_ms, rules.eligibility.rapid_cap_ms)
    limit[attempts.item_n_timed < rules.eligibility.rapid_min_times] = np.nan
    return attempts.answered & (
        attempts.time_ms < limit[attempts.item if attempts.item_timed is None else attempts.item_timed]
    )


def _wrong_by_hint(attempts: Attempts, rules: Rules) -> Mask:
    return attempts.hinted & (rules.eligibility.hinted == "wrong")


class Reason(StrEnum):
    """Why an attempt is not scored. If several reasons apply, the first in this order is given."""

    meaning: _Meaning

    def __new__(cls, meaning: _Meaning | str) -> Self:
        assert isinstance(meaning, _Meaning)  # StrEnum looks up a text by value and does not call __new__
        name = str.__new__(cls, meaning.value)
        name._value_, name.meaning = meaning.value, meaning
        return name

    @property
    def explanation(self) -> str:
        return self.meaning.explanation

    SANDBOX = _Meaning(
        "sandbox",
        "It was made in sandbox mode, or its item is dropped from scoring.",
        lambda attempts, _: ~attempts.live,
        is_answer=False,
    )
    TEST_ACCOUNT = _Meaning(
        "test_account", "The learner is a test account.", lambda attempts, _: attempts.is_test, is_answer=False
    )
    UNUSABLE = _Meaning(
        "unusable",
        "The row contradicts itself, so it cannot be read as an answer.",
        lambda attempts, _: attempts.unknown_item | attempts.contradictory,
        is_rejected=True,
        shows_drift=False,
    )
    REPEAT = _Meaning(
        "repeat",
        "The learner had met the item within the look-back, and seen items are easier.",
        lambda attempts, _: attempts.seen_before,
        shows_drift=False,
    )
    NOT_REACHED = _Meaning(
        "not_reached",
        "The item was shown and not answered, and no later item of an exam session was answered.",
        lambda attempts, _: ~attempts.answered & ~(attempts.exam & attempts.answered_later),
        is_answer=False,
    )
    SCORE_MISSING = _Meaning(
        "score_missing",
        "It has less than full credit, and its score is missing: the item's maximum score is above 1.",
        lambda attempts, rules: attempts.answered & (attempts.points < 0) & ~_wrong_by_hint(attempts, rules),
    )
    HINTED = _Meaning(
        "hinted",
        "The learner took a hint, and this scale excludes hinted answers.",
        lambda attempts, rules: attempts.hinted & (rules.eligibility.hinted == "exclude"),
    )
    RAPID = _Meaning(
        "rapid",
        "It was answered faster than the item can be read, so it gives no information about ability.",
        _rapid,
        is_rejected=True,
    )
    SEED = _Meaning(
        "seed",
        "A seed draw chose the new item by the learner, so its answers do not represent all learners.",
        lambda attempts, _: attempts.seeded,
        shows_drift=False,
    )
    FEW_LEARNER_RESPONSES = _Meaning(
        "few_learner_responses", "The learner has fewer responses than the scale's minimum."
    )
    FEW_ITEM_RESPONSES = _Meaning("few_item_responses", "The item has fewer responses than the scale's minimum.")


_REASONS = tuple(Reason)
_CODE = {reason: code for code, reason in enumerate(_REASONS)}


@dataclass(frozen=True)
class Judgement:
    """Scores and reasons of R attempts.

    Attributes:
        code: int8, shape (R,). Index in `Judgement.REASONS`; −1 if the attempt is scored.
        score: int8, shape (R,). From 0 to the item's maximum score; −1 if the attempt is not scored.
        counts: number of attempts by reason, as `counts_by_reason` returns it; they sum to R.
        few_items: item code → its number of responses, for items that were left out for having too few.
    """

    code: npt.NDArray[np.int8]
    score: npt.NDArray[np.int8]
    counts: dict[str, int]
    few_items: dict[int, int]

    REASONS = _REASONS

    @property
    def n_responses(self) -> int:
        return self.counts["scored"]


def judge(attempts: Attempts, rules: Rules, *, min_learner: bool = True, min_item: bool = True) -> Judgement:
    """Give every attempt a score or the first reason that applies to it.

    A null `correct` is an omission, scored 0, if a later item of the exam session was answered. An answer is rapid if
    its time is below min(rapid_share · median, rapid_cap_ms), whether it is right or wrong; omissions are not judged by
    time. Learners with too few responses are dropped first, then items, until both minima hold for the rest.

    `min_learner=False` and `min_item=False` switch these filters off, because abilities are reported for every learner
    and also from answers to items that were published long ago.
    """
    part = JudgedLearners.from_attempts(attempts, rules, min_learner=min_learner)
    return part.with_minimum(rules.eligibility.min_fitted_responses if min_item else 0)


class JudgedLearners:
    """All attempts of some learners of one scale, judged as by `judge`, but without the minimum of responses per item.

    That minimum needs the responses of all learners: sum `responses` over all parts, drop the `items_with_few` from
    every part, and repeat until no item has too few.
    """

    def __init__(
        self, user: Codes, item: Codes, code: npt.NDArray[np.int8], score: npt.NDArray[np.int8], least: int
    ) -> None:
        """`code`, `score`: as in a `Judgement` without minima. `least`: the responses that a learner needs."""
        self._user, self._item, self._score, self._least = user, item, score, least
        self._code = code.copy()
        self._kept = np.flatnonzero(code < 0)
        self._drop_learners()

    @classmethod
    def from_attempts(cls, attempts: Attempts, rules: Rules, *, min_learner: bool = True) -> "JudgedLearners":
        code = np.full(attempts.size, -1, np.int8)
        for reason in reversed(_REASONS):
            if reason.meaning.applies is not None:
                code[reason.meaning.applies(attempts, rules)] = _CODE[reason]
        score = np.maximum(attempts.points, 0).astype(np.int8)
        score[_wrong_by_hint(attempts, rules)] = 0
        least = rules.eligibility.min_learner_responses if min_learner else 0
        return cls(attempts.user, attempts.item, code, score, least)

    def with_minimum(self, least: int) -> Judgement:
        """Leave out items with fewer responses than `least`. These must be the attempts of all learners."""
        present = np.flatnonzero(np.bincount(self._item)) if self._item.size else np.empty(0, np.int64)
        few_items: dict[int, int] = {}
        while few := items_with_few(
            zip(present.tolist(), self.responses()[present].tolist(), strict=True), least, few_items
        ):
            self.drop_items([*few])
            few_items |= few
        code, score = self.outcome()
        return Judgement(code=code, score=score, counts=counts_by_reason(code), few_items=few_items)

    def responses(self) -> Ints:
        """Number of remaining responses by code of the item, up to the highest code."""
        highest = int(self._item.max()) if self._item.size else -1
        return np.bincount(self._item[self._kept], minlength=highest + 1)

    def drop_items(self, items: Sequence[int] | Codes) -> None:
        """Leave out items with too few responses, and then learners who have too few without these items."""
        self._drop(np.isin(self._item[self._kept], items), Reason.FEW_ITEM_RESPONSES)
        self._drop_learners()

    def outcome(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """Code and score of each attempt, as in a `Judgement`."""
        return self._code, np.where(self._code < 0, self._score, np.int8(-1))

    def _drop_learners(self) -> None:
        learner = self._user[self._kept]
        self._drop((np.bincount(learner) < self._least)[learner], Reason.FEW_LEARNER_RESPONSES)

    def _drop(self, small: Mask, reason: Reason) -> None:
        self._code[self._kept[small]] = _CODE[reason]
        self._kept = self._kept[~small]


def items_with_few(responses: Iterable[tuple[K, int]], least: int, before: Container[K]) -> dict[K, int]:
    """Item → its number of responses, for items with fewer than `least` that are not in `before`."""
    return {item: n for item, n in responses if n < least and item not in before}


def counts_by_reason(code: npt.NDArray[np.int8]) -> dict[str, int]:
    """Number of attempts by reason ("scored": scored attempts).

    Reasons without an attempt have 0, except SCORE_MISSING and SEED, which are absent then.
    """
    tally = np.bincount(code + 1, minlength=len(_REASONS) + 1)
    counts = {"scored": int(tally[0])} | {str(r.value): int(tally[_CODE[r] + 1]) for r in _REASONS}
    return {reason: n for reason, n in counts.items() if n or reason not in (Reason.SCORE_MISSING, Reason.SEED)}


def count_rejected(counts: Mapping[str, int]) -> tuple[int, int]:
    """Number of rejected answers (rapid and unusable), and of all live answers of real learners, from counts by reason.

    An omission counts as an answer, because it is scored. Items that were not reached, and attempts of test accounts or
    in the sandbox, do not count.
    """
    no_answer = {reason for reason in Reason if not reason.meaning.is_answer}
    answers = sum(n for reason, n in counts.items() if reason not in no_answer)
    return sum(counts.get(reason, 0) for reason in Reason if reason.meaning.is_rejected), answers
