"""What is stored with a fit besides its parameters, with a type for each fact: how it was made, how well it describes
the answers, and how it came to the scale.

It is JSON in two places, of nearly the same form: `fit_staging.spec` of a fit as its engine left it (`StagedSpec`) and
`mirt_fit_meta.model_spec` of a linked one (`LinkedSpec`). Every key is written: what is not known is None, or an empty
collection. A key that nobody knows, one that is missing and one of the wrong type are errors. What does not belong
here: judging a fit (see `gates`).
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
from irt_assets.responses.eligibility.rules import Latent, LatentRule, Occasions, PublicationRules
from irt_psychometrics import PsychometricsError
from irt_psychometrics.estimation import Shape
from irt_psychometrics.itemfit import Measure, WindowGrowth
from irt_psychometrics.items import Model, Priors, item_model
from irt_psychometrics.linking import Linking, Suspect
from resources.failures import PermanentFailure

VERSION = 1
"""The version of what a fit stores."""


class Part(BaseModel):
    """A JSON object with a fixed set of keys: those with a default are stored, too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="constants")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], fit: str) -> Self:
        """Read what `as_json` gave; `fit` names whose it is. Raises PermanentFailure where it cannot be read."""
        return cls._read(stored, fit, "forbid")

    @classmethod
    def _read(cls, stored: Mapping[str, Any], fit: str, unknown: Literal["forbid", "ignore"]) -> Self:
        try:
            found = cls.model_validate_json(json.dumps(stored), extra=unknown)
            problems = [f"{key} is missing" for key in _missing(found.as_json(), stored)]
        except ValidationError as error:
            problems = [_problem(one["type"], ".".join(map(str, one["loc"])), one["msg"]) for one in error.errors()]
        if problems:
            raise PermanentFailure(
                f"what is stored with the fit {fit} cannot be read: {'; '.join(problems)}. Materialise "
                "item_calibration again for its window; where nobody changed the row by hand, report it as a fault"
            )
        return found

    def as_json(self) -> dict[str, Any]:
        """Plain data, as it is stored."""
        return self.model_dump(mode="json")


def _problem(kind: str, key: str, message: str) -> str:
    if kind == "missing":
        return f"{key} is missing"
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{key} is a key that is not known"
    return ": ".join(filter(None, (key, message.removeprefix("Value error, "))))


def _missing(read: Any, stored: Any, at: str = "") -> Iterator[str]:
    """Keys that `stored` lacks, and that have their default in what was read from it."""
    if isinstance(read, dict):
        for name, value in read.items():
            if name in stored:
                yield from _missing(value, stored[name], f"{at}{name}.")
            else:
                yield f"{at}{name}"
    elif _holds_objects(read):
        for one, other in zip(read, stored, strict=True):
            yield from _missing(one, other, at)


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
    """The posterior draws of a fit: their key in the object store and the file's hash."""

    uri: str
    sha256: str


class Sampling(Part):
    """How good the draws are."""

    max_rhat: float | None
    min_ess: float | None
    divergences: int


class Sample(Part):
    """The learners and scored answers that were drawn from `of_learners` with `of_answers`. The fit is of all of them,
    as are infit, outfit, RMSD and item-rest correlations; all other statistics rest on these."""

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
    """Correlation of item difficulty with the learner's earlier θ over the answers of `learners`, out of `of`."""

    correlation: float | None
    learners: int
    of: int


class FittedPopulation(Part):
    name: str
    learners: int
    mean: float
    sd: float


class Testlets(Part):
    """The SD of testlet effects, or `why` it is None, and the testlets `of` the bank's items. Of a linked fit in units
    of the bank's scale, with the fit's own under `raw_sd`."""

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
    """How many learners the statistics of items, of the set, and parallel analysis rest on."""

    items: int
    set: int
    parallel: int


class Patterns(Part):
    """Learners with an lz*: the share of those below its `level` point (`unlikely`) and its 2 % point (`rare`)."""

    learners: int
    unlikely: float | None
    level: float
    rare: float | None = None


class Pair(Part):
    """Two items, their Q3, and how many learners saw both."""

    items: tuple[str, str]
    q3: float | None
    n: int


class LocalDependence(Part):
    """Yen's Q3 over the pairs seen by enough learners: its mean, how many are flagged, and the largest of these."""

    pairs: int
    mean: float | None
    flagged: int
    largest: tuple[Pair, ...]
    clusters: tuple[tuple[str, ...], ...] = ()


class Parallel(Part):
    """Parallel analysis of the residual correlations: their largest eigenvalue and the one under the model.

    `se`: the eigenvalue's error, `learners`: those it rests on, `under_model`: eigenvalues of the rounds, `together`:
    the items that contribute most. Some fits have kept none of these.
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
    """M₂ of a form: the number of its items and learners, the statistic and RMSEA₂."""

    items: int
    learners: int
    m2: float | None
    df: int
    p: float | None
    rmsea: float | None


class Halves(Part):
    """How far apart in θ the halves of the items that disagree most place a learner, and what their errors explain."""

    apart: float
    expected: float


class LearnerTwins(Part):
    """Two ids, how many items both answered, and how many of these answers are equal."""

    ids: tuple[str, str]
    common: int
    equal: int


class ItemTwins(Part):
    """Two items, the learners who saw both, and the share of equal answers: observed, and expected of other items."""

    items: tuple[str, str]
    learners: int
    equal: float
    expected: float


class Twins(Part):
    """Learners under two ids and items that are nearly the same (see `itemfit.twins`): how many pairs, and
    the first of these. `learner_pairs`: None where persons have no ids. Only a staged fit names learners, whose
    erasure takes their pairs out of it."""

    learner_pairs: int | None
    item_pairs: int
    learners: tuple[LearnerTwins, ...] = ()
    items: tuple[ItemTwins, ...] = ()


class SetStatistics(Part):
    """Fit statistics of the set (see `itemfit.FitSummary`); None for what could not be tested. `loadings`:
    empty but in fits of earlier releases, which lack `growth` and `twins` and are written as they were."""

    learners: LearnersUsed
    reliability: float | None
    lz: Patterns
    q3: LocalDependence
    parallel: Parallel | None
    m2: tuple[Form, ...] | None
    loadings: dict[str, float] = {}
    halves: Halves | None = None
    growth: WindowGrowth | None = None
    twins: Twins | None = None

    @model_serializer(mode="wrap")
    def _as_it_was(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = whole(self)
        return {key: value for key, value in stored.items() if key not in ("growth", "twins") or value is not None}

    def without_learners(self) -> Self:
        """The same statistics, in which no learner is named."""
        if self.twins is None:
            return self
        return self.model_copy(update={"twins": self.twins.model_copy(update={"learners": ()})})


class FitStatistics(Part):
    """Statistics of the items by name, each in the calibration's order, and of the set."""

    items: dict[str, tuple[float | None, ...]]
    set: SetStatistics


class Measures(Part):
    """Measures of misfit, as in `itemfit.misfit.Misfit`; None for what could not be measured."""

    ratio: Measure | None = None
    rmsea: Measure | None = None
    unlikely: Measure | None = None
    random: Measure | None = None


class Growth(Measures):
    """How much they grew from the reference. `chance` is measured where learners guess."""

    dependence: Measure | None = None
    chance: Measure | None = None

    def measured(self) -> dict[str, Measure]:
        """By name, those that could be measured, in the order in which they are shown."""
        names = ("dependence", "ratio", "rmsea", "unlikely", "random", "chance")
        return {name: measure for name in names if (measure := getattr(self, name)) is not None}


class Together(Part):
    """By measure, the items that contribute most to it."""

    dependence: tuple[str, ...] = ()
    ratio: tuple[str, ...] = ()

    def by_measure(self) -> dict[str, tuple[str, ...]]:
        return {"dependence": self.dependence, "ratio": self.ratio}


class ComparedMisfit(Part):
    """A month's misfit compared with that of its reference; `reference` is None for a month that is one itself.

    `ratio` is the eigenvalue ratio of the reference's own fit, None where its dimensions could not be tested, and
    `ratio_together` the items that contribute most to it. Then either `why` it could not be compared, and whether it
    should have been (`lost`); or on how many `items` of both it was, and what was found.
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
    together: Together = Together()

    @property
    def was_compared(self) -> bool:
        return self.reference is not None and self.why is None


# -- how it came to the scale --------------------------------------------------------------------------


_ALPHA_BEFORE = 0.01
"""What releases before τ called a disagreement by the p of Q."""


class LinkingConstants(Part):
    """How a fit was placed on the scale (see `psychometrics.linking.placement.Linking`). An origin defines the scale:
    its constants have no test of agreement, as nothing can disagree. What releases stored that knew of no variation of
    anchors lacks what `Linking.ALIGNED` names, and is written as it was; so is what lacks `skewness`. `q_shifts`: empty
    but in fits of earlier releases. `method`: one of `link`, or origin or fixed, where nothing was linked.
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
            raise ValueError(f"{', '.join(Linking.ALIGNED)} stand together, and tau_low is a number")
        return self

    @model_serializer(mode="wrap")
    def _as_it_was(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = whole(self)
        absent = {"skewness"} if self.skewness is None else set()
        absent |= set() if self.tau_low is not None else {*Linking.ALIGNED}
        return {key: value for key, value in stored.items() if key not in absent}

    @property
    def cov(self) -> Floats:
        """Shape (2, 2), of slope and intercept."""
        together = self.slope_intercept_cov
        return np.array([[self.slope_se**2, together], [together, self.intercept_se**2]])

    @classmethod
    def of(cls, linking: Linking) -> Self:
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
        """Whether it is known how well the anchors agree."""
        return self.method != "origin"

    def disagreement(self, limits: PublicationRules) -> str:
        """Why the anchors do not carry a month, a clause; empty where they do."""
        if self.too_few_used(limits):
            return (
                f"only {len(self.anchors_used)} anchors agree with each other, {self.share_kept:.0%} of those with"
                f" enough responses; needed are {limits.min_anchors} and {limits.min_anchor_share:.0%}"
            )
        return self.used_disagree(limits)

    def too_few_used(self, limits: PublicationRules) -> bool:
        """Whether the anchors used are too few to carry a month, however well they agree."""
        few = len(self.anchors_used) < limits.min_anchors or self.share_kept < limits.min_anchor_share
        return self.tested and few

    def used_disagree(self, limits: PublicationRules) -> str:
        """Why the anchors used have no line in common, a clause. Returns an empty text if they agree."""
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
        """How much the anchors used vary beyond errors, in words."""
        q = f"Q = {self.q:.1f} on {self.q_df} df, p = {self.q_p:.3g}"
        if self.tau_low is None:
            return q
        return f"{q}; variation beyond errors τ = {self.tau:.3f} SD of ability, I² = {self.i2:.0%}"

    @property
    def moved(self) -> dict[str, Suspect]:
        """The anchors that moved against the others, largest |z| first."""
        return dict(sorted(self.suspects.items(), key=lambda of: -abs(of[1].z)))

    def value(self, name: str) -> tuple[float, float]:
        """`slope` or `intercept`, and its standard error."""
        return getattr(self, name), getattr(self, f"{name}_se")

    def as_linking(self) -> Linking:
        """The linking itself, without the covariance of its constants."""
        known = self.as_json()
        known = {name: known[name] for name in Linking.__dataclass_fields__ if name in known}
        return Linking(**known | {"cov": np.full((2, 2), np.nan)})


class Spread(Part):
    """Mean and SD of the learners' θ on the scale."""

    mean: float
    sd: float


# -- all of it -----------------------------------------------------------------------------------------


KnownModel = Annotated[Model, PlainValidator(lambda name: item_model(name).name)]
"""The name of any model that is registered."""


class MadeWith(Part):
    """What a staged fit was made with: the scale's model, its own priors, and its rule for the distribution of θ; None
    of a window that no scale asked for. `scored_items`: item → model and block (see `scored_models.as_fitted`), and
    `occasions`: what is a person; not written where there are none, and where it is a month.
    """

    model: KnownModel | None = None
    scale_priors: ScalePriors | None = None
    latent: LatentRule | None = None
    scored_items: dict[str, str] = {}
    occasions: Occasions = "month"

    @model_serializer(mode="wrap")
    def _as_earlier_releases(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        stored: dict[str, Any] = whole(self)
        usual = {"scored_items": {}, "occasions": "month"}
        return {key: value for key, value in stored.items() if key not in usual or value != usual[key]}


class FitSpec(Part):
    """What staged and linked fits store alike.

    Attributes:
        model, scale_priors: the scale's, which the fit was made with.
        eligibility: the scale's rules that are not the defaults.
        provisional: items with too few responses to be published; never_published: of a night, items that nobody
            published yet; left_out: items with too few to be fitted, and how many they had.
        priors: all that the engine used, in its own words.
        shape: what em took for the distribution of θ of one population; None of other engines and of groups.
        sample: the learners behind the statistics of a month that is too large to be read whole.
        misfit: of the scale's own engine.
        snapshot: where the answers are, of a window that is not a month; pooled, passed_over, answers_from: of several
            months that were fitted together the snapshots, the months left out and why, and since when the answers to
            an item count.
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
        """Like `Part.from_json`, but of a fit of a later version the facts that are not known here are ignored. `fit`:
        month, scale and engine."""
        version = stored.get("version")
        return cls._read(stored, fit, "ignore" if isinstance(version, int) and version > VERSION else "forbid")

    def __or__(self, more: Self) -> Self:
        """These facts, and those of `more` in place of them."""
        return self.model_copy(update={name: getattr(more, name) for name in more.model_fields_set})

    @property
    def latent_shape(self) -> Latent:
        """What the fit took for the distribution of θ."""
        return self.shape.latent if self.shape else "normal"


class StagedSpec(FitSpec, MadeWith):
    """What a fit as its engine left it stores, or an attempt that failed: this has none of the facts of a fit.
    `linking_constants`: of a fit that could not be linked, as far as that came."""

    fit_statistics: FitStatistics | None = None
    linking_constants: LinkingConstants | None = None

    @property
    def statistics(self) -> SetStatistics | None:
        """What it says of the whole set; None of a fit that did not converge."""
        return self.fit_statistics.set if self.fit_statistics else None

    def linked(
        self, constants: LinkingConstants, latent: Spread, testlets: Testlets | None, software: dict[str, str]
    ) -> "LinkedSpec":
        """What the fit stores once it is linked. `testlets`: in units of the scale."""
        kept = {name: getattr(self, name) for name in FitSpec.model_fields} | {"testlets": testlets}
        return LinkedSpec(
            **kept,
            fit_statistics=self.statistics.without_learners() if self.statistics else None,
            latent=latent,
            linking_constants=constants,
            software=software,
        )


class LinkedSpec(FitSpec):
    """What a fit on the scale stores. `software`: versions of what the engine ran in."""

    linking_constants: LinkingConstants
    latent: Spread
    fit_statistics: SetStatistics | None = None
    software: dict[str, str] = {}
