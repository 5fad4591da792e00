"""An ability that moves, as of the last answer: mean and SD of a forward filter over the days with answers.

Estimating how abilities of a scale move is elsewhere; an ability that is one constant is in `abilities`, how the filter
does it in `moving_filter`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.models import Responses
from irt_psychometrics.core.movement import Movement
from irt_psychometrics.scoring.abilities import Curves, information_in_testlets
from irt_psychometrics.scoring.moving_filter import Answers, Lattice, filtered


@dataclass(frozen=True)
class MovingScores:
    """Mean and SD of each learner's posterior at his last answer, shape (n_persons,).

    Attributes:
        discount: shape (R,), in [0, 1], how much of what each response says of θ counts at the last answer: ability has
            moved since. The product of V/(V + q·Δt) over later occasions, V the posterior variance before the Δt that
            passed, and of 1/(1 + s²I), I the information of the response's own occasion (the Kalman filter's update of
            precisions). 1 for responses to items without a curve.
        start: shape (n_persons,), the same of the population at the first answer: 1/se² ≈ Σ discount·I + start/sd².
    """

    theta: Floats
    se: Floats
    discount: Floats
    start: Floats


def moving_eap(
    responses: Responses, day: Ints, curves: Curves, movement: Movement, *, threads: int | None = None
) -> MovingScores:
    """θ at the last answer, of the population at the first one, where ability moves.

    `day`: shape (R,), the UTC day of each response, counted from any one; within a learner in any order. A learner
    without a usable response gets the population back. `threads`, and what testlets with effects do to SEs, as in
    `eap_by`.
    """
    answers = Answers.of(responses, day, curves)
    found = filtered(answers, curves, Lattice.of(curves.population, movement), threads)
    discount = np.ones(responses.n_responses)
    discount[answers.place] = found.share
    se = found.se
    if curves.effects is not None:
        pairs = information_in_testlets(responses, curves, found.theta, threads, discount)
        se = se * np.sqrt(1 + se**2 * curves.effects.sd**2 * pairs)
    return MovingScores(found.theta, se, discount, found.fade)
