"""Growth of ability within a window: a score test on the time since a learner's first answer in the window.

This module contains the test, by item and over all items; the share of that time that the order of items explains; and
the effect of growth on the b of a fit that treats ability as constant. Fits in which ability moves within a window are
in `estimation.occasions`.

Let ability be θ + g·t, with t the time since the learner's first answer in units of `PERIOD_DAYS`. The score of g at 0
is Σ t·E(∂ log P(x | θ)/∂θ | the learner's answers); for the 2PL it is Σ t·a·E(x − P). It is a score of the marginal
likelihood (Fisher's identity; Rao 1948, and Glas 1999 for tests of this kind). The test replaces t by its residual from
a regression on an effect of each item, an effect of the item times the learner's θ, and an effect of each learner, by
least squares weighted with the information of each answer. So the score is orthogonal to the items' intercepts and
slopes and to the learners' θ (Neyman 1959): it does not depend on growth that is already part of an item's b, or on
abler learners being faster or staying longer. Learners are independent, so the error of the sum follows from their
contributions, however growth differs between learners or items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array, vstack
from scipy.sparse.linalg import lsmr

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.design import over_learners
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.occasions import LearnerWeeks
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.model_replicates import FittedData

SOME_ORDER, STRICT_ORDER = 0.1, 0.9
"""Limits of the R² of elapsed time on the item. Above the first, items have an order. Above the second, growth cannot
be distinguished from difficulty."""
MIN_DAYS = 1.0
"""Answers within a shorter span count as simultaneous: an exam, or a log without times, whose rows are a microsecond
apart."""
GROWS, DECLINES = 2.37, -3.09
"""z beyond which ability grows or declines. By chance .9 % and .1 % of windows exceed them. The second limit is
stricter because learners hardly ever decline."""
MAX_SE = 0.15
"""Maximum standard error of growth. If it is larger, an estimate of 0 does not exclude growth of .3."""
MAX_RESPONSES = 1_000_000
"""Largest number of responses in the test. If there are more, a random sample of the learners is drawn."""
_LEFT = 1e-4
"""If items and learners leave a smaller share of elapsed time unexplained, the remainder is rounding."""
_PRECISION, _MAX_STEPS = 1e-8, 500


@dataclass(frozen=True)
class WindowGrowth:
    """Growth of ability within a window, over all items.

    Attributes
    ----------
    r2
        Share of the variance of elapsed time that the item explains, in [0, 1]. None if elapsed times vary by less than
        `MIN_DAYS`, or if no item has two answers.
    estimate, se
        Growth in θ per `PERIOD_DAYS` and its standard error. None if the answers cannot distinguish growth from effects
        of items and persons.
    PERIOD_DAYS
        Unit of time, in days.

    Examples
    --------
    >>> from irt_psychometrics.itemfit import WindowGrowth
    >>> found = WindowGrowth(r2=0.02, estimate=0.3, se=0.1)
    >>> round(found.z, 1), found.outcome, found.ordered
    (3.0, 'grows', False)
    """

    r2: float | None
    estimate: float | None = None
    se: float | None = None
    PERIOD_DAYS: ClassVar[float] = 30.0

    @classmethod
    def from_answers(cls, responses: Responses) -> Self:
        """Measure the order of items without a fit.

        Parameters
        ----------
        responses
            Responses whose times are known.

        Returns
        -------
        WindowGrowth
            The share `r2` alone; `estimate` and `se` are None.

        Raises
        ------
        PsychometricsError
            If the times are not known.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import WindowGrowth
        >>> from dataclasses import replace
        >>> import numpy as np
        >>> x = irt.datasets.two_forms()[0].responses
        >>> in_order = replace(x, at=x.item.astype(np.int64) * 86_400_000_000)  # one item a day
        >>> round(WindowGrowth.from_answers(in_order).r2, 2)
        1.0
        """
        return cls(share_explained(responses.days_since_first, responses.item))

    @property
    def z(self) -> float | None:
        """Estimate in standard errors, about standard normal without growth, or None if growth is not known."""
        return self.estimate / self.se if self.estimate is not None and self.se else None

    @property
    def ordered(self) -> bool:
        """Whether items have an order, so that growth biases their b."""
        return self.r2 is not None and self.r2 > SOME_ORDER

    @property
    def strictly_ordered(self) -> bool:
        """Whether growth cannot be distinguished from difficulty, because persons meet the items in nearly the same
        order and at nearly the same pace."""
        return self.r2 is not None and self.r2 > STRICT_ORDER

    @property
    def outcome(self) -> Literal["grows", "declines", "constant", "not separable"]:
        """Result of the test. "constant" means that growth of .3 would have been significant, but none was."""
        if self.z is None or self.se is None or self.r2 is None or self.strictly_ordered:
            return "not separable"
        if self.z > GROWS:
            return "grows"
        if self.z < DECLINES:
            return "declines"
        return "constant" if self.se <= MAX_SE else "not separable"


@dataclass(frozen=True)
class ItemGrowth:
    """Growth estimated from each of J items, shape (J,) each.

    Attributes
    ----------
    days
        Mean of the days since the person's first answer; NaN if nobody answered the item.
    estimate, se
        Growth in θ per `WindowGrowth.PERIOD_DAYS` and its standard error; NaN if the item has too little information.
    """

    days: Floats
    estimate: Floats
    se: Floats


@dataclass(frozen=True)
class Growth:
    """Growth within a window, over all items and by item.

    Attributes
    ----------
    of_window
        Growth over all items.
    of_items
        Growth estimated from each item.

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.itemfit import Growth
    >>> x = irt.datasets.two_forms()[0].responses
    >>> days = np.random.default_rng(1).uniform(0, 60, x.n_responses)
    >>> Growth.within(x, days, irt.fit(x).calibration).of_window.outcome
    'constant'
    """

    of_window: WindowGrowth
    of_items: ItemGrowth

    @classmethod
    def within(
        cls,
        responses: Responses,
        days: Floats,
        calibration: Calibration,
        *,
        groups: Sequence[str] | None = None,
        random_state: int = 0,
        threads: int | None = None,
    ) -> Self:
        """Estimate growth within the window of `responses`, in θ of the fit's scale.

        Parameters
        ----------
        responses
            R responses of the window, to the items of the fit in the same order.
        days
            Shape (R,), days since the person's first answer in the window, ≥ 0.
        calibration
            The fit.
        groups
            N labels, one per person, if the fit has groups.
        random_state
            Seed for the sample of persons that is drawn from more than `MAX_RESPONSES` responses.
        threads
            Number of threads; None: all processors.

        Returns
        -------
        Growth
            Growth over all items and by item. Sources: Rao (1948), Neyman (1959), Glas (1999).

        Raises
        ------
        PsychometricsError
            If `days` is not one number per response.

        Examples
        --------
        >>> import numpy as np
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import Growth
        >>> x = irt.datasets.two_forms()[0].responses
        >>> days = np.random.default_rng(1).uniform(0, 60, x.n_responses)
        >>> found = Growth.within(x, days, irt.fit(x).calibration)
        >>> abs(found.of_window.z) < 3, found.of_items.estimate.shape
        (True, (30,))
        """
        if days.shape != responses.person.shape:
            raise PsychometricsError(
                f"days must be {responses.n_responses} numbers, one per response; got {days.shape}"
            )
        if responses.n_responses > MAX_RESPONSES:
            some = round(responses.n_persons * MAX_RESPONSES / responses.n_responses)
            chosen = np.sort(np.random.default_rng(random_state).choice(responses.n_persons, some, replace=False))
            days = days[np.isin(responses.person, chosen)]
            responses = responses.of_persons(chosen)
            groups = None if groups is None else [groups[i] for i in chosen.tolist()]
        whole = FittedData.from_responses(responses, calibration, groups)
        fitted = calibration.estimated[responses.item]
        r, J, time = whole.responses, whole.calibration.n_items, days[fitted] / WindowGrowth.PERIOD_DAYS
        with np.errstate(invalid="ignore"):
            mean_days = np.bincount(r.item, days[fitted], J) / np.bincount(r.item, minlength=J)
        r2, nothing = share_explained(days[fitted], r.item), np.full(J, np.nan)
        if r2 is None:
            return cls(WindowGrowth(None), ItemGrowth(*map(whole.among_all, (mean_days, nothing, nothing))))
        answers = _Answers.from_fit(whole, threads)
        remaining = answers.beside_items_and_learners(time, r)
        spread = np.sum(answers.information * (time - np.average(time, weights=answers.information)) ** 2)
        part = remaining * answers.slope
        sums, squares, information = (
            np.bincount(r.item, values, J) for values in (part, part**2, answers.information * remaining**2)
        )
        telling = information > _LEFT * spread / J
        with np.errstate(divide="ignore", invalid="ignore"):
            estimate, se = (np.where(telling, x / information, np.nan) for x in (sums, np.sqrt(squares)))
        of_items = ItemGrowth(*map(whole.among_all, (mean_days, estimate, se)))
        total = float(information.sum())
        if not total > _LEFT * spread:
            return cls(WindowGrowth(r2), of_items)
        of_learners = np.bincount(r.person, part)
        error = float(np.sqrt(of_learners @ of_learners) / total)
        return cls(WindowGrowth(r2, float(part.sum() / total), error), of_items)

    @classmethod
    def fit_by_week(
        cls, fit: Callable[[Responses, list[str], Ints], Calibration], responses: Responses, days: Floats
    ) -> WeeklyFit:
        """Fit the window with persons' weeks as persons, and correct b for growth within a week.

        θ is in the unit of all persons together (mean 0, SD 1; under Rasch only mean 0). If the fit did not converge,
        growth is not estimated.

        Parameters
        ----------
        fit
            Function that fits the responses of persons' weeks, given the group of each week and the index of the week's
            person.
        responses
            R responses of the window.
        days
            Shape (R,), days since the person's first answer in the window, ≥ 0.

        Returns
        -------
        WeeklyFit
            The corrected fit, the weeks, and growth.

        Raises
        ------
        PsychometricsError
            If weeks do not share enough items to be compared, or if the window does not determine growth.

        Examples
        --------
        >>> import numpy as np
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import Growth
        >>> x = irt.datasets.two_forms()[0].responses
        >>> days = np.random.default_rng(1).uniform(0, 60, x.n_responses)
        >>> by_week = Growth.fit_by_week(lambda r, groups, person: irt.fit(r, groups=groups).calibration, x, days)
        >>> by_week.weeks.responses.n_persons > x.n_persons, by_week.growth.of_window.outcome
        (True, 'constant')
        """
        weeks = LearnerWeeks.from_responses(responses, days)
        found = fit(weeks.responses, weeks.groups, weeks.learner)
        found = replace(found.standardised(found.latent_mean, found.latent_sd), n_persons=responses.n_persons)
        if not found.convergence.converged:
            return WeeklyFit(found, weeks, None)
        growth = cls.within(responses, days, replace(found, populations=()))
        back = growth.correct_difficulties(found, weeks.responses, weeks.days, groups=weeks.groups)
        return WeeklyFit(back, weeks, growth)

    def correct_difficulties(
        self,
        calibration: Calibration,
        responses: Responses,
        days: Floats,
        *,
        groups: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> Calibration:
        """Correct, for this growth, the b of a fit that treats each person's θ as constant.

        Parameters
        ----------
        calibration
            The fit.
        responses
            R responses of the fit. A person of the fit may be one week of a person.
        days
            Shape (R,), days since the person's first answer in the window, ≥ 0.
        groups
            N labels, one per person of the fit, if the fit has groups.
        threads
            Number of threads; None: all processors.

        Returns
        -------
        Calibration
            The fit with corrected b; errors include the error of growth.

        Raises
        ------
        PsychometricsError
            If the window does not determine growth.

        Examples
        --------
        >>> import numpy as np
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.itemfit import Growth
        >>> x = irt.datasets.two_forms()[0].responses
        >>> days, fit = np.random.default_rng(1).uniform(0, 60, x.n_responses), irt.fit(x).calibration
        >>> corrected = Growth.within(x, days, fit).correct_difficulties(fit, x, days)
        >>> bool(np.abs(corrected.b - fit.b).max() < 0.01)
        True
        """
        decrease = absorbed_growth(responses, days, calibration, groups=groups, threads=threads)
        return without_growth(calibration, self.of_window, decrease)


class WeeklyFit(NamedTuple):
    """A fit of persons' weeks, and growth within the window. `growth` is None if the fit did not converge."""

    calibration: Calibration
    weeks: LearnerWeeks
    growth: Growth | None


def share_explained(days: Floats, item: npt.NDArray[np.integer[Any]]) -> float | None:
    """Compute R² of elapsed days (R,) on the item (R,), adjusted for the number of items and at least 0.

    It is about 0 if items have no order, however few answers each has. Returns None if days vary by less than
    `MIN_DAYS`, or if no item has two answers.
    """
    n = np.bincount(item)
    spare = days.size - np.count_nonzero(n)
    if spare == 0 or np.ptp(days) < MIN_DAYS:
        return None
    mean = np.bincount(item, days) / np.maximum(n, 1)
    within, whole = np.sum((days - mean[item]) ** 2) / spare, np.var(days, ddof=1)
    return float(max(1 - within / whole, 0.0))


def absorbed_growth(
    responses: Responses,
    days: Floats,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    threads: int | None = None,
) -> Floats:
    """Compute how much growth of 1 per `PERIOD_DAYS` decreases each item's b in a fit that treats θ as constant.

    Returns shape (J,), with mean 0; NaN for items that were not estimated. To first order, these are the effects of
    items on elapsed time in a regression that also has effects of groups, whose means are free, and of persons, who
    come from their group's distribution.
    """
    whole = FittedData.from_responses(responses, calibration, groups)
    r, J, group = whole.responses, whole.calibration.n_items, whole.abilities.group
    G = len(whole.abilities.population)
    inverse_sd = np.array([1 / ones.sd for ones in whole.abilities.population])[group]
    ones = np.ones(r.n_responses)
    columns: list[tuple[npt.NDArray[np.integer[Any]], Floats]] = [
        (r.item, ones),
        (J + group[r.person], ones),
        (J + G + r.person, ones),
    ]
    information = _Answers.from_fit(whole, threads).information
    known = np.concatenate([np.zeros(J + G), inverse_sd])
    time = days[calibration.estimated[responses.item]] / WindowGrowth.PERIOD_DAYS
    effect = _weighted_least_squares(time, information, columns, known)[:J]
    return whole.among_all(effect - effect.mean())


def without_growth(calibration: Calibration, growth: WindowGrowth, absorbed: Floats) -> Calibration:
    """Correct the b of a fit for growth within the window. `absorbed`: shape (J,), from `absorbed_growth`.

    The errors of the result include the error of growth, which is independent of the items' errors to first order.
    Raises PsychometricsError if the window does not determine growth.
    """
    if growth.estimate is None or growth.se is None or growth.r2 is None or growth.strictly_ordered:
        raise PsychometricsError(
            "growth cannot be distinguished from difficulty within the window: all learners meet its items in nearly "
            "the same order and at nearly the same pace. Let the scale's occasions be months (`irt scale set "
            "occasions=month`)"
        )
    moved = np.nan_to_num(growth.estimate * absorbed)
    a = np.nan_to_num(calibration.a)
    J, K = calibration.n_items, calibration.cov.shape[1]
    by_growth = np.zeros((J, K))
    by_growth[:, 1] = -a * np.nan_to_num(absorbed)
    turn = np.tile(np.eye(K), (J, 1, 1))
    turn[:, 1, 0] = -moved
    variance = growth.se**2
    cov = turn @ calibration.cov @ turn.transpose(0, 2, 1) + variance * by_growth[:, :, None] * by_growth[:, None, :]
    joint = calibration.joint_cov
    if joint is not None:
        places = calibration.places_of_parameters[:, :2]
        whole, along = np.eye(len(joint)), np.zeros(len(joint))
        whole[places[:, 1], places[:, 0]] = -moved
        along[places[:, 1]] = by_growth[:, 1]
        joint = whole @ joint @ whole.T + variance * np.outer(along, along)
    return replace(calibration, d=calibration.d - calibration.a * moved, cov=cov, joint_cov=joint)


@dataclass(frozen=True)
class _Answers:
    """Posterior means given a learner's answers.

    Attributes:
        slope: shape (R,), ∂ log P(x)/∂θ of each answer.
        information: shape (R,), information of the answer's item about θ.
        theta: shape (N,), EAPs.
    """

    slope: Floats
    information: Floats
    theta: Floats

    @classmethod
    def from_fit(cls, whole: FittedData, threads: int | None) -> _Answers:
        fit, nodes, abilities, rows = whole.calibration, whole.abilities.nodes, whole.abilities, whole.rows
        tables = fit_kernels.Tables(whole.log_probabilities, abilities.log_weights, abilities.group, whole.credit)
        by_theta = np.zeros_like(tables.logs)
        found = fit.item_model.by_theta(nodes, fit.parameters, fit.n_categories).transpose(2, 0, 1)
        by_theta[: len(found)] = found
        information = np.ascontiguousarray(fit.curves.information(nodes).T)
        r = whole.responses
        out = cls(np.empty(r.n_responses), np.empty(r.n_responses), np.empty(r.n_persons))

        def one(first: int, last: int) -> None:
            fit_kernels.slopes_of_answers(
                first, last, rows, tables, nodes, by_theta, information, out.slope, out.information, out.theta
            )

        over_learners(one, r, rows.start, threads)
        return out

    def beside_items_and_learners(self, time: Floats, r: Responses) -> Floats:
        """Compute residuals of `time`, shape (R,), from a regression on items, items times θ, and persons."""
        J, one, theta = r.n_items, np.ones(time.size), self.theta[r.person]
        columns = [(r.item, one), (J + r.item, theta), (2 * J + r.person, one)]
        effect = _weighted_least_squares(time, self.information, columns, np.zeros(2 * J + r.n_persons))
        return time - sum(effect[place] * value for place, value in columns)


def _weighted_least_squares(
    target: Floats, weight: Floats, columns: Sequence[tuple[npt.NDArray[np.integer[Any]], Floats]], known: Floats
) -> Floats:
    """Compute effects on `target` (R,) by weighted least squares, shape (P,).

    Each of `columns` is a pair (index, value), shape (R,) each. In row r it contributes the effect at index[r] times
    value[r].
    known: shape (P,), the inverse SD of an effect around 0; 0 if the effect is free.
    """
    R, C = target.size, len(columns)
    root = np.sqrt(weight)
    place = np.stack([at for at, _ in columns], axis=1).ravel()
    value = (root[:, None] * np.stack([value for _, value in columns], axis=1)).ravel()
    size = np.sqrt(np.bincount(place, value**2, known.size) + known**2)
    unit = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)
    design = csr_array((value * unit[place], place, np.arange(0, C * R + 1, C)), shape=(R, known.size))
    held = np.flatnonzero(known)
    design = vstack([design, diags_array(known * unit).tocsr()[held]]).tocsr()
    sides = np.concatenate([root * target, np.zeros(held.size)])
    return unit * lsmr(design, sides, atol=_PRECISION, btol=_PRECISION, maxiter=_MAX_STEPS)[0]
