"""Draws of a latent regression's parameters and of the items by which it was estimated, from their errors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.moved_items import add_to_further
from irt_psychometrics.scoring.form_scores import covariance_of_forms


@dataclass(frozen=True)
class ParameterDraws:
    """The joint normal distribution of regression and item parameters.

    Attributes
    ----------
    estimates, cov
        Shape (K + G,) and (K + G, K + G), coefficients and residual SDs, and their covariance with the items held.
    n_coefficients
        K.
    items
        J items with their covariances.
    by_items
        Shape (K + G, J, 2 + M), derivatives of the estimates by the items' a, b and further parameters. None: the items
        are held, because their errors are not known.
    """

    estimates: Floats
    cov: Floats
    n_coefficients: int
    items: ItemParameters
    by_items: Floats | None

    def draw(self, rng: np.random.Generator) -> tuple[Floats, ItemCurves]:
        """Draw the regression's parameters, shape (K + G,), and the curves of the items.

        Items move in (a, d) and residual SDs in log σ, in which their estimates are closer to normal.
        """
        K, items, curves = self.n_coefficients, self.items, self.items.curves
        by = root_of(self.cov) @ rng.standard_normal(len(self.estimates))
        if self.by_items is not None:
            root = self._item_root
            moved = (root @ rng.standard_normal((*root.shape[:2], 1))).reshape(len(items.a), -1)
            by = by + np.einsum("xjp,jp->x", self.by_items, moved)
            c, others = add_to_further(items, moved)
            by_d = -items.a * moved[:, 1] - items.b * moved[:, 0]
            curves = ItemCurves(items.a + moved[:, 0], items.d + by_d, c, others)
        sds = self.estimates[K:]
        return np.concatenate([self.estimates[:K] + by[:K], sds * np.exp(by[K:] / sds)]), curves

    @cached_property
    def _item_root(self) -> Floats:
        """A root of each item's covariance; if covariances between items are known, of the joint one, shape (1, …)."""
        items = self.items
        return root_of(items.cov_of_all if items.cov.shape[1] == 2 else covariance_of_forms([items])[None])


def root_of(cov: Floats) -> Floats:
    """Compute the symmetric root of covariances, shape (…, n, n); eigenvalues below 0 count as 0.

    Unlike other roots, it hardly changes if the covariances hardly change, so that draws are reproducible.
    """
    values, vectors = np.linalg.eigh(cov)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]) @ vectors.swapaxes(-1, -2)
    return root
