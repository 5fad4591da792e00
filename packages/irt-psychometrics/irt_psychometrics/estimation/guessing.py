"""Find items on which learners guess, by a score test of c = 0 for each item of a 2PL (Glas & Suárez Falcón 2003).

Fits are compared in `latent_shape`.
"""

import math

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.models import Calibration, Floats
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import q_values
from irt_psychometrics.estimation.likelihood import Guessing, missing_information_blocks
from irt_psychometrics.estimation.response_layout import ResponseLayout

LEVEL = 0.01
"""False discovery rate at which items are reported (Benjamini & Hochberg 1995)."""
MIN_GUESSING = 0.05
"""An item is not reported if the lower 95 % limit of its one-step estimate of c is below this."""
MAX_ERROR = 0.2
"""An item is not tested if the standard error of its one-step estimate of c is larger than this, because hardly any
weak learners answered it."""
_Z95_ONE_SIDED = 1.644854
_ZERO = 1e-8
"""The value of c at which c = 0 is tested. Kernels use logit c, which is not finite at 0."""


def guessed_items(responses: Responses, calibration: Calibration, level: float = LEVEL) -> dict[str, float]:
    """Items with c > 0 by one-sided tests at the false discovery rate `level`, most significant first.

    Maps each item to its q value. The other arguments are those of `one_step_guessing`.
    """
    c, se = one_step_guessing(responses, calibration)
    tested = np.flatnonzero(se < MAX_ERROR)
    c, se = c[tested], se[tested]
    z = c / se
    q = q_values(np.array([math.erfc(value / math.sqrt(2)) / 2 for value in z]))
    named = np.flatnonzero((q < level) & (c - _Z95_ONE_SIDED * se >= MIN_GUESSING))
    named = named[np.argsort(-z[named], kind="stable")]
    return {responses.item_ids[tested[j]]: float(q[j]) for j in named}


def one_step_guessing(responses: Responses, calibration: Calibration) -> tuple[Floats, Floats]:
    """One-step estimates of c, starting at 0, and their standard errors if c is 0; shape (J,) each, NaN for items
    without parameters.

    The complete-data score of c at 0 is (x − P)/P. Its mean given the answers (Fisher's identity) is adjusted for the
    item's own a and d, by products of learners' scores. So the test is also valid if a and d were estimated under a
    prior (Neyman's C(α)). There is no adjustment for the other items, so errors are somewhat too large.

    `calibration` is a 2PL fit of these or more answers, with one population of mean 0 and SD 1 and θ normal or a
    histogram. Its errors are not needed.
    """
    keep = np.isfinite(calibration.a)
    kept = responses.of_items(keep)
    a, d = calibration.a[keep], calibration.d[keep]
    (population,) = calibration.populations
    if population.nodes:
        nodes = np.array(population.nodes)
    else:
        most = np.bincount(kept.person, a[kept.item] ** 2 / 4, kept.n_persons).max()
        nodes = Grid.for_posterior_sd(1 / np.sqrt(1 + most)).nodes
    log_weights = population.log_density(nodes)
    data = ResponseLayout.from_responses(kept, rarer=True)
    with kernels.runner(None) as run:
        total = data.sums(run)
        curves = Guessing(data, nodes, a, d, np.full(len(a), np.log(_ZERO)))
        found = curves.expect(total, log_weights[None])
        missing = missing_information_blocks(curves, total, log_weights[None])
    factors = curves.tables.factors
    squares = found.right * curves.tables.q**2 + (found.seen - found.right) * curves.tables.p**2
    products = np.einsum("kjq,mjq,jq->jkm", factors, factors, squares) - missing
    explained = np.linalg.solve(products[:, :2, :2], products[:, :2, 2:])[:, :, 0]
    score = found.gradient[2] - np.einsum("jk,kj->j", explained, found.gradient[:2])
    information = products[:, 2, 2] - np.einsum("jk,jk->j", explained, products[:, 2, :2])
    c, se = np.full(len(keep), np.nan), np.full(len(keep), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        c[keep], se[keep] = _ZERO * score / information, _ZERO / np.sqrt(information)
    return c, se
