"""How abilities of a scale move: the variance of a walk, growth, and a day's own variance, together.

Marginal maximum likelihood: the likelihood of a learner's answers is the product over days of the probability of the
day's answers given those before, which is what the filter divides by. Mean and SD of θ on the first day are estimated
along and then forgotten: whoever is followed for half a year is not the population, and a start that is .3 off would
pass for growth where the walk leaves little else to tell. After a long gap a learner starts again: how far abilities
move in a gap is not how far they move between days of practice. That they walk at all, the whole shows better.

Errors of item parameters are shared by all learners. They make days seem to differ, the more so the more learners there
are, so estimates and tests allow for them (`_ItemErrors`).

Scoring by what is found is in `scoring.moving_ability`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.stats import t as students_t

from irt_assets.psychometrics.core.arrays import Floats, Ints
from irt_assets.psychometrics.core.errors import Refused
from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Population, Responses
from irt_assets.psychometrics.core.moved_items import moved_curves
from irt_assets.psychometrics.core.movement import WEEK, Movement
from irt_assets.psychometrics.scoring.abilities import Curves
from irt_assets.psychometrics.scoring.moving_filter import Answers, Filtered, Lattice, from_start

MOST_LEARNERS, FEWEST_LEARNERS, FEWEST_OCCASIONS, FEWEST_WEEKS = 5000, 300, 8, 26
SIGNIFICANT = 0.01
MAX_GAP_WEEKS = 8
"""Weeks without an answer after which a learner starts again. Answers on `FEWEST_OCCASIONS` days that are spread evenly
over a year have shorter gaps."""
MOST_ORDER = 0.1
"""R² of elapsed time on item, above which items have an order within windows."""
PARTS = "variance", "growth", "occasion_variance"
_UNITS = np.array([0.05**2, 0.5 * WEEK / 365.25, 0.3**2, 1.0, 1.0])
"""A usual size of the three, and of mean and log SD at the start, for SDs of the population."""
_LOWER, _UPPER = np.array([0.0, -20.0, 0.0, -4.0, -2.0]), np.array([100.0, 20.0, 10.0, 4.0, 1.0])
_SCOUTS = 800
"""Learners with whom a maximum is looked for before it is with all."""
_DRAWS, _DRAW_LEARNERS = 16, 400
"""Draws of the items' errors, and learners, with which the likelihood's slopes are computed again."""
_SLIGHTLY = 2e-3
"""By how many units parameters are moved to see how the likelihood rises; estimates are off by half of that."""
_MOST_STEPS, _LEAST_GAIN = 40, 0.002
"""A maximum is found when a step promises less of the log-likelihood."""


@dataclass(frozen=True)
class MovementEstimate:
    """What the likelihood says of a scale's movement, per week and on the scale of θ.

    Attributes:
        estimate, errors: the maximum, and standard errors by the names of `Movement`'s parts.
        log_likelihood: there; without_walk: where the walk is 0 and growth and a day's variance are free.
        p: of each part that it is 0 with the others free: likelihood ratio against χ²₁, or for a variance ½χ²₀ + ½χ²₁,
            less what errors of items give it on average, and against their variance, too.
        start: of θ on the first day.
        proposed: without the parts that are not significant at .01, taken out one by one, the least significant first,
            and the others estimated again. What does not move keeps the score of a constant.
        learners, occasions, weeks: what this rests on.
    """

    estimate: Movement
    errors: Mapping[str, float]
    log_likelihood: float
    without_walk: float
    p: Mapping[str, float]
    start: Population
    proposed: Movement
    learners: int
    occasions: int
    weeks: int


def estimate_movement(
    responses: Responses,
    day: Ints,
    curves: Curves,
    items: ItemParameters | None = None,
    *,
    order: float = 0.0,
    growth_in_windows: bool | None = False,
) -> MovementEstimate | Refused:
    """How abilities move, or why that cannot be determined.

    Args:
        day: shape (R,), the UTC day of each response.
        curves: of the published items, for their population.
        items: the same items with the errors of their parameters. None, or errors that are not known: they count as 0.
        order: R² of elapsed time within a window on item. growth_in_windows: whether growth was found there, None where
            that cannot be judged.

    At most 5,000 learners are looked at, those with the least `responses.key`.
    """
    if order > MOST_ORDER and growth_in_windows is not False:
        found = "growth is found there" if growth_in_windows else "whether there is growth cannot be judged"
        return Refused(
            f"items have an order within windows (R² of elapsed time on item {order:.2f}) and {found}: difficulties "
            "have absorbed part of it, and growth would be underestimated"
        )
    sample = _Sample.of(responses, day, curves)
    if isinstance(sample, Refused):
        return sample
    stretches, whole = _Fits(sample.in_stretches(), curves, items), _Fits(sample, curves, items)
    every = stretches.maximum(PARTS, np.array([0.3, 0.0, 0.1, 0.0, 0.0]))
    if every.unbounded:
        return Refused(
            f"the likelihood rises up to the greatest or least {' and '.join(every.unbounded)} that is looked for: "
            "answers are almost all right, almost all wrong, or do not depend on ability"
        )

    def p_without(free: tuple[str, ...], part: str) -> float:
        """The p of a part. A walk that stretches do not show is also tested on the whole, in which more time passes."""
        p = stretches.p_without(free, part)
        if part == "variance" and p >= SIGNIFICANT and stretches.sample.stretches > sample.stretches:
            whole.maximum(PARTS, every.x)
            return min(p, whole.p_without(PARTS, part))
        return p

    p = {part: p_without(PARTS, part) for part in PARTS}
    kept: tuple[str, ...] = PARTS
    of_kept = p
    while kept and max(of_kept.values()) >= SIGNIFICANT:
        kept = tuple(part for part in kept if part != max(of_kept, key=lambda part: of_kept[part]))
        of_kept = {part: p_without(kept, part) for part in kept}
    item_errors, fitted = stretches.item_errors, stretches.maximum(kept, every.x)
    return MovementEstimate(
        estimate=sample.movement(item_errors.corrected(every.x, PARTS)),
        errors=dict(zip(PARTS, (item_errors.errors * sample.units)[:3].tolist(), strict=True)),
        log_likelihood=every.log_likelihood,
        without_walk=stretches.maximum(PARTS[1:], every.x).log_likelihood,
        p=p,
        start=sample.start(every.x),
        proposed=sample.movement(item_errors.corrected(fitted.x, kept)) if kept else Movement(),
        learners=sample.stretches,
        occasions=sample.occasions,
        weeks=_weeks(sample.answers.day),
    )


@dataclass(frozen=True)
class _Sample:
    """Learners whose likelihood is maximised, in units of each parameter; or their stretches without a long gap, as if
    each were a learner."""

    answers: Answers
    table: Floats
    population: Population

    @classmethod
    def of(cls, responses: Responses, day: Ints, curves: Curves) -> _Sample | Refused:
        """The learners with enough occasions, or why there are too few."""
        answers = Answers.of(responses, day, curves)
        person = np.repeat(np.arange(responses.n_persons), np.diff(answers.start))
        new = np.diff(answers.day, prepend=-1) != 0
        new |= np.diff(person, prepend=-1) != 0
        often = np.flatnonzero(np.bincount(person[new], minlength=responses.n_persons) >= FEWEST_OCCASIONS)
        if often.size < FEWEST_LEARNERS:
            return Refused(
                f"{often.size:,} learners answered on {FEWEST_OCCASIONS} days or more; {FEWEST_LEARNERS} are needed"
            )
        key = np.arange(responses.n_persons) if responses.key is None else responses.key
        chosen = np.sort(often[np.lexsort((often, key[often]))][:MOST_LEARNERS])
        of_chosen = np.isin(person, chosen)
        start = np.concatenate([[0], np.cumsum(np.diff(answers.start)[chosen])])
        some = Answers(start, answers.day[of_chosen], answers.row[of_chosen], slice(None), 0)
        weeks = _weeks(some.day)
        if weeks < FEWEST_WEEKS:
            return Refused(
                f"the answers of learners with {FEWEST_OCCASIONS} days or more span {weeks} weeks; "
                f"{FEWEST_WEEKS} are needed"
            )
        return cls(some, _table(some, curves), curves.population)

    @property
    def stretches(self) -> int:
        return len(self.answers.start) - 1

    def in_stretches(self) -> _Sample:
        """Begun again after each long gap."""
        after_gap = np.flatnonzero(np.diff(self.answers.day) > MAX_GAP_WEEKS * WEEK) + 1
        return replace(self, answers=self.answers._replace(start=np.union1d(self.answers.start, after_gap)))

    def first(self, n: int) -> _Sample:
        of, start = self.answers, self.answers.start[: n + 1]
        rows = slice(start[-1])
        return replace(self, answers=of._replace(start=start, day=of.day[rows], row=of.row[rows]))

    @cached_property
    def units(self) -> Floats:
        sd = self.population.sd
        return _UNITS * np.array([sd**2, sd, sd**2, sd, 1.0])

    @cached_property
    def occasions(self) -> int:
        new = np.diff(self.answers.day, prepend=-1) != 0
        new[self.answers.start[:-1]] = True
        return int(new.sum())

    def movement(self, x: Floats) -> Movement:
        return Movement(*(x * self.units)[:3].tolist())

    def start(self, x: Floats) -> Population:
        return Population.normal(self.population.mean + x[3] * self.units[3], self.population.sd * np.exp(x[4]))

    def log_likelihoods(self, x: Floats) -> Floats:
        """Shape (n,)."""
        lattice = Lattice.of(self.population, self.movement(x))
        into = Filtered.of(self.answers, self.population)
        from_start(self.answers, self.table, lattice, into, self.start(x), 1)
        return into.log_likelihood

    def slopes(self, x: Floats, at_x: Floats, moved: Ints) -> Floats:
        """Shape (n, K): how each learner's log-likelihood rises with the parameters `moved`, of which there are K."""
        found = np.empty((len(at_x), len(moved)))
        for k, j in enumerate(moved.tolist()):
            found[:, k] = (self.log_likelihoods(x + _SLIGHTLY * (np.arange(len(x)) == j)) - at_x) / _SLIGHTLY
        return found

    def item_errors(self, at: _Maximum, curves: Curves, items: ItemParameters | None) -> _ItemErrors:
        """The effect of the items' errors on the slopes `at` a maximum with every part free, from that on the slopes of
        some learners."""
        information = at.slopes.T @ at.slopes
        few = self.first(_DRAW_LEARNERS)
        share = few.stretches / self.stretches

        def slope(of: Curves) -> Floats:
            some = replace(few, table=_table(few.answers, of))
            found = some.slopes(at.x, some.log_likelihoods(at.x), np.arange(5)).sum(axis=0)
            return found / share

        moved = moved_curves(items, _DRAWS) if items else ()
        drawn = [slope(Curves.of(one, population=self.population)) for one in moved]
        if not drawn:
            return _ItemErrors(information, np.zeros(5), np.zeros((5, 5)))
        bias = np.mean(drawn, axis=0) - slope(curves)
        return _ItemErrors(information, bias, (1 + 1 / _DRAWS) * np.cov(drawn, rowvar=False))

    def maximum_by_scouts(self, free: tuple[str, ...], begin: Floats) -> _Maximum:
        """As `maximum`, begun from that of some learners."""
        return self.maximum(free, self.first(_SCOUTS).maximum(free, begin).x)

    def maximum(self, free: tuple[str, ...], begin: Floats) -> _Maximum:
        """Where the likelihood is highest with the other parts 0.

        Quasi-Newton steps with the sum of outer products of learners' slopes for information (Berndt, Hall, Hall &
        Hausman 1974).
        """
        moved = np.flatnonzero([*(part in free for part in PARTS), True, True])
        x = np.where(np.isin(np.arange(5), moved), begin, 0.0)
        here = self.log_likelihoods(x)
        for _ in range(_MOST_STEPS):
            slopes = self.slopes(x, here, moved)
            slope = slopes.sum(axis=0)
            held = (x[moved] <= _LOWER[moved]) & (slope < 0) | (x[moved] >= _UPPER[moved]) & (slope > 0)
            within = ~held
            step = np.zeros(5)
            step[moved[within]] = np.linalg.lstsq(slopes[:, within].T @ slopes[:, within], slope[within])[0]
            gain = step[moved] @ slope / 2
            if gain < _LEAST_GAIN:
                break
            for share in 0.5 ** np.arange(6):
                tried = np.clip(x + share * step, _LOWER, _UPPER)
                there = self.log_likelihoods(tried)
                if there.sum() > here.sum():
                    break
            else:
                break
            x, here = tried, there
        return _Maximum(x, float(here.sum()), slopes, moved)


@dataclass(frozen=True)
class _Fits:
    """Maxima with some parts free, and what is significant among these. PARTS come first."""

    sample: _Sample
    curves: Curves
    items: ItemParameters | None
    found: dict[tuple[str, ...], _Maximum] = field(default_factory=dict)

    def maximum(self, free: tuple[str, ...], begin: Floats) -> _Maximum:
        if free not in self.found:
            self.found[free] = self.sample.maximum_by_scouts(free, begin)
        return self.found[free]

    @cached_property
    def item_errors(self) -> _ItemErrors:
        return self.sample.item_errors(self.found[PARTS], self.curves, self.items)

    def p_without(self, free: tuple[str, ...], part: str) -> float:
        """p that a part is 0 with the others free, of which the maximum is known."""
        others, full = tuple(other for other in free if other != part), self.found[free]
        value = full.x[PARTS.index(part)]
        if value == 0:
            self.found.setdefault(others, full)
        ratio = max(0.0, 2 * (full.log_likelihood - self.maximum(others, full.x).log_likelihood))
        return self.item_errors.p_of(np.sqrt(ratio) * (-1 if value < 0 else 1), part, free)


class _Maximum(NamedTuple):
    """Parameters (5,), the log-likelihood, and learners' slopes there by the parameters `moved`."""

    x: Floats
    log_likelihood: float
    slopes: Floats
    moved: Ints

    @property
    def unbounded(self) -> list[str]:
        """What is at a limit that is not one of its meaning, as 0 is of a variance."""
        at_limit = (self.x >= _UPPER) | (_LOWER < 0) & (self.x <= _LOWER)
        names = *PARTS, "mean at the start", "SD at the start"
        return [name for name, there in zip(names, at_limit, strict=True) if there]


@dataclass(frozen=True)
class _ItemErrors:
    """The effect of errors of item parameters on the slopes of the log-likelihood by the five parameters.

    Slopes are off by `bias` (5,) on average, as they are not linear in the parameters of items, and they vary from one
    set of errors to another with `covariance` (5, 5), which contains the error of the bias. `information` (5, 5) is
    their covariance over learners.
    """

    information: Floats
    bias: Floats
    covariance: Floats

    def corrected(self, x: Floats, free: tuple[str, ...]) -> Floats:
        """Estimates without the bias, the parts that are not free 0."""
        of = self._places(free)
        found = np.zeros(5)
        found[of] = x[of] - self._inverse(of) @ self.bias[of]
        return np.clip(found, _LOWER, _UPPER)

    @property
    def errors(self) -> Floats:
        """Standard errors (5,) with every part free."""
        inverse = self._inverse(np.arange(5))
        return np.sqrt(np.diag(inverse @ (self.information + self.covariance) @ inverse))

    def p_of(self, root: float, part: str, free: tuple[str, ...]) -> float:
        """p of a signed root of a likelihood ratio, that of a part among those that are free.

        The root is the slope along `by`, which leaves the other parameters free, divided by its standard deviation. The
        variance that items add is known from `_DRAWS` draws (degrees of freedom of Satterthwaite 1946).
        """
        of = self._places(free)
        by = self._inverse(of)[:, of == PARTS.index(part)][:, 0]
        learners, items = (by @ cov[np.ix_(of, of)] @ by for cov in (self.information, self.covariance))
        if learners <= 0:
            return 0.5
        z = (root - by @ self.bias[of] / np.sqrt(learners)) / np.sqrt(1 + items / learners)
        freedom = (_DRAWS - 1) * (1 + learners / items) ** 2 if items > 0 else np.inf
        return float(2 * students_t.sf(abs(z), freedom) if part == "growth" else students_t.sf(z, freedom))

    def _places(self, free: tuple[str, ...]) -> Ints:
        return np.flatnonzero([*(part in free for part in PARTS), True, True])

    def _inverse(self, of: Ints) -> Floats:
        return np.linalg.pinv(self.information[np.ix_(of, of)]).astype(np.float64)


def _table(answers: Answers, curves: Curves) -> Floats:
    """The curves as far as any movement needs them."""
    most = Movement(occasion_variance=_UPPER[2] * _UNITS[2] * curves.population.sd**2)
    return curves.table(answers.row, Lattice.of(curves.population, most).nodes)


def _weeks(day: Ints) -> int:
    """From the first answer to the last."""
    return int(np.ptp(day) // WEEK) + 1
