"""An ability that moves, as of the last answer: mean and SD of a forward filter over the days with answers.

Estimating how abilities of a scale move is elsewhere; an ability that is one constant is in `abilities`, how the filter
does it in `moving_filter`.
"""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.arrays import Ints
from irt_psychometrics.core.movement import STILL, Movement
from irt_psychometrics.core.responses import DAY, Responses
from irt_psychometrics.scoring.abilities import Curves, Scores, eap_by, information_in_testlets
from irt_psychometrics.scoring.moving_filter import Lattice, OccasionAnswers, filtered


def theta_now(
    responses: Responses, curves: Curves, movement: Movement = STILL, *, threads: int | None = None
) -> Scores:
    """Mean and SD of each learner's posterior at the last answer, by curves in the order of `responses.item_ids`.

    threads: None for all processors; the result does not depend on it. Raises PsychometricsError if θ moves between
    the responses and their times are not known.
    """
    if not movement:
        return eap_by(responses, curves, threads=threads)
    return moving_eap(responses, responses.known_times // DAY, curves, movement, threads=threads)


def moving_eap(
    responses: Responses, day: Ints, curves: Curves, movement: Movement, *, threads: int | None = None
) -> Scores:
    """θ at the last answer, of the population at the first one, where ability moves.

    `day`: shape (R,), the UTC day of each response, counted from any one; within a learner in any order. A learner
    without a usable response gets the population back. `threads`, and what testlets with effects do to SEs, as in
    `eap_by`.
    """
    answers = OccasionAnswers.from_responses(responses, day, curves)
    found = filtered(answers, curves, Lattice.from_population(curves.population, movement), threads)
    discount = np.ones(responses.n_responses)
    discount[answers.place] = found.share
    se = found.se
    if curves.effects is not None:
        pairs = information_in_testlets(responses, curves, found.theta, threads, discount)
        se = se * np.sqrt(1 + se**2 * curves.effects.sd**2 * pairs)
    return Scores(found.theta, se, discount=discount, start=found.fade)
