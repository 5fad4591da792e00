"""What a fit took for the distribution of ability, and what that rests on: the records, without what makes them.

What does not belong here: the comparison of fits (see `latent_shape`) and the test (see `normality`).
"""

from dataclasses import dataclass
from typing import Self

from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.options import Latent


@dataclass(frozen=True)
class Normality:
    """A score test of θ ~ N(0, 1) against skewness γ₁ and excess kurtosis γ₂ that are not 0.

    Attributes:
        statistic: distributed as χ² with 2 degrees of freedom where θ is normal and the item model is right.
        p: the probability of a statistic at least this large.
        skewness_z, kurtosis_z: one-step estimates of γ₁ and γ₂ over their standard errors, each with the other and the
            items' parameters free. Their signs show the direction; sizes are not given, as they hold near 0 alone.
    """

    statistic: float
    p: float
    skewness_z: float
    kurtosis_z: float


@dataclass(frozen=True)
class Compared:
    """One of the fits that were compared.

    Attributes:
        model: its item model, as `Calibration.model` names it; several are joined by +.
        loglik: the marginal log-likelihood, without the density of priors.
        converged: whether the ascent came to its end, in fits that were made for their likelihood alone.
    """

    model: str
    latent: Latent
    loglik: float
    n_parameters: int
    aic: float
    bic: float
    converged: bool

    @classmethod
    def of(cls, fit: Calibration, latent: Latent) -> Self:
        found = fit.convergence
        return cls(fit.model, latent, found.loglik, found.n_parameters, fit.aic, fit.bic, found.converged)


@dataclass(frozen=True)
class Shape:
    """What was taken for the distribution of θ, and why.

    Attributes:
        latent: what the fit took.
        why: a sentence.
        normality: the score test; None where it was not asked for, or could not be made.
        histogram_gain: 2Δ log L of the histogram over the normal distribution, with guessing free where it was found;
            None where they were not compared.
        guessing_gain: 2Δ log L of the 3PL over the 2PL, both with histograms; None likewise. Items on which learners
            guess are named in `why`.
        guessing: whether guessing was found that the model does not have. If a curve without an asymptote explains the
            answers as well, it is not, and `why` says that the curve does not fit.
        learners: that the fits were compared on; 0 where none were.
        compared: the fits.
    """

    latent: Latent
    why: str
    normality: Normality | None = None
    histogram_gain: float | None = None
    guessing_gain: float | None = None
    guessing: bool = False
    learners: int = 0
    compared: tuple[Compared, ...] = ()
