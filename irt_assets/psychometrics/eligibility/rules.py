"""The reasons for which attempts do not count, and the rules of a scale with their ranges.

Belongs here: `Rules`, the limits of gates among them. Does not belong here: judging attempts by them (see `attempts`),
and acting on a gate.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, get_args

from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.options import LatentRule, Model

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


@dataclass(frozen=True)
class Rules:
    """Settings of a scale. Counts are whole numbers, shares and levels lie in [0, 1].

    Attributes:
        min_responses: responses that an item needs to be published; min_responses_3pl: under a 3PL.
        min_provisional_responses: with this many, or with min_responses if these are fewer, an item is fitted; until it
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
        assignment: `linear` if items are assigned independently of ability, `by_level` if they were chosen from earlier
            ability. A scale by level is fitted as groups by earlier θ.
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
        """An item with fewer responses is not fitted."""
        return min(self.min_responses, self.min_provisional_responses)

    def min_published_responses(self, model: Model) -> int:
        """A fitted item with fewer responses is provisional."""
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
        """Raises PsychometricsError where a rule can have no effect next to the others, or leaves nothing to publish.

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
        """The part of `changed` that decides how a month's answers are judged: to change another setting makes no
        snapshot stale. What is taken for the distribution of θ concerns the fit alone, which says it by itself."""
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
