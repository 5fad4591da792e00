"""Comparison of a fit on several dimensions with a fit on one ability.

Under one ability the slopes of further dimensions are 0 and their rotation is undefined, so the likelihood ratio is not
χ². Its distribution is simulated from the one-dimensional fit instead (parametric bootstrap).
"""

from dataclasses import dataclass, replace

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.calibration import DimensionsCalibration
from irt_psychometrics.dimensions.fitting import fit_dimensions
from irt_psychometrics.dimensions.structure import Dimensions


@dataclass(frozen=True)
class OneAbility:
    """Comparison with one ability.

    Attributes:
        likelihood_ratio: twice the gain in log L by the further dimensions.
        bic_gain: BIC of one ability minus BIC of several; above 0, several dimensions fit better.
        p: (1 + number of simulated ratios at least as large)/(1 + number of simulated ratios); NaN without simulation.
        simulated: shape (B,), likelihood ratios of answers with one ability.
    """

    likelihood_ratio: float
    bic_gain: float
    p: float
    simulated: Floats


def compare_with_one(
    responses: Responses,
    calibration: DimensionsCalibration,
    *,
    replicates: int = 0,
    random_state: int = 0,
    threads: int | None = None,
) -> OneAbility:
    """Compare the fit `calibration` of these responses with a fit of the same item models on one ability.

    With `replicates` B > 0, B sets of answers to the same items by the same persons are simulated from the fit on one
    ability, and each is fitted twice. p is then valid at any B (Davison & Hinkley 1997, section 4.2.3).

    Raises PsychometricsError for fewer than 0 replicates.
    """
    if replicates < 0:
        raise PsychometricsError(f"replicates must be 0 or more, got {replicates}")
    one, ratio = _compare(responses, calibration, threads)
    rng, names = np.random.default_rng(random_state), (calibration.dimensions, calibration.models)
    simulated = np.empty(replicates)
    for k in range(replicates):
        answers = simulate_answers(responses, one, rng)
        simulated[k] = _compare(answers, fit_dimensions(answers, *names, threads=threads), threads)[1]
    p = (1 + int((simulated >= ratio).sum())) / (1 + replicates) if replicates else float("nan")
    extra = calibration.convergence.n_parameters - one.convergence.n_parameters
    return OneAbility(ratio, ratio - extra * float(np.log(calibration.n_persons)), p, simulated)


def _compare(
    responses: Responses, several: DimensionsCalibration, threads: int | None
) -> tuple[DimensionsCalibration, float]:
    """Fit one ability with the same item models. Returns the fit and the likelihood ratio."""
    one = fit_dimensions(responses, Dimensions.explore(responses.item_ids, 1), several.models, threads=threads)
    return one, max(0.0, 2 * (several.convergence.loglik - one.convergence.loglik))


def simulate_answers(responses: Responses, calibration: DimensionsCalibration, rng: np.random.Generator) -> Responses:
    """Draw answers of other persons to the same items as in `responses`. Items without parameters keep theirs."""
    r, fit = responses, calibration
    theta = rng.multivariate_normal(np.zeros(len(fit.correlations)), fit.correlations, size=r.n_persons, method="eigh")
    uniform, score = rng.random(r.n_responses), r.score.copy()
    for j in np.flatnonzero(fit.estimated).tolist():
        rows = np.flatnonzero(r.item == j)
        z = theta[r.person[rows]] @ fit.slopes[j] + fit.intercepts[j]
        logs = curves.log_probabilities(
            item_model(fit.models[j]), z[None], fit.further_parameters[[j]], fit.categories[[j]]
        )
        below = np.cumsum(np.exp(logs[0]), axis=1)[:, :-1]
        score[rows] = (uniform[rows, None] >= below).sum(axis=1)
    return replace(r, score=score)
