"""Forecast how many days it takes until the errors of new items reach the targets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Mask

Z80 = 1.2815515655446004
"""Standard normal score with 10 % above it."""
MOST_ANSWERS = 1 << 20
"""Number of answers after which an error counts as never reached."""
MOST_DOUBT = 1.0
"""Largest variance of the logarithm of the number of answers: an interval from a quarter to four times the median."""


@dataclass(frozen=True)
class Targets:
    """Largest errors of ln a and b, and least number of answers, with which an item is precise enough."""

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
    rate_variance: float = 0.0,
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
    rate_variance
        Variance of the logarithm of later rates of answers, given the T days. 0: only counts vary, not the rates.

    Returns
    -------
    array of shape (J, 3)
        Median number of days, and the 10 % and 90 % points; 0 if the targets are reached, infinite if an item has no
        answers in the T days, or if the errors of the published items alone exceed a target.
    """
    targets = targets or Targets()
    daily, n = np.asarray(daily_answers, dtype=float), np.asarray(n)
    held = np.zeros_like(precision) if published_cov is None else published_cov
    of_errors = _answers_to_errors(precision, information, held, targets)
    needed = np.maximum(of_errors, targets.answers - n)
    total, T = daily.sum(axis=1), daily.shape[1]
    # information grows with a², so the number of answers to an error is as uncertain as 2 ln a
    doubt = np.where(of_errors == needed, np.minimum(4 * np.linalg.inv(precision)[:, 0, 0], MOST_DOUBT), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        median = np.where(needed > 0, needed * T / total, 0.0)
        spread = np.sqrt(_dispersion(daily) * (1 / needed + 1 / total) + doubt + rate_variance)
        found = median[:, None] * np.exp(np.multiply.outer(spread, (0.0, -Z80, Z80)))
    return np.where(np.isfinite(median)[:, None] & (median > 0)[:, None], found, median[:, None])


def _answers_to_errors(precision: Floats, information: Floats, held: Floats, targets: Targets) -> Floats:
    """Return the least number of further answers with which both errors reach the targets, shape (J,); may be ∞."""
    low, high = np.full(len(precision), -1.0), np.full(len(precision), float(MOST_ANSWERS))
    limits = np.array([targets.ln_a_se, targets.b_se]) ** 2

    def reach(answers: Floats) -> Mask:
        cov = np.linalg.inv(precision + answers[:, None, None] * information) + held
        return np.asarray((cov[:, [0, 1], [0, 1]] <= limits).all(axis=1))

    never = ~reach(high)
    while (high - low > 1).any():
        middle = np.floor((low + high) / 2)
        enough = reach(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(never, np.inf, high)


def _dispersion(daily: Floats) -> float:
    """Return the variance of counts in units of the mean, at least 1, from weeks if there are two, else from days."""
    days = 7 if daily.shape[1] >= 14 else 1
    whole = daily[:, daily.shape[1] % days :]
    counts = whole.reshape(len(daily), -1, days).sum(axis=2)
    return float(max(1.0, counts.var(axis=1, ddof=1).sum() / max(counts.mean(axis=1).sum(), 1.0)))
