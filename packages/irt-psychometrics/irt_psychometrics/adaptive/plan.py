"""Everything about an adaptive test that does not depend on the learner, and the choice of the next item.

A `SelectionPlan` has the tables of a bank and the rules in the form that `kernels` uses. Simulated tests are in
`simulation`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from irt_psychometrics.adaptive import kernels
from irt_psychometrics.adaptive.declaration import AdaptiveTest
from irt_psychometrics.adaptive.item_posterior import ItemPosterior
from irt_psychometrics.adaptive.shadow import ShadowTests, unit_counts
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import CountedScores, ItemCurves
from irt_psychometrics.core.item_sources import ItemSource, require_items, require_population
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.kernels import cut, runner
from irt_psychometrics.scoring.form_scores import require_curves

STOPS = (None, "max-items", "max-se", "classified", "no-item")
"""Names of the kernels' reasons to stop."""
METHODS = {
    "kullback-leibler": kernels.KULLBACK_LEIBLER,
    "posterior-variance": kernels.POSTERIOR_VARIANCE,
    "progressive": kernels.PROGRESSIVE,
}
_LIMIT, _NODES, _FINE = 6.0, 121, 601
"""SDs of the population on either side of its mean, and numbers of nodes of posteriors and of tables there."""
_H = 1e-3
"""Step of differences with respect to θ, whose error is h⁴/30 of the fifth derivative, 1e-13."""
_NO_MAXIMUM = 1 << 40
_TINY = 1e-300
_FEEDBACK = 10
"""Power of allowed / given in the probability of an item to be eligible."""


@dataclass(frozen=True)
class Step:
    """The next item of a person's test, or why the test ends.

    Attributes
    ----------
    item
        The next item, or None if the test ends.
    position
        The number of the next item among the scored items of the test, from 1.
    theta, se
        The estimate from the answers of this test and the population, and its standard error.
    stop
        "max-items", "max-se", "classified" or "no-item" (no item can be given within the limits), or None if
        the test goes on.
    passes
        Whether the person passes, or None if the test goes on or does not classify.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.adaptive import AdaptiveTest, SelectionPlan
    >>> items = irt.ItemParameters.from_frame({"item": ["easy", "hard"], "a": [1, 1], "b": [-1, 1.5]})
    >>> step = SelectionPlan(AdaptiveTest(max_items=1), items, mean=0, sd=1).next(["easy"], [1], random_state=1)
    >>> step.item is None, step.stop
    (True, 'max-items')
    """

    item: str | None
    position: int
    theta: float
    se: float
    stop: str | None
    passes: bool | None


@dataclass(frozen=True, eq=False, init=False)
class SelectionPlan:
    """Chooses items of an adaptive test for any number of persons of a population N(mean, sd²).

    Attributes
    ----------
    test
        The rules.
    items
        The J items of the bank, which all have parameters.
    mean, sd
        Mean and SD of θ in the population.
    posterior
        The posterior of the items, for the method "expected-information". By this method θ, too, is
        estimated by the expected response functions, unless the estimator is "wle".
    nodes
        Shape (Q,), equally spaced nodes of posteriors; None: 121 nodes on mean ± 6 sd.

    Raises
    ------
    PsychometricsError
        If an item has no parameters or a ≤ 0, if the method needs a posterior that is missing, or
        if the limits on the content cannot be met.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.adaptive import AdaptiveTest, SelectionPlan
    >>> items = irt.ItemParameters.from_frame({"item": ["easy", "hard"], "a": [1, 1], "b": [-1, 1.5]})
    >>> SelectionPlan(AdaptiveTest(max_items=2), items, mean=0, sd=1).places
    {'easy': 0, 'hard': 1}
    """

    test: AdaptiveTest
    items: ItemParameters
    mean: float
    sd: float
    posterior: ItemPosterior | None
    nodes: Floats | None

    def __init__(
        self,
        test: AdaptiveTest,
        items: ItemSource,
        mean: float | None = None,
        sd: float | None = None,
        *,
        group: str | None = None,
        posterior: ItemPosterior | None = None,
        nodes: Floats | None = None,
    ) -> None:
        """Make the plan of a test.

        Parameters
        ----------
        test
            The rules.
        items
            The bank: a `Fit`, a `ScaleLink` (the new fit on the old scale), or `ItemParameters`.
        mean, sd
            Mean and SD of θ in the population. None: mean and SD of the fit, also if its distribution is a histogram;
            parameters of items contain no population.
        group
            The group whose population is meant, for a fit with groups.
        posterior, nodes
            As the attributes.
        """
        population = require_population(items, "SelectionPlan", mean=mean, sd=sd, group=group)
        values = (test, require_items(items, "SelectionPlan"), population.mean, population.sd, posterior, nodes)
        for own, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, own.name, value)
        require_curves(self.items, "the bank of the test")
        if self.test.method == "expected-information" and self.posterior is None:
            raise PsychometricsError("the method expected-information needs the posterior of the items")
        self._require_exposure(self.content)  # also raises if the limits cannot be met

    @cached_property
    def places(self) -> dict[str, int]:
        """The place of each item among the J items."""
        return {item: j for j, item in enumerate(self.items.item_ids)}

    @cached_property
    def fine_nodes(self) -> Floats:
        """Equally spaced nodes of the tables of information and of probabilities."""
        reach = 2 if self.test.estimator == "wle" else 1  # WLE of full marks is beyond all posteriors
        return self.mean + self.sd * np.linspace(-reach * _LIMIT, reach * _LIMIT, reach * (_FINE - 1) + 1)

    @cached_property
    def _counted_scores(self) -> CountedScores:
        return CountedScores.from_curves(self.items.curves)

    @cached_property
    def tables(self) -> kernels.Tables:
        """The tables of the bank in the form that the kernels use."""
        test, curves, fine = self.test, self.items.curves, self.fine_nodes
        nodes = self.mean + self.sd * np.linspace(-_LIMIT, _LIMIT, _NODES) if self.nodes is None else self.nodes
        probabilities: Callable[[Floats], Floats] = curves.score_probabilities
        criterion = curves.information(fine)
        if test.method == "expected-information" and self.posterior is not None:
            probabilities = self.posterior.expected_probabilities
            criterion = _expected_information(self.posterior, fine)
        p = probabilities(nodes)
        log_ratio = np.zeros(p.shape[:2])
        if test.cut is not None:
            ends = np.array([test.cut - test.indifference, test.cut + test.indifference])
            log_ratio = np.diff(np.log(np.maximum(probabilities(ends), _TINY)))[:, :, 0]
        empty = np.zeros((0, 0, 0))
        slopes, warm = _warm_tables(curves, fine) if test.estimator == "wle" else (empty, empty)
        return kernels.Tables(
            nodes,
            np.exp(-0.5 * ((nodes - self.mean) / self.sd) ** 2),
            p,
            np.log(np.maximum(p, _TINY)) if test.method == "kullback-leibler" else empty,
            float(fine[0]),
            float(fine[1] - fine[0]),
            np.ascontiguousarray(criterion),
            curves.score_probabilities(fine),
            log_ratio,
            slopes,
            warm,
        )

    @cached_property
    def shadow(self) -> ShadowTests | None:
        """The shadow tests of the plan. Returns None if the priority index holds the content."""
        information = self.items.curves.information([self.mean])[0]
        return ShadowTests(self.test, self.content, information) if self.test.content == "shadow" else None

    @cached_property
    def rules(self) -> kernels.Rules:
        """The rules of the test in the form that the kernels use."""
        test = self.test
        classifies = test.cut is not None
        sequential = classifies and test.cut_rule == "sprt"
        return kernels.Rules(
            METHODS.get(test.method, kernels.INFORMATION),
            test.estimator == "wle",
            test.min_items,
            test.max_items,
            test.max_se or 0.0,
            np.nan if test.cut is None else test.cut,
            float(np.log(test.false_fail / (1 - test.false_pass))) if sequential else -np.inf,
            float(np.log((1 - test.false_fail) / test.false_pass)) if sequential else np.inf,
            float(ndtri(0.5 + test.confidence / 2)) if classifies and not sequential else 0.0,
            test.randomesque,
        )

    @cached_property
    def content(self) -> kernels.Content:
        """The groups and units of the items, and a test that meets all limits."""
        J, limits = len(self.items.item_ids), self.test.limits
        groups: list[list[int]] = [[] for _ in range(J)]
        for g, limit in enumerate(limits):
            for j in {self.places[item] for item in limit.items if item in self.places}:
                groups[j].append(g)
        testlets = [[self.places[item] for item in own if item in self.places] for own in self.test.testlets]
        together = {j for own in testlets for j in own}
        units = [*([j] for j in range(J) if j not in together), *(own for own in testlets if own)]
        if len(together) != sum(map(len, testlets)):
            raise PsychometricsError("an item is in two testlets; it can be given only once")
        unit_of = np.empty(J, np.int64)
        for u, own in enumerate(units):
            unit_of[own] = u
        kinds: dict[tuple[int, ...], int] = {}
        kind = [kinds.setdefault((len(own), *sorted(g for j in own for g in groups[j])), len(kinds)) for own in units]
        starts = [np.cumsum([0, *map(len, lists)]) for lists in (groups, units)]
        found = kernels.Content(
            starts[0],
            np.array([g for own in groups for g in own], np.int64),
            np.array([limit.least for limit in limits], np.int64),
            np.array([_NO_MAXIMUM if limit.most is None else limit.most for limit in limits], np.int64),
            unit_of,
            starts[1],
            np.array([j for own in units for j in own], np.int64),
            np.array(kind, np.int64),
            np.zeros(0, np.int64),
        )
        return found._replace(first=self._first_test(found)) if limits or testlets else found

    def _first_test(self, content: kernels.Content) -> npt.NDArray[np.int64]:
        """Units of a test that meets all limits and has the most information at the population's mean."""
        found, test = self._solve(content, np.zeros(len(content.kind)), 1.0), self.test
        if found is None:
            in_bank = np.bincount(content.groups, minlength=len(test.limits))
            lacking = [
                f"{limit.name} needs {limit.least} items and the bank has {available}"
                for limit, available in zip(test.limits, in_bank, strict=True)
                if available < limit.least
            ]
            raise PsychometricsError(
                f"no test of {test.min_items} to {test.max_items} items meets all limits: "
                + ("; ".join(lacking) or "the minima and maxima of its groups conflict; relax one of them")
            )
        return np.flatnonzero(found > 0.5)

    def _solve(
        self, content: kernels.Content, low: Floats, high: Floats | float, *, whole: bool = True
    ) -> Floats | None:
        """The share of each unit, between `low` and `high` (0 or 1 if `whole`), with which a test meets all limits and
        has the most information at the population's mean. Returns None if no test meets them."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # the import takes a tenth of a second

        test = self.test
        information = np.bincount(content.unit_of, self.items.curves.information([self.mean])[0])
        found = milp(
            -information,
            integrality=int(whole),
            bounds=Bounds(low, high),
            constraints=LinearConstraint(
                unit_counts(content),
                [test.min_items, *content.least],
                [test.max_items, *np.minimum(content.most, test.max_items)],
            ),
            options={"mip_rel_gap": 0.05},
        )
        return None if found.x is None else np.asarray(found.x, dtype=float)

    def _require_exposure(self, content: kernels.Content) -> None:
        test = self.test
        if (most := test.max_exposure) is None:
            return
        length = test.max_items if test.max_se is None and test.cut is None else test.min_items
        in_bank = np.bincount(content.groups, minlength=len(test.limits))
        needs = [
            ("the test", length, len(self.places)),
            *((limit.name, limit.least, int(n)) for limit, n in zip(test.limits, in_bank, strict=True)),
        ]
        name, least, n = max(needs, key=lambda need: need[1] / max(need[2], 1))
        if least > most * n:
            raise PsychometricsError(
                f"max_exposure = {most:g} cannot be held: {name} needs {least} items and the bank has {n}, so that "
                f"some item is given to at least {least / n:.3g} of learners; raise max_exposure or add items"
            )
        if test.limits and self._solve(content, np.zeros(len(content.kind)), most, whole=False) is None:
            raise PsychometricsError(
                f"max_exposure = {most:g} cannot be held: the limits together need some items more often; raise "
                "max_exposure, relax a limit or add items"
            )

    def eligibility(self, eligible: Floats, given: Floats) -> Floats:
        """Compute the probability that an item is eligible, so that at most `max_exposure` of persons are given it.

        min(1, r·ε/α·(r·n/α)¹⁰) after n tests, with α the times that the item was given and ε the times that it was
        eligible. r·ε/α is the rule of van der Linden & Veldkamp (2004). The second factor corrects rates that chance
        has led away from r, so that the limit is held from the first tests on.

        Parameters
        ----------
        eligible, given
            Shape (S, J), the numbers of tests in which each item was eligible and given, in each interval of θ.

        Returns
        -------
        array of shape (S, J)
            Probabilities; 1 without a limit.
        """
        if self.test.max_exposure is None:
            return np.ones(np.shape(given))
        tests = np.maximum(given.sum(axis=1) / self.test.max_items, eligible.max(axis=1))[:, None]
        allowed = np.maximum(self.test.max_exposure * tests, _TINY)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.test.max_exposure * eligible / given * (allowed / given) ** _FEEDBACK
        return np.where(given > 0, np.minimum(found, 1.0), 1.0)

    def draw_ineligible(self, probability: Floats, random_state: int) -> dict[str, list[float]]:
        """Draw the items that are not eligible in a test.

        Parameters
        ----------
        probability
            Shape (S, J), the result of `eligibility`.
        random_state
            Seed of the draws.

        Returns
        -------
        dict
            Item → 1 or 0 in each interval of θ, as `next` takes it as `eligible`. Items that are eligible in all
            intervals are left out.
        """
        drawn = np.random.default_rng(random_state).random(probability.shape) < probability
        return {item: drawn[:, j].astype(float).tolist() for item, j in self.places.items() if not drawn[:, j].all()}

    def unscored_places(self, random_state: int) -> tuple[int, ...]:
        """Draw the positions of the unscored items of a test.

        Parameters
        ----------
        random_state
            Seed of the draws.

        Returns
        -------
        tuple of int
            Positions among all items of the test, from 1.
        """
        among = np.arange(self.test.max_items + self.test.unscored) + 1
        return tuple(sorted(np.random.default_rng(random_state).permutation(among)[: self.test.unscored].tolist()))

    def next(
        self,
        answered: Sequence[str],
        scores: Sequence[int],
        *,
        random_state: int,
        start: tuple[float, float] | None = None,
        score_from_start: bool = False,
        excluded: Collection[str] = (),
        eligible: Mapping[str, Sequence[float]] | None = None,
    ) -> Step:
        """Choose the next item of a test from the answers so far. The result depends on the arguments alone.

        Parameters
        ----------
        answered
            The scored items that were given so far, in order.
        scores
            The score of each answer.
        random_state
            A number from 0 on by which random choices of this test are made.
        start
            Mean and SD of the prior by which items are chosen; None: the population.
        score_from_start
            Whether EAP estimates use `start`, too, instead of the population.
        excluded
            Items that must not be given, such as items that the person knows.
        eligible
            Probabilities with which items are eligible, in each interval of θ between the `exposure_cuts`; items that
            are not named are eligible.

        Returns
        -------
        Step
            The next item, or why the test ends.

        Raises
        ------
        PsychometricsError
            For an answer to an unknown item, or two answers to an item.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.adaptive import AdaptiveTest, SelectionPlan
        >>> items = irt.ItemParameters.from_frame({"item": ["easy", "hard"], "a": [1, 1], "b": [-1, 1.5]})
        >>> plan = SelectionPlan(AdaptiveTest(max_items=2), items, mean=0, sd=1)
        >>> plan.next([], [], random_state=1).item
        'easy'
        >>> plan.next(["easy", "hard"], [1, 0], random_state=1).stop
        'max-items'
        """
        unknown = [item for item in answered if item not in self.places]
        if unknown or len(set(answered)) < len(answered) or len(answered) > self.test.max_items:
            raise PsychometricsError(
                f"item {unknown[0]} is not in the bank of this test"
                if unknown
                else f"{len(answered)} answers to {len(set(answered))} items: a test has at most one answer to an item"
                f" and at most {self.test.max_items} answers"
            )
        J, places = len(self.places), [self.places[item] for item in answered]
        given = np.full((2, 1, self.test.max_items), -1)
        given[0, 0, : len(places)] = places
        own = self._counted_scores
        given[1, 0, : len(places)] = own.of_answers(
            np.array(places, np.int64), np.array(scores, np.int8), own.categories
        )
        barred = np.zeros(J, np.bool_)
        barred[[self.places[item] for item in excluded if item in self.places]] = True
        barred[places] = False
        probability = np.ones((len(self.test.exposure_cuts) + 1, J))
        for item, p in (eligible or {}).items():
            if item in self.places:
                probability[:, self.places[item]] = p
        replay = partial(
            run,
            self,
            np.zeros(1),
            np.array([random_state], np.uint64),
            probability,
            prior=np.array([start or (self.mean, 0.0)]),
            given=given,
            excluded=barred[None],
            scored_by=start if score_from_start else None,
        )
        tests, content = replay(), self.content
        if STOPS[tests.stop[0]] == "no-item" and content.first.size:  # the kernel's search for a test may miss tests
            low, high = np.zeros((2, len(content.kind)))
            high[content.unit_of[~barred]] = 1.0
            high[content.unit_of[barred]] = 0.0
            low[content.unit_of[places]] = high[content.unit_of[places]] = 1.0
            if (found := self._solve(content, low, high)) is not None:
                tests = replay(content=content._replace(first=np.flatnonzero(found > 0.5)))
        n, stop = int(tests.length[0]), STOPS[tests.stop[0]]
        chosen = None if stop else self.items.item_ids[tests.item[0, n]]
        passes = bool(tests.passes[0]) if stop and self.test.cut is not None else None
        return Step(chosen, n + 1, float(tests.theta[0]), float(tests.se[0]), stop, passes)


@dataclass(frozen=True, eq=False)
class Run:
    """Results of the kernel for N learners; see `kernels.run_tests`."""

    theta: Floats
    se: Floats
    length: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    score: npt.NDArray[np.int8]
    stop: npt.NDArray[np.int8]
    passes: npt.NDArray[np.bool_]
    eligible: Floats
    given: Floats


def run(
    plan: SelectionPlan,
    theta: Floats,
    seeds: npt.NDArray[np.uint64],
    probability: Floats,
    *,
    given: npt.NDArray[np.int64] | None = None,
    threads: int | None = 1,
    **others: Any,
) -> Run:
    """Run tests of N learners by `run_kernel`, which has the arguments, and by shadow tests if the plan has them."""
    shadow, truth = plan.shadow, others.get("truth")
    if shadow is None:
        return run_kernel(plan, theta, seeds, probability, given=given, threads=threads, **others)
    given = np.full((2, len(theta), plan.test.max_items), -1) if given is None else given
    while True:
        values = np.zeros((len(theta), len(plan.places)))
        tests = run_kernel(plan, theta, seeds, probability, given=given, threads=threads, values=values, **others)
        with runner(threads) as each:
            shadow.choose_next((tests.item, tests.length, tests.stop), values, seeds, each)
        if truth is None or not (tests.stop == kernels.NOT_STOPPED).any():
            return tests
        given[0] = tests.item


def run_kernel(
    plan: SelectionPlan,
    theta: Floats,
    seeds: npt.NDArray[np.uint64],
    probability: Floats,
    *,
    prior: Floats,
    truth: Floats | None = None,
    given: npt.NDArray[np.int64] | None = None,
    excluded: npt.NDArray[np.bool_] | None = None,
    content: kernels.Content | None = None,
    scored_by: tuple[float, float] | None = None,
    threads: int | None = 1,
    values: Floats | None = None,
) -> Run:
    """Run tests of N learners; see `kernels.run_tests`. `content` replaces the plan's.

    `scored_by`, mean and SD of a prior, replaces the population in estimates.

    `prior` (N, 2) are the mean and SD of the priors by which items are chosen. The result does not depend on `threads`.
    """
    N, L, shape, tables = len(theta), plan.test.max_items, probability.shape, plan.tables
    if scored_by:
        tables = tables._replace(weights=np.exp(-0.5 * ((tables.nodes - scored_by[0]) / scored_by[1]) ** 2))
    scores_stop = np.zeros((N, L), np.int8), np.zeros(N, np.int8)
    into = (np.empty(N), np.empty(N), np.zeros(N, np.int64), np.full((N, L), -1), *scores_stop, np.zeros(N, np.bool_))
    nothing = np.full((2, 1, 0), -1)
    items, scores = nothing if given is None else given
    barred = np.zeros((1, shape[1]), np.bool_) if excluded is None else excluded
    people = seeds, theta, np.ascontiguousarray(prior[:, 0]), np.ascontiguousarray(prior[:, 1]), barred

    def part(first: int, last: int) -> tuple[Floats, Floats]:
        counts, limits = (np.zeros(shape), np.zeros(shape)), content or plan.content
        kernels.run_tests(
            first,
            last,
            tables,
            limits,
            plan.rules,
            np.zeros((0, 0, 0)) if truth is None else truth,
            (np.array(plan.test.exposure_cuts, dtype=float), probability),
            people,
            (items, scores),
            into,
            counts,
            np.zeros((0, shape[1])) if values is None else values,
            kernels.State.of_size(tables, limits, probability, plan.rules.randomesque),
        )
        return counts

    with runner(threads) as each:
        parts = each(part, cut(np.ones(N), 8))
    eligible, given_counts = (np.sum(counts, axis=0) for counts in zip(*parts, strict=True))
    return Run(*into, eligible, given_counts)


def _expected_information(posterior: ItemPosterior, fine: Floats) -> Floats:
    """Information of the expected response functions, Σ P'²/P, shape (F, J)."""
    p = posterior.expected_probabilities(fine)
    slope = np.gradient(p, fine, axis=2)
    return (np.divide(slope**2, p, out=np.zeros_like(p), where=p > 0)).sum(axis=1).T


def _warm_tables(curves: ItemCurves, fine: Floats) -> tuple[Floats, Floats]:
    """∂ log P/∂θ, shape (J, C, F), and information and J = Σ P'P''/P, shape (2, J, F).

    From I = Σ P'²/P follows J = (I' + Σ P'³/P²)/2.
    """

    def slope_of(function: Callable[[Floats], Floats]) -> Floats:
        near, far = function(fine + _H) - function(fine - _H), function(fine + 2 * _H) - function(fine - 2 * _H)
        return (8 * near - far) / (12 * _H)

    p = curves.score_probabilities(fine)
    slopes = slope_of(lambda nodes: np.log(np.maximum(curves.score_probabilities(nodes), _TINY)))
    information = curves.information(fine).T
    bend = 0.5 * (slope_of(lambda nodes: curves.information(nodes).T) + (p * slopes**3).sum(axis=1))
    return slopes, np.stack([information, bend])
