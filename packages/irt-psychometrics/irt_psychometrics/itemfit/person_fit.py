"""Person fit: whether a learner's pattern of answers is one that a learner of that ability gives.

Item fit is in `item_fit` and `sum_score_fit`, scores are in `scoring`.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from irt_psychometrics.core.design import over_learners
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import normal_score
from irt_psychometrics.itemfit import fit_kernels
from irt_psychometrics.itemfit.measure import Measure
from irt_psychometrics.itemfit.model_replicates import Fitted
from irt_psychometrics.scoring.abilities import score


@dataclass(frozen=True)
class PersonFit:
    """Shape (n_persons,) each; NaN for persons with fewer than `Measure.MIN_ITEMS` usable answers,
    and where θ̂ determines how likely the pattern is (items all alike), so that none can be unlikely for it.

    Attributes:
        theta: the WLE at which it was computed.
        lz: lz*, standard normal under the model; far below 0 for a pattern too unlikely for the learner's ability.
        p: probability of an lz* this small under the model.
    """

    theta: Floats
    lz: Floats
    p: Floats


def person_fit(responses: Responses, calibration: Calibration, *, threads: int | None = None) -> PersonFit:
    """lz* of every learner at the WLE (Snijders 2001; with Warm's estimate, Magis, Raîche & Béland 2012; of items with
    several scores, Sinharay 2016).

    The log-likelihood of a pattern, less its expectation, is W = Σ (x − P) w with w = log(P/(1 − P)). At an estimate
    of θ that solves r₀ + Σ (x − P) r = 0, r = P'/(P(1 − P)), its mean and variance are those of
    Σ (x − P)(w − κ r) − κ r₀, κ = Σ P'w / Σ P'r, so lz* = (W + κ r₀)/√(Σ (w − κ r)² P(1 − P)), r₀ = J/(2I) for the WLE.
    Of a scored item the sums are over its scores: w = log P(x) less its expectation, r = a times the score less its
    expectation, and J = a³ times its third central moment.
    """
    whole = Fitted.of(responses, replace(calibration, populations=()))  # the WLE knows of no ability distribution
    fit, r = whole.calibration, whole.responses
    others = fit.curves.others
    theta = score(
        r,
        fit.a,
        fit.d,
        fit.c,
        others=others,
        method="wle",
        mean=fit.latent_mean,
        sd=fit.latent_sd,
        threads=threads,
    ).theta
    rows = whole.rows
    theta[np.diff(rows.start) < Measure.MIN_ITEMS] = np.nan
    moments = np.full((r.n_persons, 3), np.nan)
    t = np.full((fit.n_items, fit.n_categories.max(initial=2)), -np.inf)
    for some in others:
        t[some.at, : len(some.further)] = some.further.T
    items = fit.a, fit.d, fit.c, fit.n_categories, t

    def one(first: int, last: int) -> None:
        fit_kernels.likelihood_moments(first, last, rows, items, theta, moments)

    over_learners(one, r, rows.start, threads)
    with np.errstate(divide="ignore", invalid="ignore"):
        lz = moments[:, 0] / np.sqrt(moments[:, 1])
        skewness = moments[:, 2] / moments[:, 1] ** 1.5
    return PersonFit(theta, lz, ndtr(normal_score(lz, skewness)))
