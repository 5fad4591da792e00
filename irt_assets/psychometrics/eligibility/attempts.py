"""Which attempts of a scale count, how they are scored, and why the others are left out.

Does not belong here: reading attempts, and knowing what was answered before (the caller names the repeats).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.anchors import Bools
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Floats
from irt_assets.psychometrics.eligibility.rules import Reason, Rules

Codes = npt.NDArray[np.integer[Any]]
_REASONS = tuple(Reason)
_CODE = {reason: code for code, reason in enumerate(_REASONS)}


@dataclass(frozen=True)
class Attempts:
    """R attempts of one scale, one array of shape (R,) per column.

    Attributes:
        user, item: codes ≥ 0 (small whole numbers: arrays of max + 1 counts are made from them).
        live: made in live mode. test_account: by a test account. unusable: the row contradicts itself.
        repeat: the learner met the item earlier within the look-back.
        exam: made inside an exam session. answered_later: a later item of that session was answered.
        correct: int8; 1, 0, or −1 where shown and not answered.
        hints: int32; hints taken, −1 where unknown.
        time_ms: response time, NaN where unknown.
        item_median_ms, item_n_timed: the item's median time over its live answers, and how many times that is of.
    """

    user: Codes
    item: Codes
    live: Bools
    test_account: Bools
    unusable: Bools
    repeat: Bools
    exam: Bools
    answered_later: Bools
    correct: npt.NDArray[np.int8]
    hints: npt.NDArray[np.int32]
    time_ms: Floats
    item_median_ms: Floats
    item_n_timed: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            shape = getattr(self, field.name).shape
            if shape != (self.size,):
                raise PsychometricsError(f"column {field.name} has shape {shape}, user has {self.user.shape}")
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


@dataclass(frozen=True)
class Judgement:
    """What became of each of R attempts.

    Attributes:
        code: int8, shape (R,). Place in `Judgement.REASONS`; −1 where the attempt is scored.
        score: int8, shape (R,). 0 or 1; −1 where the attempt is not scored.
        counts: attempts by reason, every reason present, those that count under "scored"; they sum to R.
        few_items: item code → responses it had when it was left out for having too few.
        n_persons, n_items: with a scored attempt.
    """

    code: npt.NDArray[np.int8]
    score: npt.NDArray[np.int8]
    counts: dict[str, int]
    few_items: dict[int, int]
    n_persons: int
    n_items: int

    REASONS = _REASONS

    @property
    def scored(self) -> Bools:
        """Shape (R,): which attempts are responses."""
        return self.code < 0

    @property
    def n_responses(self) -> int:
        return self.counts["scored"]

    def reason_column(self) -> npt.NDArray[np.object_]:
        """Shape (R,): the reason as text, None where scored."""
        return np.array([*(str(reason.value) for reason in _REASONS), None], dtype=object)[self.code]


def judge(attempts: Attempts, rules: Rules, *, min_learner: bool = True, min_item: bool = True) -> Judgement:
    """Give every attempt a score or the first reason that applies to it.

    A null `correct` is an omission, scored 0, where a later item of an exam session was answered. A rapid answer is
    one with time < min(rapid_share · median, rapid_cap_ms), whether it is right or wrong; omissions are not judged by
    time. Learners with too few responses go first, then items, until both minima hold for what is left.

    `min_learner=False` and `min_item=False` leave those filters out: abilities are reported for every learner, and
    from answers to items that were published long ago.
    """
    answered = attempts.correct >= 0
    hinted = answered & (attempts.hints > 0)
    score = np.maximum(attempts.correct, 0).astype(np.int8)
    if rules.hinted == "wrong":
        score[hinted] = 0

    code = np.full(attempts.size, -1, np.int8)
    last_to_first = (
        (Reason.RAPID, answered & _rapid(attempts, rules)),
        (Reason.HINTED, hinted & (rules.hinted == "exclude")),
        (Reason.NOT_REACHED, ~answered & ~(attempts.exam & attempts.answered_later)),
        (Reason.REPEAT, attempts.repeat),
        (Reason.UNUSABLE, attempts.unusable),
        (Reason.TEST_ACCOUNT, attempts.test_account),
        (Reason.SANDBOX, ~attempts.live),
    )
    for reason, applies in last_to_first:
        code[applies] = _CODE[reason]
    few_items = _filter_small(
        attempts, code, rules.min_learner_responses if min_learner else 0, rules.min_fitted_responses if min_item else 0
    )

    score[code >= 0] = -1
    tally = np.bincount(code + 1, minlength=len(_REASONS) + 1)
    counts = {"scored": int(tally[0])} | {str(r.value): int(tally[_CODE[r] + 1]) for r in _REASONS}
    return Judgement(
        code=code,
        score=score,
        counts=counts,
        few_items=few_items,
        n_persons=_n_distinct(attempts.user[code < 0]),
        n_items=_n_distinct(attempts.item[code < 0]),
    )


def rejected(counts: Mapping[str, int]) -> tuple[int, int]:
    """Rejected answers (rapid and unusable) and all live answers of real learners, from counts by reason.

    An omission counts as an answer, as it is scored; what was not reached, and what was ineligible for who or how it
    was answered in (test accounts, sandbox), does not count.
    """
    no_answer = (Reason.SANDBOX, Reason.TEST_ACCOUNT, Reason.NOT_REACHED)
    answers = sum(n for reason, n in counts.items() if reason not in no_answer)
    return counts.get(Reason.RAPID, 0) + counts.get(Reason.UNUSABLE, 0), answers


def _rapid(attempts: Attempts, rules: Rules) -> Bools:
    """Comparisons with an unknown time or median (NaN) are false: such an answer is kept."""
    limit = np.minimum(rules.rapid_share * attempts.item_median_ms, rules.rapid_cap_ms)
    return (attempts.item_n_timed >= rules.rapid_min_times) & (attempts.time_ms < limit)


def _filter_small(attempts: Attempts, code: npt.NDArray[np.int8], min_user: int, min_item: int) -> dict[int, int]:
    """Write the two FEW_ reasons into `code` until both minima hold; returns the dropped items and their counts."""
    kept = np.flatnonzero(code < 0)
    items_left = np.flatnonzero(np.bincount(attempts.item)) if attempts.size else np.empty(0, np.int64)
    few_items: dict[int, int] = {}
    while True:
        n_of_user = np.bincount(attempts.user[kept])
        small = n_of_user[attempts.user[kept]] < min_user
        code[kept[small]] = _CODE[Reason.FEW_LEARNER_RESPONSES]
        kept = kept[~small]

        n_of_item = np.bincount(attempts.item[kept], minlength=int(items_left[-1]) + 1 if items_left.size else 0)
        dropped = items_left[n_of_item[items_left] < min_item]
        if dropped.size == 0:
            return few_items  # learners were filtered last on these very items, so both minima hold
        few_items |= {int(j): int(n_of_item[j]) for j in dropped}
        items_left = np.setdiff1d(items_left, dropped)
        small = n_of_item[attempts.item[kept]] < min_item
        code[kept[small]] = _CODE[Reason.FEW_ITEM_RESPONSES]
        kept = kept[~small]


def _n_distinct(codes: Codes) -> int:
    return int(np.count_nonzero(np.bincount(codes))) if codes.size else 0
