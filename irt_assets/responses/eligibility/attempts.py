"""Which attempts of a scale count, how they are scored, and why the others are left out.

Does not belong here: reading attempts, and knowing what was answered before (the caller names the repeats).
"""

import dataclasses
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.responses.eligibility.rules import Rules
from irt_psychometrics import PsychometricsError

Codes = npt.NDArray[np.integer[Any]]
K = TypeVar("K", bound=Hashable)
NO_SCORE = np.iinfo(np.int16).min


@dataclass(frozen=True)
class Attempts:
    """R attempts of one scale, one array of shape (R,) per column, but for what is known of its J items.

    Attributes:
        user, item: codes ≥ 0 (small whole numbers: arrays of max + 1 counts are made from them).
        live: made in live mode. is_test: by a test account. unknown_item: the bank does not know the item.
        seen_before: the learner met the item earlier within the look-back.
        exam: made inside an exam session. answered_later: a later item of that session was answered.
        correct: int8; 1 for full credit, else 0, or −1 where shown and not answered.
        hints: int32; hints taken, −1 where unknown.
        time_ms: response time, NaN where unknown.
        item_median_ms, item_n_timed: shape (J,), by code; the item's median time over its live answers, and how many
            times that is of. item_timed: the place of each attempt in them where they are as of several times, and then
            of any length; None: its item's code.
        score: int16; the score from 0, `NO_SCORE` where what `correct` says is all that is known; None: everywhere.
        max_score: int16; the highest score of the attempt's item; None: 1 everywhere.
    """

    user: Codes
    item: Codes
    live: Mask
    is_test: Mask
    unknown_item: Mask
    seen_before: Mask
    exam: Mask
    answered_later: Mask
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
        """Whether the attempt is to an item with more than right and wrong."""
        return np.zeros(self.size, dtype=bool) if self.max_score is None else self.max_score > 1

    @property
    def points(self) -> npt.NDArray[np.int8]:
        """The score: of right and wrong 1 and 0, of full credit the highest one; −1 where nobody knows it."""
        points = self.correct
        if self.score is not None and self.max_score is not None:
            by_correct = np.where(self.correct == 1, self.max_score, -1)
            known = np.where(self.score != NO_SCORE, self.score, by_correct)
            points = np.where(self.scored, known, points).astype(np.int8)
        return points

    @property
    def contradictory(self) -> Mask:
        """Whether a score is none that the item can have, or is not what `correct` says."""
        if self.score is None or self.max_score is None:
            return np.zeros(self.size, dtype=bool)
        beyond = (self.score < 0) | (self.score > self.max_score)
        is_given = self.scored & (self.score != NO_SCORE)
        return is_given & (beyond | (self.correct != (self.score == self.max_score)))


@dataclass(frozen=True)
class _Meaning:
    """What others ask of a reason.

    Attributes:
        value: its name as it is stored.
        explanation: what it means, for people.
        applies: shape (R,), the attempts that it applies to by themselves; None for a minimum.
        is_answer: real learners' answers and omissions in live mode, of which the rejected are a share.
        is_rejected: counts as rejected.
        shows_drift: drift of an item is looked for in such answers, too: leaks show in rapid ones.
    """

    value: str
    explanation: str
    applies: Callable[[Attempts, Rules], Mask] | None = None
    is_answer: bool = True
    is_rejected: bool = False
    shows_drift: bool = True


def _rapid(attempts: Attempts, rules: Rules) -> Mask:
    """Comparisons with an unknown time or median (NaN) are false: such an answer is kept."""
    limit = np.minimum(rules.eligibility.rapid_share * attempts.item_median_ms, rules.eligibility.rapid_cap_ms)
    limit[attempts.item_n_timed < rules.eligibility.rapid_min_times] = np.nan
    return attempts.answered & (
        attempts.time_ms < limit[attempts.item if attempts.item_timed is None else attempts.item_timed]
    )


def _wrong_by_hint(attempts: Attempts, rules: Rules) -> Mask:
    return attempts.hinted & (rules.eligibility.hinted == "wrong")


class Reason(StrEnum):
    """Why an attempt is not scored, in order of precedence: of several reasons the first is given."""

    meaning: _Meaning

    def __new__(cls, meaning: _Meaning | str) -> Self:
        assert isinstance(meaning, _Meaning)  # a text is looked up among the values
        name = str.__new__(cls, meaning.value)
        name._value_, name.meaning = meaning.value, meaning
        return name

    @property
    def explanation(self) -> str:
        return self.meaning.explanation

    SANDBOX = _Meaning("sandbox", "It was made in sandbox mode.", lambda attempts, _: ~attempts.live, is_answer=False)
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
        "It has not full credit, and nobody knows how much it has: the item is scored from 0 to more than 1.",
        lambda attempts, rules: attempts.answered & (attempts.points < 0) & ~_wrong_by_hint(attempts, rules),
    )
    HINTED = _Meaning(
        "hinted",
        "The learner took a hint, and this scale excludes hinted answers.",
        lambda attempts, rules: attempts.hinted & (rules.eligibility.hinted == "exclude"),
    )
    RAPID = _Meaning(
        "rapid",
        "It was answered faster than the item can be read, so it says nothing about ability.",
        _rapid,
        is_rejected=True,
    )
    FEW_LEARNER_RESPONSES = _Meaning(
        "few_learner_responses", "The learner has fewer responses than the scale's minimum."
    )
    FEW_ITEM_RESPONSES = _Meaning("few_item_responses", "The item has fewer responses than the scale's minimum.")


_REASONS = tuple(Reason)
_CODE = {reason: code for code, reason in enumerate(_REASONS)}


@dataclass(frozen=True)
class Judgement:
    """What became of each of R attempts.

    Attributes:
        code: int8, shape (R,). Place in `Judgement.REASONS`; −1 where the attempt is scored.
        score: int8, shape (R,). From 0 to the item's highest score; −1 where the attempt is not scored.
        counts: attempts as `counts_by_reason` has them; they sum to R.
        few_items: item code → responses it had when it was left out for having too few.
    """

    code: npt.NDArray[np.int8]
    score: npt.NDArray[np.int8]
    counts: dict[str, int]
    few_items: dict[int, int]

    REASONS = _REASONS

    @property
    def scored(self) -> Mask:
        """Shape (R,): which attempts are responses."""
        return self.code < 0

    @property
    def n_responses(self) -> int:
        return self.counts["scored"]


def judge(attempts: Attempts, rules: Rules, *, min_learner: bool = True, min_item: bool = True) -> Judgement:
    """Give every attempt a score or the first reason that applies to it.

    A null `correct` is an omission, scored 0, where a later item of an exam session was answered. A rapid answer is
    one with time < min(rapid_share · median, rapid_cap_ms), whether it is right or wrong; omissions are not judged by
    time. Learners with too few responses go first, then items, until both minima hold for what is left.

    `min_learner=False` and `min_item=False` leave those filters out: abilities are reported for every learner, and
    from answers to items that were published long ago.
    """
    part = JudgedLearners.from_attempts(attempts, rules, min_learner=min_learner)
    return part.with_minimum(rules.eligibility.min_fitted_responses if min_item else 0)


class JudgedLearners:
    """Some learners' attempts of one scale, all of each learner, judged as `judge` says but for the minimum of items:
    that needs the responses of everybody.

    Whoever has them, counted over all parts (`responses`), drops the `items_with_few` from every part, and counts again
    until there are none.
    """

    def __init__(
        self, user: Codes, item: Codes, code: npt.NDArray[np.int8], score: npt.NDArray[np.int8], least: int
    ) -> None:
        """Begin from codes and scores as a `Judgement` without minima has them; a learner needs `least` responses."""
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
        """Leave out items with fewer responses than `least` if these are everybody's attempts."""
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
        """Responses that are left, by code of the item up to the highest that occurs."""
        highest = int(self._item.max()) if self._item.size else -1
        return np.bincount(self._item[self._kept], minlength=highest + 1)

    def drop_items(self, items: Sequence[int] | Codes) -> None:
        """Leave out items, which have too few responses, and then the learners who have too few without them."""
        self._drop(np.isin(self._item[self._kept], items), Reason.FEW_ITEM_RESPONSES)
        self._drop_learners()

    def outcome(self) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]]:
        """Code and score of each attempt, as a `Judgement` has them."""
        return self._code, np.where(self._code < 0, self._score, np.int8(-1))

    def _drop_learners(self) -> None:
        learner = self._user[self._kept]
        self._drop((np.bincount(learner) < self._least)[learner], Reason.FEW_LEARNER_RESPONSES)

    def _drop(self, small: Mask, reason: Reason) -> None:
        self._code[self._kept[small]] = _CODE[reason]
        self._kept = self._kept[~small]


def items_with_few(responses: Iterable[tuple[K, int]], least: int, before: Container[K]) -> dict[K, int]:
    """The items with fewer responses than `least` that were not dropped `before`, and how many each has."""
    return {item: n for item, n in responses if n < least and item not in before}


def counts_by_reason(code: npt.NDArray[np.int8]) -> dict[str, int]:
    """Attempts by reason, every reason present but SCORE_MISSING where it has none, those that are scored under
    "scored"."""
    tally = np.bincount(code + 1, minlength=len(_REASONS) + 1)
    counts = {"scored": int(tally[0])} | {str(r.value): int(tally[_CODE[r] + 1]) for r in _REASONS}
    return {reason: n for reason, n in counts.items() if n or reason != Reason.SCORE_MISSING}


def rejected(counts: Mapping[str, int]) -> tuple[int, int]:
    """Rejected answers (rapid and unusable) and all live answers of real learners, from counts by reason.

    An omission counts as an answer, as it is scored; what was not reached, and what was ineligible for who or how it
    was answered in (test accounts, sandbox), does not count.
    """
    no_answer = {reason for reason in Reason if not reason.meaning.is_answer}
    answers = sum(n for reason, n in counts.items() if reason not in no_answer)
    return sum(counts.get(reason, 0) for reason in Reason if reason.meaning.is_rejected), answers
