"""Fit requests: the inputs of an engine for one scale of a window, and the spec stored with its fit.

Belongs here: the parts of a fit that depend on the scale's rules. Does not belong here: the source of answers (see
`responses.window`), and which engines run and where fits are stored (see `month`, `fits`).
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
from irt_assets.common.arrays import Floats, Ints, Mask, finite
from irt_assets.engines import Calibrator
from irt_assets.engines.em import EmEngine
from irt_assets.ledger.fit_rows import statistics_spec
from irt_assets.ledger.fit_spec import Assignment, FitStatistics, FittedPopulation, Sample, StagedSpec
from irt_assets.responses.scored_answers import earlier_responses
from irt_assets.responses.snapshot import user_ids_of
from irt_assets.responses.window import ItemCounts, left_out_items, timed_responses_of
from irt_assets.scales.rules import Latent
from irt_assets.scales.scale import Scale
from irt_assets.scales.scored_models import ModelInBank, models_in_bank, models_in_words, scored_item_model
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.estimation import EarlierAnswers, Shape
from irt_psychometrics.itemfit import FitSummary, Growth, ItemSums
from irt_psychometrics.items import Model, Priors, item_model
from irt_psychometrics.linking import AnchorSet
from irt_psychometrics.new_items import BankPrior
from resources.postgres.database import first_column

PROVISIONAL_SLOPE = Priors.weakly_informative().a
"""Prior on the slope of an item with few answers, if the window has no prior of the bank."""
MAX_SAMPLED_LEARNERS = 5_000
"""Learners sampled on a linear scale to correlate item difficulty with earlier θ (SE < 0.02)."""
_SESSION_TESTS = """SELECT test_id FROM adaptive_test GROUP BY 1
                    HAVING bool_and(policy IS NULL OR policy->>'start' = 'population')"""
"""Query for the adaptive tests that choose items by the answers of the session alone."""


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """The scored answers of one scale, and the inputs of its fit that depend on its rules.

    Attributes:
        scale: the scale with its rules.
        responses: the scored answers.
        provisional: items with too few responses to be published.
        left_out: items with too few responses to be fitted → number of their responses.
        days: shape (R,), days since the learner's first response of the window, or None if unknown.
        earlier: the learners' answers in the look-back, with the persons of `responses`; on a linear scale only the
            answers of a sample of learners. None if there are no responses.
        anchors: the scale's frozen anchors, or None if it has no origin.
        testlets: item → testlet, for the bank's items that belong to a testlet.
        drawn_from: number of all scored answers if `responses` are from a random sample of learners (the engine must
            fit all of the answers, not only the sample's), or None if `responses` are all of them.
        published: items whose published values are compared with this fit.
        in_bank: item → entries of the bank about its model, for items with such entries.
        learners: user id of each person, or None if a person is not one learner.
        by_session: shape (R,), whether the item was chosen by the answers of its session alone, or None if no item
            was. One distribution of θ is right for these responses (Rubin 1976).
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
    by_session: Mask | None = None

    @property
    def by_level(self) -> bool:
        return self.scale.rules.fit.assignment == "by_level"

    @property
    def by_week(self) -> bool:
        return self.scale.occasions == "week"

    @property
    def testlets_used(self) -> Mapping[str, str]:
        """Testlets used in standard errors. Empty if an item is scored, because effects are then not estimated."""
        return {} if self.scored_items else self.testlets

    @property
    def scored_items(self) -> frozenset[str]:
        """Items with more scores than 0 and 1."""
        responses = self.responses
        return frozenset(
            item for item, n in zip(responses.item_ids, responses.n_categories.tolist(), strict=True) if n > 2
        )

    @property
    def model(self) -> Model | tuple[Model, ...]:
        """The scale's model, or one model name per item if items have different models.

        A scored item has the model that the bank names, or else the model of scored items that matches the scale's
        model.
        """
        default, scored = item_model(self.scale.model), self.scored_items
        if default.two_categories and not scored:
            return default.name
        return tuple(
            scored_item_model(self.scale.model, self.in_bank.get(item))
            if item in scored
            else default.of_max_score(1).name
            for item in self.responses.item_ids
        )

    @property
    def blocks(self) -> dict[str, str]:
        """Item → block of items that share their steps, from the bank."""
        return {item: entry.block for item, entry in self.in_bank.items() if entry.block}

    @property
    def fitted_models(self) -> dict[str, str]:
        """Models and blocks of the scored items, in the form stored with a fit."""
        return models_in_words(self.scale.model, self.scored_items, self.in_bank)

    @property
    def _compared_items(self) -> frozenset[str]:
        """Items with published or anchor values, with which this fit is compared."""
        return self.published.union(self.anchors.item_ids if self.anchors else ())

    @property
    def _uncompared_items(self) -> frozenset[str]:
        """Items without values with which this fit could be compared."""
        return frozenset(self.responses.item_ids) - self._compared_items

    @property
    def step_arguments(self) -> dict[str, Any]:
        """Arguments of a fit by em about the steps of scored items; empty if no item is scored."""
        if not self.scored_items:
            return {}
        return {"prior_on_rare_steps": self._uncompared_items, "blocks": self.blocks}

    @property
    def guessing(self) -> dict[str, float]:
        """Item → c, for anchors with c > 0.

        A change of origin or unit does not change c. If a fit estimated these c freely, its unit would be biased (see
        docs/explanation/ability-distribution.md).
        """
        known = self.anchors
        return {} if known is None else {i: c for i, c in zip(known.item_ids, known.c.tolist(), strict=True) if c > 0}

    @property
    def _shrunken_items(self) -> tuple[str, ...]:
        """Provisional items that have priors on a and b of their own.

        Anchors and published items are left out, because shrunken values cannot be compared, and scored items, because
        a scored item has a slope per point.
        """
        compared = self._compared_items | self.scored_items
        return tuple(item for item in self.provisional if item not in compared)

    def priors(
        self, model: Model | Sequence[Model] | None = None, bank_prior: BankPrior | None = None
    ) -> Priors | None:
        """Return the priors under a model (None: the request's), or None if the fit has no priors.

        If the scale has its own prior on a or b, it applies to all items, including anchors and provisional items, and
        no other prior on a or b is added. Otherwise some provisional items have the prior of the bank on b and on a
        slope of their own, or a weak prior on the slope if `bank_prior` is None. Items with enough responses to be
        published have no prior, because it would hide a negative slope. On c of a 3PL all items have a prior: the
        scale's own, or else the model's `default_priors`.
        """
        family = item_model(model or self.model)
        own = self.scale.priors or Priors()
        c = (own.c or family.default_priors.c) if family.guesses else None
        if own.a is not None or own.b is not None:
            return Priors(own.a, own.b, c)
        only = self._shrunken_items
        if only and bank_prior is not None:
            found = bank_prior.priors(only=only)
            return replace(found, a=found.a if family.own_slopes else None, c=c)
        if only and family.own_slopes:
            return Priors(a=PROVISIONAL_SLOPE, c=c, only=only)
        return Priors(c=c) if own.c is not None and c is not None else None

    def estimate_bank_prior(self, found: Calibration) -> BankPrior | None:
        """Estimate the prior of provisional items from a fit of this window, as the distribution of published items.

        It uses the fit's estimates of items with enough responses, not the published values, so the window repeats.
        Returns None if no item would have the prior, or if there are fewer than 20 such estimates with errors.
        """
        own = self.scale.priors or Priors()
        if not self._shrunken_items or own.positive_slopes or not found.convergence.converged:
            return None
        enough = self.published.difference(self.provisional)
        prior = BankPrior.from_items(found.items.among([item for item in found.item_ids if item in enough]))
        return None if prior.difficulty == BankPrior.difficulty else prior


def build_fit_request(
    connection: psycopg.Connection,
    table: pa.Table,
    scale: Scale,
    start: datetime,
    anchors: AnchorSet | None,
    everybody: ItemCounts | None = None,
    published: frozenset[str] = frozenset(),
) -> FitRequest:
    """Build the request for a window.

    Args:
        connection: connection to the database.
        table: attempts of the window.
        scale: the scale.
        start: start of the window.
        anchors: the scale's frozen anchors, or None if it has no origin.
        everybody: counts of all attempts if `table` contains a random sample of learners, or None if it contains all.
        published: as in `FitRequest`.
    """
    scored, days, by_session = timed_responses_of(table, scale.scale_id, first_column(connection, _SESSION_TESTS))
    responses, learners = scored.responses, user_ids_of(connection, scored.learners)
    drawn_from = None
    if everybody is None:
        n = np.bincount(responses.item, minlength=responses.n_items).tolist()
        everybody = ItemCounts(dict(zip(responses.item_ids, n, strict=True)), left_out_items(table, scale.scale_id))
    else:
        drawn_from = sum(everybody.scored.values())
        responses = responses.among(tuple(everybody.scored), everybody.categories)
    earlier = None
    if responses.n_responses:
        by_level = scale.rules.fit.assignment == "by_level"
        sampled = learners if by_level else _sample_learners(learners)
        items = sorted({*responses.item_ids, *(anchors.item_ids if anchors else ())})
        earlier = earlier_responses(connection, start, scale, items, learners, sampled)
    return FitRequest(
        scale=scale,
        responses=responses,
        days=days,
        provisional=tuple(
            item
            for (item, n), categories in zip(everybody.scored.items(), responses.n_categories.tolist(), strict=True)
            if n < scale.min_published_responses(categories - 1)
        ),
        left_out=dict(everybody.left_out),
        earlier=earlier,
        anchors=anchors,
        testlets=bank_testlets(connection, scale.scale_id),
        drawn_from=drawn_from,
        published=published,
        in_bank={} if responses.categories is None else models_in_bank(connection, scale.scale_id),
        learners=learners,
        by_session=by_session,
    )


def nothing_scored_message(scale: Scale, window: str, counts: Mapping[str, int]) -> str:
    """Why a window has nothing to fit on a scale, and the remedy."""
    left_out = ", ".join(f"{reason} {n:,}" for reason, n in counts.items() if n and reason != "scored")
    return (
        f"{window} has no scored response on scale {scale.scale_id} ({left_out or 'no attempts'}). An item is fitted "
        f"from {scale.rules.eligibility.min_fitted_responses} responses on: if items have fewer, wait for "
        "more. The minimum is a rule of the scale, and a change of it makes every month stale (`irt calibrate --help`)"
    )


def _sample_learners(learners: Sequence[str]) -> Sequence[str]:
    if len(learners) <= MAX_SAMPLED_LEARNERS:
        return learners
    drawn = np.sort(np.random.default_rng(0).choice(len(learners), MAX_SAMPLED_LEARNERS, replace=False))
    return [learners[person] for person in drawn]


@dataclass(frozen=True)
class CalibrationResult:
    """An engine's calibration.

    Attributes:
        groups: group of each person, or None if the fit has one population.
        shape: distribution of θ that em used for one population, or None for other engines and for groups.
        everybody: sums over all learners if the request has a sample of them; else None.
        weeks: responses by learners' weeks if weeks were the persons; else None.
        growth: growth within the window if weeks were the persons; else None.
    """

    calibration: Calibration
    groups: list[str] | None = None
    shape: Shape | None = None
    everybody: ItemSums | None = None
    weeks: Responses | None = None
    growth: Growth | None = None

    @property
    def guessing(self) -> bool:
        """Whether the fit accounts for guessing, by the items' model or by the shape of θ."""
        return self.calibration.item_model.guesses or (self.shape is not None and self.shape.guessing)


def calibrate(engine: Calibrator, request: FitRequest, data_hash: str) -> CalibrationResult:
    """Fit a request with an engine. Raises PsychometricsError if the engine cannot fit it."""
    _require_fittable(request)
    if not isinstance(engine, EmEngine):
        return _fit_by_other_engine(engine, request, data_hash)
    if request.by_week:
        return _fit_by_week(engine, request, data_hash)
    if request.by_level and request.earlier is not None:
        return _fit_by_level(engine, request, request.earlier, data_hash)
    return _fit_one_population(engine, request, data_hash)


def _require_fittable(request: FitRequest) -> None:
    """Raise PsychometricsError for rules of the scale that contradict each other, or that do not allow a sample."""
    scale_id, priors = request.scale.scale_id, request.priors()
    if request.by_level:
        if priors is not None and priors.b is not None:
            raise PsychometricsError(prior_on_b_message(scale_id))
        require_everybody(f"scale {scale_id}, whose items are assigned by level,", request)
    if request.by_week:
        if why := weeks_problem(request.scale):
            raise PsychometricsError(why)
        require_everybody(f"scale {scale_id}, whose persons are learners' weeks,", request)


def _fit_by_other_engine(engine: Calibrator, request: FitRequest, data_hash: str) -> CalibrationResult:
    require_one_population(engine.name, request)
    require_everybody(f"a scale of engine {engine.name}", request)
    # Fits are stored under the name of the scale's engine, while `remote` returns the name of the engine behind it.
    found = engine.calibrate(request.responses, model=request.model, data_hash=data_hash)
    return CalibrationResult(replace(found, engine=engine.name))


def _fit_one_population(engine: EmEngine, request: FitRequest, data_hash: str) -> CalibrationResult:
    """Fit one population, with the distribution of θ that the scale's rule requires.

    If the window gives a prior of the bank, the fit continues with it.
    """
    model, responses, rule = request.model, request.responses, request.scale.rules.fit.latent
    item_models, testlets = item_model(model), request.testlets_used
    step_arguments, guessing = request.step_arguments, request.guessing

    def fit(
        some: Responses,
        under: Model,
        latent: Latent,
        testlets: Mapping[str, str] | None = None,
        bank_prior: BankPrior | None = None,
        **options: Any,
    ) -> Calibration:
        names = model if under == item_models.name else under
        return engine.calibrate(
            some,
            model=names,
            data_hash=data_hash,
            priors=request.priors(names, bank_prior),
            latent=latent,
            testlets=testlets,
            guessing=guessing,
            **step_arguments,
            **options,
        )

    is_tested = rule == "auto" and not item_models.guesses
    name = item_models.name
    found, shape = Shape.fit(fit if is_tested else partial(fit, testlets=testlets), responses, name, rule)
    bank_prior = request.estimate_bank_prior(found)
    if bank_prior is not None or (is_tested and responses.share_testlets(testlets)):
        # only now, because the test of θ's distribution needs the inverse information as the covariance of the items
        found = fit(responses, name, shape.latent, testlets, bank_prior, start=found)
    return CalibrationResult(found, shape=shape, everybody=engine.item_sums(found))


def _fit_by_level(engine: EmEngine, request: FitRequest, earlier: Responses, data_hash: str) -> CalibrationResult:
    """Fit groups of learners, formed by the level of their earlier answers. The middle group sets the unit."""
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
            **request.step_arguments,
        )

    levelled = EarlierAnswers(earlier).fit_by_level(fit, request.anchors)
    stored = levelled.calibration.priors
    if priors is not None:  # in the unit of all learners, with the priors that the fit has added
        stored = stored | priors.as_dict()
    return CalibrationResult(replace(levelled.calibration, priors=stored), levelled.groups)


def _fit_by_week(engine: EmEngine, request: FitRequest, data_hash: str) -> CalibrationResult:
    """Fit with each learner's week as a person."""
    assert request.days is not None

    def fit(weeks: Responses, groups: list[str], learners: Ints) -> Calibration:
        calibrate = partial(
            engine.calibrate,
            weeks,
            model=request.model,
            data_hash=data_hash,
            groups=groups,
            reference=min(groups),  # the first week
            testlets=request.testlets_used,
            learners=learners,
            guessing=request.guessing,
            **request.step_arguments,
        )
        found = calibrate(priors=request.priors())
        bank_prior = request.estimate_bank_prior(found)
        if bank_prior is None:
            return found
        return calibrate(priors=request.priors(bank_prior=bank_prior), start=found)

    made = Growth.fit_by_week(fit, request.responses, request.days)
    return CalibrationResult(made.calibration, made.weeks.groups, weeks=made.weeks.responses, growth=made.growth)


def weeks_problem(scale: Scale) -> str:
    """Why learners' weeks cannot be the persons of a scale's fits, and the remedy; "" if they can."""
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
    """Raise PsychometricsError if the scale's items are assigned by level, or if learners' weeks are its persons.

    Only em fits such scales without bias.
    """
    if request.by_week:
        raise PsychometricsError(
            f"engine {engine} fits one population, and learners' weeks are groups of scale {request.scale.scale_id}: "
            "part of the growth would stay in b. Engine em fits such a scale"
        )
    if request.by_level:
        raise PsychometricsError(
            f"engine {engine} fits one population, and items of scale {request.scale.scale_id} are assigned by level: "
            f"its slopes would be too small. Engine em fits such a scale"
        )


def require_everybody(subject: str, request: FitRequest) -> None:
    """Raise PsychometricsError if the request has a sample of learners, because `subject` needs all in this process."""
    if request.drawn_from is not None:
        raise PsychometricsError(
            f"{subject} is fitted in the run's own process, which reads {request.responses.n_responses:,} of the "
            f"{request.drawn_from:,} scored answers: unset IRT_SPARK on a machine with memory for all of them"
        )


def prior_on_b_message(scale_id: str) -> str:
    """Why a scale whose items are assigned by level cannot have a prior on b, and the remedy."""
    return (
        f"items of scale {scale_id} are assigned by level: it is fitted in the unit of its middle level, in which a "
        f"prior on b of all learners is not known. `irt scale set prior_b=none --scale {scale_id} …`"
    )


def fit_spec_extras(request: FitRequest, made: CalibrationResult) -> StagedSpec:
    """Return the parts of a fit's spec that depend on the request and the fit."""
    calibration = made.calibration
    correlation, learners = float("nan"), 0
    if request.earlier is not None and calibration.convergence.converged:
        assigned = request.responses
        if request.by_session is not None:
            assigned = assigned.of_rows(~request.by_session)
        correlation, learners = EarlierAnswers(request.earlier).assignment_correlation(assigned, calibration)
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


def fit_statistics(request: FitRequest, made: CalibrationResult) -> FitStatistics | None:
    """Compute the fit statistics for a fit's spec.

    Returns None if the fit did not converge, and for models for which they are not defined.
    """
    family = made.calibration.item_model
    if not (made.calibration.convergence.converged and (family.logistic or not family.two_categories)):
        return None
    growth = made.growth
    if growth is None and request.days is not None:
        growth = Growth.within(request.responses, request.days, made.calibration, groups=made.groups)
    with threadpool_limits(1, user_api="blas"):  # threads only slow down products of small matrices
        found = FitSummary.from_fit(
            made.weeks or request.responses,
            made.calibration,
            groups=made.groups,
            person_ids=None if made.weeks or request.learners is None else request.learners,
            testlets=request.testlets_used,
            everybody=made.everybody,
            growth=growth,
        )
    return statistics_spec(found)
