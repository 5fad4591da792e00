"""Statistics of the sum scores of a form that all persons answered completely: moments and reliability."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.results import Result, format_value

MAX_STEPS = 10_000


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class FormStatistics(Result):
    """Statistics of the sum scores of a form; NaN if one does not exist.

    Attributes
    ----------
    form
        Name of the form.
    n, n_items, max_score
        Persons, items and the highest possible score.
    mean, sd, median, skewness, kurtosis
        Moments of the sum scores. Skewness and excess kurtosis are the unbiased ones under normality (G₁ and G₂ of
        Joanes & Gill 1998).
    alpha, alpha_low, alpha_high
        Cronbach's α and its 95 % interval (Feldt 1965).
    lambda2
        Guttman's (1945) λ₂ of the raw scores.
    omega
        McDonald's (1999) ω of one factor, for standardised items; the factor minimises the squared residual
        correlations (Harman & Jones 1966). NaN if an item has no variance.
    split_half
        Correlation of the odd and the even items' scores, stepped up by Spearman–Brown.
    sem
        Standard error of measurement SD·√(1 − α).

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.classical import analyse_items
    >>> x = irt.Responses.from_wide([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0]])
    >>> analyse_items(x).forms[0]
    <FormStatistics: form all, 4 persons, 3 items: mean 1.500, SD 1.291, SEM 0.645, α 0.750 (−0.650 … 0.983)>
    """

    form: str
    n: int
    n_items: int
    max_score: int
    mean: float
    sd: float
    median: float
    skewness: float
    kurtosis: float
    alpha: float
    alpha_low: float
    alpha_high: float
    lambda2: float
    omega: float
    split_half: float
    sem: float
    frame_kind: str | None = None

    def _title(self) -> str:
        return f"form {self.form}, {self.n:,} persons, {self.n_items} items"

    def _facts(self) -> dict[str, str]:
        interval = f"{format_value(self.alpha_low)} … {format_value(self.alpha_high)}"
        alpha = {"α": f"{format_value(self.alpha)} ({interval})"} if np.isfinite(self.alpha) else {}
        return {name: format_value(getattr(self, name.lower())) for name in ("mean", "SD", "SEM")} | alpha

    def _columns(self) -> dict[str, Any]:
        return {field.name: [getattr(self, field.name)] for field in fields(self) if field.name != "frame_kind"}


def form_statistics(
    form: str, total: Floats, covariance: Floats, max_score: int, frame_kind: str | None = None
) -> FormStatistics:
    """Compute the statistics of a form from the persons' sums (n,) and the items' `covariance` (K, K)."""
    from scipy.special import fdtri

    n, k = len(total), len(covariance)
    variance, alpha = covariance.sum(), cronbach_alpha(covariance)
    skewness, kurtosis = _skewness_and_kurtosis(total)
    off = covariance - np.diag(np.diag(covariance))
    odd, even, both = (covariance[rows].sum() for rows in (np.s_[::2, ::2], np.s_[1::2, 1::2], np.s_[::2, 1::2]))
    halves = both / np.sqrt(odd * even)
    alpha_low, alpha_high = (1 - (1 - alpha) * fdtri(n - 1, (n - 1) * (k - 1), q) for q in (0.975, 0.025))
    return FormStatistics(
        form=form,
        n=n,
        n_items=k,
        max_score=max_score,
        mean=float(total.mean()),
        sd=float(np.sqrt(variance)),
        median=float(np.median(total)),
        skewness=float(skewness),
        kurtosis=float(kurtosis),
        alpha=float(alpha),
        alpha_low=float(alpha_low),
        alpha_high=float(alpha_high),
        lambda2=float((off.sum() + np.sqrt(k / (k - 1) * (off**2).sum())) / variance) if k > 1 else np.nan,
        omega=_omega(covariance),
        split_half=float(2 * halves / (1 + halves)),
        sem=float(np.sqrt(variance * (1 - alpha))),
        frame_kind=frame_kind,
    )


def covariance_of(scores: Floats) -> Floats:
    """Covariance of the items, shape (K, K), of scores (n, K); NaN for one person."""
    n, k = scores.shape
    return np.atleast_2d(np.cov(scores, rowvar=False)) if n > 1 else np.full((k, k), np.nan)


def alphas_if_deleted(covariance: Floats) -> Floats:
    """Cronbach's α without each item, shape (K,); NaN for fewer than three items."""
    k, variances = len(covariance), np.diag(covariance)
    without = covariance.sum() - 2 * covariance.sum(axis=0) + variances
    return (k - 1) / (k - 2) * (1 - (variances.sum() - variances) / without) if k > 2 else np.full(k, np.nan)


def cronbach_alpha(covariance: Floats) -> float:
    """Cronbach's (1951) α of items with this covariance."""
    k, total = len(covariance), covariance.sum()
    return k / (k - 1) * (1 - np.trace(covariance) / total) if k > 1 and total > 0 else np.nan


def _skewness_and_kurtosis(x: Floats) -> tuple[float, float]:
    """G₁ and G₂ of Joanes & Gill (1998); NaN for fewer than 4 values or without variance."""
    n, deviation = len(x), x - x.mean()
    m2, m3, m4 = ((deviation**power).mean() for power in (2, 3, 4))
    if n < 4 or m2 == 0:
        return np.nan, np.nan
    g1, g2 = m3 / m2**1.5, m4 / m2**2 - 3
    return g1 * np.sqrt(n * (n - 1)) / (n - 2), (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * g2 + 6)


def _omega(covariance: Floats) -> float:
    """ω of one factor of standardised items: 1 − the sum of the items' unique variances over the sum of correlations.

    The loadings minimise the squared residual correlations: each is in turn the least squares solution given the
    others, and the sum of squares falls at each step (Harman & Jones 1966).
    """
    sd = np.sqrt(np.diag(covariance))
    if len(sd) < 3 or not (sd > 0).all():
        return np.nan
    correlation = covariance / np.outer(sd, sd)
    off = correlation - np.eye(len(sd))
    values, vectors = np.linalg.eigh(correlation)
    loadings = vectors[:, -1] * np.sqrt(values[-1])
    for _ in range(MAX_STEPS):
        before, squares = loadings.copy(), loadings @ loadings
        for j in range(len(loadings)):
            rest = squares - loadings[j] ** 2
            loadings[j] = np.clip(off[j] @ loadings / rest, -1.0, 1.0)
            squares = rest + loadings[j] ** 2
        if np.abs(loadings - before).max() < 1e-10:
            break
    return float(1 - (1 - loadings**2).sum() / correlation.sum())
