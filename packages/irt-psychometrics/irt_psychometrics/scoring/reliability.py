"""Reliability of items before anybody has answered, and of the scores in a fit.

`Scores.reliability` is the reliability of given scores.
"""

from collections.abc import Sequence

import numpy as np

from irt_psychometrics.core.item_models import ItemCurves, OtherItems
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring.abilities import Curves, Posteriors, Scores, posteriors


def marginal_reliability(
    a: Floats, d: Floats, c: Floats, *, others: Sequence[OtherItems] = (), mean: float = 0.0, sd: float = 1.0
) -> float:
    """Reliability of the items before anybody has answered: E[I(θ)/(I(θ) + 1/sd²)] over θ ~ N(mean, sd²), in [0, 1).

    I is the test information of all items with parameters (Green, Bock, Humphreys, Linn & Reckase 1984, with the
    prior's information added to that of the items). If a learner sees only some of the items, pass only these.
    """
    items, unit = ItemCurves(a, d, c, tuple(others)), Grid.symmetric()
    info = items.select(np.flatnonzero(items.known)).information(mean + sd * unit.nodes).sum(axis=1)
    return float(np.exp(unit.log_weights()) @ (info / (info + 1.0 / sd**2)))


def fitted_reliability(
    responses: Responses, calibration: Calibration, *, groups: Sequence[str] | None = None, threads: int | None = None
) -> float:
    """Empirical reliability of the learners' EAP scores in a fit, each under the latent distribution of its group.

    Parameters
    ----------
    responses
        The responses to which `calibration` was fitted.
    calibration
        The fit.
    groups
        n_persons labels of groups; None: all learners are in the first (or only) group of the fit.
    threads
        Number of threads; None: all processors.

    Returns
    -------
    float
        The reliability, in [0, 1]. Learners without an answer to an item with parameters do not count. NaN for fewer
        than two learners.
    """
    return reliability_of(fitted_posteriors(responses, calibration, groups=groups, threads=threads))


def reliability_of(found: Posteriors, weights: Floats | None = None) -> float:
    """Compute the empirical reliability of EAP scores, of which NaN do not count, with a weight for each person."""
    informed = ~np.isnan(found.theta)
    scores = Scores(found.theta[informed], found.se[informed])
    return scores.weighted_reliability(np.ones(len(scores.theta)) if weights is None else weights[informed])


def fitted_posteriors(
    responses: Responses, fit: Calibration, *, groups: Sequence[str] | None = None, threads: int | None = None
) -> Posteriors:
    """The posterior of each person in a fit, under the latent distribution of the person's group.

    Mean and SD are NaN, and the log-likelihood is 0, for a person without a response to an item with parameters.
    """
    label = np.array([fit.latent[0].name] * responses.n_persons if groups is None else groups, dtype=object)
    found = Posteriors(*(np.full(responses.n_persons, np.nan) for _ in Posteriors._fields))
    for group in fit.latent:
        here = label == group.name
        own = posteriors(responses, Curves.from_items(fit.curves, population=group), threads=threads)
        for into, values in zip(found, own, strict=True):
            into[here] = values[here]
    informed = np.bincount(responses.person[fit.estimated[responses.item]], minlength=responses.n_persons) > 0
    found.theta[~informed] = found.se[~informed] = np.nan
    return found
