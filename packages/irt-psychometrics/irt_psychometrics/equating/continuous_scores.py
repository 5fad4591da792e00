"""Continuous distributions of discrete scores: the uniform one of percentile ranks, and Gaussian kernels.

The methods of equating are in `score_equating`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import ndtr

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.equating.linear_equating import moments_of

_STEPS = 200
_TIE = 1e-10
_ROUNDING = 1e-15
_SQRT_2PI = np.sqrt(2 * np.pi)


class ContinuousScores(Protocol):
    """A continuous distribution of a form's scores."""

    def cdf(self, scores: Floats) -> Floats: ...

    def quantile(self, p: Floats) -> Floats: ...


@dataclass(frozen=True)
class Percentiles:
    """Scores spread evenly over ± ½, so that `cdf` is the percentile rank (Kolen & Brennan 2014, section 2.4).

    Attributes:
        share: shape (K + 1,), the shares of the scores 0 … K.
    """

    share: Floats

    @cached_property
    def _edges(self) -> tuple[Floats, Floats]:
        return np.arange(-0.5, self.share.size), np.append(0.0, self.share.cumsum())

    def cdf(self, scores: Floats) -> Floats:
        edges, below = self._edges
        return np.interp(scores, edges, below)

    def quantile(self, p: Floats) -> Floats:
        """The scores with these percentile ranks; the middle of the possible ones if nobody has a score."""
        edges, below = self._edges
        reaches = np.searchsorted(below, p - _TIE).clip(1, self.share.size)
        leaves = np.searchsorted(below, p + _TIE, side="right").clip(1, self.share.size)

        def within(k: npt.NDArray[np.intp]) -> Floats:
            height = below[k] - below[k - 1]
            part = np.divide(p - below[k - 1], height, out=np.zeros(p.shape), where=height > 0)
            return edges[k - 1] + part.clip(0.0, 1.0)

        middle = (within(reaches) + within(leaves)) / 2
        return np.where(p <= _TIE, edges[0], np.where(p >= 1 - _TIE, edges[-1], middle))


@dataclass(frozen=True)
class GaussianKernels:
    """Scores with normal errors, shrunk to keep mean and variance (von Davier, Holland & Thayer 2004, eq. 4.5).

    Attributes:
        share: shape (K + 1,), the shares of the scores 0 … K.
        n: the number of learners. The variance has the denominator n − 1 as in linear equating, which is the limit of
            wide kernels.
        bandwidth: h, in raw points.
    """

    share: Floats
    n: float
    bandwidth: float

    @cached_property
    def _centres(self) -> tuple[Floats, float]:
        """The kernels' centres, shape (K + 1,), and their SD."""
        mean, variance = moments_of(self.share, self.n)
        shrink = np.sqrt(variance / (variance + self.bandwidth**2))
        return shrink * np.arange(self.share.size) + (1 - shrink) * mean, shrink * self.bandwidth

    def cdf(self, scores: Floats) -> Floats:
        centres, sd = self._centres
        return ndtr((scores[..., None] - centres) / sd) @ self.share

    def density(self, scores: Floats) -> Floats:
        centres, sd = self._centres
        z = (scores[..., None] - centres) / sd
        return np.exp(-z * z / 2) @ self.share / (sd * _SQRT_2PI)

    def quantile(self, p: Floats) -> Floats:
        """The scores with these percentile ranks, by Newton's method between bounds that close in."""
        centres, sd = self._centres
        low, high = np.full(p.shape, centres[0] - 12 * sd), np.full(p.shape, centres[-1] + 12 * sd)
        x = Percentiles(self.share).quantile(p)
        for _ in range(_STEPS):
            excess, density = self.cdf(x) - p, self.density(x)
            low, high = np.where(excess < 0, x, low), np.where(excess < 0, high, x)
            newton = x - np.divide(excess, density, out=np.full(p.shape, np.inf), where=density > 0)
            moved = np.where((newton > low) & (newton < high), newton, (low + high) / 2)
            moved = np.where(np.abs(excess) <= _ROUNDING, x, moved)
            if np.abs(moved - x).max(initial=0.0) < _ROUNDING * centres.size:
                break
            x = moved
        return moved


def penalty(share: Floats, n: float, bandwidth: float) -> float:
    """Σ (share − density at the score)², the criterion of `best_bandwidth` (eq. 4.29 of the same book)."""
    density = GaussianKernels(share, n, bandwidth).density(np.arange(share.size, dtype=float))
    return float(((share - density) ** 2).sum())


def best_bandwidth(share: Floats, n: float) -> float:
    """The bandwidth with the smallest penalty, in points, between .1 and 3."""
    grid = np.linspace(0.1, 3.0, 59)
    best = int(np.argmin([penalty(share, n, h) for h in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, grid.size - 1)]
    return float(
        minimize_scalar(lambda h: penalty(share, n, h), bounds=bounds, method="bounded", options={"xatol": 1e-9}).x
    )
