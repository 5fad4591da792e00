"""Formulas of the logistic item, P = c + (1 − c)·L with L = 1/(1 + exp(−η)), η = a·θ + d (D = 1). Nothing is estimated
here.

Birnbaum (1968); c = 0 for models without guessing. Functions named `…_at` take η, a and c of any shapes that broadcast
and never overflow; NaN parameters give NaN.
"""

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.confidence import Z95
from irt_psychometrics.core.logistic import expit, log_expit, logit

MEDIUM_WABC, HIGH_WABC = 0.05, 0.10
"""Learner-weighted areas between two curves of an item, above which the difference is medium or high."""


def probability_at(eta: Floats, c: Floats | float) -> Floats:
    """P(correct)."""
    return c + (1.0 - c) * expit(eta)


def complement_at(eta: Floats, c: Floats | float) -> Floats:
    """1 − P, without cancellation."""
    return (1.0 - c) * expit(-eta)


def log_probabilities_at(eta: Floats, c: Floats | float) -> tuple[Floats, Floats]:
    """log P and log(1 − P), without cancellation."""
    log_right = np.log1p(-c) + log_expit(eta)
    if np.any(c):
        with np.errstate(divide="ignore"):
            log_right = np.logaddexp(np.log(c), log_right)
    return log_right, np.log1p(-c) + log_expit(-eta)


def slope_at(eta: Floats, c: Floats | float) -> Floats:
    """∂P/∂η = (1 − c)·L·(1 − L)."""
    logistic = expit(eta)
    return (1.0 - c) * logistic * (1.0 - logistic)


def by_asymptote_at(eta: Floats) -> Floats:
    """∂P/∂c = 1 − L."""
    return 1.0 - expit(eta)


def weight_at(eta: Floats, a: Floats, c: Floats | float) -> Floats:
    """The weight of x − P in the score equation of θ: P'/(P·(1 − P)) = a·L/P, with P' = ∂P/∂θ."""
    logistic = expit(eta)
    return a * logistic / np.maximum(c + (1.0 - c) * logistic, np.finfo(float).tiny)


def log_information_slope_at(eta: Floats, c: Floats | float) -> Floats:
    """∂ log I/∂η = 2(1 − L) − L − (1 − c)·L·(1 − L)/P."""
    logistic = expit(eta)
    share = logistic / np.maximum(c + (1.0 - c) * logistic, np.finfo(float).tiny)
    return 2 - 3 * logistic - (1.0 - c) * (1.0 - logistic) * share


def information_at(eta: Floats, a: Floats, c: Floats | float) -> Floats:
    """Fisher information of an answer about θ, I = P'²/(P(1 − P)) = a²(1 − c) L²(1 − L)/P ≥ 0 (Lord 1980, eq. 5-9)."""
    logistic = expit(eta)
    p = c + (1.0 - c) * logistic
    share = logistic / np.maximum(p, np.finfo(float).tiny)  # 1 for c = 0; the product is 0 where both underflow
    return a**2 * (1.0 - c) * logistic * expit(-eta) * share


def probability(theta: Floats, a: Floats | float, d: Floats | float, c: Floats | float) -> Floats:
    """P(correct) in slope-intercept form, d = −a·b: shape (T, J) for T abilities and J items, (T,) for numbers."""
    return probability_at(np.multiply.outer(np.asarray(theta, dtype=float), a) + d, c)


def logit_interval(theta: Floats, a: float, b: float, cov: Floats) -> tuple[Floats, Floats]:
    """Pointwise 95 % interval of an item's η = a(θ − b), two arrays of shape (T,); an interval of its curve follows.

    `cov` (2, 2) is the covariance of a and b. The delta method is applied on the logit scale, where errors are nearest
    to normal: SE(η)² = g' cov g with g = (θ − b, −a). So the curve's interval stays between its asymptotes.
    """
    theta = np.asarray(theta, dtype=float)
    eta = a * (theta - b)
    gradient = np.stack([theta - b, np.full_like(theta, -a)])
    half = Z95 * np.sqrt(np.einsum("it,ij,jt->t", gradient, cov, gradient))
    return eta - half, eta + half


def information(theta: Floats, a: Floats, d: Floats, c: Floats) -> Floats:
    """Fisher information of each item about θ, shape (T, J).

    Test information is the sum over items; 1/√ of it is the standard error of a maximum likelihood ability.
    """
    return information_at(np.multiply.outer(np.asarray(theta, dtype=float), a) + d, a, c)


def logistic_table(a: Floats, d: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """log(1 − L) and L of J items at Q abilities, shape (J, Q) each, compiled."""
    log_wrong, p = np.empty((len(a), len(theta))), np.empty((len(a), len(theta)))
    kernels.logistic_table(a, d, theta, log_wrong, p)
    return log_wrong, p


class GuessingCurves:
    """J items at Q abilities; c may be 0 for some items.

    Attributes:
        p, q: P and 1 − P, shape (J, Q), without cancellation.
        factors: V, shape (3, J, Q): where θ is known, the scores of (a, d, logit c) are (x − P)·V with
            V = (θL/P, L/P, c/P).
    """

    def __init__(self, theta: Floats, a: Floats, d: Floats, logit_c: Floats) -> None:
        eta = a[:, None] * theta + d[:, None]
        c, rest = expit(logit_c)[:, None], expit(-logit_c)[:, None]
        logistic = expit(eta)
        self.p = np.maximum(c + rest * logistic, np.finfo(float).tiny)
        self.q = rest * expit(-eta)
        by_eta = logistic / self.p
        self.factors = np.stack([by_eta * theta, by_eta, c / self.p])


class GuessingTables:
    """`GuessingCurves` with logarithms, from the compiled table, and with derivatives of the factors.

    Attributes:
        p, q, factors: as in `GuessingCurves`.
        theta: shape (Q,).
        c: shape (J, 1).
        logistic, log_right, log_wrong: L, log P and log(1 − P), shape (J, Q).
    """

    def __init__(self, theta: Floats, a: Floats, d: Floats, logit_c: Floats) -> None:
        log_rest, self.logistic = logistic_table(a, d, theta)
        c, rest = expit(logit_c)[:, None], expit(-logit_c)[:, None]
        self.theta, self.c = theta, c
        self.p, self.q = c + rest * self.logistic, rest * np.exp(log_rest)
        self.log_wrong = np.log(rest) + log_rest
        with np.errstate(divide="ignore", invalid="ignore"):
            self.log_right = np.logaddexp(np.log(c), np.log(rest) + a[:, None] * theta + d[:, None] + log_rest)
            by_eta = np.where(c > 0, self.logistic / self.p, 1.0)
            by_c = np.where(c > 0, c / self.p, 0.0)
        self.factors = np.stack([by_eta * theta, by_eta, by_c])

    @property
    def factor_derivatives(self) -> Floats:
        """Derivatives of V by (a, d, logit c), shape (3, 3, J, Q).

        With v = L/P and u = c/P: ∂v/∂η = vu(1 − L), ∂v/∂logit c = ∂u/∂η = −vu(1 − P), ∂u/∂logit c = vu(1 − c).
        """
        product = self.factors[1] * self.factors[2]
        by_eta, both, by_c = product * (1 - self.logistic), -product * self.q, product * (1 - self.c)
        theta = self.theta
        return np.stack(
            [
                np.stack([by_eta * theta**2, by_eta * theta, both * theta]),
                np.stack([by_eta * theta, by_eta, both]),
                np.stack([both * theta, both, by_c]),
            ]
        )


def with_asymptote(a: Floats, d: Floats, c: Floats, new: Floats) -> tuple[Floats, Floats]:
    """Return a and d of curves with asymptotes `new` instead of `c`.

    The new curves have P = 1/2 at the same θ and the same slope there. Both asymptotes must be below 1/2.
    """
    steeper = (0.5 - c) / (1 - c) * (1 - new) / (0.5 - new)
    return steeper * a, steeper * (d - logit((0.5 - c) / (1 - c))) + logit((0.5 - new) / (1 - new))
