"""Person fit: whether a learner's pattern of answers is plausible at the learner's ability.

Item fit is in `item_fit` and `sum_score_fit`; scoring is in `scoring`.
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
from irt_psychometrics.itemfit.model_replicates import FittedData
from irt_psychometrics.scoring.abilities import estimate_abilities


@dataclass(frozen=True)
class PersonFit:
    """Person fit, shape (n_persons,) each. NaN for persons with fewer than `Measure.MIN_ITEMS` usable answers.

    `lz` and `p` are also NaN if θ̂ alone determines the likelihood of the pattern, as when all items are alike.

    Attributes:
        theta: the WLE at which lz was computed.
        lz: lz*, standard normal under the model; far below 0 for a pattern that is unlikely at the learner's ability.
        p: probability under the model of an lz* at most this large.
    """

    theta: Floats
    lz: Floats
    p: Floats


def person_fit(responses: Responses, calibration: Calibration, *, threads: int | None = None) -> PersonFit:
    """lz* of every learner at the WLE (Snijders 2001; with Warm's estimate, Magis, Raîche & Béland 2012; for items with
    several scores, Sinharay 2016).

    The log-likelihood of a pattern minus its expectation is W = Σ (x − P) w with w = log(P/(1 − P)). Let the estimate
    of θ solve r₀ + Σ (x − P) r = 0 with r = P'/(P(1 − P)). Then W has the mean and variance of
    Σ (x − P)(w − κ r) − κ r₀ with κ = Σ P'w / Σ P'r, so lz* = (W + κ r₀)/√(Σ (w − κ r)² P(1 − P)). For the WLE,
    r₀ = J/(2I). For a scored item, the sums are over its scores: w = log P(x) minus its expectation, r = a times the
    difference between the score and its expectation, and J = a³ times the score's third central moment.
    """
    whole = FittedData.from_responses(
        responses, replace(calibration, populations=())
    )  # the WLE needs no ability distribution
    fit, r = whole.calibration, whole.responses
    others = fit.curves.others
    theta = estimate_abilities(
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
