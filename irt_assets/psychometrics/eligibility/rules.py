"""Which attempts count, how they are scored, and why the others are left out.

Belongs here: the reasons, the rules with their ranges (`Rules`, the gates' limits among them), the judgement of the
attempts of one scale, and the proposal of a smaller minimum for a small log. Does not belong here: reading attempts,
knowing what was answered before (a repeat is told to us), and acting on a gate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.options import LatentRule, Model

Bools = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.integer[Any]]
Floats = npt.NDArray[np.float64]
HintRule = Literal["wrong", "exclude"]
AssignmentRule = Literal["linear", "by_level"]
HoldRule = Literal["warn", "hold"]


class Reason(StrEnum):
    """Why an attempt is not scored, in order of precedence: of several reasons the first is given."""

    SANDBOX = "sandbox"
    TEST_ACCOUNT = "test_account"
    UNUSABLE = "unusable"
    REPEAT = "repeat"
    NOT_REACHED = "not_reached"
    HINTED = "hinted"
    RAPID = "rapid"
    FEW_LEARNER_RESPONSES = "few_learner_responses"
    FEW_ITEM_RESPONSES = "few_item_responses"

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Reason.SANDBOX: "It was made in sandbox mode.",
    Reason.TEST_ACCOUNT: "The learner is a test account.",
    Reason.UNUSABLE: "The row contradicts itself, so it cannot be read as an answer.",
    Reason.REPEAT: "The learner had met the item within the look-back, and seen items are easier.",
    Reason.NOT_REACHED: "The item was shown and not answered, and no later item of an exam session was answered.",
    Reason.HINTED: "The learner took a hint, and this scale excludes hinted answers.",
    Reason.RAPID: "It was answered faster than the item can be read, so it says nothing about ability.",
    Reason.FEW_LEARNER_RESPONSES: "The learner has fewer responses than the scale's minimum.",
    Reason.FEW_ITEM_RESPONSES: "The item has fewer responses than the scale's minimum.",
}
_REASONS = tuple(Reason)
_CODE = {reason: code for code, reason in enumerate(_REASONS)}


@dataclass(frozen=True)
class Rules:
    """Settings of a scale. Counts are whole numbers, shares and levels lie in [0, 1].

    Attributes:
        min_responses: responses that an item needs to be published; min_responses_3pl: under a 3PL.
        min_provisional_responses: with so many, or with min_responses if these are fewer, an item is fitted; until it
            has enough to be published it is provisional.
        min_learner_responses: responses that a learner needs to be part of a fit.
        hinted: a correct answer with hints is scored wrong, or every hinted answer is excluded.
        rapid_share, rapid_cap_ms: an answer is rapid below this share of the item's median time, at most this many ms.
        rapid_min_times: below this many known times the item has no rule for rapid answers.
        max_rejected_share: set gate on rapid and unusable answers among live answers of real learners.
        lookback_months: a learner's attempt on an item is a repeat when an earlier one lies in these months.
        max_abs_b, max_b_se: item gates.
        max_rmsd: item gate: an RMSD above this, and above what a sound item with as many responses exceeds once in a
            thousand times, holds an item back.
        assignment: by what learners' items are chosen: forms that say nothing of the learner, or what was known of the
            learner before the window. A scale by level is fitted as groups by earlier θ.
        latent: what em takes for the distribution of θ: normal, a histogram, or (auto) a histogram where a test and a
            comparison of fits ask for one (see `latent_shape`). A scale by level has normal distributions, level by
            level.
        second_dimension: a second dimension is warned of, or holds the month.
        new_misfit: a month that follows the model worse than the scale's origin, whose linking jumps or whose values
            move θ on the same answers is warned of, or held.
        min_anchor_responses: an anchor with fewer responses in the window is not used for linking.
        min_anchors, min_anchor_share: how many, and which share, of the usable anchors purification must leave.
        warn_anchor_share: below this share left, warn.
        anchor_q_alpha: set gate: anchors disagree where the Q test's p is below this.
        demanded_engines: set gate: engines whose fit of the month there must be, with commas.
        agreement_max_se, agreement_max_rms: a check warns where two engines differ by more standard errors in a or b,
            on one item or in the root mean square over all.
        dif_attributes: learner attributes whose groups DIF is looked for between, with commas; none where empty.
    """

    min_responses: int = 500
    min_learner_responses: int = 5
    min_responses_3pl: int = 1000
    min_provisional_responses: int = 200
    hinted: HintRule = "wrong"
    rapid_share: float = 0.10
    rapid_cap_ms: float = 10_000.0
    rapid_min_times: int = 100
    max_rejected_share: float = 0.10
    lookback_months: int = 12
    max_abs_b: float = 6.0
    max_b_se: float = 1.0
    max_rmsd: float = 0.05
    assignment: AssignmentRule = "linear"
    latent: LatentRule = "normal"
    second_dimension: HoldRule = "warn"
    new_misfit: HoldRule = "warn"
    min_anchor_responses: int = 200
    min_anchors: int = 5
    min_anchor_share: float = 0.70
    warn_anchor_share: float = 0.85
    anchor_q_alpha: float = 0.01
    demanded_engines: str = ""
    agreement_max_se: float = 1.5
    agreement_max_rms: float = 0.5
    dif_attributes: str = "lang,country,tier"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_setting(field.name, getattr(self, field.name), type(field.default))
        if self.latent == "histogram" and self.assignment == "by_level":
            raise PsychometricsError(
                "rules latent=histogram and assignment=by_level contradict each other: a scale by level is fitted with "
                "a normal distribution at each level; leave latent at normal or auto"
            )

    @property
    def demands(self) -> tuple[str, ...]:
        """The names in `demanded_engines`."""
        return _names(self.demanded_engines)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names in `dif_attributes`, each once."""
        return tuple(dict.fromkeys(_names(self.dif_attributes)))

    @property
    def min_fitted_responses(self) -> int:
        """Below, an item is not fitted."""
        return min(self.min_responses, self.min_provisional_responses)

    def min_published_responses(self, model: Model) -> int:
        """Below, an item that is fitted is provisional."""
        return max(self.min_responses, self.min_responses_3pl) if model == "3pl" else self.min_responses

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Rules:
        """The defaults with `settings` laid over them.

        Raises PsychometricsError for a name that is not a rule, a value of another type, or one out of its range;
        the message lists the valid names or the range.
        """
        valid = [field.name for field in dataclasses.fields(cls)]
        unknown = [name for name in settings if name not in valid]
        if unknown:
            raise PsychometricsError(f"no such rule: {', '.join(unknown)}; the rules are {', '.join(valid)}")
        return cls(**settings)

    def require_effect(self) -> None:
        """Raises PsychometricsError where a rule can have no effect beside the others, or leaves nothing to publish.

        For rules that somebody sets: a scale that has had them for long is still read.
        """
        if self.warn_anchor_share < self.min_anchor_share:
            raise PsychometricsError(
                f"rules warn_anchor_share={self.warn_anchor_share:g} and min_anchor_share={self.min_anchor_share:g} "
                "contradict each other: a month would be held before it is warned of; set warn_anchor_share to "
                f"{self.min_anchor_share:g} or more, or min_anchor_share to {self.warn_anchor_share:g} or less"
            )
        for name in ("max_abs_b", "max_b_se"):
            if getattr(self, name) == 0:
                default = getattr(type(self), name)
                raise PsychometricsError(
                    f"rule {name}=0 would hold back every item: set it above 0 (it is {default:g} by default)"
                )

    def changed(self) -> dict[str, Any]:
        """The settings that differ from the defaults; `Rules.from_settings(rules.changed()) == rules`."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    def changed_for_a_fit(self) -> dict[str, Any]:
        """Of `changed`, how a month's answers are judged: to change another setting makes no snapshot stale. What is
        taken for the distribution of θ concerns the fit alone, which says it by itself."""
        of_others = ("dif_attributes", "latent", "new_misfit")
        return {name: value for name, value in self.changed().items() if name not in of_others}


def _names(setting: str) -> tuple[str, ...]:
    return tuple(name for part in setting.split(",") if (name := part.strip()))


_RANGES: dict[str, tuple[float, float]] = {
    "min_responses": (1, 10_000_000),
    "min_responses_3pl": (1, 10_000_000),
    "min_provisional_responses": (1, 10_000_000),
    "min_learner_responses": (1, 10_000),
    "rapid_share": (0, 1),
    "rapid_cap_ms": (0, 3_600_000),
    "rapid_min_times": (1, 10_000_000),
    "max_rejected_share": (0, 1),
    "lookback_months": (0, 240),
    "max_abs_b": (0, 100),
    "max_b_se": (0, 100),
    "max_rmsd": (0, 1),
    "min_anchor_responses": (1, 10_000_000),
    "min_anchors": (3, 10_000),  # two constants fit two anchors whatever these are
    "min_anchor_share": (0, 1),
    "warn_anchor_share": (0, 1),
    "anchor_q_alpha": (0, 1),
    "agreement_max_se": (0, 100),
    "agreement_max_rms": (0, 100),
}


_CHOICES: dict[str, tuple[str, ...]] = {
    "hinted": get_args(HintRule),
    "assignment": get_args(AssignmentRule),
    "latent": get_args(LatentRule),
    "second_dimension": get_args(HoldRule),
    "new_misfit": get_args(HoldRule),
}

_LISTS = {"dif_attributes": "attributes", "demanded_engines": "engines"}


def _check_setting(name: str, value: object, kind: type) -> None:
    if name in _LISTS:
        if not isinstance(value, str):
            raise PsychometricsError(f"rule {name} must name {_LISTS[name]}, with commas; got {value!r}")
        return
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise PsychometricsError(f"rule {name} must be one of {', '.join(_CHOICES[name])}, got {value!r}")
        return
    accepted = (int, float) if kind is float else (int,)
    if isinstance(value, bool) or not isinstance(value, accepted):
        wanted = "a number" if kind is float else "a whole number"
        raise PsychometricsError(f"rule {name} must be {wanted}, got {value!r} ({type(value).__name__})")
    low, high = _RANGES[name]
    if not low <= value <= high:  # also refuses NaN
        raise PsychometricsError(f"rule {name} must lie in [{low:g}, {high:g}], got {value!r}")


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


@dataclass(frozen=True)
class Option:
    """What a minimum of responses per item would give.

    Attributes:
        min_responses: the setting.
        items_admitted, share_admitted: how many of the log's items reach it, and which share.
        expected_b_se: SE(b) to expect of an item that just reaches it (unit: SD of θ).
    """

    min_responses: int
    items_admitted: int
    share_admitted: float
    expected_b_se: float


MINIMA = (500, 400, 300, 250, 200, 150, 125, 100, 75, 50)
_ENOUGH_ITEMS = 0.90


def expected_b_se(n: float) -> float:
    """SE(b) that n responses to a medium 2PL item (a = 1, b = 0) by learners θ ~ N(0, 1) can give, for n ≥ 1.

    The expected information of one response about (a, b) is E[P(1 − P) · g gᵀ] with g = (θ − b, −a). At b = 0 the
    off-diagonal term E[P(1 − P) θ] is zero by symmetry, so Var(b) = 1 / (n · a² · E[P(1 − P)]), with
    E[P(1 − P)] = 0.2066. It is a floor: it treats θ as known (with 20 items of a ≈ 1 a learner SE(b) is some 15 %
    larger), and an item far from the learners or flatter than a = 1 has more.
    """
    theta, weight = np.polynomial.hermite_e.hermegauss(41)
    p = 1 / (1 + np.exp(-theta))
    return float(1 / np.sqrt(n * np.sum(weight * p * (1 - p)) / np.sum(weight)))


def propose_minimum(n_per_item: npt.ArrayLike, minima: Sequence[int] = MINIMA) -> list[Option]:
    """What each of `minima`, largest first, would admit of a log with `n_per_item` (shape (J,)) responses per item.

    The counts are those before the two sample-size filters (`judge` with both off). Items that drop out may take
    learners below their own minimum, so an option near a count may admit fewer.
    """
    n = np.asarray(n_per_item)
    if n.size == 0:
        raise PsychometricsError("the log has no items, so no minimum can be proposed: look at the counts by reason")
    return [
        Option(m, int(np.count_nonzero(n >= m)), float(np.mean(n >= m)), expected_b_se(m))
        for m in sorted(minima, reverse=True)
    ]


def recommend(options: Sequence[Option]) -> Option:
    """The largest minimum that keeps nine items in ten; where none does, the smallest on offer.

    The smallest of `MINIMA` is 50: below it SE(b) exceeds 0.3, and a 2PL slope is more noise than measure.
    """
    ordered = sorted(options, key=lambda option: -option.min_responses)
    return next((option for option in ordered if option.share_admitted >= _ENOUGH_ITEMS), ordered[-1])
