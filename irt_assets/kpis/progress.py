"""A learner's progress from abilities: the change between two windows, and the probability of having reached a goal.

The caller assigns the answers to windows (see `ability`).
"""

import numpy as np
from scipy.special import ndtr

from irt_assets.common.arrays import Floats, Mask
from irt_psychometrics import Responses
from irt_psychometrics.scoring import Curves, Movement

WEEK_DAYS = 7.0
CHANGE_VARIANCE = 0.25
"""Prior variance of true changes of θ within a fortnight (SD 0.5), by which estimated changes are shrunk."""
UNKNOWN_MOVEMENT = Movement(variance=0.05**2)
"""Movement of θ after the last answer on a scale whose movement is unknown."""


def improvement(responses: Responses, recent: Mask, curves: Curves) -> Floats:
    """Change of each learner's ability between two windows, shrunk by its error; shape (n_persons,), in [−1, 1].

        I = Δ · 0.25 / (0.25 + v),   Δ = θ_recent − θ_previous,   v = 1/I_recent(θ) + 1/I_previous(θ)

    θ_recent and θ_previous are the WLEs (Warm 1989) of the two windows. Both informations are evaluated at the WLE of
    all responses, so that a lucky window does not also seem more certain. The shrunk change is the posterior mean under
    Δ ~ N(0, 0.25). Differences of EAPs are unsuitable, because shorter windows are drawn to the mean more strongly.

    Args:
        responses: responses of both windows.
        recent: shape (R,), whether a response is in the later window.
        curves: curves of the responses' items, in their order; the search for θ starts from their population.

    Returns NaN for a learner without information on θ in one of the windows. Raises PsychometricsError for items that
    are neither logistic nor of partial credit.
    """
    both, later, earlier = (
        curves.wle(some).theta for some in (responses, responses.of_rows(recent), responses.of_rows(~recent))
    )
    person = responses.person
    information = curves.items.moments_of(responses.item, both[person]).information
    precision = [
        np.bincount(person[rows], weights=information[rows], minlength=responses.n_persons)
        for rows in (recent, ~recent)
    ]
    with np.errstate(divide="ignore", invalid="ignore"):  # no information: v = ∞ or NaN, and θ is NaN, too
        shrink = CHANGE_VARIANCE / (CHANGE_VARIANCE + 1 / precision[0] + 1 / precision[1])
    return np.clip((later - earlier) * shrink, -1.0, 1.0)


def variance_since(movement: Movement, weeks: Floats) -> Floats:
    """Variance that is added to θ in `weeks` ≥ 0 after the last answer, in the shape of `weeks`.

    It is `Movement.variance_over`, or 0.05² per week on a scale without a movement.
    """
    return (movement or UNKNOWN_MOVEMENT).variance_over(weeks * WEEK_DAYS)


def goal_probability(theta: Floats, se: Floats, since: Floats, target: Floats) -> Floats:
    """Probability that θ is at or above `target` now, Φ((θ − target)/√(se² + since)); shapes (N,), in [0, 1].

    `theta` and `se` are the mean and SD of the posterior when the learner last answered, se > 0; `since` is the
    variance that has been added since (see `variance_since`).
    """
    return ndtr((theta - target) / np.sqrt(se**2 + since))
