"""The marginal likelihood of one data set: its value, gradient and information at a parameter vector.

No optimiser and no judgement of items here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.special import logit

from irt_assets.psychometrics import kernels
from irt_assets.psychometrics.design import require_connected, seen_sets
from irt_assets.psychometrics.models import Flag, Floats, Model, Responses
from irt_assets.psychometrics.quadrature import Grid

Mask = npt.NDArray[np.bool_]

SLOPE_BOUND = 10.0
"""|a| stops here: a steeper curve rises from 0.1 to 0.9 between two or three of 61 nodes, which cannot resolve it."""
COMMON_SLOPE_FLOOR = 0.01
"""A common slope stops here: below it the answers to different items are unrelated and difficulty has no unit."""
LATENT_SD_BOUNDS = (0.1, 10.0)
"""The Rasch latent SD stops here: half the distance of two nodes, and a curve of logits no test can measure."""

_RESPONSES_PER_CHUNK = 100_000
_MAX_CHUNKS = 16
_INFORMATION_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Counts:
    n: npt.NDArray[np.int64]
    correct: npt.NDArray[np.int64]

    @classmethod
    def of(cls, responses: Responses) -> Counts:
        table = np.zeros((responses.n_items, 2), dtype=np.int64)
        kernels.count_scores(responses.item, responses.score, table)
        return cls(table.sum(axis=1), table[:, 1].copy())

    @property
    def estimable(self) -> Mask:
        return (self.correct > 0) & (self.correct < self.n)

    def flags(self, j: int | np.intp) -> list[Flag]:
        if self.n[j] == 0:
            return [Flag.NO_DATA]
        if self.correct[j] == self.n[j]:
            return [Flag.ALL_CORRECT]
        return [Flag.ALL_WRONG] if self.correct[j] == 0 else []


@dataclass(frozen=True)
class Data:
    """Responses in the layout of `kernels`: N persons sorted by the set of items they saw, correct items only."""

    item_ids: tuple[str, ...]
    n: npt.NDArray[np.int64]
    correct: npt.NDArray[np.int64]
    set_of: npt.NDArray[np.int64]
    set_start: npt.NDArray[np.int64]
    set_items: npt.NDArray[np.int32]
    right_start: npt.NDArray[np.int64]
    right_items: npt.NDArray[np.int32]

    @classmethod
    def of(cls, responses: Responses) -> Data:
        """Raises DisconnectedDesignError where the responses do not hang together."""
        sets = seen_sets(responses)
        require_connected(responses, sets)
        counts = Counts.of(responses)
        order = np.argsort(sets.of_person, kind="stable")
        order = order[np.searchsorted(sets.of_person[order], 0) :]
        right = np.empty(len(order), dtype=np.int64)
        kernels.count_right(order, sets.row_start, responses.score, right)
        right_start = np.concatenate(([0], np.cumsum(right)))
        right_items = np.empty(right_start[-1], dtype=np.int32)
        kernels.gather_right(order, sets.row_start, responses.item, responses.score, right_start, right_items)
        return cls(
            responses.item_ids,
            counts.n,
            counts.correct,
            sets.of_person[order],
            sets.start,
            sets.items,
            right_start,
            right_items,
        )

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_persons(self) -> int:
        return len(self.set_of)

    @property
    def layout(self) -> tuple[np.ndarray, ...]:
        """The arguments that describe the persons to a kernel."""
        return self.set_of, self.set_start, self.set_items, self.right_start, self.right_items

    @property
    def cost(self) -> npt.NDArray[np.int64]:
        """Shape (N,): work per person, in responses, with that of a posterior and of a change of set."""
        new_set = np.diff(self.set_of, prepend=-1) != 0
        return 30 + np.diff(self.right_start) + new_set * np.diff(self.set_start)[self.set_of] * 8


@dataclass(frozen=True)
class Structure:
    """How the free parameters x make up the 2J + 1 full ones: a_1 … a_J, d_1 … d_J, log latent SD.

    x holds the free slopes, then the J intercepts, then log σ where it is free. `slope_of`, shape (J,), is the index
    of the free slope an item uses, −1 for a slope fixed at 1.
    """

    slope_of: npt.NDArray[np.int64]
    n_slopes: int
    free_sd: bool
    slope_bounds: tuple[float, float]

    @classmethod
    def of(cls, model: Model, n_items: int) -> Structure:
        if model == "2pl":
            return cls(np.arange(n_items), n_items, False, (-SLOPE_BOUND, SLOPE_BOUND))
        if model == "1pl":
            return cls(np.zeros(n_items, dtype=np.int64), 1, False, (COMMON_SLOPE_FLOOR, SLOPE_BOUND))
        return cls(np.full(n_items, -1), 0, True, (1.0, 1.0))

    @property
    def n_items(self) -> int:
        return len(self.slope_of)

    @property
    def size(self) -> int:
        return self.n_slopes + self.n_items + self.free_sd

    @cached_property
    def matrix(self) -> csr_array:
        """Shape (2J + 1, size), full = fixed + matrix · x."""
        J = self.n_items
        slopes = np.flatnonzero(self.slope_of >= 0)
        rows = np.concatenate([slopes, J + np.arange(J + self.free_sd)])
        columns = np.concatenate([self.slope_of[slopes], self.n_slopes + np.arange(J + self.free_sd)])
        return csr_array((np.ones(len(rows)), (rows, columns)), shape=(2 * J + 1, self.size))

    @cached_property
    def bounds(self) -> tuple[Floats, Floats]:
        lower, upper = np.full(self.size, -np.inf), np.full(self.size, np.inf)
        lower[: self.n_slopes], upper[: self.n_slopes] = self.slope_bounds
        if self.free_sd:
            lower[-1], upper[-1] = np.log(LATENT_SD_BOUNDS)
        return lower, upper

    def unpack(self, x: Floats) -> tuple[Floats, Floats, float]:
        """(a, d, σ) with a and d of shape (J,)."""
        full = self.matrix @ x
        J = self.n_items
        return np.where(self.slope_of >= 0, full[:J], 1.0), full[J : 2 * J], float(np.exp(full[-1]))

    def items_using(self, free: Mask) -> Mask:
        """Shape (J,): items whose curve or ability distribution depends on any of the marked free parameters."""
        full = self.matrix @ free.astype(float)
        return (full[: self.n_items] > 0) | (full[self.n_items : -1] > 0) | (full[-1] > 0)

    def gather_slopes(self, per_item: Floats) -> Floats:
        """Sums a (J,) array over the items of each free slope, shape (n_slopes,)."""
        free = self.slope_of >= 0
        return np.bincount(self.slope_of[free], weights=per_item[free], minlength=self.n_slopes).astype(np.float64)


@dataclass(frozen=True)
class Point:
    """A parameter vector with all that one E-step says about it.

    `aa`, `ad`, `dd` (J,) are the 2 × 2 blocks of the complete-data information, `latent` that of log σ (expected).
    """

    x: Floats
    a: Floats
    d: Floats
    sd: float
    loglik: float
    gradient: Floats
    aa: Floats
    ad: Floats
    dd: Floats
    latent: float


class Problem:
    """The marginal likelihood of one data set under one structure and grid."""

    def __init__(self, data: Data, structure: Structure, grid: Grid, run: kernels.Run) -> None:
        self.data, self.structure, self.grid, self._run = data, structure, grid, run
        pieces = min(_MAX_CHUNKS, 1 + int(data.cost.sum()) // _RESPONSES_PER_CHUNK)
        self._chunks = kernels.cut(data.cost, pieces)

    def start(self) -> Floats:
        """Slopes of 1, latent SD 1, and intercepts that give each item its proportion correct in the population."""
        spread = 1.16  # a logistic curve with a = 1 over θ ~ N(0, 1) is flatter by about √(1 + 1/1.7²)
        x = np.zeros(self.structure.size)
        x[: self.structure.n_slopes] = 1.0
        intercepts = slice(self.structure.n_slopes, self.structure.n_slopes + self.structure.n_items)
        x[intercepts] = spread * logit(self.data.correct / self.data.n)
        return x

    def evaluate(self, x: Floats) -> Point:
        """One E-step over all persons."""
        a, d, sd = self.structure.unpack(x)
        theta = self.grid.nodes
        log_weights = self.grid.log_weights(sd=sd)
        softplus, p = _tables(a, d, theta)

        def expect(first: int, last: int) -> tuple[float, Floats, Floats, Floats]:
            seen, theta_right, mass = np.zeros_like(p), np.zeros_like(a), np.zeros_like(theta)
            loglik = kernels.expected_counts(
                first, last, *self.data.layout, a, softplus, theta, log_weights, seen, theta_right, mass
            )
            return loglik, seen, theta_right, mass

        parts = self._run(expect, self._chunks)
        loglik = float(d @ self.data.correct) + sum(part[0] for part in parts)
        seen, theta_right, mass = (sum(part[k] for part in parts) for k in (1, 2, 3))
        expected = seen * p
        weight = expected * (1.0 - p)
        t, t_mean, t_variance = _latent_moments(theta, log_weights, sd)
        full_gradient = np.concatenate(
            [
                theta_right - expected @ theta,
                self.data.correct - expected.sum(axis=1),
                [mass @ (t - t_mean)],
            ]
        )
        return Point(
            x,
            a,
            d,
            sd,
            loglik,
            self.structure.matrix.T @ full_gradient,
            weight @ theta**2,
            weight @ theta,
            weight.sum(axis=1),
            self.data.n_persons * t_variance,
        )

    def observed_information(self, point: Point) -> Floats:
        """Minus the Hessian of the marginal log-likelihood in the full parameters, (2J + 1, 2J + 1), Louis (1982)."""
        J, theta = self.data.n_items, self.grid.nodes
        log_weights = self.grid.log_weights(sd=point.sd)
        softplus, p = _tables(point.a, point.d, theta)
        t, t_mean, _ = _latent_moments(theta, log_weights, point.sd)
        size = 2 * J + 1

        def lost(first: int, last: int) -> Floats:
            out = np.zeros((size, size))
            kernels.missing_information(
                first, last, *self.data.layout, point.a, softplus, p, theta, log_weights, t - t_mean, out
            )
            return out

        affordable = max(1, _INFORMATION_BYTES // (8 * size * size))
        parts = self._run(lost, kernels.cut(self.data.cost, min(len(self._chunks), affordable)))
        half = parts.pop()
        while parts:
            half += parts.pop()
        information = -half
        information -= half.T
        items = np.arange(J)
        information[items, items] += point.aa
        information[items, J + items] += point.ad
        information[J + items, items] += point.ad
        information[J + items, J + items] += point.dd
        information[-1, -1] += point.latent
        return information

    def observed_blocks(self, point: Point) -> Floats:
        """Shape (J, 3): each item's own block of `observed_information`, as slope, slope-intercept, intercept."""
        theta = self.grid.nodes
        softplus, p = _tables(point.a, point.d, theta)
        log_weights = self.grid.log_weights(sd=point.sd)

        def lost(first: int, last: int) -> Floats:
            out = np.zeros((self.data.n_items, 3))
            kernels.missing_blocks(first, last, *self.data.layout, point.a, softplus, p, theta, log_weights, out)
            return out

        complete = np.stack([point.aa, point.ad, point.dd], axis=1)
        return complete - sum(self._run(lost, self._chunks))

    def precondition(self, point: Point, gradient: Floats, frozen: Mask) -> Floats:
        """complete-data information⁻¹ · gradient with the frozen slopes held: the EM gradient step."""
        S, J = self.structure.n_slopes, self.structure.n_items
        step = np.zeros_like(gradient)
        g_d = gradient[S : S + J]
        ratio = point.ad / point.dd
        if S:
            schur = self.structure.gather_slopes(point.aa - point.ad * ratio)
            reduced = gradient[:S] - self.structure.gather_slopes(ratio * g_d)
            step[:S] = np.where(frozen[:S], 0.0, reduced / schur)
        d_a = np.where(self.structure.slope_of >= 0, (self.structure.matrix @ step)[:J], 0.0)
        step[S : S + J] = g_d / point.dd - ratio * d_a
        if self.structure.free_sd and not frozen[-1]:
            step[-1] = gradient[-1] / point.latent
        return step

    def information_scale(self, point: Point) -> Floats:
        """Shape (size,): root of the diagonal of the complete-data information of the free parameters."""
        parts = [self.structure.gather_slopes(point.aa), point.dd]
        if self.structure.free_sd:
            parts.append(np.array([point.latent]))
        return np.sqrt(np.concatenate(parts))


def _tables(a: Floats, d: Floats, theta: Floats) -> tuple[Floats, Floats]:
    softplus, p = np.empty((len(a), len(theta))), np.empty((len(a), len(theta)))
    kernels.logistic_table(a, d, theta, softplus, p)
    return softplus, p


def _latent_moments(theta: Floats, log_weights: Floats, sd: float) -> tuple[Floats, float, float]:
    """t = θ²/σ² at the nodes with its mean and variance under the weights: ∂ log w/∂ log σ is t − E t."""
    t = (theta / sd) ** 2
    weights = np.exp(log_weights)
    mean = float(weights @ t)
    return t, mean, float(weights @ (t - mean) ** 2)
