"""Changes of single categories of scored items: P(X ≥ k | θ), compared between two sets of parameters on one scale.

Drift and DIF share this module. Callers put both sets on one scale and provide the errors; an item's change as a whole
is theirs, too.

Let P be P(X ≥ k | θ) for a score k of an item, and g the distribution of the learners. The answers determine

    T = ∫ (P_new − P_old) g dθ,    Cov T = H Cov(x) Hᵀ,

well for every k, whatever the model, where x are the item's parameters on both sides and H are the derivatives of T. A
test of a step of a partial credit item would use only the answers with two neighbouring scores. T is shown as a shift
of the curve along θ, −T/∫ ∂P/∂θ g dθ: above 0, the score k or more is harder to reach. If one step of a partial credit
item or one threshold of a graded item moves by δ, the log odds of X ≥ k change by −aδ, and the other curves of the item
hardly move or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import ndtr

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.curves import MEDIUM_WABC
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import q_values

MIN_ANSWERS = 10
"""A category with fewer answers is merged with a neighbouring one for the test: with fewer, the estimates are too far
from normal."""
_FALSE_DISCOVERIES = 0.05


@dataclass(frozen=True)
class _AtLeast:
    """Curves P(X ≥ k) of J items with scores k below C; 0 for items of two categories.

    Attributes:
        p: shape (J, C, Q).
        by_parameters: derivatives of ∫ P g dθ with respect to a, d and the further parameters, shape (J, C, P).
        slope: ∫ ∂P/∂θ g dθ, shape (J, C).
        has: whether an item has the score k, shape (J, C).
    """

    p: Floats
    by_parameters: Floats
    slope: Floats
    has: Mask

    @classmethod
    def from_items(cls, items: ItemCurves, theta: Floats, weights: Floats, shape: tuple[int, int, int]) -> Self:
        """Compute the curves at nodes `theta` (Q,), to which g gives the `weights`; `shape` is (J, C, P)."""
        found = cls(
            np.zeros((*shape[:2], theta.size)), np.zeros(shape), np.zeros(shape[:2]), np.zeros(shape[:2], dtype=bool)
        )
        for some in items.others:
            own = theta, some.parameters(items.a, items.d), some.categories
            has = some.model.compared_scores(some.further, some.categories)
            scores = np.arange(has.shape[1])
            of_scores, at = some.model.probabilities(*own)[:, :, scores], (some.at[:, None], scores)
            by_theta = of_scores * some.model.by_theta(*own)[:, :, scores]
            by = of_scores * some.model.by_parameters(*own)[:, :, :, scores]
            found.has[at] = has
            found.p[at] = _sum_from_above(of_scores).swapaxes(1, 2)
            found.slope[at] = _sum_from_above(np.einsum("q,jqk->jk", weights, by_theta))
            found.by_parameters[*at, : len(by)] = _sum_from_above(np.einsum("q,xjqk->xjk", weights, by)).transpose(
                1, 2, 0
            )
        return found


def _sum_from_above(of_scores: Floats) -> Floats:
    """Sum over the scores k and above, the last dimension."""
    return np.cumsum(of_scores[..., ::-1], axis=-1)[..., ::-1]


@dataclass(frozen=True)
class CategoryChanges:
    """Changes of R categories, each a score k of an item with more than two scores: P(X ≥ k) on two sides.

    Attributes
    ----------
    item, score
        Shape (R,), the place of the item, and k.
    shift, se
        Shape (R,), shift of the curve in θ and its standard error; above 0, k or more is harder to reach on the new
        side.
    p, q
        Shape (R,), two-sided p-value of the hypothesis "no shift", and q value by Benjamini & Hochberg (1995) over all
        categories that are tested together.
    wabc
        Shape (R,), ∫ |P_new − P_old| over the learners (Edelen, Stucky & Chandra 2015).

    Examples
    --------
    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> essay = {"item": ["essay"], "model": ["grm"], "a": [1.5], "b1": [-1.0], "b3": [1.0]}
    >>> old, new = (irt.ItemParameters.from_frame(essay | {"b2": [b]}).curves for b in (0.0, 0.5))
    >>> errors = 0.01 * np.eye(2 * 6).reshape(1, 2, 6, 2, 6)
    >>> counts = np.full((1, 1, 4), 500)
    >>> found = CategoryChanges.compare(new, old, errors, np.linspace(-6, 6, 61), counts)
    >>> found.score[found.named].tolist(), found.shift.round(1).tolist()
    ([2], [0.0, 0.5, 0.0])
    """

    item: Ints
    score: Ints
    shift: Floats
    se: Floats
    p: Floats
    q: Floats
    wabc: Floats

    @classmethod
    def compare(cls, new: ItemCurves, old: ItemCurves, cov: Floats, theta: Floats, counts: Ints) -> Self:
        """Compare the categories of J items at the scores that both sides have.

        Parameters
        ----------
        new, old
            The items on both sides.
        cov
            Shape (J, 2, P, 2, P), covariance of the new and the old a, d and further parameters of an item.
        theta
            Shape (Q,), nodes of `Grid.symmetric`, moved to the learners' distribution.
        counts
            Shape (S, J, C), number of answers with each score in each of S samples. Neighbouring categories are merged
            until each has ten answers in each sample. Items without counts are not compared.

        Returns
        -------
        CategoryChanges
            The categories that are tested.
        """
        weights = np.exp(Grid.symmetric().log_weights())
        n_scores = max(counts.shape[2], *new.categories, *old.categories)
        shape = len(new.a), n_scores, cov.shape[4]
        now, then = (_AtLeast.from_items(side, theta, weights, shape) for side in (new, old))
        tested = now.has & then.has
        for j in np.flatnonzero(tested.any(axis=1)):
            scores = np.flatnonzero(tested[j])
            scores[0] = 0  # its category contains lower scores that one side lacks
            tested[j] = False
            tested[j, scores[separate_categories(np.add.reduceat(counts[:, j], scores, axis=1))]] = True
        item, score = np.nonzero(tested)
        gap = (now.p - then.p)[tested]
        by = np.stack([now.by_parameters[tested], -then.by_parameters[tested]], axis=1)
        se = np.sqrt(np.maximum(np.einsum("rsx,rsxty,rty->r", by, cov[item], by), 0.0))
        slope = (now.slope + then.slope)[tested] / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            p = np.nan_to_num(2 * ndtr(-np.abs(gap @ weights) / se), nan=1.0)
            shift, shift_se = -gap @ weights / slope, se / np.abs(slope)
        return cls(item, score, shift, shift_se, p, q_values(p), np.abs(gap) @ weights)

    @property
    def named(self) -> Mask:
        """Mask of the categories that changed significantly and by more than a small amount, shape (R,)."""
        return (self.q < _FALSE_DISCOVERIES) & (self.wabc > MEDIUM_WABC)

    def of_item(self, j: int) -> Self:
        """Select the categories of the item at the place `j`."""
        return self.select(self.item == j)

    def named_scores(self, n_items: int) -> list[str]:
        """List the scores of the named categories of each of `n_items` items, such as "2, 3", or ""."""
        found = [self.score[self.named & (self.item == j)].tolist() for j in range(n_items)]
        return [", ".join(map(str, scores)) for scores in found]

    def select(self, keep: Mask) -> Self:
        """Select some of the R categories."""
        return replace(self, **{name: values[keep] for name, values in vars(self).items()})

    def then(self, other: Self) -> Self:
        """Append the categories of `other`; q is left as it is."""
        return replace(self, **{name: np.concatenate([one, getattr(other, name)]) for name, one in vars(self).items()})


def with_common_q(changes: Sequence[CategoryChanges]) -> list[CategoryChanges]:
    """Replace q by q over the categories of all `changes` together."""
    ends = np.cumsum([one.p.size for one in changes])
    parts = np.split(q_values(np.concatenate([np.zeros(0), *(one.p for one in changes)])), ends)
    return [replace(one, q=q) for one, q in zip(changes, parts, strict=False)]


def score_counts(responses: Responses, rows: Mask | None = None) -> Ints:
    """Count the answers with each score, shape (J, C); `rows` (R,) restricts the count to some answers."""
    counts = np.zeros((responses.n_items, int(responses.n_categories.max(initial=2))), dtype=np.int64)
    kept = slice(None) if rows is None else rows
    np.add.at(counts, (responses.item[kept], responses.score[kept]), 1)
    return counts


def separate_categories(counts: Ints) -> list[int]:
    """List the categories that begin a new one, above the lowest, after neighbouring categories are merged.

    `counts` (S, C) are the answers in each category in each of S samples. The smallest category is merged with the
    smaller of its neighbours until each has `MIN_ANSWERS` answers in each sample.
    """
    first, sizes = list(range(counts.shape[1])), counts
    while len(first) > 1 and (least := sizes.min(axis=0)).min() < MIN_ANSWERS:
        k = int(least.argmin())
        low = k - 1 if k and (k == len(first) - 1 or least[k - 1] <= least[k + 1]) else k
        sizes = np.column_stack([sizes[:, :low], sizes[:, low : low + 2].sum(axis=1), sizes[:, low + 2 :]])
        del first[low + 1]
    return first[1:]
