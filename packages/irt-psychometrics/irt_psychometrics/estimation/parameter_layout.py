"""Which parameters of a fit are free, shared or fixed, and their bounds. No data and no likelihood here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.logistic import logit
from irt_psychometrics.core.model_families import LOGIT_C, ItemModel

COMMON_SLOPE_FLOOR = 0.01
"""A common slope stops here: below it the answers to different items are unrelated and difficulty has no unit. So do
slopes under a prior that knows only positive ones."""
LATENT_SD_BOUNDS = (0.1, 10.0)
"""A latent SD stops here: half the distance of two nodes, and a curve of logits no test can measure."""
LATENT_MEAN_BOUND = 20.0
"""A latent mean stops here: a cohort this far from its anchors answers all of them alike."""


@dataclass(frozen=True)
class SharedColumns:
    """Parameters of which some are fixed and some are one and the same: full = fixed + Z · x, Z of zeros and ones.

    Attributes:
        column: shape (P,), the place of each parameter among the columns of Z, −1 if it is fixed.
        n_columns: C.
    """

    column: Ints
    n_columns: int

    def add_up(self, matrix: Floats) -> Floats:
        """Zᵀ M Z, shape (C, C), of M (P, P): the rows and columns of the same parameter are added up."""
        known = self.column >= 0
        column, total = self.column[known], np.zeros((self.n_columns, self.n_columns))
        np.add.at(total, np.ix_(column, column), matrix[np.ix_(known, known)])
        return total

    def spread(self, matrix: Floats) -> Floats:
        """Z M Zᵀ, shape (P, P), of M (C, C); of a vector (C,), Z times it."""
        known = self.column >= 0
        at = (self.column[known],) * matrix.ndim
        full = np.zeros((len(self.column),) * matrix.ndim)
        full[np.ix_(*(known,) * matrix.ndim)] = matrix[np.ix_(*at)]
        return full


@dataclass(frozen=True)
class Smoothing:
    """Penalties on the density f of a histogram, against the log-likelihood.

    Attributes:
        roughness: weight of ½∫ (d³ log f/dθ³)² dθ (Silverman 1982), which is 0 for every normal density.
        flatness: weight of ∫ max(d² log f/dθ² − bend, 0)³/6 dθ. Where there are hardly any learners, roughness alone
            would let a tail turn up again.
        bend: least second derivative of log f that `flatness` penalises; −1 is that of N(mean, 1).
    """

    roughness: float
    flatness: float
    bend: float


SMOOTHING = Smoothing(roughness=0.03, flatness=1.0, bend=0.0)
"""Without penalties the best histogram is a handful of spikes (Laird 1978) that EM approaches for thousands of cycles.
They do not grow with the number of learners, who outweigh them more and more."""
SMOOTHING_WITH_GUESSING = Smoothing(roughness=0.5, flatness=5.0, bend=-1.0)
"""The penalties under a model with c. Learners at chance level say nothing of how far down they are, and a lower tail
longer than a normal one costs no roughness, as log f is nearly linear there; it would move the SD that all slopes are
relative to. Such tails are therefore penalised. Roughness alone would need a weight that removes the skewness and the
edges of θ as well, which moves slopes, too. Chosen on months like those of `bench_origin_shape`. Fits that are compared
with fits of other models have `SMOOTHING`."""


@dataclass(frozen=True)
class ParameterLayout:
    """How the free parameters x make up all F: a_1 … a_J, d_1 … d_J, (logit c_1 … logit c_J, or what else `names` has,)
    then for each of G groups the latent means, the latent log SDs, and the log weights of a histogram, group by group.

    `index` (F,) is the place of a parameter in x, −1 where it is fixed at `fixed` (F,). Items with one common slope
    have one place. `names` are those of the K parameters of an item, with logit c where any item can be guessed.
    `positive_slopes`: (J,), items whose slopes stay above 0. `smoothing`: the weights of a histogram's penalties.
    `steps_of` (J,): the number of the block that items have the
    parameters of their scores in common with, −1 of others; None where there are no blocks.
    """

    item_model: ItemModel
    n_items: int
    n_groups: int
    names: tuple[str, ...]
    n_weights: int
    index: Ints
    fixed: Floats
    positive_slopes: Mask
    smoothing: Smoothing
    steps_of: Ints | None = None

    @classmethod
    def from_model(
        cls,
        of: ItemModel,
        n_items: int,
        *,
        given: ItemCurves | None = None,
        n_groups: int = 1,
        histogram_nodes: int = 0,
        categories: Ints | None = None,
        given_scores: Mask | None = None,
        steps_of: Ints | None = None,
    ) -> Self:
        """`given`: curves of items to hold, none of others; all groups then have a free mean and SD, else all but the
        first (its SD is free in a Rasch model). `histogram_nodes`: above 0, each group has that many free weights
        instead of mean and SD. `categories`: (J,), of the items; None: 2. `given_scores`: (J, C), the scores that
        somebody got; None: all that an item has. `steps_of`: see the class; where an item of a block is given, all of
        the block have its steps."""
        J, G = n_items, n_groups
        anchored = given.known if given is not None else np.zeros(J, dtype=bool)
        categories = np.full(J, 2) if categories is None else categories
        names = of.parameter_names(int(categories.max(initial=2)))
        own, fixed_at = of.free(categories, given_scores) & ~anchored, of.fixed_at(categories, given_scores)
        if not of.guesses and given is not None and np.any(given.c[anchored] > 0):
            names, own = (*names, LOGIT_C), np.vstack([own, np.zeros(J, dtype=bool)])
            fixed_at = np.vstack([fixed_at, np.full(J, -np.inf)])
        blocks = [] if steps_of is None else [np.flatnonzero(steps_of == block) for block in range(steps_of.max() + 1)]
        for items in blocks:
            own[2:, items] &= not anchored[items].any()
        slopes, normal = own[0], histogram_nodes == 0
        means = np.full(G, normal) & (anchored.any() | (np.arange(G) > 0))
        log_sds = np.full(G, normal) & (anchored.any() | of.fixed_slopes | (np.arange(G) > 0))
        mask = np.concatenate([own.ravel(), means, log_sds, np.ones(G * histogram_nodes, dtype=bool)])
        together, places = [np.flatnonzero(slopes & of.common_slopes(J))], mask.copy()
        together += [k * J + items for items in blocks for k in range(2, len(own)) if own[k, items].all()]
        for shared in together:
            places[shared[1:]] = False
        index = np.where(mask, np.cumsum(places) - 1, -1)
        for shared in together:
            index[shared] = index[shared[:1]]
        fixed = np.zeros(len(mask))
        fixed[: own.size] = fixed_at.ravel()
        if given is not None:
            with np.errstate(divide="ignore"):
                values = [given.a, given.d, logit(given.c)][: 3 if LOGIT_C in names else 2]
            for k, value in enumerate(values):
                fixed[k * J : (k + 1) * J][anchored] = value[anchored]
            for some in given.others:
                further = fixed[2 * J : own.size].reshape(-1, J)[: len(some.further)]
                further[:, some.at] = some.further[: len(further)]
                for items in blocks:
                    further[:, items] = further[:, items[np.argmax(anchored[items])], None]
        steps = steps_of if blocks else None
        return cls(of, J, G, names, histogram_nodes, index, fixed, np.zeros(J, dtype=bool), SMOOTHING, steps)

    @property
    def K(self) -> int:  # noqa: N802
        """How many parameters an item has."""
        return len(self.names)

    @property
    def guessing(self) -> bool:
        """Whether any item can be guessed: then its third parameter is logit c."""
        return LOGIT_C in self.names

    @property
    def n_curve(self) -> int:
        """How many parameters an item has besides logit c."""
        return self.K - self.guessing

    @property
    def n_scores(self) -> int:
        """How many parameters of scores an item has in the partial credit family, 0 in others."""
        return self.n_curve - 2 if self.item_model.scores_suffice else 0

    @property
    def size(self) -> int:
        return int(self.index.max()) + 1

    @property
    def n_slopes(self) -> int:
        """Free slopes: they are the first parameters of x."""
        return int(self.index[: self.n_items].max()) + 1

    @property
    def anchored(self) -> bool:
        """Whether items are held, which then fix origin, unit and direction of θ."""
        return bool((self.index[self.block(1)] < 0).any())

    @property
    def common_slopes(self) -> Mask:
        """Shape (J,): the items that have one free slope in common."""
        return self.item_model.common_slopes(self.n_items) & (self.index[self.block(0)] >= 0)

    @property
    def common_place(self) -> int:
        """The place in x of that slope."""
        return int(self.index[self.block(0)][self.common_slopes][0])

    @property
    def listed(self) -> Ints:
        """The places among all F that there is an information of: all before the weights, but of the parameters of
        scores those that are free."""
        kept = np.ones(self.weights.start, dtype=bool)
        of_scores = slice(2 * self.n_items, (2 + self.n_scores) * self.n_items)
        kept[of_scores] = self.index[of_scores] >= 0
        return np.flatnonzero(kept)

    @cached_property
    def listed_at(self) -> Ints:
        """Shape (K, J): the places of an item's parameters in `listed`, −1 where they are not there."""
        found = np.full(self.weights.start, -1)
        found[self.listed] = np.arange(len(self.listed))
        return found[: self.means.start].reshape(self.K, -1)

    @cached_property
    def free(self) -> Ints:
        """The places among all F of parameters that are not fixed."""
        return np.flatnonzero(self.index >= 0)

    @cached_property
    def places(self) -> Ints:
        """Shape (size,): the place among all F of each free parameter, the last of those that share one in x."""
        found, free = np.empty(self.size, dtype=np.int64), self.free
        found[self.index[free]] = free
        return found

    def block(self, k: int) -> slice:
        """Positions of all items' k-th parameter among all: a (0), d (1), logit c or another (2)."""
        return slice(k * self.n_items, (k + 1) * self.n_items)

    @property
    def means(self) -> slice:
        return slice(self.K * self.n_items, self.K * self.n_items + self.n_groups)

    @property
    def log_sds(self) -> slice:
        return slice(self.means.stop, self.means.stop + self.n_groups)

    @property
    def weights(self) -> slice:
        return slice(self.log_sds.stop, len(self.index))

    @property
    def n_before_weights(self) -> int:
        """Free parameters but a histogram's weights: they are the first of x."""
        return int(self.index[: self.weights.start].max()) + 1

    def shared_columns(self, parameters: Ints, free: Mask) -> SharedColumns:
        """Columns of `parameters`, shape (P,), places among all F, in a matrix of the `free`, shape (size,)."""
        column = np.where(free, np.cumsum(free) - 1, -1)
        place = self.index[parameters]
        return SharedColumns(np.where(place >= 0, column[place], -1), int(free.sum()))

    @property
    def bounds(self) -> tuple[Floats, Floats]:
        held = self.positive_slopes | self.common_slopes
        floor = np.where(held, COMMON_SLOPE_FLOOR, self.item_model.bounds("a")[0])
        low, high = np.full(len(self.index), -np.inf), np.full(len(self.index), np.inf)
        for k, name in enumerate(self.names):
            low[self.block(k)], high[self.block(k)] = self.item_model.bounds(name)
        low[self.block(0)] = floor
        low[self.means], high[self.means] = -LATENT_MEAN_BOUND, LATENT_MEAN_BOUND
        low[self.log_sds], high[self.log_sds] = np.log(LATENT_SD_BOUNDS)
        places = self.places
        return low[places], high[places]

    def expand(self, x: Floats) -> Floats:
        """All F parameters, shape (F,)."""
        return np.where(self.index >= 0, x[self.index], self.fixed)

    def gather(self, full: Floats) -> Floats:
        """Sums an (F,) array over the parameters that share a place in x, shape (size,)."""
        free = self.free
        return np.bincount(self.index[free], weights=full[free], minlength=self.size).astype(np.float64)

    def marked(self, free: Mask, section: slice) -> Mask:
        """Which parameters of a section stand at a marked place of x."""
        places = self.index[section]
        return (places >= 0) & free[places]

    def items_using(self, free: Mask) -> Mask:
        """Shape (J,): items with a parameter other than c, or whose ability distribution, at a marked place of x."""
        latent = self.marked(free, slice(self.means.start, self.log_sds.stop)).any()
        own = self.marked(free, slice(0, self.n_curve * self.n_items)).reshape(self.n_curve, -1)
        return np.any(own, axis=0) | latent

    def mirrored(self, x: Floats) -> Floats:
        """The same distribution of answers with −θ for θ; only where no slope is fixed."""
        full = self.expand(x)
        full[self.block(0)] *= -1
        full[self.means] *= -1
        full[self.weights] = full[self.weights].reshape(self.n_groups, -1)[:, ::-1].ravel()
        return full[self.places]
