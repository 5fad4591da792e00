"""Whether estimates that came from elsewhere stand at a maximum of the marginal likelihood. Nothing is estimated."""

from __future__ import annotations

import numpy as np
from scipy.special import logit

from irt_assets.psychometrics import kernels
from irt_assets.psychometrics.data import Data
from irt_assets.psychometrics.marginal import Problem
from irt_assets.psychometrics.models import Floats, Model, Responses
from irt_assets.psychometrics.priors import Priors
from irt_assets.psychometrics.quadrature import Grid
from irt_assets.psychometrics.structure import GUESSING_BOUNDS, Fixed, Structure


def steepest(
    responses: Responses,
    model: Model,
    *,
    a: Floats,
    d: Floats,
    c: Floats,
    latent_mean: float,
    latent_sd: float,
    given: Fixed,
    priors: Priors,
) -> tuple[float, str]:
    """The largest gradient of the log-likelihood (and log-prior) in a free parameter, and whose it is.

    In the units of `fit_em`: multiplied by the parameter's standard error, were the abilities known, so 1 for a
    parameter that is off by about one such error. `a`, `d`, `c`: shape (J,), of the items of `responses`; `given`:
    those that were held.
    """
    J = responses.n_items
    structure = Structure.of(model, J, given=given)
    data = Data.of(responses, anchored=given.items)
    reach = max(6.0, float(np.ceil(abs(latent_mean) + 5 * latent_sd)))
    full = np.concatenate([a, d, logit(np.clip(c, *GUESSING_BOUNDS))[: J * (structure.K - 2)]])
    full = np.concatenate([full, [latent_mean, np.log(latent_sd)]])
    x = np.empty(structure.size)
    x[structure.index[structure.free]] = full[structure.free]
    with kernels.runner(None) as run:
        problem = Problem(data, structure, Grid.spanning(1 + round(10 * reach), reach), run, priors)
        point = problem.evaluate(x)
        gradient = np.abs(point.gradient) / problem.information_scale(point)
    worst = int(np.argmax(gradient))
    place = int(np.flatnonzero(structure.index == worst)[0])
    item = place < structure.means.start
    return float(gradient[worst]), f"item {responses.item_ids[place % J]}" if item else "the ability distribution"
