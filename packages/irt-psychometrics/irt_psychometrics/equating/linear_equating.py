"""Lines and arcs from the moments of scores: mean, linear and circle-arc equating.

With common items, the moments are taken in the synthetic population of Tucker's or Levine's method, or of frequency
estimation (Kolen & Brennan 2014, chapter 4). Equal percentiles are in `score_equating`.
"""

from dataclasses import dataclass

import numpy as np

from irt_psychometrics.core.arrays import Floats


@dataclass(frozen=True)
class Moments:
    """Mean and SD of the new and of the old form in one population."""

    new_mean: float
    new_sd: float
    old_mean: float
    old_sd: float


@dataclass(frozen=True)
class JointMoments:
    """Moments of a form's score and the anchor's, with the denominator n − 1."""

    mean: float
    anchor_mean: float
    variance: float
    anchor_variance: float
    covariance: float

    def regression(self) -> float:
        """The slope of the score on the anchor's (Tucker's γ)."""
        return self.covariance / self.anchor_variance

    def true_score_slope(self, internal: bool) -> float:
        """The slope of the true score on the anchor's, for congeneric forms (Levine's γ; Angoff 1953)."""
        if internal:
            return self.variance / self.covariance
        return (self.variance + self.covariance) / (self.anchor_variance + self.covariance)


def moments_of(share: Floats, n: float) -> tuple[float, float]:
    """Mean and variance of scores 0 … K with these shares among n learners."""
    x = np.arange(share.size)
    mean = float(share @ x)
    return mean, float(share @ (x - mean) ** 2) * n / (n - 1)


def joint_moments(share: Floats, n: float) -> JointMoments:
    """Moments of a form's score and the anchor's from their shares, shape (K + 1, A + 1)."""
    x, v = (np.arange(k) for k in share.shape)
    mean, variance = moments_of(share.sum(axis=1), n)
    anchor_mean, anchor_variance = moments_of(share.sum(axis=0), n)
    covariance = float((x - mean) @ share @ (v - anchor_mean)) * n / (n - 1)
    return JointMoments(mean, anchor_mean, variance, anchor_variance, covariance)


def synthetic_moments(
    new: JointMoments, old: JointMoments, new_slope: float, old_slope: float, weight: float
) -> Moments:
    """Moments in a population with the share `weight` of the new form's group (Kolen & Brennan 2014, eq. 4.17–4.20).

    `new_slope` and `old_slope` are Tucker's or Levine's γ of the two forms.
    """
    gap = new.anchor_mean - old.anchor_mean
    spread = new.anchor_variance - old.anchor_variance
    mixed = weight * (1 - weight) * gap**2
    other = 1 - weight
    return Moments(
        new.mean - other * new_slope * gap,
        np.sqrt(new.variance - other * new_slope**2 * spread + mixed * new_slope**2),
        old.mean + weight * old_slope * gap,
        np.sqrt(old.variance + weight * old_slope**2 * spread + mixed * old_slope**2),
    )


def line(x: Floats, moments: Moments, slope: float) -> Floats:
    """The line through both means with this slope."""
    return moments.old_mean + slope * (x - moments.new_mean)


def circle_arc(x: Floats, new_mean: float, old_mean: float, old_highest: float) -> Floats:
    """The simplified circle arc through the ends and the point of the means (Livingston & Kim 2009).

    x = 0 … K are all scores of the new form. Its ends become 0 and `old_highest`. The arc is added to the line through
    the ends.
    """
    slope = old_highest / x[-1]
    height = old_mean - slope * new_mean
    q, q_mean = x * (x - x[-1]), new_mean * (new_mean - x[-1])
    curvature = 2 * height / (height**2 + q_mean)  # one over the height of the circle's centre
    return slope * x + q * curvature / (1 + np.sqrt(1 - q * curvature**2))
