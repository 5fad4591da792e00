"""Whether ability grows within a window: a score test of the time since a learner's first answer in it.

Belongs here: the test, by item and over all items, and how much of that time an item's place in an order explains. Does
not belong here: a fit that lets ability move within a window (see `estimation.occasions`), and growth from window to
window.

With θ + g·t in place of θ, t the time since the learner's first answer in units of `PERIOD_DAYS`, the score of g at 0
is Σ t·E(∂ log P(x | θ)/∂θ | the learner's answers), of a 2PL Σ t·a·E(x − P): a score of the marginal likelihood
(Fisher's identity; Rao 1948, and Glas 1999 for tests of this kind). In place of t stands what is left of it beside an
effect of each item, one of its product with the learner's θ, and one of each learner, by least squares weighted by the
information of each answer. That makes the score orthogonal to the items' intercepts and slopes and to the learners' θ
(Neyman 1959): what of growth has gone into an item's b has no part in it, nor has it that abler learners are faster, or
stay for longer. Learners are independent, so the error of the sum is that of their parts, whatever growth differs by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from irt_assets.psychometrics.core.arrays import Floats
from irt_assets.psychometrics.core.design import over_learners
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration, Responses
from irt_assets.psychometrics.fit import fit_kernels
from irt_assets.psychometrics.fit.model_replicates import Fitted

PERIOD_DAYS = 30.0
"""Growth is in θ per so many days."""
SOME_ORDER, STRICT_ORDER = 0.1, 0.9
"""R² of elapsed time on the item above which items have an order, and above which growth cannot be told from
difficulty."""
GROWS, DECLINES = 2.37, -3.09
"""z beyond which ability grows or declines. By chance .9 % and .1 % of windows are beyond: learners hardly decline."""
LARGEST_SE = 0.15
"""With a larger error of growth, an estimate of 0 does not exclude .3."""
_LEFT = 1e-4
"""A smaller share of elapsed time beside items and learners is rounding."""
_PRECISION, _MOST_STEPS = 1e-8, 500


@dataclass(frozen=True)
class WindowGrowth:
    """Growth of ability within a window, over all items.

    Attributes:
        r2: share of the variance of elapsed time that the item explains; None where nobody answered at two times.
        estimate, se: growth in θ per `PERIOD_DAYS` and its standard error; None where answers cannot tell it from what
            items and learners are.
    """

    r2: float | None
    estimate: float | None = None
    se: float | None = None

    @property
    def z(self) -> float | None:
        return self.estimate / self.se if self.estimate is not None and self.se else None

    @property
    def ordered(self) -> bool:
        """Whether items have an order, so that growth goes into their b."""
        return self.r2 is not None and self.r2 > SOME_ORDER

    @property
    def outcome(self) -> Literal["grows", "declines", "constant", "not separable"]:
        """What the window says; "constant" where it would have shown growth of .3 and shows none."""
        if self.z is None or self.se is None or self.r2 is None or self.r2 > STRICT_ORDER:
            return "not separable"
        if self.z > GROWS:
            return "grows"
        if self.z < DECLINES:
            return "declines"
        return "constant" if self.se <= LARGEST_SE else "not separable"

    @property
    def moves_difficulty(self) -> bool:
        """Whether items have an order and ability moves, or it cannot be said that it does not."""
        return self.ordered and self.outcome != "constant"


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


def days_since_first_answer(person: npt.NDArray[np.integer[Any]], at: Floats) -> Floats:
    """Shape (R,), from the learner (R,) and the time (R,) of each answer, in days."""
    first = np.full(int(person.max(initial=-1)) + 1, np.inf)
    np.minimum.at(first, person, at)
    days: Floats = at - first[person]
    return days


def share_explained(days: Floats, item: npt.NDArray[np.integer[Any]]) -> float | None:
    """R² of elapsed days (R,) on the item (R,); None where they do not vary."""
    if days.size == 0 or np.ptp(days) == 0:
        return None
    n = np.bincount(item)
    mean = np.bincount(item, days) / np.maximum(n, 1)
    return float(1 - np.sum((days - mean[item]) ** 2) / np.sum((days - days.mean()) ** 2))


def growth_within(
    responses: Responses,
    days: Floats,
    calibration: Calibration,
    *,
    groups: Sequence[str] | None = None,
    threads: int | None = None,
) -> tuple[WindowGrowth, ItemGrowth]:
    """Growth in θ of a fit's scale, over all its items and by item.

    days: shape (R,), since the learner's first answer of the window. `groups`: the label of each person, where the fit
    has groups. Raises PsychometricsError where days are not one for each response.
    """
    if days.shape != responses.person.shape:
        raise PsychometricsError(f"days must be {responses.n_responses} numbers, one per response; got {days.shape}")
    whole = Fitted.of(responses, calibration, groups)
    fitted = calibration.estimated[responses.item]
    r, J, time = whole.responses, whole.calibration.n_items, days[fitted] / PERIOD_DAYS
    n = np.bincount(r.item, minlength=J)
    with np.errstate(invalid="ignore"):
        mean_days = np.bincount(r.item, days[fitted], J) / n
    r2 = share_explained(time, r.item)
    nothing = np.full(J, np.nan)
    if r2 is None:
        return WindowGrowth(None), ItemGrowth(*map(whole.among_all, (mean_days, nothing, nothing)))
    answers = _Answers.of(whole, threads)
    left = answers.beside_items_and_learners(time, r)
    known = answers.information * left**2
    spread = np.sum(answers.information * (time - np.average(time, weights=answers.information)) ** 2)
    part = left * answers.slope
    by_item, information = (np.bincount(r.item, values, J) for values in (part, known))
    squares = np.bincount(r.item, part**2, J)
    telling = information > _LEFT * spread / J
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate, se = (np.where(telling, x / information, np.nan) for x in (by_item, np.sqrt(squares)))
    of_items = ItemGrowth(*map(whole.among_all, (mean_days, estimate, se)))
    total = float(information.sum())
    if not total > _LEFT * spread:
        return WindowGrowth(r2), of_items
    of_learners = np.bincount(r.person, part)
    return WindowGrowth(r2, float(part.sum() / total), float(np.sqrt(of_learners @ of_learners) / total)), of_items


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
        from scipy.sparse import csr_array
        from scipy.sparse.linalg import lsmr  # takes a tenth of a second to import

        R, J = time.size, r.n_items
        place = np.stack([r.item, J + r.item, 2 * J + r.person], axis=1).ravel()
        value = np.stack([np.ones(R), self.theta[r.person], np.ones(R)], axis=1)
        root = np.sqrt(self.information)
        weighted = (root[:, None] * value).ravel()
        size = np.sqrt(np.bincount(place, weighted**2, 2 * J + r.n_persons))
        unit = np.divide(1.0, size, out=np.zeros_like(size), where=size > 0)[place]
        design = csr_array((weighted * unit, place, np.arange(0, 3 * R + 1, 3)), shape=(R, size.size))
        effect = lsmr(design, root * time, atol=_PRECISION, btol=_PRECISION, maxiter=_MOST_STEPS)[0]
        left: Floats = time - (value.ravel() * unit * effect[place]).reshape(R, 3).sum(axis=1)
        return left
