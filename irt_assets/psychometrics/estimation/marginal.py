"""The marginal likelihood of one data set: its value, gradient and information at a parameter vector.

No optimiser and no judgement of items here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import block_diag, cho_factor, cho_solve
from scipy.special import expit, logit

from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.models import Calibration, Floats, Responses
from irt_assets.psychometrics.core.options import Model
from irt_assets.psychometrics.core.priors import ItemTerms, Priors, item_terms
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.estimation.likelihood import (
    Expectation,
    Guessing,
    Logistic,
    missing_information,
    missing_information_blocks,
    products_of_posteriors,
    products_of_tilts,
    score_products,
    shared_with_nodes,
)
from irt_assets.psychometrics.estimation.parameter_layout import GUESSING_BOUNDS, Fixed, Mask, ParameterLayout
from irt_assets.psychometrics.estimation.response_layout import ResponseLayout

_RESPONSES_PER_CHUNK = 100_000
_MAX_CHUNKS = 16
_START_GUESSING = 0.15
_MIDDLE = 0.4
"""A c above it leaves nothing to match around a proportion of one half."""
ROUGHNESS = 0.03
"""Weight of ½∫ (d³ log f/dθ³)² dθ of a histogram's density f (Silverman 1982) against the log-likelihood.

Without it the best histogram is a handful of spikes (Laird 1978) that EM approaches for thousands of cycles. A normal
density costs nothing; what others cost does not grow with the learners, who outweigh it more and more as their number
grows.
"""
UPTURN = 1.0
"""Weight of ∫ max(d² log f/dθ², 0)³/6 dθ: where there are hardly any learners, roughness alone would let a tail turn up
again."""
TILT = 1e-3
"""A step for finite differences: the relative error of a second derivative is one in a million."""
_RIDGE = 1e-9  # relative; a 3PL item's own information is nearly singular without guessing


@dataclass(frozen=True)
class Point:
    """A parameter vector with all that one E-step says about it.

    Attributes:
        x: the free parameters; a, d, logit_c (J,), means, sds (G,), log_weights (G, Q) of the latent distributions.
        objective: the marginal log-likelihood plus the log density of the priors; `gradient` is its gradient in x.
        information: (J, K, K), complete-data information expected over answers, plus the priors' curvature.
        expected: what the E-step says of the items.
        latent: (G, 2, 2), information of a group's mean and log SD.
        at_nodes: (G, Q), expected number of persons of each group at each node.
        association (J,), seen and right (J, Q): as in `Expectation`.
    """

    x: Floats
    a: Floats
    d: Floats
    logit_c: Floats
    means: Floats
    sds: Floats
    log_weights: Floats
    loglik: float
    objective: float
    gradient: Floats
    information: Floats
    expected: Expectation
    latent: Floats
    at_nodes: Floats
    association: Floats
    seen: Floats
    right: Floats

    @property
    def mass(self) -> Floats:
        """Shape (G,): persons per group."""
        return self.at_nodes.sum(axis=1)


class Problem:
    """The marginal likelihood of one data set under one structure, grid and set of priors."""

    def __init__(
        self,
        data: ResponseLayout,
        structure: ParameterLayout,
        grid: Grid,
        run: kernels.Run,
        priors: Priors | None = None,
    ) -> None:
        self.data, self.structure, self.grid, self.priors = data, structure, grid, priors or Priors()
        self.run = run
        pieces = min(_MAX_CHUNKS, 1 + int(data.cost.sum()) // _RESPONSES_PER_CHUNK)
        self._chunks = kernels.cut(data.cost, pieces)
        self.prior_share = np.zeros((data.n_items, 3))
        for k in range(structure.K):
            self.prior_share[:, k] = structure.index[structure.block(k)] >= 0
        self.prior_share[:, 1] = self.prior_share[:, 1] > 0
        if self.priors.only is not None:
            self.prior_share[:, :2] *= self.priors.slopes_held(data.item_ids)[:, None]
        third = np.diff(np.eye(len(grid.nodes)), 3, axis=0)
        step = grid.nodes[1] - grid.nodes[0]
        self.roughness = ROUGHNESS / step**5 * third.T @ third
        self._second = np.diff(np.eye(len(grid.nodes)), 2, axis=0) / step**2
        self._upturn = UPTURN * step
        if structure.common_slope:
            self.prior_share[:, 0] /= self.prior_share[:, 0].sum()

    def start(self, begun: Calibration | None = None) -> Floats:
        """Slopes of 1, latent distributions N(0, 1), c at its prior's mode, and intercepts that give each item its
        proportion correct in the population; or the curves of a fit `begun` of the same items with one normal
        distribution, as near as the model comes where an item is answered half the time."""
        spread = 1.16  # a logistic curve with a = 1 over θ ~ N(0, 1) is flatter by about √(1 + 1/1.7²)
        s = self.structure
        full = np.zeros(len(s.index))
        full[s.block(0)] = 1.0
        p = np.clip(self.data.correct / np.maximum(self.data.n, 1), 1e-6, 1 - 1e-6)
        if s.K == 3:
            mode = float(logit(_START_GUESSING)) if self.priors.c is None else self.priors.c.mode
            full[s.block(2)] = mode
            c = np.where(s.index[s.block(2)] >= 0, 1 / (1 + np.exp(-mode)), 0.0)
            p = np.clip((p - c) / (1 - c), 0.05, 1 - 1e-6) if s.model == "3pl" else p
        full[s.block(1)] = spread * logit(p)
        full[s.weights] = np.tile(self.grid.log_weights(), s.n_groups)[: s.n_groups * s.n_weights]
        if begun is not None:
            self._begin_at(begun, full)
        x = np.empty(s.size)
        x[s.index[s.free]] = full[s.free]
        return x

    def _begin_at(self, begun: Calibration, full: Floats) -> None:
        s, J = self.structure, self.structure.n_items
        if s.model == "rasch":
            full[s.log_sds] = np.log(begun.latent_sd)
            unit = begun
        else:
            unit = begun.rescaled(1 / begun.latent_sd, -begun.latent_mean / begun.latent_sd)
        known = unit.estimated
        before = np.minimum(unit.c, _MIDDLE)
        c = np.zeros(J)
        if s.model == "3pl":
            full[s.block(2)][known] = logit(before[known]) if unit.model == "3pl" else full[s.block(2)][known]
            c = np.minimum(expit(full[s.block(2)]), _MIDDLE)
        steeper = (0.5 - before) / (1 - before) * (1 - c) / (0.5 - c)
        a, d = steeper * unit.a, steeper * (unit.d - logit((0.5 - before) / (1 - before))) + logit((0.5 - c) / (1 - c))
        if s.model in ("rasch", "1pl"):
            common = a[known].mean() if s.common_slope else 1.0
            d *= np.sqrt((1 + (common / 1.7) ** 2) / (1 + (a / 1.7) ** 2))
            a = np.full(J, common)
        full[s.block(0)][known], full[s.block(1)][known] = a[known], d[known]

    def curves(self, point_or_full: Floats) -> Logistic | Guessing:
        """The items' curves at all F parameters."""
        s, full, theta = self.structure, point_or_full, self.grid.nodes
        a, d = full[s.block(0)], full[s.block(1)]
        return Logistic(self.data, theta, a, d) if s.K == 2 else Guessing(self.data, theta, a, d, full[s.block(2)])

    def evaluate(self, x: Floats) -> Point:
        """One E-step over all persons."""
        s = self.structure
        full = s.expand(x)
        means, sds = full[s.means], np.exp(full[s.log_sds])
        log_weights = self._log_weights(full)
        found = self.curves(full).expect(self.run, self._chunks, log_weights)
        persons = found.mass.sum(axis=1)
        scores = self._latent_scores(means, sds, log_weights)
        latent_gradient = np.einsum("mgq,gq->mg", scores, found.mass)
        spread = np.einsum("mgq,ngq,gq->gmn", scores, scores, np.exp(log_weights)) * persons[:, None, None]
        roughness, weight_gradient = self._weight_terms(log_weights, found.mass)
        terms = self._prior_terms(full)
        full_gradient = np.concatenate(
            [(found.gradient + terms.gradient).ravel(), latent_gradient.ravel(), weight_gradient.ravel()]
        )
        return Point(
            x,
            full[s.block(0)],
            full[s.block(1)],
            full[s.block(2)] if s.K == 3 else np.full(s.n_items, -np.inf),
            means,
            sds,
            log_weights,
            found.loglik,
            found.loglik + float(terms.value.sum()) - roughness,
            s.gather(full_gradient),
            found.information + terms.curvature,
            found,
            spread,
            found.mass,
            found.association,
            found.seen,
            found.right,
        )

    def _prior_terms(self, full: Floats) -> ItemTerms:
        s = self.structure
        logit_c = full[s.block(2)] if s.K == 3 else np.zeros(s.n_items)
        return item_terms(self.priors, full[s.block(0)], full[s.block(1)], logit_c, self.prior_share, s.K)

    def _weight_terms(self, log_weights: Floats, mass: Floats) -> tuple[float, Floats]:
        """What histograms cost, and the gradient (G, Q) of the log-likelihood less this in their log weights.

        The cost is their roughness and, as nothing else distinguishes a wider histogram from flatter slopes, the
        distance of the reference group's mean and variance from 0 and 1; not under anchors, and under Rasch that of the
        mean.
        """
        if not self.structure.n_weights:
            return 0.0, np.zeros(0)
        persons = mass.sum(axis=1)
        costs = [self._cost_of_weights(log_weights[g], persons[g], g) for g in range(len(mass))]
        slopes = np.stack([slope for _, slope in costs])
        return sum(cost for cost, _ in costs), mass - persons[:, None] * np.exp(log_weights) - slopes

    def _cost_of_weights(self, log_weights: Floats, persons: float, group: int) -> tuple[float, Floats]:
        """What the histogram of a group costs, and its derivatives (Q,) by the log weights (Q,)."""
        bent, upward = self.roughness @ log_weights, np.maximum(self._second @ log_weights, 0.0)
        cost = float(0.5 * (log_weights @ bent) + self._upturn / 6 * (upward**3).sum())
        slope = bent + 0.5 * self._upturn * upward**2 @ self._second
        for off, by_weights in self._pins(np.exp(log_weights), persons) if group == 0 else []:
            cost += 0.5 * off**2
            slope = slope + off * by_weights
        return cost, slope

    def look_at_weights(self, log_weights: Floats, at_nodes: Floats, group: int) -> tuple[float, Floats]:
        """What the expected persons at the nodes (Q,) say of a group's log weights (Q,), whose weights sum to 1, less
        what these cost; and its derivatives (Q,)."""
        cost, slope = self._cost_of_weights(log_weights, at_nodes.sum(), group)
        return float(at_nodes @ log_weights) - cost, at_nodes - at_nodes.sum() * np.exp(log_weights) - slope

    def complete_information_of_weights(self, log_weights: Floats, persons: float, group: int) -> Floats:
        """Shape (Q, Q): of a group's log weights where abilities are known; a change of all of them together, which
        changes nothing, is held."""
        return np.diag(persons * np.exp(log_weights)) + self._bent_cost(log_weights, persons, group)

    def _pins(self, weights: Floats, persons: float) -> list[tuple[float, Floats]]:
        """What keeps the reference group's mean and variance at 0 and 1: terms whose squares cost half of themselves,
        with their derivatives (Q,) by its log weights."""
        s, nodes = self.structure, self.grid.nodes
        if s.anchored:
            return []
        mean = float(weights @ nodes)
        unit = np.sqrt(persons)
        pins = [(unit * mean, unit * weights * (nodes - mean))]
        if s.model != "rasch":
            variance = float(weights @ (nodes - mean) ** 2)
            unit = np.sqrt(0.5 * persons)
            pins.append((unit * (variance - 1), unit * weights * ((nodes - mean) ** 2 - variance)))
        return pins

    def _bends_of_pins(self, weights: Floats, persons: float) -> Floats:
        """Shape (Q, Q): the pins' second derivatives by the log weights, each times its pin."""
        out, pins = np.zeros((len(weights), len(weights))), self._pins(weights, persons)
        for off, by in pins:
            out += off * (np.diag(by) - np.outer(by, weights) - np.outer(weights, by))
        if len(pins) == 2:
            by_mean, (off, _) = weights * (self.grid.nodes - weights @ self.grid.nodes), pins[1]
            out -= off * np.sqrt(2 * persons) * np.outer(by_mean, by_mean)
        return out

    def _log_weights(self, full: Floats) -> Floats:
        """Shape (G, Q): log weights of the nodes in each group."""
        s = self.structure
        if s.n_weights:
            return normalised(full[s.weights].reshape(s.n_groups, -1))
        return np.stack(
            [
                self.grid.log_weights(mean, np.exp(log_sd))
                for mean, log_sd in zip(full[s.means], full[s.log_sds], strict=True)
            ]
        )

    def _latent_scores(self, means: Floats, sds: Floats, log_weights: Floats) -> Floats:
        """Shape (2, G, Q): ∂ log w/∂ mean and ∂ log w/∂ log σ of a normal distribution at the nodes."""
        z = (self.grid.nodes - means[:, None]) / sds[:, None]
        raw = np.stack([z / sds[:, None], z**2])
        return raw - (raw * np.exp(log_weights)).sum(axis=2, keepdims=True)

    def observed_information(self, point: Point) -> Floats:
        """Minus the Hessian of the objective in all parameters but the weights of histograms, which it takes as known:
        shape (KJ + 2G, KJ + 2G), Louis (1982)."""
        s, J, G = self.structure, self.structure.n_items, self.structure.n_groups
        latent = self._latent_scores(point.means, point.sds, point.log_weights)
        curves = self.curves(s.expand(point.x))
        information = -missing_information(curves, self.run, self._chunks, point.log_weights, latent)
        items, curvature = np.arange(J), self._curvature(point)
        for k in range(s.K):
            for m in range(s.K):
                information[k * J + items, m * J + items] += curvature[:, k, m]
        groups = s.K * J + np.arange(G)
        for k in range(2):
            for m in range(2):
                information[groups + k * G, groups + m * G] += point.latent[:, k, m]
        return information

    def _curvature(self, point: Point) -> Floats:
        """Shape (J, K, K): complete-data information given the answers, plus minus the Hessian of the priors."""
        full = self.structure.expand(point.x)
        return self.curves(full).curvature(point.expected) + self._prior_terms(full).hessian

    def information_of_tilts(self, point: Point, tilts: Floats) -> tuple[Floats, Floats]:
        """Information of few `tilts` (G, M, Q): shared with a, d (and logit c) of the items, (KJ, G, M), by differences
        of gradients, and the sum of products of their own scores, (G, M, M)."""
        curves = self.curves(self.structure.expand(point.x))

        def gradient(tilted: Floats) -> Floats:
            return curves.expect(self.run, self._chunks, point.log_weights + tilted).gradient.ravel()

        shared = np.zeros((self.structure.means.start, *tilts.shape[:2]))
        for g, m in np.ndindex(*tilts.shape[:2]):
            step = np.zeros_like(point.log_weights)
            step[g] = TILT * tilts[g, m]
            shared[:, g, m] = (gradient(-step) - gradient(step)) / (2 * TILT)
        return shared, products_of_tilts(curves, self.run, self._chunks, point.log_weights, tilts)

    def score_products(self, point: Point) -> Floats:
        """Σ s sᵀ of the learners' scores in all F parameters, shape (F, F), plus what priors say of the items, as
        if these were answers, too; 0 for means and SDs of histograms."""
        s, items = self.structure, self.structure.means.start
        if s.n_weights:
            tilts = np.eye(s.n_weights) - np.exp(point.log_weights)[:, :, None]
            places = np.arange(s.weights.start, s.weights.stop)
        else:
            tilts = self._latent_scores(point.means, point.sds, point.log_weights).transpose(1, 0, 2)
            places = items + np.arange(2) * s.n_groups + np.arange(s.n_groups)[:, None]
        places = np.concatenate([np.arange(items), places.ravel()])
        found, full = np.zeros((len(s.index), len(s.index))), s.expand(point.x)
        found[np.ix_(places, places)] = score_products(
            self.curves(full), self.run, self._chunks, point.log_weights, np.ascontiguousarray(tilts)
        )
        own, prior = np.arange(s.K)[:, None] * s.n_items + np.arange(s.n_items), self._prior_terms(full).hessian
        found[own[:, None], own] += prior.transpose(1, 2, 0)
        return found

    def information_with_weights(self, point: Point) -> Floats:
        """Minus the Hessian of the objective in all parameters, shape (F, F), where there are histograms."""
        s, items = self.structure, slice(0, self.structure.means.start)
        shared = shared_with_nodes(self.curves(s.expand(point.x)), self.run, self._chunks, point.log_weights)
        full = np.zeros((len(s.index), len(s.index)))
        full[: s.weights.start, : s.weights.start] = self.observed_information(point)
        full[items, s.weights] = shared.reshape(len(shared), -1)
        full[s.weights, items] = full[items, s.weights].T
        full[s.weights, s.weights] = block_diag(*self.information_of_weights(point))
        return full

    def information_of_weights(self, point: Point) -> Floats:
        """Minus the Hessian of the objective in the log weights of each group's histogram, shape (G, Q, Q), with the
        items known."""
        curves, weights = self.curves(self.structure.expand(point.x)), np.exp(point.log_weights)
        found = products_of_posteriors(curves, self.run, self._chunks, point.log_weights)
        for g, (w, persons) in enumerate(zip(weights, point.mass, strict=True)):
            found[g] += self._bent_cost(point.log_weights[g], persons, g) + np.diag(persons * w - point.at_nodes[g])
        found[0] += self._bends_of_pins(weights[0], point.mass[0])
        return found

    def price_of_shape(self, log_weights: Floats) -> Floats:
        """Shape (Q, Q): second derivatives of the penalties on roughness and upturns of a histogram."""
        upward = np.maximum(self._second @ log_weights, 0.0)
        return self.roughness + self._upturn * self._second.T @ (upward[:, None] * self._second)

    def _bent_cost(self, log_weights: Floats, persons: float, group: int) -> Floats:
        """Shape (Q, Q): second derivatives of a histogram's penalties, without those of its pins."""
        cost = self.price_of_shape(log_weights)
        for _, by_weights in self._pins(np.exp(log_weights), persons) if group == 0 else []:
            cost += np.outer(by_weights, by_weights)
        return cost

    def observed_blocks(self, point: Point) -> Floats:
        """Shape (J, K, K): each item's own block of `observed_information`."""
        curves = self.curves(self.structure.expand(point.x))
        return self._curvature(point) - missing_information_blocks(curves, self.run, self._chunks, point.log_weights)

    def precondition(self, point: Point, gradient: Floats, frozen: Mask) -> Floats:
        """complete-data information⁻¹ · gradient with the frozen parameters held: the EM gradient step."""
        s, J, K, G = self.structure, self.structure.n_items, self.structure.K, self.structure.n_groups
        free = (s.index >= 0) & ~frozen[s.index]
        full = np.where(free, gradient[s.index], 0.0)
        step = np.zeros_like(full)
        own = free[: K * J].reshape(K, J).T.copy()
        shared = s.common_slope and not frozen[0]
        if s.common_slope:
            own[:, 0] = False
        matrix = held(point.information, own)
        sides = np.where(own, full[: K * J].reshape(K, J).T, 0.0)[:, :, None]
        if shared:
            using = s.index[s.block(0)] == 0
            coupling = np.where(own & using[:, None], point.information[:, :, 0], 0.0)[:, :, None]
            solved = np.linalg.solve(matrix, np.concatenate([sides, coupling], axis=2))
            schur = point.information[using, 0, 0].sum() - np.sum(coupling[:, :, 0] * solved[:, :, 1])
            slope = (gradient[0] - np.sum(coupling[:, :, 0] * solved[:, :, 0])) / schur
            items = solved[:, :, 0] - slope * solved[:, :, 1]
            items[using, 0] = slope
        else:
            items = np.linalg.solve(matrix, sides)[:, :, 0]
        step[: K * J] = items.T.ravel()
        latent = free[K * J : s.log_sds.stop].reshape(2, G).T
        side = full[K * J : s.log_sds.stop].reshape(2, G).T
        if latent.any():
            solved = np.linalg.solve(held(point.latent, latent), np.where(latent, side, 0.0)[:, :, None])
            step[K * J : s.log_sds.stop] = solved[:, :, 0].T.ravel()
        if s.n_weights:
            for g, (persons, log_weights) in enumerate(zip(point.mass, point.log_weights, strict=True)):
                at = slice(s.weights.start + g * s.n_weights, s.weights.start + (g + 1) * s.n_weights)
                matrix = self.complete_information_of_weights(log_weights, persons, g)
                step[at] = cho_solve(cho_factor(matrix, check_finite=False), full[at], check_finite=False)
        x = np.zeros_like(gradient)
        x[s.index[s.free]] = step[s.free]
        return x

    def information_scale(self, point: Point) -> Floats:
        """Shape (size,): root of the diagonal of the complete-data information of the free parameters."""
        s = self.structure
        diagonal = np.concatenate(
            [
                np.einsum("jkk->kj", point.information).ravel(),
                np.einsum("gkk->kg", point.latent).ravel(),
                (point.mass[:, None] * np.exp(point.log_weights) + np.diag(self.roughness))[:, : s.n_weights].ravel(),
            ]
        )
        return np.sqrt(np.maximum(s.gather(diagonal), 1e-300))


def normalised(log_weights: Floats) -> Floats:
    """The log weights of distributions that sum to 1 over the last axis."""
    off: Floats = log_weights - log_weights.max(axis=-1, keepdims=True)
    return off - np.log(np.exp(off).sum(axis=-1, keepdims=True))


def held(matrix: Floats, free: Mask) -> Floats:
    """Blocks (J, K, K) with unit rows and columns for parameters that are not free (J, K), and a ridge."""
    K = matrix.shape[-1]
    diagonal = np.einsum("jkk->jk", matrix)
    out = np.where(free[:, :, None] & free[:, None, :], matrix, 0.0)
    out[:, np.arange(K), np.arange(K)] = np.where(free, diagonal * (1 + _RIDGE) + 1e-12, 1.0)
    return out


def largest_scaled_gradient(
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
    structure = ParameterLayout.of(model, J, given=given)
    data = ResponseLayout.of(responses, anchored=given.items)
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
