"""A moving ability at the last answer: mean and SD from a forward filter over the days with answers.

The filter is in `moving_filter`. Constant abilities are in `abilities`.
"""

import numpy as np

from irt_psychometrics.core.arrays import Ints
from irt_psychometrics.core.movement import STILL, Movement
from irt_psychometrics.core.responses import DAY, Responses
from irt_psychometrics.scoring.abilities import Curves, Scores, eap_by, information_in_testlets
from irt_psychometrics.scoring.moving_filter import Lattice, OccasionAnswers, filter_learners


def theta_now(
    responses: Responses, curves: Curves, movement: Movement = STILL, *, threads: int | None = None
) -> Scores:
    """Mean and SD of each learner's posterior at the last answer.

    Parameters
    ----------
    responses
        Responses of n_persons learners; with `movement` their times must be known.
    curves
        The curves of the items in the order of `responses.item_ids`, and the population of θ at the first answer.
    movement
        The model of how θ moves between UTC days; by default θ is constant.
    threads
        Number of threads; None: all processors. The result does not depend on it.

    Returns
    -------
    Scores
        θ and its standard error, shape (n_persons,). If θ moves, also `discount` and `start`.

    Raises
    ------
    PsychometricsError
        If θ moves and the times of the responses are not known.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.scoring import Curves, theta_now
    >>> answers = irt.Responses.from_wide({"q1": [1, 0], "q2": [1, 0]})
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [1, 1], "b": [0, 0]})
    >>> theta_now(answers, Curves.from_items(items.curves)).theta.round(2).tolist()
    [0.7, -0.7]
    """
    if not movement:
        return eap_by(responses, curves, threads=threads)
    return moving_eap(responses, responses.known_times // DAY, curves, movement, threads=threads)


def moving_eap(
    responses: Responses, day: Ints, curves: Curves, movement: Movement, *, threads: int | None = None
) -> Scores:
    """A moving θ at the last answer, with the population as the distribution at the first answer.

    `day` (R,) is the UTC day of each response, counted from any day, and in any order within a learner. A learner
    without a usable response gets the mean and SD of the population. `threads` and the effects of testlets on SEs are
    as in `eap_by`.
    """
    answers = OccasionAnswers.from_responses(responses, day, curves)
    found = filter_learners(answers, curves, Lattice.from_population(curves.population, movement), threads)
    discount = np.ones(responses.n_responses)
    discount[answers.place] = found.share
    se = found.se
    if curves.effects is not None:
        pairs = information_in_testlets(responses, curves, found.theta, threads, discount)
        se = se * np.sqrt(1 + se**2 * curves.effects.sd**2 * pairs)
    return Scores(found.theta, se, discount=discount, start=found.fade)
