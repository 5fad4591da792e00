"""The rules of a scale by stage, with their ranges.

The reference page of the rules and the help of `irt scale set` are generated from `Rules`. What does not belong here:
judging attempts by them (see `responses.eligibility`), and acting on a gate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from irt_assets.common.wording import did_you_mean
from irt_psychometrics import PsychometricsError
from irt_psychometrics.items import Model, item_model
from irt_psychometrics.linking import AnchorLimits

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

HintRule = Literal["wrong", "exclude"]
AssignmentRule = Literal["linear", "by_level"]
Latent = Literal["normal", "histogram"]
LatentRule = Literal["normal", "histogram", "auto"]
HoldRule = Literal["warn", "hold"]
ScoreRule = Literal["eap", "test-curve", "normalised", "theta", "raw", "percent", "percentile"]
WITHOUT_THETA: tuple[ScoreRule, ...] = ("raw", "percent", "percentile")
"""Ways from a raw score to a reported score that need no published values."""
RoundingRule = Literal["half-up", "half-even", "not-up-to-pass"]
RetestRule = Literal["last", "best"]
Occasions = Literal["month", "week"]
"""Unit that counts as a person in a fit: a learner's month, or each of a learner's weeks in it."""
OCCASIONS: tuple[Occasions, ...] = get_args(Occasions)


class Stage(BaseModel):
    """Rules that one step of a month reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    change: ClassVar[str]
    """Sentence on the results that become stale if one of these rules is changed."""

    def non_defaults(self) -> dict[str, Any]:
        """The settings that differ from the defaults."""
        return self.model_dump(exclude_defaults=True)

    @property
    def hash(self) -> str:
        """SHA-256 of the settings. Two scales with the same hash are treated alike in this stage."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


Count = Annotated[int, Field(ge=1, le=10_000_000)]
Share = Annotated[float, Field(ge=0, le=1)]
UpTo100 = Annotated[float, Field(ge=0, le=100)]
MAX_REPORTED = 1_000_000.0
"""Largest absolute value of a reported score; a limit with this value has no effect."""
Reported = Annotated[float, Field(ge=-MAX_REPORTED, le=MAX_REPORTED)]


class AnswerRules(Stage):
    """Time for which a month stays open for answers."""

    change: ClassVar[str] = "A change moves the night in which months that are open close."

    late_days: int = Field(
        default=14,
        ge=0,
        le=3650,
        description="Days for which a month stays open after its end. Answers that arrive after the month has closed "
        "count only if a person reopens it.",
    )


class EligibilityRules(Stage):
    """Conditions for an attempt to count, and the numbers of responses that a fit needs."""

    change: ClassVar[str] = "A change makes the snapshot of every month stale, and everything computed from it."

    min_responses: Count = Field(default=500, description="Responses that an item needs to be published.")
    min_learner_responses: int = Field(
        default=5, ge=1, le=10_000, description="Responses that a learner needs to be part of a fit."
    )
    min_responses_3pl: Count = Field(
        default=1000,
        description="Responses that an item needs to be published under a 3PL, if this is more than `min_responses`.",
    )
    min_provisional_responses: Count = Field(
        default=200,
        description="Responses that an item needs to be fitted, if this is fewer than `min_responses`. The item is "
        "provisional until it has enough responses to be published.",
    )
    hinted: HintRule = Field(
        default="wrong",
        description="`wrong`: a correct answer with hints is scored as wrong. `exclude`: every answer with hints is "
        "excluded.",
    )
    rapid_share: Share = Field(
        default=0.10, description="An answer is rapid if it took less than this share of the item's median time."
    )
    rapid_cap_ms: float = Field(
        default=10_000.0, ge=0, le=3_600_000, description="An answer that took longer than this many ms is not rapid."
    )
    rapid_min_times: Count = Field(
        default=100, description="Known response times below which no answer to the item counts as rapid."
    )
    lookback_months: int = Field(
        default=12,
        ge=0,
        le=240,
        description="A learner's attempt on an item is a repeat if there is an earlier attempt within this many months "
        "before it.",
    )

    @property
    def min_fitted_responses(self) -> int:
        """Number of responses below which an item is not fitted."""
        return min(self.min_responses, self.min_provisional_responses)

    def min_published_responses(self, model: Model) -> int:
        """Number of responses below which a fitted item is provisional."""
        return (
            max(self.min_responses, self.min_responses_3pl)
            if item_model(model).has_parameter("c")
            else self.min_responses
        )


class FitRules(Stage):
    """Assumptions about the distribution of θ and the assignment of items."""

    change: ClassVar[str] = (
        "A change makes the fit of every month stale, and everything computed from it. The snapshots stay."
    )

    assignment: AssignmentRule = Field(
        default="linear",
        description="`linear`: items are assigned independently of ability. `by_level`: items are chosen by earlier "
        "ability; the scale is then fitted with groups by earlier θ.",
    )
    latent: LatentRule = Field(
        default="normal",
        description="Distribution of θ that `em` assumes: `normal`, `histogram`, or `auto`: a histogram under a 3PL, "
        "and if a test and a comparison of fits show that it is needed. With `assignment=by_level` each level has a "
        "normal distribution.",
    )

    @model_validator(mode="after")
    def _agree(self) -> FitRules:
        if self.latent == "histogram" and self.assignment == "by_level":
            raise PsychometricsError(
                "rules latent=histogram and assignment=by_level contradict each other: a scale by level is fitted with "
                "a normal distribution at each level; leave latent at normal or auto"
            )
        return self


class LinkingRules(Stage):
    """Conditions for an anchor to be used in linking."""

    change: ClassVar[str] = (
        "A change makes the linking of every month stale, and everything computed from it. The fits stay."
    )

    min_anchor_responses: Count = Field(
        default=200, description="Responses in the window that an anchor needs to be used for linking."
    )
    item_variation: Share = Field(
        default=0.10,
        description="SD by which an item's b is expected to vary from month to month, in addition to its error. "
        "Anchors that are far beyond both have moved.",
    )


class PublicationRules(Stage):
    """Limits of the gates. Set gates hold a month, and item gates hold back an item."""

    change: ClassVar[str] = (
        "A change makes nothing stale. Set gates are evaluated again at once, from the stored results of each month. "
        "The new limits hold items back the next time a month's publication step runs."
    )

    max_rejected_share: Share = Field(
        default=0.10,
        description="Set gate: largest share of rapid and unusable answers among live answers of real learners.",
    )
    max_abs_b: UpTo100 = Field(default=6.0, description="Item gate: an item with a larger |b| is held back.")
    max_b_se: UpTo100 = Field(
        default=1.0, description="Item gate: an item with a larger standard error of b is held back."
    )
    max_rmsd: Share = Field(
        default=0.05,
        description="Item gate: an item is held back if its RMSD is above this, and above the value that a sound item "
        "with the same number of responses exceeds once in 1,000 times.",
    )
    second_dimension: HoldRule = Field(
        default="warn", description="Whether a second dimension gives a warning or holds the month."
    )
    new_misfit: HoldRule = Field(
        default="warn",
        description="Whether a month gives a warning or is held if it fits the model worse than the scale's origin, "
        "its linking jumps, or its anchors moved against the other published items. It applies when the month is next "
        "materialised.",
    )
    # At least 3: the two linking constants fit any two anchors exactly.
    min_anchors: int = Field(
        default=5, ge=3, le=10_000, description="Set gate: number of usable anchors that must not have moved."
    )
    min_anchor_share: Share = Field(
        default=0.70, description="Set gate: share of the usable anchors that must not have moved."
    )
    max_item_variation: Share = Field(
        default=0.15,
        description="Set gate: largest SD by which the anchors' b may vary from month to month (its lower 95 % limit "
        "counts). Anchors that vary by more have no common scale.",
    )
    max_anchor_shift: UpTo100 = Field(
        default=0.10,
        description="Set gate: largest shift of the anchors as a group against the other published items, in SDs of "
        "the scale's population. A shift within 3 of its standard errors does not hold the month.",
    )
    max_linking_error: UpTo100 = Field(
        default=0.20,
        description="Set gate: largest standard error that linking may give b at either end of the bank.",
    )
    demanded_engines: str = Field(
        default="", title="engines", description="Set gate: engines that must have fitted the month."
    )

    @property
    def demands(self) -> tuple[str, ...]:
        """Names of the engines in `demanded_engines`."""
        return _names(self.demanded_engines)


class WarningRules(Stage):
    """Limits for warnings, and settings of the item, drift and DIF analyses. None of them holds a month."""

    change: ClassVar[str] = (
        "A change makes nothing stale. Item analysis, drift, DIF, group abilities and engine agreement use it when a "
        "month is next materialised."
    )

    warn_anchor_share: Share = Field(
        default=0.85, description="A check warns if a smaller share of the usable anchors has not moved."
    )
    warn_linking_error: UpTo100 = Field(
        default=0.10,
        description="A check warns if linking gives b at an end of the bank a larger standard error.",
    )
    agreement_max_se: UpTo100 = Field(
        default=1.5,
        description="A check warns if two engines differ by more standard errors in a or b of an item.",
    )
    agreement_max_rms: UpTo100 = Field(
        default=0.5,
        description="A check warns if two engines differ by more standard errors in the root mean square over all "
        "items.",
    )
    item_variation_max: Share = Field(
        default=0.10,
        description="Largest SD by which b of a bank's items may vary from month to month without counting as drift. "
        "If they vary by more, the month reports it, and its items are tested as if they varied by this SD.",
    )
    min_facility: Share = Field(
        default=0.15, description="Item analysis flags an item if its mean is a smaller share of its maximum score."
    )
    max_facility: Share = Field(
        default=0.95, description="Item analysis flags an item if its mean is a larger share of its maximum score."
    )
    min_item_rest: Share = Field(
        default=0.15, description="Item analysis flags an item if its item-rest correlation is smaller."
    )
    min_option_share: Share = Field(
        default=0.05, description="Item analysis flags a wrong option that a smaller share of the learners chose."
    )
    dif_attributes: str = Field(
        default="lang,country,tier",
        title="attributes",
        description="Learner attributes whose groups are compared for DIF and described by `group_abilities`. Empty: "
        "neither is computed.",
    )
    max_group_shift: UpTo100 = Field(
        default=0.05,
        description="A check warns if the mean ability of a group changed by more than this since the month before, in "
        "SDs of the scale's population, and by more than its error explains.",
    )

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names in `dif_attributes`, each once."""
        return tuple(dict.fromkeys(_names(self.dif_attributes)))


class ScoreRules(Stage):
    """The scale of the scores that are handed out."""

    change: ClassVar[str] = (
        "A change makes nothing stale. `form_score_tables` uses it when a month is next materialised. Released tables "
        "and issued scores stay as they are."
    )

    score_slope: float = Field(
        default=0.0,
        ge=0,
        le=MAX_REPORTED,
        description="Points of the reported scale for a difference of 1 in θ; with `score_by` normalised, raw, percent "
        "or percentile in the normal deviate, raw score, per cent or percentile rank. 0: no scores are reported. "
        "`score_points=44:700,65:1000` sets slope and intercept of the line through two points.",
    )
    score_intercept: Reported = Field(
        default=0.0, description="Reported score at θ = 0, or at the deviate, raw score, per cent or percentile rank 0."
    )
    score_step: float = Field(
        default=1.0, ge=0.001, le=1000, description="Reported scores are rounded to multiples of this."
    )
    score_rounding: RoundingRule = Field(
        default="half-up",
        description="Halves are rounded up (`half-up`), or to the even multiple of the step (`half-even`). "
        "`not-up-to-pass`: halves are rounded up, but a score below the pass mark is shown below the mark.",
    )
    score_lowest: Reported = Field(default=-MAX_REPORTED, description="Lowest obtainable score.")
    score_highest: Reported = Field(default=MAX_REPORTED, description="Highest obtainable score.")
    score_by: ScoreRule = Field(
        default="eap",
        description="How a raw score is reported: by the mean of θ given the raw score (`eap`), by θ where the test "
        "curve has it (`test-curve`), or by its percentile rank in the month's learners, as a normal deviate "
        "(`normalised`). Without published values: by the raw score itself (`raw`), its per cent of the form's maximum "
        "(`percent`), or its percentile rank (`percentile`). `theta`: forms have no tables, and scores are reported by "
        "each learner's θ.",
    )
    max_score_shift: float = Field(
        default=1.0,
        ge=0,
        le=MAX_REPORTED,
        description="A check fails if a month's table gives a raw score that differs by more points from the released "
        "table.",
    )
    retest: RetestRule = Field(
        default="last", description="Score that counts of a learner with several sittings: the `last` or the `best`."
    )

    @property
    def unit(self) -> str:
        """Unit of the pass mark, and of the line except for normalised scores: theta, raw, percent or percentile."""
        return self.score_by if self.score_by in WITHOUT_THETA else "theta"

    @model_validator(mode="after")
    def _agree(self) -> ScoreRules:
        if self.score_lowest >= self.score_highest:
            raise PsychometricsError(
                f"rules score_lowest={self.score_lowest:g} and score_highest={self.score_highest:g} contradict each "
                "other: set the lowest score below the highest"
            )
        return self


class SeedRules(Stage):
    """Limits for new items."""

    change: ClassVar[str] = "A change makes nothing stale. `item_pipeline` uses it from the next night on."

    seed_min_responses: Count = Field(
        default=100, description="Answers that a new item needs to be publishable by `item_pipeline`."
    )
    seed_max_b_se: UpTo100 = Field(
        default=0.25, description="Largest standard error of b with which a new item is publishable."
    )
    seed_max_ln_a_se: UpTo100 = Field(
        default=0.25, description="Largest standard error of ln a with which a new item is publishable."
    )
    seed_open_items: Count = Field(
        default=30,
        description="New items among which a draw chooses, at most: those with the most answers among the items that "
        "the learner may see. The others wait, so that the first items are publishable sooner.",
    )
    seed_random_share: Share = Field(
        default=0.2,
        description="Share of draws at random among the open items, so that learners of all abilities answer each.",
    )
    seed_per_session: Count = Field(default=5, description="Draws of new items in a session, at most.")
    seed_per_topic: Count = Field(default=5, description="Draws of new items of one topic in a session, at most.")
    seed_per_learner_day: Count = Field(
        default=10, description="Draws of new items for a learner a day (UTC), at most."
    )


class Rules(BaseModel):
    """The settings of a scale, by the stage of a month that reads them. Elsewhere they are named without a stage."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    answers: AnswerRules = AnswerRules()
    eligibility: EligibilityRules = EligibilityRules()
    fit: FitRules = FitRules()
    linking: LinkingRules = LinkingRules()
    publication: PublicationRules = PublicationRules()
    warnings: WarningRules = WarningRules()
    scores: ScoreRules = ScoreRules()
    seeding: SeedRules = SeedRules()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Rules:
        """The defaults, replaced by `settings`.

        Raises PsychometricsError if a name is not a rule, or a value has the wrong type or is out of range. The message
        has the most similar name, the valid names or the range.
        """
        unknown = [name for name in settings if name not in STAGE_OF]
        if unknown:
            hint = did_you_mean(unknown[0], STAGE_OF) or f"the rules are {', '.join(STAGE_OF)}"
            raise PsychometricsError(f"no such rule: {', '.join(unknown)}; {hint}")
        try:
            return cls.model_validate({stage: settings_of_stage(stage, settings) for stage in STAGES})
        except ValidationError as error:
            raise PsychometricsError(_explanation(error.errors()[0])) from None

    @property
    def anchor_limits(self) -> AnchorLimits:
        """The rules that linking reads."""
        return AnchorLimits(
            min_anchor_responses=self.linking.min_anchor_responses,
            item_variation=self.linking.item_variation,
            min_anchors=self.publication.min_anchors,
            warn_anchor_share=self.warnings.warn_anchor_share,
        )

    def settings(self) -> dict[str, Any]:
        """Every setting by name."""
        return {name: value for stage in STAGES for name, value in getattr(self, stage)}

    def non_defaults(self) -> dict[str, Any]:
        """The settings that differ from the defaults; `Rules.from_settings(rules.non_defaults()) == rules`."""
        return {name: value for stage in STAGES for name, value in getattr(self, stage).non_defaults().items()}

    def require_effect(self) -> None:
        """Raise PsychometricsError if a rule can have no effect next to the others, or leaves nothing to publish.

        Called when rules are set, not when they are read, so that a scale with such rules can still be read.
        """
        warned, held = self.warnings.warn_anchor_share, self.publication.min_anchor_share
        if warned < held:
            raise PsychometricsError(
                f"rules warn_anchor_share={warned:g} and min_anchor_share={held:g} contradict each other: a month "
                f"would be held before it is warned of; set warn_anchor_share to {held:g} or more, or "
                f"min_anchor_share to {warned:g} or less"
            )
        for name in ("max_abs_b", "max_b_se"):
            if getattr(self.publication, name) == 0:
                default = PublicationRules.model_fields[name].default
                raise PsychometricsError(
                    f"rule {name}=0 would hold back every item: set it above 0 (it is {default:g} by default)"
                )


STAGES: dict[str, type[Stage]] = {
    "answers": AnswerRules,
    "eligibility": EligibilityRules,
    "fit": FitRules,
    "linking": LinkingRules,
    "publication": PublicationRules,
    "warnings": WarningRules,
    "scores": ScoreRules,
    "seeding": SeedRules,
}
"""The stages in the order of a month."""
STAGE_OF = {name: stage for stage, rules in STAGES.items() for name in rules.model_fields}
"""The stage of every rule."""


def line_through(points: Any) -> dict[str, float]:
    """Return the rules of the line through two points, such as 44:700,65:1000.

    Raises PsychometricsError for other values.
    """
    try:
        (x, score), (other, other_score) = (map(float, point.split(":")) for point in points.split(","))
        slope = (other_score - score) / (other - x)
    except (AttributeError, ValueError, ZeroDivisionError):
        raise PsychometricsError(
            f"score_points must be two points of the line, such as 44:700,65:1000 for 700 at 44, got {points!r}"
        ) from None
    return {"score_slope": slope, "score_intercept": score - slope * x}


def settings_of_stage(stage: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that belong to a stage."""
    return {name: value for name, value in settings.items() if STAGE_OF.get(name) == stage}


def valid_values(rule: FieldInfo) -> str:
    """The valid values of a rule in words: its range, its choices, or the kind of names in its list."""
    kinds = get_args(rule.annotation)
    if kinds:
        return f"one of {', '.join(kinds)}"
    if rule.annotation is str:
        return f"{rule.title}, with commas"
    low, high = (getattr(limit, name) for limit, name in zip(rule.metadata, ("ge", "le"), strict=True))
    return f"from {low:,.10g} to {high:,.10g}"


def _explanation(error: ErrorDetails) -> str:
    """The message for a setting that pydantic rejected."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    stage, name = error["loc"]
    rule, value = STAGES[str(stage)].model_fields[str(name)], error["input"]
    match error["type"]:
        case "literal_error":
            return f"rule {name} must be {valid_values(rule)}, got {value!r}"
        case "string_type":
            return f"rule {name} must name {valid_values(rule)}; got {value!r}"
        case "int_type" | "float_type":
            wanted = "a number" if rule.annotation is float else "a whole number"
            return f"rule {name} must be {wanted}, got {value!r} ({type(value).__name__})"
    return f"rule {name} must be {valid_values(rule)}, got {value!r}"


def _names(setting: str) -> tuple[str, ...]:
    return tuple(name for part in setting.split(",") if (name := part.strip()))
