"""Split a window in which ability moves into weeks: each week of a learner is a separate person in the fit.

If a window's items have an order, growth within the window biases their b. With a learner's weeks as persons, growth
from week to week is in the means of groups. The groups are the weeks since the learner's first answer, each with its
own mean and SD of θ (Bock & Zimowski 1997). Answers of a learner in two weeks depend on each other, so errors are
clustered by learner.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.responses import Responses

WEEK_DAYS = 7.0
SHARED_ITEMS, SHARED_ANSWERS = 5, 20
"""Minimum number of items that two comparable weeks share, and of answers to each of these items in both weeks."""
LEARNERS_PER_WEEK = 50
"""Minimum number of learners in a later week. With fewer, it is merged with the week before it."""


@dataclass(frozen=True)
class LearnerWeeks:
    """The responses of a window, split into each learner's weeks.

    Attributes
    ----------
    responses
        R responses, with a person for each week of a learner with answers.
    days
        Shape (R,), days from the learner's first answer to each response.
    learner
        Shape (n_persons,), the learner of each person, a number from 0.
    groups
        n_persons labels: `week 1` and so on.

    Examples
    --------
    Five items, answered by 60 persons on the first day and again after a week:

    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.estimation import LearnerWeeks
    >>> items = irt.ItemParameters.from_frame({"item": list("abcde"), "a": [1] * 5, "b": [0] * 5})
    >>> x = irt.simulate_responses(items, [0.0] * 120, random_state=1)
    >>> x = x.renumber_persons(np.arange(120, dtype=np.int32) % 60, 60)
    >>> LearnerWeeks.from_responses(x, np.tile(np.repeat([0.0, 8.0], 5), 60)).groups[:3]
    ['week 1', 'week 2', 'week 1']
    """

    responses: Responses
    days: Floats
    learner: Ints
    groups: list[str]

    @classmethod
    def from_responses(cls, responses: Responses, days: Floats) -> Self:
        """Split the responses of a window into weeks.

        Parameters
        ----------
        responses
            R responses, with a person per learner.
        days
            Shape (R,), days since the learner's first answer in the window.

        Returns
        -------
        LearnerWeeks
            The same responses with a person for each week. Later weeks that too few learners answered are merged with
            the week before.

        Raises
        ------
        PsychometricsError
            If weeks do not share enough items to be compared.
        """
        week = _comparable(np.floor(days / WEEK_DAYS).astype(np.int64), responses)
        order = np.lexsort((responses.item, week, responses.person))
        pair = responses.person[order] * (week.max(initial=0) + 1) + week[order]
        pairs, person = np.unique(pair, return_inverse=True)
        learner, of_week = np.divmod(pairs, week.max(initial=0) + 1)
        weeks = Responses(
            person.astype(np.int32),
            responses.item[order],
            responses.score[order],
            pairs.size,
            responses.item_ids,
            responses.categories,
        )
        return cls(weeks, days[order], learner, [f"week {k + 1}" for k in of_week.tolist()])


def _comparable(week: Ints, responses: Responses) -> Ints:
    """The week of each response. If the last weeks cannot be compared, they are merged with the week before them.

    Raises PsychometricsError if the remaining weeks are not all connected by shared items.
    """
    together, n = _share_items(week, responses), int(week.max(initial=0)) + 1
    while n > 1:
        learners = np.unique(responses.person[week == n - 1]).size
        if learners >= LEARNERS_PER_WEEK and together[n - 1, : n - 1].any():
            break
        n -= 1
        week = np.minimum(week, n - 1)
        together = _share_items(week, responses)
    reached = np.arange(n) == 0
    for _ in range(n):
        reached = reached | together[reached].any(axis=0)
    if n == 1 or not reached.all():
        alone = 2 if n == 1 else int(np.flatnonzero(~reached)[0]) + 1
        raise PsychometricsError(
            f"week {alone} since learners' first answers does not share {SHARED_ITEMS} items, each with "
            f"{SHARED_ANSWERS} answers in both, with the weeks before it, so their abilities cannot be compared. "
            "Let the scale's occasions be months (`irt scale set occasions=month`)"
        )
    return week


def _share_items(week: Ints, responses: Responses) -> Mask:
    """Whether two weeks share enough items, shape (weeks, weeks)."""
    n, J = int(week.max(initial=0)) + 1, responses.n_items
    often = np.bincount(week * J + responses.item, minlength=n * J).reshape(n, J) >= SHARED_ANSWERS
    return often.astype(np.int64) @ often.T >= SHARED_ITEMS
