"""A learner's progress from abilities: the change between two windows, the chance of being at a goal, and which topics
are easier or harder than expected at the learner's ability.

Estimating abilities is in `scoring`; which answers belong to which window is the caller's.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import CountedScores, ItemCurves
from irt_psychometrics.core.models import Responses
from irt_psychometrics.core.movement import WEEK, Movement
from irt_psychometrics.scoring.abilities import wle

CHANGE_VARIANCE = 0.25
"""Variance of true changes of θ within a fortnight, to which an estimated change is shrunk (SD 0.5)."""
UNKNOWN = Movement(variance=0.05**2)
"""How θ moves after the last answer, if nothing is known of how abilities of the scale move."""

TOPIC_VARIANCE = 0.5**2
"""Variance of true differences of a learner's ability between topics, to which an estimated one is shrunk."""


def improvement(
    responses: Responses,
    recent: Mask,
    items: ItemCurves,
    *,
    mean: float = 0.0,
    sd: float = 1.0,
) -> Floats:
    """Each learner's change of ability between two windows, shrunk by its error; shape (n_persons,), in [−1, 1].

        I = Δ · 0.25 / (0.25 + v),   Δ = θ_recent − θ_previous,   v = 1/I_recent(θ) + 1/I_previous(θ)

    θ_recent and θ_previous are WLE (Warm 1989) of the two windows; both informations are taken at the WLE of all
    responses together, so that a lucky window does not also look more certain. The shrinkage is the posterior mean
    under Δ ~ N(0, 0.25). Differences of EAPs will not do: they are drawn to the mean by as much as a window is short.

    Args:
        responses: of both windows. recent: shape (R,), which of them are of the later one.
        items: in the order of the responses' items; mean and sd say where the search of `scoring.wle` begins.

    NaN where the responses of a window carry no information on θ. Raises PsychometricsError for items that are neither
    logistic nor of partial credit.
    """
    both, later, earlier = (
        wle(some, items, mean=mean, sd=sd).theta
        for some in (responses, responses.of_rows(recent), responses.of_rows(~recent))
    )
    person = responses.person
    information = items.moments_of(responses.item, both[person], "the change of a learner's ability").information
    precision = [
        np.bincount(person[rows], weights=information[rows], minlength=responses.n_persons)
        for rows in (recent, ~recent)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):  # no information: v = ∞ or NaN, and θ is NaN, too
        shrink = CHANGE_VARIANCE / (CHANGE_VARIANCE + 1 / precision[0] + 1 / precision[1])
    return np.clip((later - earlier) * shrink, -1.0, 1.0)


def variance_since(movement: Movement, weeks: Floats) -> Floats:
    """The variance that `weeks` ≥ 0 after the last answer add to θ, as `Movement.variance_over`; on a scale without a
    movement 0.05² a week. Of the shape of `weeks`."""
    return (movement or UNKNOWN).variance_over(weeks * WEEK)


def goal_probability(theta: Floats, se: Floats, since: Floats, target: Floats) -> Floats:
    """Probability that θ is at or above `target` now, Φ((θ − target)/√(se² + since)); shapes (N,), in [0, 1].

    `theta` and `se` are the mean and SD of the posterior when the learner last answered, se > 0; `since` is the
    variance that has been added since (see `variance_since`).
    """
    return ndtr((theta - target) / np.sqrt(se**2 + since))


def topic_differences(
    group: npt.NDArray[np.intp],
    n_groups: int,
    item: npt.NDArray[np.integer[Any]],
    score: npt.NDArray[np.int8],
    theta: Floats,
    items: ItemCurves,
    categories: Ints | None = None,
) -> tuple[Floats, Floats]:
    """How far the ability in each group of responses lies above θ: posterior mean and SD, shapes (n_groups,).

        δ = S/(I + 1/0.25),   SD = 1/√(I + 1/0.25),   S = Σ ∂ log P/∂θ,   I = Σ information

    A step of Fisher scoring from δ = 0 under δ ~ N(0, 0.25). A group is one learner's responses to one topic; θ is the
    learner's, of all topics, taken as known. A group without information has δ = 0 and SD 0.5.

    Args:
        group: in 0 … n_groups − 1; item: its place among `items`; score; theta: of each response. All of shape (R,).
        categories: shape (J,), how many scores answers to an item have; None: 0 and 1.
    """
    of = items.moments_of(item, theta, "a learner's ability by topic")
    counted = CountedScores.of(items).of_answers(item, score, categories)
    gradient = of.weight * (counted - of.expected)
    precision = np.bincount(group, weights=of.information, minlength=n_groups) + 1 / TOPIC_VARIANCE
    return np.bincount(group, weights=gradient, minlength=n_groups) / precision, 1 / np.sqrt(precision)
