"""Layout of a fit's parameters: free, shared and fixed ones, and their bounds. It uses no data and no likelihood."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.logistic import logit
from irt_psychometrics.core.model_families import LOGIT_C, ItemModel

COMMON_SLOPE_FLOOR = 0.01
"""Lower bound of a common slope. Below it the answers to different items are unrelated and difficulty has no unit. It
is also the lower bound of slopes under a prior that allows only positive slopes."""
LATENT_SD_BOUNDS = (0.1, 10.0)
"""Bounds of a latent SD: half the distance between two nodes, and an SD in logits that no test can measure."""
LATENT_MEAN_BOUND = 20.0
"""Bound of a latent mean's absolute value. A cohort this far from its anchors answers all of them alike."""


@dataclass(frozen=True)
class SharedColumns:
    """P parameters, some fixed and some shared: full = fixed + Z · x, with Z of zeros and ones.

    Attributes
    ----------
    column
        Shape (P,), column of Z of each parameter, −1 if it is fixed.
    n_columns
        Number of columns, C.
    """

    column: Ints
    n_columns: int

    def add_up(self, matrix: Floats) -> Floats:
        """Zᵀ M Z, shape (C, C), for M (P, P). The rows and columns of a shared parameter are added up."""
        known = self.column >= 0
        column, total = self.column[known], np.zeros((self.n_columns, self.n_columns))
        np.add.at(total, np.ix_(column, column), matrix[np.ix_(known, known)])
        return total

    def spread(self, matrix: Floats) -> Floats:
        """Z M Zᵀ, shape (P, P), for M (C, C); Z v, shape (P,), for a vector v (C,)."""
        known = self.column >= 0
        at = (self.column[known],) * matrix.ndim
        full = np.zeros((len(self.column),) * matrix.ndim)
        full[np.ix_(*(known,) * matrix.ndim)] = matrix[np.ix_(*at)]
        return full


@dataclass(frozen=True)
class Smoothing:
    """Penalties on the density f of a histogram, subtracted from the log-likelihood.

    Attributes
    ----------
    roughness
        Weight of ½∫ (d³ log f/dθ³)² dθ (Silverman 1982), which is 0 for every normal density.
    flatness
        Weight of ∫ max(d² log f/dθ² − bend, 0)³/6 dθ. With roughness alone, a tail with hardly any learners could rise
        again.
    bend
        Second derivative of log f for θ < 0 above which `flatness` penalises; −1 is the second derivative for
        N(mean, 1). For θ > 0 it is 0.
    """

    roughness: float
    flatness: float
    bend: float


SMOOTHING = Smoothing(roughness=0.03, flatness=1.0, bend=0.0)
"""The default penalties. Without penalties the best histogram is a handful of spikes (Laird 1978) that EM approaches
for thousands of cycles. The penalties do not grow with the number of learners, so their influence decreases."""
SMOOTHING_WITH_GUESSING = Smoothing(roughness=0.03, flatness=10.0, bend=-1.0)
"""The penalties under a model with c. Answers of learners at chance level do not show how low their θ is. A long lower
tail costs no roughness, because log f is nearly linear there, but it changes the SD to which all slopes are relative.
Lower tails that are longer than normal are therefore penalised. Upper tails are not: the answers of able learners show
their θ. Roughness has the weight of other models: more of it removes the skewness and the edges of θ, which biases
slopes. The values were chosen on months like those of `bench_origin_shape`. Fits that are compared with fits of other
models use `SMOOTHING`."""


@dataclass(frozen=True)
class ParameterLayout:
    """Map from the free parameters x to all F parameters.

    The order of the F parameters is a_1 … a_J, d_1 … d_J, (logit c_1 … logit c_J, or the other parameters in `names`,)
    then the latent means of the G groups, the latent log SDs, and the log weights of a histogram, group by group.

    Attributes
    ----------
    item_model, n_items, n_groups
        Model of the items, J and G.
    names
        Names of the K parameters of an item, with logit c if any item can be guessed.
    n_weights
        Number of log weights of a group's histogram; 0 for normal distributions.
    index
        Shape (F,), position of each parameter in x, −1 if it is fixed. Items with a common slope share a position.
    fixed
        Shape (F,), values of fixed parameters.
    positive_slopes
        Shape (J,), whether an item's slope stays above 0.
    smoothing
        Weights of a histogram's penalties.
    steps_of
        Shape (J,), number of each item's block, −1 without a block. The items of a block share the parameters of their
        scores. None if there are no blocks.
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
        """Lay out the parameters of a model.

        Parameters
        ----------
        of, n_items, n_groups
            Model of the items, J and G.
        given
            Curves of the items to hold, NaN for other items. All groups then have a free mean and SD. Otherwise all but
            the first have (the first group's SD is free in a Rasch model).
        histogram_nodes
            If above 0, each group has this many free weights instead of mean and SD.
        categories
            Shape (J,), number of categories of each item. None: 2.
        given_scores
            Shape (J, C), whether somebody got a score. None: all scores of an item.
        steps_of
            As in the class. If an item of a block is given, all items of the block have its steps.
        """
        J, G = n_items, n_groups
        anchored = given.known if given is not None else np.zeros(J, dtype=bool)
        categories = np.full(J, 2) if categories is None else categories
        names = of.parameter_names(int(categories.max(initial=2)))
        own, fixed_at = of.free(categories, given_scores) & ~anchored, of.fixed_values(categories, given_scores)
        if not of.has_parameter("c") and given is not None and np.any(given.c[anchored] > 0):
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
                values = [given.a, given.d, logit(given.c)]
            third = anchored if LOGIT_C in names else anchored & of.guessed(J)
            for k, (value, held) in enumerate(zip(values, (anchored, anchored, third), strict=True)):
                if held.any():
                    fixed[k * J : (k + 1) * J][held] = value[held]
            for some in given.others:
                further = fixed[2 * J : own.size].reshape(-1, J)[: len(some.further)]
                further[:, some.at] = some.further[: len(further)]
                for items in blocks:
                    further[:, items] = further[:, items[np.argmax(anchored[items])], None]
        steps = steps_of if blocks else None
        return cls(of, J, G, names, histogram_nodes, index, fixed, np.zeros(J, dtype=bool), SMOOTHING, steps)

    @property
    def K(self) -> int:  # noqa: N802
        """Number of parameters of an item."""
        return len(self.names)

    @property
    def guessing(self) -> bool:
        """Whether all items are logistic and any can be guessed. The third parameter of all items is then logit c."""
        return LOGIT_C in self.names and self.item_model.path == "logistic"

    @property
    def guessed(self) -> Mask:
        """Mask of the items whose third parameter is logit c, shape (J,)."""
        return np.ones(self.n_items, dtype=bool) if self.guessing else self.item_model.guessed(self.n_items)

    @property
    def n_curve(self) -> int:
        """Number of parameters of an item without logit c."""
        return self.K - self.guessing

    @property
    def n_scores(self) -> int:
        """Number of the parameters of an item's scores; 0 for models of two categories."""
        return self.n_curve - 2 if self.item_model.by_score else 0

    @property
    def size(self) -> int:
        return int(self.index.max()) + 1

    @property
    def n_slopes(self) -> int:
        """Number of free slopes. They are the first parameters of x."""
        return int(self.index[: self.n_items].max()) + 1

    @property
    def anchored(self) -> bool:
        """Whether items are held. They then fix origin, unit and direction of θ."""
        return bool((self.index[self.block(1)] < 0).any())

    @property
    def common_slopes(self) -> Mask:
        """Whether an item has the common free slope, shape (J,)."""
        return self.item_model.common_slopes(self.n_items) & (self.index[self.block(0)] >= 0)

    @property
    def common_place(self) -> int:
        """Position of the common slope in x."""
        return int(self.index[self.block(0)][self.common_slopes][0])

    @property
    def listed(self) -> Ints:
        """Positions among all F of the parameters in the information matrix.

        These are all parameters before the weights, except score parameters that are not free.
        """
        kept = np.ones(self.weights.start, dtype=bool)
        of_scores = slice(2 * self.n_items, (2 + self.n_scores) * self.n_items)
        kept[of_scores] = self.index[of_scores] >= 0
        return np.flatnonzero(kept)

    @cached_property
    def listed_at(self) -> Ints:
        """Positions of the items' parameters in `listed`, shape (K, J), −1 for parameters that are not listed."""
        found = np.full(self.weights.start, -1)
        found[self.listed] = np.arange(len(self.listed))
        return found[: self.means.start].reshape(self.K, -1)

    @cached_property
    def free(self) -> Ints:
        """Positions among all F of parameters that are not fixed."""
        return np.flatnonzero(self.index >= 0)

    @cached_property
    def places(self) -> Ints:
        """Position among all F of each free parameter, shape (size,). For a shared parameter it is the last one."""
        found, free = np.empty(self.size, dtype=np.int64), self.free
        found[self.index[free]] = free
        return found

    def block(self, k: int) -> slice:
        """Positions among all F of the items' k-th parameter: a (0), d (1), logit c or another parameter (2)."""
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
        """Number of free parameters without a histogram's weights. They are the first of x."""
        return int(self.index[: self.weights.start].max()) + 1

    def shared_columns(self, parameters: Ints, free: Mask) -> SharedColumns:
        """Columns of `parameters` (P,), given as positions among all F, in a matrix of the `free` parameters (size,) of
        x."""
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
        guessed = self.guessed
        if guessed.any():
            third = self.block(2)
            low[third][guessed], high[third][guessed] = self.item_model.bounds(LOGIT_C)
        low[self.block(0)] = floor
        low[self.means], high[self.means] = -LATENT_MEAN_BOUND, LATENT_MEAN_BOUND
        low[self.log_sds], high[self.log_sds] = np.log(LATENT_SD_BOUNDS)
        places = self.places
        return low[places], high[places]

    def expand(self, x: Floats) -> Floats:
        """All F parameters, shape (F,)."""
        return np.where(self.index >= 0, x[self.index], self.fixed)

    def gather(self, full: Floats) -> Floats:
        """Sum an (F,) array over the parameters that share a position in x, shape (size,)."""
        free = self.free
        return np.bincount(self.index[free], weights=full[free], minlength=self.size).astype(np.float64)

    def section_mask(self, free: Mask, section: slice) -> Mask:
        """Mask of the parameters of a section whose position in x is marked in `free`."""
        places = self.index[section]
        return (places >= 0) & free[places]

    def items_using(self, free: Mask) -> Mask:
        """Whether a parameter other than c of an item, or a mean or SD of θ, is marked in `free`, shape (J,)."""
        latent = self.section_mask(free, slice(self.means.start, self.log_sds.stop)).any()
        own = self.section_mask(free, slice(0, self.n_curve * self.n_items)).reshape(self.n_curve, -1)
        own[2:3, self.guessed] = False
        return np.any(own, axis=0) | latent

    def mirror(self, x: Floats) -> Floats:
        """The parameters that give the same distribution of answers if θ is replaced by −θ. Only valid if no slope is
        fixed."""
        full = self.expand(x)
        full[self.block(0)] *= -1
        full[self.means] *= -1
        full[self.weights] = full[self.weights].reshape(self.n_groups, -1)[:, ::-1].ravel()
        return full[self.places]
