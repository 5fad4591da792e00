"""Forecast how many days it takes until the errors of new items reach the targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats


@dataclass(frozen=True)
class Targets:
    """When an item is precise enough: largest errors of ln a and b, and the least number of answers."""

    ln_a_se: float = 0.25
    b_se: float = 0.25
    answers: int = 100


def days_to_precision(
    precision: Floats,
    information: Floats,
    n: npt.ArrayLike,
    daily_answers: npt.ArrayLike,
    *,
    targets: Targets | None = None,
    published_cov: Floats | None = None,
) -> Floats:
    """Forecast the days until each item reaches all targets, with an 80 % interval.

    Parameters
    ----------
    precision
        Precision of (ln a, b), shape (J, 2, 2), as `NewItemEstimates.precision`.
    information
        Expected information of one answer, shape (J, 2, 2), as `answer_information` for the learners seen so far.
    n
        Number of answers so far, shape (J,).
    daily_answers
        Answers to each item on each of the last T days, oldest first, shape (J, T). Whole weeks (T = 14, 28, …) are
        best, because weekends have other rates.
    targets
        The targets. None: the defaults of `Targets`.
    published_cov
        Covariance of (ln a, b) due to errors of the published items, shape (J, 2, 2). None: 0.

    Returns
    -------
    array of shape (J, 3)
        Median number of days, and the 10 % and 90 % points; 0 if the targets are reached, infinite if an item has no
        answers in the T days, or if the errors of the published items alone exceed a target.
    """
    raise NotImplementedError
