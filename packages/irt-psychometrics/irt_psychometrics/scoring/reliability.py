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
    """Compute the reliability of items before anybody has answered: E[I(θ)/(I(θ) + 1/sd²)] over θ ~ N(mean, sd²).

    I is the test information of all items with parameters (Green, Bock, Humphreys, Linn & Reckase 1984, with the
    prior's information added to that of the items). If a person sees only some of the items, pass only these. The
    result is in [0, 1).
    """
    items, unit = ItemCurves(a, d, c, tuple(others)), Grid.symmetric()
    info = items.select(np.flatnonzero(items.known)).information(mean + sd * unit.nodes).sum(axis=1)
    return float(np.exp(unit.log_weights()) @ (info / (info + 1.0 / sd**2)))


def fitted_reliability(
    responses: Responses, calibration: Calibration, *, groups: Sequence[str] | None = None, threads: int | None = None
) -> float:
    """Compute the empirical reliability of persons' EAP scores in a fit, under the distribution of θ in their groups.

    It is the variance of the scores divided by the sum of the variance and the mean squared error (Bock & Mislevy
    1982).

    Parameters
    ----------
    responses
        The responses to which `calibration` was fitted.
    calibration
        The fit.
    groups
        n_persons labels of groups; None: all persons are in the first (or only) group of the fit.
    threads
        Number of threads; None: all processors.

    Returns
    -------
    float
        The reliability, in [0, 1]. Persons without an answer to an item with parameters do not count. NaN for fewer
        than two persons.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> from irt_psychometrics.scoring import fitted_reliability
    >>> f = irt.fit(x, "rasch")
    >>> fitted_reliability(x, f.calibration) == f.reliability
    True
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
    """Compute the posterior of each person in a fit, under the latent distribution of the person's group.

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
