"""Whether ability grows within a window: a score test of the time since a learner's first answer in it.

Belongs here: the test, by item and over all items, how much of that time an item's place in an order explains, and what
growth does to the b of a fit that does not know of it. Does not belong here: fits that let ability move within a window
(see `estimation.occasions`), and growth from window to window.

With θ + g·t in place of θ, t the time since the learner's first answer in units of `PERIOD_DAYS`, the score of g at 0
is Σ t·E(∂ log P(x | θ)/∂θ | the learner's answers), of a 2PL Σ t·a·E(x − P): a score of the marginal likelihood
(Fisher's identity; Rao 1948, and Glas 1999 for tests of this kind). In place of t stands what is left of it beside an
effect of each item, one of its product with the learner's θ, and one of each learner, by least squares weighted by the
information of each answer. That makes the score orthogonal to the items' intercepts and slopes and to the learners' θ
(Neyman 1959): what of growth has gone into an item's b has no part in it, nor has it that abler learners are faster, or
stay for longer. Learners are independent, so the error of the sum is that of their parts, whatever growth differs by.
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
from irt_psychometrics.itemfit.model_replicates import Fitted

SOME_ORDER, STRICT_ORDER = 0.1, 0.9
"""R² of elapsed time on the item above which items have an order, and above which growth cannot be distinguished from
difficulty."""
SHORTEST_DAYS = 1.0
"""Answers that span less are of one time: those of an exam, or of a log without times, whose rows are a microsecond
apart. Growth is of days."""
GROWS, DECLINES = 2.37, -3.09
"""z beyond which ability grows or declines. By chance .9 % and .1 % of windows are beyond: learners hardly decline."""
LARGEST_SE = 0.15
"""With a larger error of growth, an estimate of 0 does not exclude .3."""
MOST_RESPONSES = 1_000_000
"""Responses of learners who are drawn at random where there are more: enough for the test."""
_LEFT = 1e-4
"""A smaller share of elapsed time beside items and learners is rounding."""
_PRECISION, _MOST_STEPS = 1e-8, 500


@dataclass(frozen=True)
class WindowGrowth:
    """Growth of ability within a window, over all items.

    Attributes:
        r2: share of the variance of elapsed time that the item explains; None where nobody answered at two times,
            `SHORTEST_DAYS` apart.
        estimate, se: growth in θ per `PERIOD_DAYS` and its standard error; None where answers cannot tell it from what
            items and learners are.
        PERIOD_DAYS: growth is in θ per so many days.
    """

    r2: float | None
    estimate: float | None = None
    se: float | None = None
    PERIOD_DAYS: ClassVar[float] = 30.0

    @classmethod
    def of_answers(cls, responses: Responses) -> Self:
        """The order of items by answers alone, whose times are known, without a fit."""
        return cls(share_explained(responses.days_since_first, responses.item))

    @property
    def z(self) -> float | None:
        return self.estimate / self.se if self.estimate is not None and self.se else None

    @property
    def ordered(self) -> bool:
        """Whether items have an order, so that growth goes into their b."""
        return self.r2 is not None and self.r2 > SOME_ORDER

    @property
    def strictly_ordered(self) -> bool:
        """Whether growth cannot be distinguished from difficulty, as items have nearly one order and learners one
        pace."""
        return self.r2 is not None and self.r2 > STRICT_ORDER

    @property
    def outcome(self) -> Literal["grows", "declines", "constant", "not separable"]:
        """What the window says; "constant" where it would have shown growth of .3 and shows none."""
        if self.z is None or self.se is None or self.r2 is None or self.strictly_ordered:
            return "not separable"
        if self.z > GROWS:
            return "grows"
        if self.z < DECLINES:
            return "declines"
        return "constant" if self.se <= LARGEST_SE else "not separable"


@dataclass(frozen=True)
class ItemGrowth:
    """What each of J items says of growth, shape (J,) each.

    Attributes:
        days: mean of days since the learner's first answer; NaN where nobody answered.
        estimate, se: growth in θ per `PERIOD_DAYS` and its standard error; NaN where the item says nothing of it.
    """

    days: Floats
    estimate: Floats
    se: Floats


@dataclass(frozen=True)
class Growth:
    """Growth within a window, over all items and by item."""

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
        seed: int = 0,
        threads: int | None = None,
    ) -> Self:
        """Growth in θ of a fit's scale within the window of `responses`.

        days: shape (R,), since the learner's first answer of the window. `groups`: the label of each person, where the
        fit has groups. `seed`: of the learners who are drawn of more than `MOST_RESPONSES`. Raises PsychometricsError
        where there is not one of the days for each response.
        """
        if days.shape != responses.person.shape:
            raise PsychometricsError(
                f"days must be {responses.n_responses} numbers, one per response; got {days.shape}"
            )
        if responses.n_responses > MOST_RESPONSES:
            some = round(responses.n_persons * MOST_RESPONSES / responses.n_responses)
            chosen = np.sort(np.random.default_rng(seed).choice(responses.n_persons, some, replace=False))
            days = days[np.isin(responses.person, chosen)]
            responses = responses.of_persons(chosen)
            groups = None if groups is None else [groups[i] for i in chosen.tolist()]
        whole = Fitted.of(responses, calibration, groups)
        fitted = calibration.estimated[responses.item]
        r, J, time = whole.responses, whole.calibration.n_items, days[fitted] / WindowGrowth.PERIOD_DAYS
        with np.errstate(invalid="ignore"):
            mean_days = np.bincount(r.item, days[fitted], J) / np.bincount(r.item, minlength=J)
        r2, nothing = share_explained(days[fitted], r.item), np.full(J, np.nan)
        if r2 is None:
            return cls(WindowGrowth(None), ItemGrowth(*map(whole.among_all, (mean_days, nothing, nothing))))
        answers = _Answers.of(whole, threads)
        left = answers.beside_items_and_learners(time, r)
        spread = np.sum(answers.information * (time - np.average(time, weights=answers.information)) ** 2)
        part = left * answers.slope
        sums, squares, information = (
            np.bincount(r.item, values, J) for values in (part, part**2, answers.information * left**2)
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
        """A fit whose persons are learners' weeks, with what growth within a week took from b given back.

        Args:
            fit: makes the fit of the responses of learners' weeks, the group of each week, and its learner's number.
            responses: of the window.
            days: shape (R,), since the learner's first answer of the window.

        θ is in the unit of all learners together (mean 0, SD 1; under Rasch only mean 0). Growth is not looked for in
        a fit that did not converge. Raises PsychometricsError if weeks do not share enough items to be compared, or the
        window does not show how large growth is.
        """
        weeks = LearnerWeeks.of(responses, days)
        found = fit(weeks.responses, weeks.groups, weeks.learner)
        found = replace(found.standardised(found.latent_mean, found.latent_sd), n_persons=responses.n_persons)
        if not found.convergence.converged:
            return WeeklyFit(found, weeks, None)
        growth = cls.within(responses, days, replace(found, populations=()))
        back = growth.given_back(found, weeks.responses, weeks.days, groups=weeks.groups)
        return WeeklyFit(back, weeks, growth)

    def given_back(
        self,
        calibration: Calibration,
        responses: Responses,
        days: Floats,
        *,
        groups: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> Calibration:
        """A fit that takes the θ of `responses`' persons as constant, with what this growth has taken from b given
        back.

        responses, groups: those that were fitted, whose persons are parts of learners. days: shape (R,), since the
        learner's first answer of the window. Raises PsychometricsError if the window does not show how large growth is.
        """
        gone = gone_into_difficulty(responses, days, calibration, groups=groups, threads=threads)
        return without_growth(calibration, self.of_window, gone)


class WeeklyFit(NamedTuple):
    """A fit of learners' weeks, and the growth that was found within the window; None if the fit did not converge."""

    calibration: Calibration
    weeks: LearnerWeeks
    growth: Growth | None


def share_explained(days: Floats, item: npt.NDArray[np.integer[Any]]) -> float | None:
    """R² of elapsed days (R,) on the item (R,), adjusted for the number of items: where they have no order it is about
    0, however few answers each has. None where days vary by less than `SHORTEST_DAYS`, or no item has two answers."""
    n = np.bincount(item)
    spare = days.size - np.count_nonzero(n)
    if spare == 0 or np.ptp(days) < SHORTEST_DAYS:
        return None
    mean = np.bincount(item, days) / np.maximum(n, 1)
    within, whole = np.sum((days - mean[item]) ** 2) / spare, np.var(days, ddof=1)
    return float(max(1 - within / whole, 0.0))


def gone_into_difficulty(
    responses: Responses,
    days: Floats,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    threads: int | None = None,
) -> Floats:
    """Shape (J,), mean 0: by how much growth of 1 per `PERIOD_DAYS` lowers each item's b in a fit that takes the θ of
    `responses`' persons as constant; NaN for items that were not estimated.

    To first order: the effects of items on elapsed time beside those of groups, whose means are free, and of persons,
    who come from their group's distribution.
    """
    whole = Fitted.of(responses, calibration, groups)
    r, J, group = whole.responses, whole.calibration.n_items, whole.abilities.group
    G = len(whole.abilities.population)
    apart = np.array([1 / one.sd for one in whole.abilities.population])[group]
    one = np.ones(r.n_responses)
    columns: list[tuple[npt.NDArray[np.integer[Any]], Floats]] = [
        (r.item, one),
        (J + group[r.person], one),
        (J + G + r.person, one),
    ]
    information = _Answers.of(whole, threads).information
    known = np.concatenate([np.zeros(J + G), apart])
    time = days[calibration.estimated[responses.item]] / WindowGrowth.PERIOD_DAYS
    effect = _weighted_least_squares(time, information, columns, known)[:J]
    return whole.among_all(effect - effect.mean())


def without_growth(calibration: Calibration, growth: WindowGrowth, gone: Floats) -> Calibration:
    """The fit with what growth has taken from b given back; its errors count that of the growth, of which those of
    items are independent to first order. `gone`: shape (J,), as `gone_into_difficulty`.

    Raises PsychometricsError where the window does not say how large growth is.
    """
    if growth.estimate is None or growth.se is None or growth.r2 is None or growth.strictly_ordered:
        raise PsychometricsError(
            "growth cannot be distinguished from difficulty within the window: all learners meet its items in nearly "
            "one order and at nearly one pace. Let the scale's occasions be months (`irt scale set occasions=month`)"
        )
    moved = np.nan_to_num(growth.estimate * gone)
    a = np.nan_to_num(calibration.a)
    J, K = calibration.n_items, calibration.cov.shape[1]
    by_growth = np.zeros((J, K))
    by_growth[:, 1] = -a * np.nan_to_num(gone)
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
    """slope, information: shape (R,), the posterior means of ∂ log P(x)/∂θ of each answer and of its item's information
    about θ. theta: shape (N,), EAPs."""

    slope: Floats
    information: Floats
    theta: Floats

    @classmethod
    def of(cls, whole: Fitted, threads: int | None) -> _Answers:
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
        """Shape (R,): what is left of `time` beside effects of items, of their products with θ, and of learners."""
        J, one, theta = r.n_items, np.ones(time.size), self.theta[r.person]
        columns = [(r.item, one), (J + r.item, theta), (2 * J + r.person, one)]
        effect = _weighted_least_squares(time, self.information, columns, np.zeros(2 * J + r.n_persons))
        left: Floats = time - sum(effect[place] * value for place, value in columns)
        return left


def _weighted_least_squares(
    target: Floats, weight: Floats, columns: Sequence[tuple[npt.NDArray[np.integer[Any]], Floats]], known: Floats
) -> Floats:
    """Shape (P,): effects on `target` (R,) with these weights, each row a sum of an effect at a place (R,) times a
    value (R,) for each of `columns`; an effect is known to be within 1/`known` (P,) of 0."""
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
    effect: Floats = unit * lsmr(design, sides, atol=_PRECISION, btol=_PRECISION, maxiter=_MOST_STEPS)[0]
    return effect
