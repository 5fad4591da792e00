"""Types of the facts stored with a fit besides its parameters: how it was made, how well it describes the answers, and
how it was placed on the scale.

They are stored as JSON in two columns of nearly the same form: `fit_staging.spec` of a fit before linking
(`StagedSpec`) and `mirt_fit_meta.model_spec` of a linked fit (`LinkedSpec`). Every key is written; an unknown fact is
None or an empty collection. Unknown keys, missing keys and wrong types are errors. Fits are judged in `gates`.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from irt_assets.common.arrays import Floats
from irt_assets.scales.rules import Latent, LatentRule, Occasions, PublicationRules
from irt_psychometrics import PsychometricsError
from irt_psychometrics.estimation import Shape
from irt_psychometrics.itemfit import Measure, WindowGrowth
from irt_psychometrics.items import Priors, ScaleModel, item_model
from irt_psychometrics.linking import Linking, Suspect
from resources.failures import PermanentFailure

VERSION = 1
"""Version of the stored form."""


class Part(BaseModel):
    """A JSON object with a fixed set of keys. Keys with their default value are stored, too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], fit: str) -> Self:
        """Read the output of `as_json`. `fit` names the fit in errors. Raises PermanentFailure if it cannot be read."""
        return cls._parse(stored, fit, "forbid")

    @classmethod
    def _parse(cls, stored: Mapping[str, Any], fit: str, unknown: Literal["forbid", "ignore"]) -> Self:
        try:
            found = cls.model_validate_json(json.dumps(stored), extra=unknown)
            problems = [f"{key} is missing" for key in _missing(found.as_json(), stored)]
        except ValidationError as error:
            problems = [
                _problem(problem["type"], ".".join(map(str, problem["loc"])), problem["msg"])
                for problem in error.errors()
            ]
        if problems:
            raise PermanentFailure(
                f"the facts stored with the fit {fit} cannot be read: {'; '.join(problems)}. Materialise "
                "item_calibration again for its window. If nobody changed the row by hand, report a fault"
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """The JSON object that is stored."""
        return self.model_dump(mode="json")


def _problem(kind: str, key: str, message: str) -> str:
    if kind == "missing":
        return f"{key} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key} is an unknown key"
    return ": ".join(filter(None, (key, message.removeprefix("Value error, "))))


def _missing(read: Any, stored: Any, at: str = "") -> Iterator[str]:
    """Paths of the keys that are missing in `stored`, for which `read` has defaults."""
    if isinstance(read, dict):
        for name, value in read.items():
            if name in stored:
                yield from _missing(value, stored[name], f"{at}{name}.")
            else:
                yield f"{at}{name}"
    elif _holds_objects(read):
        for item, stored_item in zip(read, stored, strict=True):
            yield from _missing(item, stored_item, at)


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict | list)


# -- how the fit was made ------------------------------------------------------------------------------


def _read_priors(stored: Any) -> Priors:
    if isinstance(stored, Priors):
        return stored
    try:
        return Priors.from_dict(stored)
    except (PsychometricsError, AttributeError, TypeError) as error:
        raise ValueError(str(error)) from None


ScalePriors = Annotated[Priors, PlainValidator(_read_priors), PlainSerializer(Priors.as_dict)]


class Draws(Part):
    """The file with a fit's posterior draws: its key in the object store and its hash."""

    uri: str
    sha256: str


class Sampling(Part):
    """Convergence diagnostics of the posterior draws."""

    max_rhat: float | None
    min_ess: float | None
    divergences: int


class Sample(Part):
    """Size of the random sample of learners and scored answers drawn from `of_learners` and `of_answers`.

    The fit itself, infit, outfit, RMSD and item-rest correlations use all learners; the other statistics use the
    sample.
    """

    learners: int
    answers: int
    of_learners: int
    of_answers: int

    def __str__(self) -> str:
        return (
            f"a random sample of {self.learners:,} of {self.of_learners:,} learners, with {self.answers:,} of "
            f"{self.of_answers:,} scored answers"
        )


class Assignment(Part):
    """Correlation of item difficulty with the learner's earlier θ, over the answers of `learners` of the `of` learners
    of the window."""

    correlation: float | None
    learners: int
    of: int


class FittedPopulation(Part):
    name: str
    learners: int
    mean: float
    sd: float


class Testlets(Part):
    """SD of testlet effects, or the reason `why` it is None, and the testlet `of` each item (item → testlet).

    In a linked fit `sd` and `se` are in units of the bank's scale, and `raw_sd` is in units of the fit.
    """

    sd: float | None
    se: float | None
    n_testlets: int
    n_items: int
    learners: int
    of: dict[str, str]
    why: str = ""
    raw_sd: float | None = None


# -- how well it describes the answers -----------------------------------------------------------------


class LearnersUsed(Part):
    """Numbers of learners used for the statistics of items, for the statistics of the set, and in parallel analysis."""

    items: int
    set: int
    parallel: int


class Patterns(Part):
    """Number of learners with an lz*, and the shares of them below its `level` (`unlikely`) and 2 % quantiles
    (`rare`)."""

    learners: int
    unlikely: float | None
    level: float
    rare: float | None = None


class Pair(Part):
    """Two items, their Q3, and the number of learners who answered both."""

    items: tuple[str, str]
    q3: float | None
    n: int


class LocalDependence(Part):
    """Yen's Q3 over the pairs with enough learners: the mean, the number of flagged pairs, and the largest of these."""

    pairs: int
    mean: float | None
    flagged: int
    largest: tuple[Pair, ...]
    clusters: tuple[tuple[str, ...], ...] = ()


class Parallel(Part):
    """Parallel analysis of the residual correlations: the largest eigenvalue, observed and expected under the model.

    Attributes:
        under_model: largest eigenvalue of each simulated round.
        se: standard error of the eigenvalue.
        learners: number of learners used.
        together: items that contribute most to the eigenvalue.

    Older fits lack these four.
    """

    eigenvalue: float
    expected: float
    rounds: int
    p: float
    under_model: tuple[float, ...] = ()
    se: float | None = None
    learners: int = 0
    together: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        return self.eigenvalue / self.expected


class Form(Part):
    """M₂ of a form: numbers of items and learners, the statistic, and RMSEA₂."""

    items: int
    learners: int
    m2: float | None
    df: int
    p: float | None
    rmsea: float | None


class SplitHalfDifference(Part):
    """Difference in θ (`apart`) between the two halves of the items that disagree most, and the difference `expected`
    from their errors alone."""

    apart: float
    expected: float


class LearnerTwins(Part):
    """Two ids, the number of items that both answered, and the number of equal answers."""

    ids: tuple[str, str]
    common: int
    equal: int


class ItemTwins(Part):
    """Two items, the number of learners who answered both, and the share of equal answers, observed and expected."""

    items: tuple[str, str]
    learners: int
    equal: float
    expected: float


class Twins(Part):
    """Learners with two ids, and items that are nearly the same (see `itemfit.twins`): numbers of pairs, and the first
    pairs.

    `learner_pairs` is None if persons have no ids. Only staged fits name learners; erasing a learner removes the
    learner's pairs.
    """

    learner_pairs: int | None
    item_pairs: int
    learners: tuple[LearnerTwins, ...] = ()
    items: tuple[ItemTwins, ...] = ()


class SetStatistics(Part):
    """Fit statistics of the set (see `itemfit.FitSummary`). A statistic is None if it could not be computed.

    Fits of earlier releases have `loadings` but neither `growth` nor `twins`, and are written back without them.
    """

    learners: LearnersUsed
    reliability: float | None
    lz: Patterns
    q3: LocalDependence
    parallel: Parallel | None
    m2: tuple[Form, ...] | None
    loadings: dict[str, float] = {}
    halves: SplitHalfDifference | None = None
    growth: WindowGrowth | None = None
    twins: Twins | None = None

    @model_serializer(mode="wrap")
    def _omit_absent_keys(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = whole(self)
        return {key: value for key, value in stored.items() if key not in ("growth", "twins") or value is not None}

    def without_learners(self) -> Self:
        """Copy of the statistics without learners' ids."""
        if self.twins is None:
            return self
        return self.model_copy(update={"twins": self.twins.model_copy(update={"learners": ()})})


class FitStatistics(Part):
    """Statistics of the items by name, each with one value per item in the calibration's order, and of the set."""

    items: dict[str, tuple[float | None, ...]]
    set: SetStatistics


class Measures(Part):
    """Measures of misfit, as in `itemfit.misfit.Misfit`. A measure is None if it could not be computed."""

    ratio: Measure | None = None
    rmsea: Measure | None = None
    unlikely: Measure | None = None
    random: Measure | None = None


class Growth(Measures):
    """Growth of the measures of misfit since the reference. `chance` is measured only if learners guess."""

    dependence: Measure | None = None
    chance: Measure | None = None

    def known_measures(self) -> dict[str, Measure]:
        """The measures that are not None, by name, in the order in which they are shown."""
        names = ("dependence", "ratio", "rmsea", "unlikely", "random", "chance")
        return {name: measure for name in names if (measure := getattr(self, name)) is not None}


class TopContributors(Part):
    """The items that contribute most to each measure."""

    dependence: tuple[str, ...] = ()
    ratio: tuple[str, ...] = ()

    def by_measure(self) -> dict[str, tuple[str, ...]]:
        return {"dependence": self.dependence, "ratio": self.ratio}


class ComparedMisfit(Part):
    """A month's misfit compared with the misfit of its reference window.

    Attributes:
        reference: name of the reference, or None if the month is itself a reference.
        ratio: eigenvalue ratio of the reference's own fit, or None if its dimensions could not be tested.
        ratio_together: items that contribute most to `ratio`.
        why: reason why the month could not be compared, or None if it was.
        lost: whether the comparison should have been possible.
        items: number of common items that were compared.
        growth, now, before: growth of the measures, and the measures of the month and of the reference.
        together: items that contribute most to the growth.
    """

    reference: str | None
    fit_id: str = ""
    ratio: float | None = None
    ratio_together: tuple[str, ...] = ()
    why: str | None = None
    lost: bool = False
    items: int = 0
    growth: Growth = Growth()
    now: Measures = Measures()
    before: Measures = Measures()
    together: TopContributors = TopContributors()

    @property
    def was_compared(self) -> bool:
        return self.reference is not None and self.why is None


# -- how it was placed on the scale --------------------------------------------------------------------


_ALPHA_BEFORE = 0.01
"""p of Q below which the anchors disagree, for fits of releases that did not estimate τ."""


class LinkingConstants(Part):
    """Linking constants of a fit and how the anchors agreed (see `irt_psychometrics.linking`).

    `method` is a method of `link_to_anchors`, or `origin` or `fixed` if nothing was linked. An origin defines the
    scale, so its anchors' agreement is not tested. Fits of earlier releases lack the fields in `Linking.ALIGNED` or
    `skewness` and are written back without them; only such fits have `q_shifts`.
    """

    slope: float
    slope_se: float
    intercept: float
    intercept_se: float
    method: str
    rmse: float
    anchors_used: tuple[str, ...]
    anchors_dropped: dict[str, str]
    anchor_set: str | None
    q: float = 0.0
    q_df: int = 0
    q_p: float = 1.0
    share_kept: float = 1.0
    warnings: tuple[str, ...] = ()
    weighted: bool = True
    symmetric: bool = False
    suspects: dict[str, Suspect] = {}
    diagnosis: str = ""
    q_shifts: dict[str, dict[str, float]] = {}
    slope_intercept_cov: float = 0.0
    tau: float = 0.0
    tau_slope: float = 0.0
    tau_low: float | None = None
    i2: float = 0.0
    weights: dict[str, float] = {}
    skewness: float | None = None

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        known = self.model_fields_set.intersection(Linking.ALIGNED)
        if known and (len(known) < len(Linking.ALIGNED) or self.tau_low is None):
            raise ValueError(f"{', '.join(Linking.ALIGNED)} must all be present, and tau_low must be a number")
        return self

    @model_serializer(mode="wrap")
    def _omit_absent_keys(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = whole(self)
        absent = {"skewness"} if self.skewness is None else set()
        absent |= set() if self.tau_low is not None else {*Linking.ALIGNED}
        return {key: value for key, value in stored.items() if key not in absent}

    @property
    def cov(self) -> Floats:
        """Covariance of slope and intercept, shape (2, 2)."""
        covariance = self.slope_intercept_cov
        return np.array([[self.slope_se**2, covariance], [covariance, self.intercept_se**2]])

    @classmethod
    def from_linking(cls, linking: Linking) -> Self:
        return cls.from_json(linking.as_constants(), "that was linked")

    @classmethod
    def of_origin(cls) -> Self:
        return cls(
            slope=1.0,
            slope_se=0.0,
            intercept=0.0,
            intercept_se=0.0,
            method="origin",
            rmse=0.0,
            anchors_used=(),
            anchors_dropped={},
            anchor_set=None,
        )

    @property
    def tested(self) -> bool:
        """Whether the agreement of the anchors was tested."""
        return self.method != "origin"

    def disagreement(self, limits: PublicationRules) -> str:
        """The reason why the anchors cannot link a month, as a clause. Returns "" if they can."""
        if self.has_too_few_anchors(limits):
            return (
                f"only {len(self.anchors_used)} anchors agree with each other, {self.share_kept:.0%} of the anchors"
                f" with enough responses; at least {limits.min_anchors} and {limits.min_anchor_share:.0%} are needed"
            )
        return self.disagreement_of_used(limits)

    def has_too_few_anchors(self, limits: PublicationRules) -> bool:
        """Whether too few anchors were used to link a month, however well they agree."""
        few = len(self.anchors_used) < limits.min_anchors or self.share_kept < limits.min_anchor_share
        return self.tested and few

    def disagreement_of_used(self, limits: PublicationRules) -> str:
        """The reason why the anchors used disagree, as a clause. Returns "" if they agree."""
        if not self.tested:
            return ""
        used = len(self.anchors_used)
        if self.tau_low is None:
            return "" if self.q_p >= _ALPHA_BEFORE else f"{used} anchors disagree"
        if self.tau_low > limits.max_item_variation:
            return (
                f"the {used} anchors used vary by τ = {self.tau:.2f} SD of ability from month to month beyond their"
                f" errors, at least by {self.tau_low:.2f}; items of one scale vary by at most"
                f" {limits.max_item_variation:g}"
            )
        return ""

    @property
    def variation(self) -> str:
        """Variation of the anchors used beyond their errors, in words."""
        q = f"Q = {self.q:.1f} on {self.q_df} df, p = {self.q_p:.3g}"
        if self.tau_low is None:
            return q
        return f"{q}; variation beyond errors τ = {self.tau:.3f} SD of ability, I² = {self.i2:.0%}"

    @property
    def moved_anchors(self) -> dict[str, Suspect]:
        """The anchors that moved against the others, largest |z| first."""
        return dict(sorted(self.suspects.items(), key=lambda entry: -abs(entry[1].z)))

    def value(self, name: str) -> tuple[float, float]:
        """`slope` or `intercept`, and its standard error."""
        return getattr(self, name), getattr(self, f"{name}_se")

    def as_linking(self) -> Linking:
        """The `Linking`, with NaN as the covariance of its constants."""
        known = self.as_json()
        known = {name: known[name] for name in Linking.__dataclass_fields__ if name in known}
        return Linking(**known | {"cov": np.full((2, 2), np.nan)})


class Spread(Part):
    """Mean and SD of the learners' θ on the scale."""

    mean: float
    sd: float


# -- all of it -----------------------------------------------------------------------------------------


KnownModel = Annotated[ScaleModel, PlainValidator(lambda name: item_model(name).name)]
"""The name of any model that is registered."""


class FitSettings(Part):
    """Settings that a staged fit was made with.

    Attributes:
        model, scale_priors, latent: the scale's model, its own priors, and its rule for the distribution of θ, or None
            if the fit was made without a scale.
        scored_items: item → model and block (see `scored_models.models_in_words`); not written if empty.
        occasions: the period that makes a learner one person; not written if it is "month".
    """

    model: KnownModel | None = None
    scale_priors: ScalePriors | None = None
    latent: LatentRule | None = None
    scored_items: dict[str, str] = {}
    occasions: Occasions = "month"

    @model_serializer(mode="wrap")
    def _omit_defaults(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = whole(self)
        usual = {"scored_items": {}, "occasions": "month"}
        return {key: value for key, value in stored.items() if key not in usual or value != usual[key]}


class FitSpec(Part):
    """Facts that both staged and linked fits store.

    Attributes:
        model, scale_priors: the scale's model and priors that the fit was made with.
        eligibility: the scale's rules that differ from the defaults.
        provisional: items with too few responses to be published.
        never_published: items of a nightly fit that have never been published.
        left_out: items with too few responses to be fitted, with the number of responses.
        priors: all priors that the engine used, in the engine's own form.
        shape: distribution of θ assumed by em for a single population, or None for other engines and for groups.
        sample: the sample used for the statistics of a month that is too large to be read whole.
        misfit: comparison of the misfit, for fits by the scale's own engine.
        snapshot: address of the answers, if the window is not a month.
        pooled: snapshots of the months that were fitted together.
        passed_over: months left out of such a fit, with the reason.
        answers_from: item → date from which its answers count in such a fit.
    """

    version: int = VERSION
    model: KnownModel | None = None
    scale_priors: ScalePriors | None = None
    eligibility: dict[str, Any] = {}
    provisional: tuple[str, ...] = ()
    never_published: tuple[str, ...] = ()
    left_out: dict[str, int] = {}
    priors: dict[str, Any] | None = None
    assignment: Assignment | None = None
    populations: tuple[FittedPopulation, ...] = ()
    shape: Shape | None = None
    sample: Sample | None = None
    testlets: Testlets | None = None
    misfit: ComparedMisfit | None = None
    draws: Draws | None = None
    sampling: Sampling | None = None
    snapshot: str | None = None
    pooled: dict[str, str] = {}
    passed_over: dict[str, str] = {}
    answers_from: dict[str, str] = {}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], fit: str) -> Self:
        """Like `Part.from_json`, but unknown keys are ignored if a later version wrote the fit. `fit`: month, scale and
        engine, for errors."""
        version = stored.get("version")
        return cls._parse(stored, fit, "ignore" if isinstance(version, int) and version > VERSION else "forbid")

    def __or__(self, more: Self) -> Self:
        """Copy in which the fields that are set in `more` replace these."""
        return self.model_copy(update={name: getattr(more, name) for name in more.model_fields_set})

    @property
    def latent_shape(self) -> Latent:
        """Distribution of θ that the fit assumed."""
        return self.shape.latent if self.shape else "normal"


class StagedSpec(FitSpec, FitSettings):
    """Facts stored with a fit before linking, or with a failed attempt, which has only the settings.

    `linking_constants` is set if the fit could not be linked but constants were computed.
    """

    fit_statistics: FitStatistics | None = None
    linking_constants: LinkingConstants | None = None

    @property
    def statistics(self) -> SetStatistics | None:
        """Fit statistics of the set. Returns None if the fit did not converge."""
        return self.fit_statistics.set if self.fit_statistics else None

    def to_linked(
        self, constants: LinkingConstants, latent: Spread, testlets: Testlets | None, software: dict[str, str]
    ) -> "LinkedSpec":
        """The facts to store with the linked fit. `testlets`: in units of the scale."""
        kept = {name: getattr(self, name) for name in FitSpec.model_fields} | {"testlets": testlets}
        return LinkedSpec(
            **kept,
            fit_statistics=self.statistics.without_learners() if self.statistics else None,
            latent=latent,
            linking_constants=constants,
            software=software,
        )


class LinkedSpec(FitSpec):
    """Facts stored with a linked fit. `software`: versions of the software that the engine used."""

    linking_constants: LinkingConstants
    latent: Spread
    fit_statistics: SetStatistics | None = None
    software: dict[str, str] = {}
