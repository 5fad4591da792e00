"""Estimate how abilities on a scale grow and move: the variance of a random walk, growth, and each day's own variance,
jointly.

The method is marginal maximum likelihood. The likelihood of a learner's answers is a product over days: each factor is
the probability of the day's answers given the earlier answers, which is the filter's normalising constant. Mean and SD
of θ on the first day are estimated too, and then dropped. Learners who are followed for half a year are not the
population, and an error of .3 in the start would look like growth if the answers contain little other evidence of
movement. Mean and SD depend on the length of a learner's stay, in at most `_MAX_CLASSES` classes (a pattern mixture:
Little 1993). If weak learners leave early, later answers come from stronger learners, and a common mean would mistake
the difference for growth. With a common SD, learners far from the mean of a widely spread class seem to walk there.
Growth is therefore the gain of learners while they stay.

After a long gap a learner starts again, because abilities move differently in a gap than between days of practice. The
walk is also tested with the gaps included, because more time passes in them.

Estimates and tests allow for the errors of item parameters (`movement_item_errors`). Scores of moving abilities are in
`scoring.moving_ability`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import ClassVar, NamedTuple, Self

import numpy as np
from scipy.stats import chi2

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.movement import WEEK, Movement
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.movement_item_errors import ItemErrors
from irt_psychometrics.scoring.abilities import Curves
from irt_psychometrics.scoring.moving_filter import FilterResults, Lattice, OccasionAnswers, filter_into

MAX_LEARNERS, MIN_LEARNERS, MIN_OCCASIONS, MIN_WEEKS = 5000, 300, 8, 26
MAX_GAP_WEEKS = 8
"""Weeks without an answer after which a learner starts again. Answers on `MIN_OCCASIONS` days that are spread evenly
over a year have shorter gaps."""
MAX_ORDER = 0.1
"""R² of elapsed time on item, above which items have an order within windows."""
PARTS = "variance", "growth", "occasion_variance"
SIGNIFICANT = 0.01 / len(PARTS)
"""Level of each part's test, a third of .01: a movement is proposed for one in a hundred scales without movement."""
_VARIANCES = "variance", "occasion_variance"
NOT_LINEAR = 0.05
"""p value of equal growth in both halves below which growth is not linear."""
_KINDS = (*PARTS, "SD at the start", "mean at the start")
"""Kinds of parameters. There is one parameter of each kind, except that each class of stays has an SD and a mean."""
_GROWTH, _SD, _MEAN = 1, 3, 4
_UNITS = np.array([0.05**2, 0.5 * WEEK / 365.25, 0.3**2, 1.0, 1.0])
"""Typical sizes of the three parts, and of log SD and mean at the start, in SDs of the population."""
_LOWER, _UPPER = np.array([0.0, -20.0, 0.0, -2.0, -4.0]), np.array([100.0, 20.0, 10.0, 1.0, 4.0])
_MAX_CLASSES, _MIN_IN_CLASS = 25, 30
"""Number of classes of stays, of equal size, and minimum number of learners in a class. If ability depends on stays
within a class, later answers come from abler learners, which looks like growth. With ten classes of 700 learners the
test statistic of growth was off by half a standard error."""
_SCOUTS = 800
"""Number of learners in the first search for a maximum. The search with all learners begins at its result."""
_DRAW_LEARNERS = 400
"""Number of learners from whom the likelihood's slopes are computed for each draw of the items' errors."""
_SLIGHTLY = 2e-3
"""Step of the finite differences for the likelihood's slopes, in `_UNITS`. Estimates are off by half a step."""
_MAX_STEPS, _MIN_GAIN = 40, 0.002
"""Maximum number of steps of a search, and the expected gain of the log-likelihood below which it ends."""


@dataclass(frozen=True)
class GrowthByHalf:
    """Growth per week in the first and in the second half of learners' days.

    Attributes
    ----------
    first, second
        Growth per week on the scale of θ.
    p
        p-value of equal growth in both halves.
    p_second
        p-value of no growth in the second half.
    """

    first: float
    second: float
    p: float
    p_second: float

    @property
    def differs(self) -> bool:
        """Whether growth is not linear, which means that it levels off or accelerates."""
        return self.p < NOT_LINEAR

    @property
    def proposed(self) -> float:
        """Growth per week to propose if the halves differ: growth in the second half, or 0 if it is not significant."""
        return self.second if self.p_second < SIGNIFICANT else 0.0


@dataclass(frozen=True)
class MovementEstimate:
    """The maximum likelihood estimate of a scale's movement, per week and on the scale of θ, and its tests.

    Attributes
    ----------
    estimate
        The maximum, corrected for the bias due to errors of items.
    errors
        Standard errors by the names of `Movement`'s parts.
    log_likelihood
        Log-likelihood at the maximum.
    without_walk
        Maximum log-likelihood if the walk is 0, with growth and a day's variance free.
    p
        p-value of "this part is 0" for each part, with the other parts free. The likelihood ratio is compared with χ²₁,
        or for a variance with ½χ²₀ + ½χ²₁, after allowing for the bias and the variance from errors of items.
    start
        Distribution of θ on the first day.
    proposed
        The movement without the parts that are not significant. Parts are removed one by one, the least significant
        first, and the remaining parts are estimated again. If growth differs between the halves, the proposal has the
        growth of the second half, or 0 if it is not significant, and the other parts are estimated with it.
    growth_by_half
        Comparison of the halves. None if growth is not significant.
    learners, occasions, weeks
        Size of the sample.
    MIN_OCCASIONS
        Minimum number of days on which a learner in the sample has answers.
    MAX_LEARNERS
        Maximum number of learners in the sample.

    Examples
    --------
    >>> from irt_psychometrics.estimation import MovementEstimate
    >>> MovementEstimate.MIN_OCCASIONS
    8
    """

    MIN_OCCASIONS: ClassVar[int] = MIN_OCCASIONS
    MAX_LEARNERS: ClassVar[int] = MAX_LEARNERS

    estimate: Movement
    errors: Mapping[str, float]
    log_likelihood: float
    without_walk: float
    p: Mapping[str, float]
    start: Population
    proposed: Movement
    growth_by_half: GrowthByHalf | None
    learners: int
    occasions: int
    weeks: int

    @staticmethod
    def growth_from_json(stored: Mapping[str, float]) -> GrowthByHalf:
        """Build `growth_by_half` from its fields, as JSON stores them."""
        return GrowthByHalf(**stored)

    @classmethod
    def from_answers(
        cls,
        responses: Responses,
        day: Ints,
        curves: Curves,
        items: ItemParameters | None = None,
        *,
        order: float = 0.0,
        growth_in_windows: bool | None = False,
    ) -> Self:
        """Estimate how abilities move.

        Parameters
        ----------
        responses
            R responses. At most `MAX_LEARNERS` learners are used, those with the smallest `responses.key`.
        day
            Shape (R,), the UTC day of each response.
        curves
            Curves of the published items, and the population of θ.
        items
            The same items with the errors of their parameters. Unknown errors count as 0. None: all errors are 0.
        order
            R² of elapsed time within a window on item.
        growth_in_windows
            Whether growth was found within windows. None if it could not be determined.

        Returns
        -------
        MovementEstimate
            The estimate with tests and a proposal.

        Raises
        ------
        PsychometricsError
            If the movement cannot be determined; the message contains the reason.

        References
        ----------
        Little, R. J. A. (1993). Pattern-mixture models for multivariate incomplete data. JASA, 88, 125-134.
        """
        if order > MAX_ORDER and growth_in_windows is not False:
            raise _order_error(order, growth_found=bool(growth_in_windows))
        sample = _Sample.from_responses(responses, day, curves)
        fits = _Fits(sample.in_stretches())
        stretches = fits.sample
        every = fits.maximum(PARTS, stretches.parameters(np.array([0.3, 0.0, 0.1, 0.0, 0.0])))
        if unbounded := stretches.kinds_at_limit(every.x):
            raise PsychometricsError(
                f"the likelihood still rises at a limit of the search for {' and '.join(unbounded)}: "
                "answers are almost all right, almost all wrong, or do not depend on ability"
            )
        item_errors = stretches.item_errors(every.x, curves, items)
        walk_with_gaps = cache(partial(_walk_with_gaps, sample, stretches.mean_of_kinds(every.x), curves, items))

        def only_gaps_show_walk(p: Mapping[str, float]) -> bool:
            return (
                p.get("variance", 0.0) >= SIGNIFICANT and stretches.n > sample.n and walk_with_gaps()[1] < SIGNIFICANT
            )

        def p_values(found: _Fits, free: tuple[str, ...]) -> dict[str, float]:
            """p-value of each free part. If the stretches do not show a walk, it is tested with the gaps."""
            p = {part: found.p_without(free, part, item_errors) for part in free}
            return p | ({"variance": walk_with_gaps()[1]} if only_gaps_show_walk(p) else {})

        def movement(found: _Fits, free: tuple[str, ...]) -> Movement:
            """Estimate the parts that are free. If only the gaps show a walk, its variance is at least the variance
            estimated with the gaps."""
            estimate = stretches.correct_bias(found.maximum(free, every.x).x, free, item_errors)
            if not only_gaps_show_walk({part: found.p_without(free, part, item_errors) for part in free}):
                return estimate
            return replace(estimate, variance=max(estimate.variance, walk_with_gaps()[0]))

        def significant(found: _Fits, free: tuple[str, ...]) -> tuple[str, ...]:
            """Remove the least significant part until all parts are significant. Returns the remaining parts."""
            p = p_values(found, free)
            if not p or max(p.values()) < SIGNIFICANT:
                return free
            return significant(found, tuple(part for part in free if part != max(p, key=lambda part: p[part])))

        p = p_values(fits, PARTS)
        kept = significant(fits, PARTS)
        proposed, halves = movement(fits, kept), None
        if proposed.growth:
            halves = stretches.growth_by_half(fits.maximum(kept, every.x).x)
            if halves.differs:
                later = _Fits(stretches, growth=halves.proposed / float(stretches.units[_GROWTH]))
                later.maximum(_VARIANCES, every.x)
                proposed = movement(later, significant(later, _VARIANCES))
        return cls(
            estimate=stretches.correct_bias(every.x, PARTS, item_errors),
            errors=dict(zip(PARTS, (item_errors.errors * stretches.units)[:3].tolist(), strict=True)),
            log_likelihood=every.log_likelihood,
            without_walk=fits.maximum(PARTS[1:], every.x).log_likelihood,
            p=p,
            start=stretches.start(every.x),
            proposed=proposed,
            growth_by_half=halves,
            learners=sample.n,
            occasions=int(sample.new_day.sum()),
            weeks=_weeks(sample.answers.day),
        )


def _order_error(order: float, *, growth_found: bool) -> PsychometricsError:
    found = "growth is found there" if growth_found else "whether there is growth cannot be judged"
    return PsychometricsError(
        f"items have an order within windows (R² of elapsed time on item {order:.2f}) and {found}: difficulties have "
        "absorbed part of it, and growth would be underestimated"
    )


def _walk_with_gaps(
    sample: _Sample, maximum: Floats, curves: Curves, items: ItemParameters | None
) -> tuple[float, float]:
    """Variance of the walk estimated with the gaps, and the p-value of "it is 0".

    Growth is fixed at its value in `maximum`, which was estimated without gaps.
    """
    whole = _Fits(sample, growth=float(maximum[_GROWTH]))
    begin = sample.parameters(maximum)
    x = whole.maximum(_VARIANCES, begin).x
    errors = sample.item_errors(x, curves, items)
    return sample.correct_bias(x, _VARIANCES, errors).variance, whole.p_without(_VARIANCES, "variance", errors)


@dataclass(frozen=True)
class _Fits:
    """Maxima of a sample, stored by their free parts. Parts that are not free are 0, except growth, which is `growth`
    units."""

    sample: _Sample
    growth: float = 0.0
    found: dict[tuple[str, ...], _Maximum] = field(default_factory=dict)

    def maximum(self, free: tuple[str, ...], begin: Floats) -> _Maximum:
        """The maximum. The search starts from the maximum of some learners. Each maximum is computed once."""
        if free not in self.found:
            scouted = self.sample.first(_SCOUTS).maximum(free, begin, self.growth)
            self.found[free] = self.sample.maximum(free, scouted.x, self.growth)
        return self.found[free]

    def p_without(self, free: tuple[str, ...], part: str, item_errors: ItemErrors) -> float:
        """p-value of "this part is 0", with the others free. The maximum with all of `free` must have been found."""
        others, full = tuple(other for other in free if other != part), self.found[free]
        value = full.x[PARTS.index(part)]
        if value == 0:
            self.found.setdefault(others, full)
        ratio = max(0.0, 2 * (full.log_likelihood - self.maximum(others, full.x).log_likelihood))
        root = np.sqrt(ratio) * (-1 if value < 0 else 1)
        place, of = PARTS.index(part), self.sample.places(free)
        return item_errors.p_of(root, place, of, two_sided=part == "growth")


@dataclass(frozen=True)
class _Sample:
    """Learners whose likelihood is maximised. They may be stretches without a long gap, each treated as a learner.

    `stay`, shape (n,), is each learner's class by length of stay, from 0 to `classes` − 1. The P parameters are the
    first three of `_KINDS` and the log SD and the mean of each class, divided by `units`. `kind`, shape (P,), contains
    their positions in `_KINDS`.
    """

    answers: OccasionAnswers
    table: Floats
    population: Population
    stay: Ints
    classes: int

    @classmethod
    def from_responses(cls, responses: Responses, day: Ints, curves: Curves) -> _Sample:
        """Choose the learners with enough occasions. Raises PsychometricsError if there are too few."""
        answers = OccasionAnswers.from_responses(responses, day, curves)
        person = np.repeat(np.arange(responses.n_persons), np.diff(answers.start))
        new = np.diff(answers.day, prepend=-1) != 0
        new |= np.diff(person, prepend=-1) != 0
        often = np.flatnonzero(np.bincount(person[new], minlength=responses.n_persons) >= MIN_OCCASIONS)
        if often.size < MIN_LEARNERS:
            raise PsychometricsError(
                f"{often.size:,} learners answered on {MIN_OCCASIONS} days or more; {MIN_LEARNERS} are needed"
            )
        key = np.arange(responses.n_persons) if responses.key is None else responses.key
        chosen = np.sort(often[np.lexsort((often, key[often]))][:MAX_LEARNERS])
        of_chosen = np.isin(person, chosen)
        start = np.concatenate([[0], np.cumsum(np.diff(answers.start)[chosen])])
        some = OccasionAnswers(start, answers.day[of_chosen], answers.row[of_chosen], slice(None))
        weeks = _weeks(some.day)
        if weeks < MIN_WEEKS:
            raise PsychometricsError(
                f"the answers of learners with {MIN_OCCASIONS} days or more span {weeks} weeks; {MIN_WEEKS} are needed"
            )
        return cls(some, _table(some, curves), curves.population, *_classes(some))

    @property
    def n(self) -> int:
        """The number of learners, or of stretches."""
        return len(self.stay)

    def in_stretches(self) -> _Sample:
        """The same answers, split into stretches at each long gap."""
        after_gap = np.flatnonzero(np.diff(self.answers.day) > MAX_GAP_WEEKS * WEEK) + 1
        answers = self.answers._replace(start=np.union1d(self.answers.start, after_gap))
        return _Sample(answers, self.table, self.population, *_classes(answers))

    def first(self, n: int) -> _Sample:
        of, start = self.answers, self.answers.start[: n + 1]
        rows = slice(start[-1])
        answers = of._replace(start=start, day=of.day[rows], row=of.row[rows])
        return replace(self, answers=answers, stay=self.stay[:n])

    def halves(self) -> tuple[_Sample, _Sample]:
        """Two samples, with the answers of the first and of the second half of each learner's days."""
        of, n = self.answers, self.n
        person, nth = np.repeat(np.arange(n), np.diff(of.start)), np.cumsum(self.new_day)
        first_day, last_day = nth[of.start[:-1]], nth[of.start[1:] - 1]
        early = nth <= ((first_day + last_day) // 2)[person]

        def half(rows: Mask) -> _Sample:
            start = np.concatenate([[0], np.cumsum(np.bincount(person[rows], minlength=n))])
            return replace(self, answers=of._replace(start=start, day=of.day[rows], row=of.row[rows]))

        return half(early), half(~early)

    @property
    def kind(self) -> Ints:
        return np.append(np.arange(_SD), np.repeat([_SD, _MEAN], self.classes))

    def parameters(self, by_kind: Floats) -> Floats:
        return by_kind[self.kind]

    def mean_of_kinds(self, x: Floats) -> Floats:
        return np.bincount(self.kind, x) / np.bincount(self.kind)

    @property
    def units(self) -> Floats:
        sd = self.population.sd
        return self.parameters(_UNITS * np.array([sd**2, sd, sd**2, 1.0, sd]))

    @property
    def new_day(self) -> Mask:
        """Whether an answer is the learner's first of a day, shape (R,)."""
        new: Mask = np.diff(self.answers.day, prepend=-1) != 0
        new[self.answers.start[:-1]] = True
        return new

    def places(self, free: tuple[str, ...]) -> Ints:
        """Positions of the free parts, and of the SD and means of θ at the start, among the parameters."""
        return np.flatnonzero(np.isin(self.kind, [*(PARTS.index(part) for part in free), _SD, _MEAN]))

    def movement(self, x: Floats) -> Movement:
        return Movement(*(x * self.units)[:3].tolist())

    def correct_bias(self, x: Floats, free: tuple[str, ...], item_errors: ItemErrors) -> Movement:
        """The movement at x, with the free parts corrected for the bias due to errors of items."""
        unbiased = item_errors.correct_bias(x, self.places(free))
        return self.movement(np.clip(unbiased, self.parameters(_LOWER), self.parameters(_UPPER)))

    def starts(self, x: Floats) -> list[Population]:
        """Distribution of θ on the first day in each class of stays."""
        means = self.population.mean + (x * self.units)[self.kind == _MEAN]
        sds = self.population.sd * np.exp(x[self.kind == _SD])
        return [Population.normal(mean, sd) for mean, sd in zip(means.tolist(), sds.tolist(), strict=True)]

    def start(self, x: Floats) -> Population:
        """Mean and SD of θ on the first day over all classes together."""
        means, sds = np.array([(start.mean, start.sd) for start in self.starts(x)])[self.stay].T
        return Population.normal(float(means.mean()), float(np.sqrt(np.mean(sds**2) + means.var())))

    def kinds_at_limit(self, x: Floats) -> list[str]:
        """Kinds of parameters at a limit of the search. A variance of 0 does not count.

        Limits of SDs count if all classes are at one, and the lower limit only if the classes' means differ by less.
        """
        least, most = self.parameters(_LOWER), self.parameters(_UPPER)
        at_limit = (x >= most) | (least < 0) & (x <= least)
        within = self.kind == _SD
        at_limit[within] = at_limit[within].all() & (x[self.kind == _MEAN].std() < np.exp(x[within]))
        return [_KINDS[k] for k in np.unique(self.kind[at_limit])]

    def log_likelihoods(self, x: Floats) -> Floats:
        """Log-likelihood of each learner, shape (n,)."""
        lattice = Lattice.from_population(self.population, self.movement(x))
        into = FilterResults.before_answers(self.answers, self.population)
        for k, start in enumerate(self.starts(x)):
            filter_into(into, self.answers, self.table, lattice, start, np.flatnonzero(self.stay == k), 1)
        return into.log_likelihood

    def slopes(self, x: Floats, at_x: Floats, moved: Ints) -> Floats:
        """Slopes of each learner's log-likelihood with respect to the K parameters `moved`, shape (n, K).

        The SDs at the start are moved together, and so are the means: each learner's likelihood depends on one of
        each.
        """
        found = np.zeros((len(at_x), len(x)))
        for kind in np.unique(self.kind[moved]).tolist():
            rise = (self.log_likelihoods(x + _SLIGHTLY * (self.kind == kind)) - at_x) / _SLIGHTLY
            places = np.flatnonzero(self.kind == kind)
            found[np.arange(len(at_x)), places[self.stay] if kind in (_SD, _MEAN) else places] = rise
        return found[:, moved]

    def item_errors(self, x: Floats, curves: Curves, items: ItemParameters | None) -> ItemErrors:
        """Effect of the items' errors on the slopes at a maximum x.

        It is computed from the slopes of `_DRAW_LEARNERS` learners.
        """
        few = self.first(_DRAW_LEARNERS)

        def slopes(sample: _Sample) -> Floats:
            return sample.slopes(x, sample.log_likelihoods(x), np.arange(len(x)))

        def slope(of: Curves) -> Floats:
            found = slopes(replace(few, table=_table(few.answers, of))).sum(axis=0)
            return found / (few.n / self.n)

        by_learner = slopes(self)
        return ItemErrors.from_draws(by_learner.T @ by_learner, slope, curves, items)

    def maximum(self, free: tuple[str, ...], begin: Floats, growth: float) -> _Maximum:
        """Maximise over the free parts. The other variances are 0, and growth is `growth` units unless it is free."""
        x, moved = growth * (self.kind == _GROWTH), self.places(free)
        x[moved] = begin[moved]
        return self.climb(moved, x)

    def climb(self, moved: Ints, x: Floats) -> _Maximum:
        """Maximise the likelihood over the parameters `moved`, starting at x.

        Quasi-Newton steps use the sum of outer products of learners' slopes as the information (Berndt, Hall, Hall &
        Hausman 1974).
        """
        here, least, most = self.log_likelihoods(x), self.parameters(_LOWER), self.parameters(_UPPER)
        for _ in range(_MAX_STEPS):
            slopes = self.slopes(x, here, moved)
            slope = slopes.sum(axis=0)
            held = (x[moved] <= least[moved]) & (slope < 0) | (x[moved] >= most[moved]) & (slope > 0)
            within = ~held
            step = np.zeros(len(x))
            step[moved[within]] = np.linalg.lstsq(slopes[:, within].T @ slopes[:, within], slope[within])[0]
            gain = step[moved] @ slope / 2
            if gain < _MIN_GAIN:
                break
            for share in 0.5 ** np.arange(6):
                tried = np.clip(x + share * step, least, most)
                there = self.log_likelihoods(tried)
                if there.sum() > here.sum():
                    break
            else:
                break
            x, here = tried, there
        return _Maximum(x, float(here.sum()), slopes, moved)

    def growth_by_half(self, x: Floats) -> GrowthByHalf:
        """Estimate growth in each half, with the variances of x.

        The error of the difference comes from the learners' own differences, because learners who grow faster than
        others may do so in both halves.
        """
        moved = np.flatnonzero(np.isin(self.kind, [_GROWTH, _SD, _MEAN]))
        found = [half.climb(moved, x) for half in self.halves()]
        first, second = (float(one.x[_GROWTH]) for one in found)
        of_first, of_second = ((one.slopes @ np.linalg.pinv(one.slopes.T @ one.slopes))[:, 0] for one in found)
        z = (first - second) / np.linalg.norm(of_first - of_second), second / np.linalg.norm(of_second)
        unit = float(self.units[_GROWTH])
        return GrowthByHalf(first * unit, second * unit, *chi2.sf(np.square(z), 1).tolist())


class _Maximum(NamedTuple):
    """Parameters (P,), the log-likelihood there, and its slopes for each learner with respect to the parameters
    `moved`."""

    x: Floats
    log_likelihood: float
    slopes: Floats
    moved: Ints


def _table(answers: OccasionAnswers, curves: Curves) -> Floats:
    """Tables of the curves at every node that a movement within the limits can need."""
    most = Movement(occasion_variance=_UPPER[2] * _UNITS[2] * curves.population.sd**2)
    return curves.table(answers.row, Lattice.from_population(curves.population, most).nodes)


def _practice(answers: OccasionAnswers) -> Floats:
    """Weeks of growth from the learner's first answer to each answer, shape (R,)."""
    gap = np.diff(answers.day, prepend=0)
    gap[answers.start[:-1]] = 0
    total = np.cumsum(Movement(growth=1.0).growth_over(gap))
    return total - np.repeat(total[answers.start[:-1]], np.diff(answers.start))


def _classes(answers: OccasionAnswers) -> tuple[Ints, int]:
    """Class of each learner by length of stay, and the number of classes. Equal stays are in one class."""
    stay = _practice(answers)[answers.start[1:] - 1]
    classes = min(_MAX_CLASSES, max(1, len(stay) // _MIN_IN_CLASS))
    edges = np.unique(np.quantile(stay, np.arange(1, classes) / classes))
    names, found = np.unique(np.searchsorted(edges, stay, side="right"), return_inverse=True)
    return found, len(names)


def _weeks(day: Ints) -> int:
    """Number of weeks from the first answer to the last."""
    return int(np.ptp(day) // WEEK) + 1
