"""Statistics of plausible values: replicate weights, sampling variances, and Rubin's rules.

A statistic is computed for all replicates at once, because surveys need some thousand values of it: number of sets ×
(replicates + 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
from scipy.linalg import hadamard
from scipy.special import stdtrit

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.errors import PsychometricsError

Statistic = Literal["mean", "sd", "percentile", "share_above"] | Callable[[Floats, Floats], npt.ArrayLike]
Method = Literal["brr", "fay", "jk1", "jk2"]

MAX_PAIRS = 64
"""Largest number of pairs into which persons are dealt if a survey has no replicate weights. The standard error then
has an error of 1/√(2 · 64), 9 %, and the t distribution takes it into account."""
_OF_PISA, _OF_PAIRS = 0.5, 0.3
"""Part of the weight that the lighter half keeps (Fay's k): in PISA, and in replicates of pairs. Standard errors of
percentiles need replicates that differ more, and groups with few persons must keep some weight."""
_ROUNDING = 1e-12
"""Differences between replicates below this size are rounding errors, so there is no standard error."""


class Replicates(NamedTuple):
    """Replicate weights.

    Attributes
    ----------
    weights
        Shape (N, R).
    factor
        Factor of the sum of squared differences in a sampling variance.
    df
        Degrees of freedom of a sampling variance.
    """

    weights: Floats
    factor: float
    df: int


def paired_replicates(weights: Floats, unit: Ints) -> Replicates:
    """Make balanced repeated replicates of persons who were not drawn in strata, shape (N, R), from H pairs of parts.

    Units (persons or clusters) are dealt at random into 2H parts, always in the same way. Neighbouring parts form
    H ≤ 64 pairs, each a stratum for Fay's method (Judkins 1990): in each replicate one part of a pair has its weights
    times 1.7, the other times .3. The degrees of freedom are H.

    Parameters
    ----------
    weights
        Shape (N,), the weights.
    unit
        Shape (N,), the number of each person's unit, from 0 to U − 1. Units with neighbouring numbers get different
        parts, so that persons of a group are spread evenly if the units are in order of groups.

    Raises
    ------
    PsychometricsError
        If there are fewer than 4 units.
    """
    n_units = int(unit.max(initial=-1)) + 1
    if n_units < 4:
        raise PsychometricsError(
            f"an error needs at least 4 persons or clusters, got {n_units}; leave clusters out, or give "
            "replicate_weights of the survey"
        )
    pairs = min(MAX_PAIRS, n_units // 2)
    rounds = -(-n_units // (2 * pairs))
    part = np.random.default_rng(0).permuted(np.tile(np.arange(2 * pairs), (rounds, 1)), axis=1).ravel()[unit]
    signs = hadamard(1 << (pairs - 1).bit_length())[:pairs].astype(float)  # (H, R)
    side = np.where(part % 2 == 0, 1.0, -1.0)
    replicates = weights[:, None] * (1 + (1 - _OF_PAIRS) * side[:, None] * signs[part // 2])
    return Replicates(replicates, 1 / (signs.shape[1] * (1 - _OF_PAIRS) ** 2), pairs)


def variance_factor(method: Method | float, n_replicates: int) -> float:
    """Return the factor f of the sampling variance f · Σ_r (t_r − t)².

    Raises PsychometricsError for an unknown method.
    """
    if isinstance(method, (int, float)):
        return float(method)
    factors = {
        "brr": 1 / n_replicates,
        "fay": 1 / (n_replicates * (1 - _OF_PISA) ** 2),
        "jk1": (n_replicates - 1) / n_replicates,
        "jk2": 1.0,
    }
    if method not in factors:
        raise PsychometricsError(f"method must be one of {', '.join(get_args(Method))} or a factor, got {method!r}")
    return factors[method]


def evaluate(statistic: Statistic, values: Floats, weights: Floats, at: Floats | None) -> Floats:
    """Compute a statistic of `values` (n,) under each column of `weights` (n, R), shape (k, R).

    Raises PsychometricsError for an unknown name.
    """
    if callable(statistic):
        columns = [np.atleast_1d(np.asarray(statistic(values, own), dtype=float)) for own in weights.T]
        return np.stack(columns, axis=1)
    total = weights.sum(axis=0)
    if statistic == "mean":
        return np.asarray((values @ weights / total)[None])
    if statistic == "sd":
        centred, n = values - values.mean(), len(values)
        variance = centred**2 @ weights / total - (centred @ weights / total) ** 2
        return np.sqrt(np.maximum(variance, 0.0) * n / max(n - 1, 1))[None]
    if statistic not in ("percentile", "share_above"):
        raise PsychometricsError(
            f'statistic must be "mean", "sd", "percentile", "share_above" or a function, got {statistic!r}'
        )
    if at is None:
        raise PsychometricsError(
            f"{statistic} needs at=: percentages such as [10, 50, 90] for percentiles, and θ for shares above"
        )
    if statistic == "share_above":
        return np.asarray((values > at[:, None]) @ weights / total)
    if not ((at >= 0) & (at <= 100)).all():
        raise PsychometricsError(f"at must be percentages, 0 … 100, got {at.tolist()}")
    order = np.argsort(values)
    ranks = (np.cumsum(weights[order], axis=0) - weights[order] / 2) / total
    return np.stack([np.interp(at / 100, own, values[order]) for own in ranks.T], axis=1)


def pool(found: Floats, factor: float, df: float, level: float) -> dict[str, Floats]:
    """Combine k statistics of m completed sets by Rubin's (1987) rules.

    Parameters
    ----------
    found
        Shape (m, k, 1 + R), statistics of each set with the weights and with each replicate.
    factor
        The sampling variance is this factor times the sum of squared deviations of the replicates.
    df
        Degrees of freedom of the sampling variance.
    level
        Confidence level of the intervals, above 0 and below 1.

    Returns
    -------
    dict
        Columns of `PlausibleValues.pooled`, shape (k,) each. Errors are NaN if no replicate differs.

    References
    ----------
    Barnard, J. & Rubin, D. B. (1999). Small-sample degrees of freedom with multiple imputation. Biometrika, 86,
    948-955.
    Rubin, D. B. (1987). Multiple imputation for nonresponse in surveys. Wiley.
    """
    m, estimates = len(found), found[:, :, 0]
    estimate, within = (
        estimates.mean(axis=0),
        factor * ((found[:, :, 1:] - found[:, :, :1]) ** 2).sum(axis=2).mean(axis=0),
    )
    within = np.where((df > 0) & (within > (_ROUNDING * (1 + np.abs(estimate))) ** 2), within, np.nan)
    between = (1 + 1 / m) * estimates.var(axis=0, ddof=1)
    se, share = np.sqrt(within + between), between / (within + between)
    with np.errstate(divide="ignore"):
        of_sets, of_sample = (m - 1) / share**2, (df + 1) / (df + 3) * df * (1 - share)
        degrees = 1 / (1 / of_sets + 1 / of_sample)
    half, ratio = stdtrit(degrees, (1 + level) / 2) * se, between / within
    return {
        "estimate": estimate,
        "se": se,
        "df": degrees,
        "low": estimate - half,
        "high": estimate + half,
        "sampling_se": np.sqrt(within),
        "between_se": np.sqrt(between),
        "missing_information": (ratio + 2 / (of_sets + 3)) / (ratio + 1),
    }
