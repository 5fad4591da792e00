"""How much of the differences between learners' scores is difference in ability: of items before anybody answered, and
of a fit. That of scores is `Scores.reliability`."""

from collections.abc import Sequence

import numpy as np

from irt_psychometrics.core.item_models import ItemCurves, OtherItems
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring.abilities import Curves, Scores, eap_by


def marginal_reliability(
    a: Floats, d: Floats, c: Floats, *, others: Sequence[OtherItems] = (), mean: float = 0.0, sd: float = 1.0
) -> float:
    """Reliability of the items before anybody answered: E[I(θ)/(I(θ) + 1/sd²)] over θ ~ N(mean, sd²), in [0, 1).

    I is the test information of all items with parameters (Green, Bock, Humphreys, Linn & Reckase 1984, with the
    prior's information as well as the items'). Where a learner sees only some of the items, give these only.
    """
    items, unit = ItemCurves(a, d, c, tuple(others)), Grid.spanning()
    info = items.select(np.flatnonzero(items.known)).information(mean + sd * unit.nodes).sum(axis=1)
    return float(np.exp(unit.log_weights()) @ (info / (info + 1.0 / sd**2)))


def fitted_reliability(
    responses: Responses, calibration: Calibration, *, groups: Sequence[str] | None = None, threads: int | None = None
) -> float:
    """Empirical reliability of the learners' EAP scores in a fit, each under the latent distribution of its group.

    `groups`: n_persons labels, where the fit has groups. Learners without an answer to an item with parameters do not
    count.
    """
    fit, N = calibration, responses.n_persons
    informed = np.bincount(responses.person[fit.estimated[responses.item]], minlength=N) > 0
    label = np.array([fit.latent[0].name] * N if groups is None else groups, dtype=object)
    theta, se = np.full(N, np.nan), np.full(N, np.nan)
    for group in fit.latent:
        here = label == group.name
        curves = Curves.of(fit.curves, population=group)
        scores = eap_by(responses, curves, threads=threads)
        theta[here], se[here] = scores.theta[here], scores.se[here]
    return Scores(theta[informed], se[informed]).reliability
