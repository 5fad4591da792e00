"""Posteriors of θ of persons who answer new items, and effects of the published items' errors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags_array, hstack

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring.rest_posterior import RestPosterior

_gauss_hermite = cache(np.polynomial.hermite_e.hermegauss)


@dataclass(frozen=True)
class PersonPosteriors:
    """Posterior distributions of θ of P persons, or of persons at the time of an answer, by published items.

    Attributes
    ----------
    nodes
        Abilities, shape (P, Q), on the scale of the published items.
    weights
        Weights of the nodes, shape (P, Q); each row sums to 1.
    """

    nodes: Floats
    weights: Floats

    def __post_init__(self) -> None:
        if self.nodes.ndim != 2 or self.nodes.shape != self.weights.shape:
            shapes = f"{self.nodes.shape} and {self.weights.shape}"
            raise PsychometricsError(f"nodes and weights must have one shape (P, Q), got {shapes}")
        valid = np.isfinite(self.nodes).all(axis=1) & (self.weights >= 0).all(axis=1)
        for i in np.flatnonzero(~(valid & (np.abs(self.weights.sum(axis=1) - 1) < 1e-6))):
            total = self.weights[i].sum()
            raise PsychometricsError(f"row {i}: nodes must be finite and weights sum to 1, got weights of {total:g}")

    @classmethod
    def normal(cls, theta: npt.ArrayLike, se: npt.ArrayLike, n_nodes: int = 11) -> PersonPosteriors:
        """Build normal posteriors by Gauss-Hermite quadrature.

        Parameters
        ----------
        theta, se
            Posterior means and SDs, shape (P,); `se` may be a number.
        n_nodes
            Q, the number of nodes of each person.

        Returns
        -------
        PersonPosteriors
            Posteriors of the P persons.

        Raises
        ------
        PsychometricsError
            If a mean is not finite, or an SD is not finite and at least 0. The message has the person's row.

        Examples
        --------
        >>> from irt_psychometrics.new_items import PersonPosteriors
        >>> PersonPosteriors.normal([0.5, -1.0], 0.4).theta.round(3).tolist()
        [0.5, -1.0]
        """
        theta, se = np.broadcast_arrays(np.atleast_1d(np.asarray(theta, float)), np.asarray(se, float))
        for i in np.flatnonzero(~(np.isfinite(theta) & np.isfinite(se) & (se >= 0))):
            raise PsychometricsError(f"row {i}: theta must be finite and se at least 0, got {theta[i]:g} and {se[i]:g}")
        points, weights = _gauss_hermite(n_nodes)
        return cls(theta[:, None] + se[:, None] * points, np.tile(weights / weights.sum(), (len(theta), 1)))

    @classmethod
    def from_responses(
        cls, responses: Responses, items: ItemSource, mean: float = 0.0, sd: float = 1.0
    ) -> PersonPosteriors:
        """Compute exact posteriors from responses to published items and a N(mean, sd²) population.

        Parameters
        ----------
        responses
            Responses of P persons. Responses to items that are not among the published ones do not count.
        items
            The published items.
        mean, sd
            Mean and SD of the population.

        Returns
        -------
        PersonPosteriors
            Posteriors of the P persons, on nodes that all have in common.

        Examples
        --------
        >>> import irt_psychometrics as irt
        >>> from irt_psychometrics.new_items import PersonPosteriors
        >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [1, 1], "b": [0, 0]})
        >>> x = irt.Responses.from_wide({"q1": [1, 0], "q2": [1, 1]})
        >>> PersonPosteriors.from_responses(x, items).theta.round(2).tolist()[0]
        0.7
        """
        found = _measure(responses, require_items(items, "PersonPosteriors.from_responses"), mean, sd)
        return cls(np.tile(found.nodes, (responses.n_persons, 1)), found.posterior(np.arange(responses.n_persons)))

    @property
    def theta(self) -> Floats:
        """Posterior means, shape (P,)."""
        return (self.nodes * self.weights).sum(axis=1)


def theta_effects(responses: Responses, items: ItemSource, mean: float = 0.0, sd: float = 1.0) -> csr_matrix:
    """Compute the effects of errors of the published items' (a, b) on posterior means, for `estimate_new_items`.

    Parameters
    ----------
    responses
        Responses of P persons.
    items
        J published items; errors of different items are independent.
    mean, sd
        Mean and SD of the population.

    Returns
    -------
    sparse matrix of shape (P, 2J)
        Cov(θ, ∂ log P(x)/∂(a, b)) under the person's posterior, times a root of the item's covariance. J are the items
        of `responses`; items without errors have effects of 0.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.new_items import theta_effects
    >>> bank = irt.ItemParameters.from_frame({"item": ["q1"], "a": [1], "b": [0], "a_se": [0.1], "b_se": [0.1]})
    >>> theta_effects(irt.Responses.from_wide({"q1": [1, 0]}), bank).toarray().round(3).tolist()
    [[0.029, 0.017], [-0.029, 0.017]]
    """
    own = require_items(items, "theta_effects").among(responses.item_ids)
    found = _measure(responses, own, mean, sd)
    posterior = found.posterior(np.arange(responses.n_persons))
    off = posterior * (found.nodes - (posterior @ found.nodes)[:, None])
    tables, item_of_row = own.log_by_parameters(found.nodes), CountedScores.from_curves(own.curves).item_of_row
    of_item = csr_matrix((np.ones(item_of_row.size), (np.arange(item_of_row.size), item_of_row)))
    effects = [
        sum(seen.multiply(off @ table[:, k].T) for seen, table in zip((found.right, found.wrong), tables, strict=True))
        @ of_item
        for k in (0, 1)
    ]
    cov = np.nan_to_num(own.cov_of_each)
    values, vectors = np.linalg.eigh(cov)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None]
    return hstack(
        [effects[0] @ diags_array(root[:, 0, k]) + effects[1] @ diags_array(root[:, 1, k]) for k in (0, 1)], "csr"
    )


def _measure(responses: Responses, items: ItemParameters, mean: float, sd: float) -> RestPosterior:
    """Return the posteriors of all persons by the items, in the order of `responses.item_ids`."""
    x, own = responses, items.among(responses.item_ids)
    found = RestPosterior.from_answers(
        x.person, x.item, x.score, own.curves.known, own, mean=mean, sd=sd, categories=x.categories
    )
    for seen in (found.right, found.wrong):  # persons after the last one with a response
        seen.resize((x.n_persons, seen.shape[1]))
    return found
