"""What an engine is asked for one scale of a window, and what is kept with its answer.

Belongs here: the parts of a fit that the scale's rules decide. Does not belong here: where answers come from (see
`responses.window`), which engines run and where fits are stored (see `month`, `fits`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
from threadpoolctl import threadpool_limits

from irt_assets.calibration.testlets import bank_testlets, effects_spec
from irt_assets.common.arrays import Floats, Ints, finite
from irt_assets.common.wording import some_of
from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.engines.registry import spec_of
from irt_assets.ledger.fit_rows import statistics_spec
from irt_assets.ledger.fit_spec import Assignment, FitStatistics, FittedPopulation, Sample, StagedSpec
from irt_assets.responses.eligibility.rules import Latent
from irt_assets.responses.scales import Scale
from irt_assets.responses.scored_answers import earlier_responses
from irt_assets.responses.scored_models import ModelInBank, as_fitted, model_of_scored, models_in_bank
from irt_assets.responses.snapshot import user_ids_of
from irt_assets.responses.window import ItemCounts, left_out_items, timed_responses_of
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.estimation import EarlierAnswers, Shape
from irt_psychometrics.itemfit import FitSummary, Growth, ItemSums
from irt_psychometrics.items import Model, Priors, item_model
from irt_psychometrics.linking import AnchorSet

PROVISIONAL_SLOPE = Priors.weakly_informative().a
"""Prior on the slope of an item with few answers."""
LEARNERS_LOOKED_AT = 5_000
"""Learners sampled on linear scales to correlate item difficulty with earlier θ (SE < 0.02)."""


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """The scored answers of one scale, and what its rules ask.

    Attributes:
        days: shape (R,), of each response since the learner's first of the window; None where this is not known.
        provisional: items with too few responses to be published.
        left_out: items with too few to be fitted, and how many they had.
        earlier: answers of the learners in the look-back, one person for each learner of `responses`; on a linear scale
            of some of them only.
        anchors: the scale's frozen anchors, None where it has no origin.
        testlets: item → testlet, of the bank's items that stand in one.
        drawn_from: how many scored answers there are in all, where `responses` are those of a random sample of
            learners: the engine is to fit all of them. None where they are everybody's.
        published: the items whose published values are compared with this fit.
        in_bank: what the bank says of the models of items, of those for which it says something.
        learners: the id of each person; None where a person is not one learner.
    """

    scale: Scale
    responses: Responses
    provisional: tuple[str, ...]
    left_out: dict[str, int]
    days: Floats | None = None
    earlier: Responses | None = None
    anchors: AnchorSet | None = None
    testlets: Mapping[str, str] = field(default_factory=dict)
    drawn_from: int | None = None
    published: frozenset[str] = frozenset()
    in_bank: Mapping[str, ModelInBank] = field(default_factory=dict)
    learners: Sequence[str] | None = None

    @property
    def by_level(self) -> bool:
        return self.scale.rules.fit.assignment == "by_level"

    @property
    def by_week(self) -> bool:
        return self.scale.occasions == "week"

    @property
    def testlets_used(self) -> Mapping[str, str]:
        """Those for which errors hold: none where an item is scored, of which effects of testlets are not estimated."""
        return {} if self.scored_items else self.testlets

    @property
    def scored_items(self) -> frozenset[str]:
        """Those with scores besides 0 and 1."""
        responses = self.responses
        return frozenset(
            item for item, n in zip(responses.item_ids, responses.n_categories.tolist(), strict=True) if n > 2
        )

    @property
    def model(self) -> Model | tuple[Model, ...]:
        """The scale's model, or a name for each item where it is not that of all: a scored item has the model that the
        bank names or else the one that goes with the scale's. Raises PsychometricsError where none goes with it."""
        default, scored = item_model(self.scale.model), self.scored_items
        if default.two_categories and not scored:
            return self.scale.model
        return tuple(
            model_of_scored(self.scale.model, self.in_bank.get(item))
            if item in scored
            else default.of_max_score(1).name
            for item in self.responses.item_ids
        )

    @property
    def blocks(self) -> dict[str, str]:
        """Item → block of items with their steps in common, as the bank names them."""
        return {item: said.block for item, said in self.in_bank.items() if said.block}

    @property
    def as_fitted(self) -> dict[str, str]:
        """The models and blocks of the scored items, as a fit keeps them."""
        return as_fitted(self.scale.model, self.scored_items, self.in_bank)

    @property
    def _compared(self) -> frozenset[str]:
        """The items that have values with which this fit is compared."""
        return self.published.union(self.anchors.item_ids if self.anchors else ())

    @property
    def not_compared(self) -> frozenset[str]:
        """The items that have no value yet with which this fit is compared."""
        return frozenset(self.responses.item_ids) - self._compared

    @property
    def on_steps(self) -> dict[str, Any]:
        """What a fit by em is asked about the steps of scored items."""
        if not self.scored_items:
            return {}
        return {"prior_on_rare_steps": self.not_compared, "blocks": self.blocks}

    @property
    def guessing(self) -> dict[str, float]:
        """Item → c of the anchors that have one. No change of origin or unit moves c, and a fit that estimated it as if
        nothing were known would be pulled in its unit (see docs/explanation/ability-distribution.md)."""
        known = self.anchors
        return {} if known is None else {i: c for i, c in zip(known.item_ids, known.c.tolist(), strict=True) if c > 0}

    def priors(self, model: Model | Sequence[Model] | None = None) -> Priors | None:
        """The scale's own and those of provisional items under a model (None: the request's), None where there are none
        to give.

        A scale's own prior on a or b serves all items, anchors and provisional ones too, and nothing is added to it.
        Where it has none, provisional items have one on their slope. Anchors and published items have not: they are
        there to be compared, which a shrunken slope is not fit for. Nor has a slope that items have in common, which is
        not known from one item's answers, and that of a scored item, which is per point. On c of a 3PL there is always
        one, for all items: the scale's own or else the model's `default_priors`.
        """
        of = item_model(model or self.model)
        own = self.scale.priors or Priors()
        c = (own.c or of.default_priors.c) if of.guesses else None
        if own.a is not None or own.b is not None:
            return Priors(own.a, own.b, c)
        compared = self._compared | self.scored_items
        only = tuple(item for item in self.provisional if item not in compared)
        if only and of.own_slopes:
            return Priors(a=PROVISIONAL_SLOPE, c=c, only=only)
        return Priors(c=c) if own.c is not None and c is not None else None


def build_fit_request(
    connection: psycopg.Connection,
    table: pa.Table,
    scale: Scale,
    start: datetime,
    anchors: AnchorSet | None,
    everybody: ItemCounts | None = None,
    published: frozenset[str] = frozenset(),
) -> FitRequest:
    """The request for a window that begins at `start`, whose attempts are `table`; `everybody`: the counts of all
    attempts, where these are of a random sample of learners; `published`: as in `FitRequest`."""
    scored, days = timed_responses_of(table, scale.scale_id)
    responses, learners = scored.responses, user_ids_of(connection, scored.learners)
    drawn_from = None
    if everybody is None:
        n = np.bincount(responses.item, minlength=responses.n_items).tolist()
        everybody = ItemCounts(dict(zip(responses.item_ids, n, strict=True)), left_out_items(table, scale.scale_id))
    else:
        drawn_from = sum(everybody.scored.values())
        responses = responses.among(tuple(everybody.scored), everybody.categories)
    few = scale.rules.eligibility.min_published_responses(scale.model)
    earlier = None
    if responses.n_responses:
        by_level = scale.rules.fit.assignment == "by_level"
        wanted = learners if by_level else _drawn(learners)
        items = sorted({*responses.item_ids, *(anchors.item_ids if anchors else ())})
        earlier = earlier_responses(connection, start, scale, items, learners, wanted)
    return FitRequest(
        scale=scale,
        responses=responses,
        days=days,
        provisional=tuple(item for item, n_scored in everybody.scored.items() if n_scored < few),
        left_out=dict(everybody.left_out),
        earlier=earlier,
        anchors=anchors,
        testlets=bank_testlets(connection, scale.scale_id),
        drawn_from=drawn_from,
        published=published,
        in_bank={} if responses.categories is None else models_in_bank(connection, scale.scale_id),
        learners=learners,
    )


def nothing_scored(scale: Scale, window: str, counts: Mapping[str, int]) -> str:
    """Why a window has nothing to fit on a scale, and the way out."""
    left_out = ", ".join(f"{reason} {n:,}" for reason, n in counts.items() if n and reason != "scored")
    return (
        f"{window} has no scored response on scale {scale.scale_id} ({left_out or 'no attempts'}). An item is fitted "
        f"from {scale.rules.eligibility.min_fitted_responses} responses on: where items have fewer, wait for "
        "more. That minimum is a rule of the scale, and another one makes every month stale (`irt calibrate --help`)"
    )


def _drawn(learners: Sequence[str]) -> Sequence[str]:
    if len(learners) <= LEARNERS_LOOKED_AT:
        return learners
    drawn = np.sort(np.random.default_rng(0).choice(len(learners), LEARNERS_LOOKED_AT, replace=False))
    return [learners[person] for person in drawn]


@dataclass(frozen=True)
class Calibrated:
    """An engine's calibration. `groups`: of each person, where the fit has groups; `shape`: what em took for the
    distribution of θ of one population, None of other engines and of groups; `everybody`: sums over all learners, where
    the request has a sample of them; `weeks`: the responses by weeks of learners, where these were the persons, and
    `growth` what was found within the window then."""

    calibration: Calibration
    groups: list[str] | None = None
    shape: Shape | None = None
    everybody: ItemSums | None = None
    weeks: Responses | None = None
    growth: Growth | None = None

    @property
    def guessing(self) -> bool:
        """Whether it accounts for guessing, by the items' model or by the shape of θ."""
        return self.calibration.item_model.guesses or (self.shape is not None and self.shape.guessing)


def calibrate(engine: Calibrator, request: FitRequest, data_hash: str) -> Calibrated:
    """The calibration that the engine makes of a request. Raises PsychometricsError if the engine cannot give it."""
    _require_fittable(request)
    if not isinstance(engine, EmEngine):
        return _by_another_engine(engine, request, data_hash)
    if request.by_week:
        return _by_week(engine, request, data_hash)
    if request.by_level and request.earlier is not None:
        return _by_level(engine, request, request.earlier, data_hash)
    return _of_one_population(engine, request, data_hash)


def _require_fittable(request: FitRequest) -> None:
    """Raises PsychometricsError for rules of the scale that exclude each other or a sample."""
    scale_id, priors = request.scale.scale_id, request.priors()
    if request.by_level:
        if priors is not None and priors.b is not None:
            raise PsychometricsError(why_no_prior_on_b(scale_id))
        require_everybody(f"scale {scale_id}, whose items are assigned by level,", request)
    if request.by_week:
        if why := why_no_weeks(request.scale):
            raise PsychometricsError(why)
        require_everybody(f"scale {scale_id}, of which weeks of learners are fitted,", request)


def _by_another_engine(engine: Calibrator, request: FitRequest, data_hash: str) -> Calibrated:
    require_one_population(engine.name, request)
    require_everybody(f"a scale of engine {engine.name}", request)
    require_scores_of(engine.name, request)
    # A scale's fits are looked for under the name of its engine, and `remote` answers as what runs behind it.
    # A name for each item is what mirt takes, and `require_scores_of` lets no other engine have one.
    found = engine.calibrate(request.responses, model=request.model, data_hash=data_hash)
    return Calibrated(replace(found, engine=engine.name))


def _of_one_population(engine: EmEngine, request: FitRequest, data_hash: str) -> Calibrated:
    """A fit of one population, whose θ has the distribution that the scale's rule asks for."""
    model, responses, rule = request.model, request.responses, request.scale.rules.fit.latent
    item_models, testlets = item_model(model), request.testlets_used
    on_steps, guessing = request.on_steps, request.guessing

    def fit(
        some: Responses, under: Model, latent: Latent, testlets: Mapping[str, str] | None = None, **how: Any
    ) -> Calibration:
        names = model if under == item_models.name else under
        return engine.calibrate(
            some,
            model=names,
            data_hash=data_hash,
            priors=request.priors(names),
            latent=latent,
            testlets=testlets,
            guessing=guessing,
            **on_steps,
            **how,
        )

    is_tested = rule == "auto" and not item_models.guesses
    name = item_models.name
    found, shape = Shape.fit(fit if is_tested else partial(fit, testlets=testlets), responses, name, rule)
    if is_tested and responses.share_testlets(testlets):
        # Not before: the test of θ's distribution needs the inverse information for the covariance of the items.
        found = fit(responses, name, shape.latent, testlets)
    return Calibrated(found, shape=shape, everybody=engine.item_sums(found))


def _by_level(engine: EmEngine, request: FitRequest, earlier: Responses, data_hash: str) -> Calibrated:
    """A fit in groups of learners by their earlier answers, in the unit of the middle one."""
    priors = request.priors()

    def fit(groups: list[str], reference: str, unit: float) -> Calibration:
        return engine.calibrate(
            request.responses,
            model=request.model,
            data_hash=data_hash,
            priors=None if priors is None else priors.rescaled(unit),
            groups=groups,
            reference=reference,
            testlets=request.testlets_used,
            guessing=request.guessing,
            **request.on_steps,
        )

    levelled = EarlierAnswers(earlier).fit_by_level(fit, request.anchors)
    stored = levelled.calibration.priors
    if priors is not None:  # in the unit of all learners, and what the fit has added
        stored = stored | priors.as_dict()
    return Calibrated(replace(levelled.calibration, priors=stored), levelled.groups)


def _by_week(engine: EmEngine, request: FitRequest, data_hash: str) -> Calibrated:
    """A fit whose persons are learners' weeks."""
    assert request.days is not None

    def fit(weeks: Responses, groups: list[str], learners: Ints) -> Calibration:
        return engine.calibrate(
            weeks,
            model=request.model,
            data_hash=data_hash,
            priors=request.priors(),
            groups=groups,
            testlets=request.testlets_used,
            learners=learners,
            guessing=request.guessing,
            **request.on_steps,
        )

    made = Growth.fit_by_week(fit, request.responses, request.days)
    return Calibrated(made.calibration, made.weeks.groups, weeks=made.weeks.responses, growth=made.growth)


def why_no_weeks(scale: Scale) -> str:
    """Why learners' weeks cannot be the persons of a scale's fits, and the way out; empty where they can."""
    fit = scale.rules.fit
    if scale.engine != "em":
        return f"scale {scale.scale_id} is published from {scale.engine}, and only em fits weeks of learners"
    if fit.assignment == "by_level" or fit.latent == "histogram":
        rule = "assignment=linear" if fit.assignment == "by_level" else "latent=normal"
        return (
            f"weeks of learners are groups with normal distributions of their own, which scale {scale.scale_id} does "
            f"not have: `irt scale set {rule} --scale {scale.scale_id} …`, or leave its occasions at month"
        )
    return ""


def require_one_population(engine: str, request: FitRequest) -> None:
    """Raises PsychometricsError where the scale's items are assigned by level, or weeks of learners are its persons,
    which only em fits as it must be."""
    if request.by_week:
        raise PsychometricsError(
            f"engine {engine} fits one population, and learners' weeks are groups of scale {request.scale.scale_id}: "
            "what growth goes into b would stay there. Engine em fits such a scale"
        )
    if request.by_level:
        raise PsychometricsError(
            f"engine {engine} fits one population, and items of scale {request.scale.scale_id} are assigned by level: "
            f"its slopes would be too small. Engine em fits such a scale"
        )


def require_everybody(what: str, request: FitRequest) -> None:
    """Raises PsychometricsError where the request has a sample's answers; `what` is fitted in this process only."""
    if request.drawn_from is not None:
        raise PsychometricsError(
            f"{what} is fitted in the run's own process, which reads {request.responses.n_responses:,} of the "
            f"{request.drawn_from:,} scored answers: unset IRT_SPARK on a machine with memory for all of them"
        )


def require_scores_of(engine: str, request: FitRequest) -> None:
    """Raises PsychometricsError where items have scores that the engine does not fit."""
    if request.scored_items and not spec_of(engine).scored:
        raise PsychometricsError(
            f"engine {engine} fits items scored 0 and 1, and {len(request.scored_items)} items of scale "
            f"{request.scale.scale_id} have more ({some_of(sorted(request.scored_items), 5)}). Engine em fits such a "
            "scale"
        )


def why_no_prior_on_b(scale_id: str) -> str:
    """Why a scale whose items are assigned by level cannot have one, and the way out."""
    return (
        f"items of scale {scale_id} are assigned by level: it is fitted in the unit of its middle level, in which a "
        f"prior on b of all learners is not known. `irt scale set prior_b=none --scale {scale_id} …`"
    )


def fit_spec_extras(request: FitRequest, made: Calibrated) -> StagedSpec:
    """What is kept in the spec of a fit besides its parameters."""
    calibration = made.calibration
    correlation, learners = float("nan"), 0
    if request.earlier is not None and calibration.convergence.converged:
        correlation, learners = EarlierAnswers(request.earlier).assignment_correlation(request.responses, calibration)
    return StagedSpec(
        provisional=request.provisional,
        left_out=request.left_out,
        priors=calibration.priors,
        assignment=Assignment(correlation=finite(correlation), learners=learners, of=request.responses.n_persons),
        populations=tuple(
            FittedPopulation(name=p.name, learners=p.n_persons, mean=p.mean, sd=p.sd) for p in calibration.populations
        ),
        shape=made.shape,
        fit_statistics=fit_statistics(request, made),
        sample=None
        if request.drawn_from is None
        else Sample(
            learners=request.responses.n_persons,
            answers=request.responses.n_responses,
            of_learners=calibration.n_persons,
            of_answers=request.drawn_from,
        ),
        testlets=effects_spec(made.weeks or request.responses, calibration, request.testlets, made.groups),
    )


def fit_statistics(request: FitRequest, made: Calibrated) -> FitStatistics | None:
    """The statistics that a fit's spec keeps; None without convergence, as the fit is then not a result, and of a model
    that they do not exist for."""
    of = made.calibration.item_model
    if not (made.calibration.convergence.converged and (of.logistic or not of.two_categories)):
        return None
    growth = made.growth
    if growth is None and request.days is not None:
        growth = Growth.within(request.responses, request.days, made.calibration, groups=made.groups)
    with threadpool_limits(1, user_api="blas"):  # many products of small matrices, for which threads only wait
        found = FitSummary.of(
            made.weeks or request.responses,
            made.calibration,
            groups=made.groups,
            learners=None if made.weeks or request.learners is None else request.learners,
            testlets=request.testlets_used,
            everybody=made.everybody,
            growth=growth,
        )
    return statistics_spec(found)
