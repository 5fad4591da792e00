"""The distribution of θ in each group of a fit: weights on the nodes, parameters, and penalties.

`NormalGroups` has a mean and an SD for each group, `Histograms` a log weight for each group and node. The only use of
the answers is through the expected numbers of persons at the nodes. The likelihood is in `marginal`.
"""

from dataclasses import replace

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, block_diagonal
from irt_psychometrics.core.models import Population
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.estimation.parameter_layout import ParameterLayout

_STEPS, _HALVINGS = 20, 8
_ENOUGH = 1e-2
"""A histogram is at its maximum when the next step promises a gain of less than half of this in log-likelihood."""


class NormalGroups:
    """θ ~ N(mean, sd²) in each of G groups.

    Attributes
    ----------
    cycles
        Number of EM cycles at the start of an ascent.
    memory
        Number of steps in a quasi-Newton matrix.
    n_free_weights
        Number of free weights; 0 if the shape is not estimated.
    """

    cycles, memory = 0, 12
    n_free_weights = 0

    def __init__(self, structure: ParameterLayout, grid: Grid) -> None:
        self.structure, self.grid = structure, grid

    def start(self) -> Floats:
        """Initial log weights, in the order of `ParameterLayout.weights`."""
        return np.zeros(0)

    def log_weights(self, full: Floats) -> Floats:
        """Log weights of the nodes in each group, shape (G, Q), at all F parameters."""
        s = self.structure
        return np.stack(
            [
                self.grid.log_weights(mean, np.exp(log_sd))
                for mean, log_sd in zip(full[s.means], full[s.log_sds], strict=True)
            ]
        )

    def scores(self, means: Floats, sds: Floats, log_weights: Floats) -> Floats:
        """∂ log w/∂ mean and ∂ log w/∂ log σ of a normal distribution at the nodes, shape (2, G, Q)."""
        z = (self.grid.nodes - means[:, None]) / sds[:, None]
        raw = np.stack([z / sds[:, None], z**2])
        return raw - (raw * np.exp(log_weights)).sum(axis=2, keepdims=True)

    def scores_by_place(self, means: Floats, sds: Floats, log_weights: Floats) -> tuple[Floats, Ints]:
        """Scores of the M parameters of each group, (G, M, Q), and their positions among all F, (G, M)."""
        G = self.structure.n_groups
        places = self.structure.means.start + np.arange(2) * G + np.arange(G)[:, None]
        return np.ascontiguousarray(self.scores(means, sds, log_weights).transpose(1, 0, 2)), places

    def penalty(self, log_weights: Floats, at_nodes: Floats) -> tuple[float, Floats]:  # noqa: ARG002
        """The penalty on the shape, and the gradient (G, Q) of the penalised log-likelihood in the log weights."""
        return 0.0, np.zeros(0)

    def newton_step(self, gradient: Floats, log_weights: Floats, at_nodes: Floats) -> Floats:  # noqa: ARG002
        """Newton step of the log weights, from their gradient (G·Q,), as if abilities were known."""
        return np.zeros(0)

    def em_step(self, log_weights: Floats, at_nodes: Floats) -> Floats:  # noqa: ARG002
        """Step of the log weights (G·Q,) to their maximum, given the expected persons at the nodes (G, Q)."""
        return np.zeros(0)

    def information_scale(self, log_weights: Floats, at_nodes: Floats) -> Floats:  # noqa: ARG002
        """Diagonal of the complete-data information in the log weights, shape (G, Q)."""
        return np.zeros(0)

    def describe(self, normal: Population, log_weights: Floats) -> Population:  # noqa: ARG002
        """The population of a group. A histogram replaces mean and SD of `normal` and adds nodes and weights."""
        return normal


class Histograms(NormalGroups):
    """Log weights on the Q nodes in each of G groups: a penalised empirical histogram.

    It has the penalties of `Smoothing`. A wider histogram and flatter slopes cannot be distinguished, so there are also
    penalties for identification: on the distance of the reference group's mean and variance from 0 and 1. They are
    absent if there are anchors. If slopes are fixed, only the mean has one.
    """

    cycles, memory = 3, 30  # a Newton step would at first move log weights far too far in the tails

    def __init__(self, structure: ParameterLayout, grid: Grid) -> None:
        super().__init__(structure, grid)
        Q, step, smoothing = len(grid.nodes), grid.nodes[1] - grid.nodes[0], structure.smoothing
        self._third = np.sqrt(smoothing.roughness / step**5) * np.diff(np.eye(Q), 3, axis=0)
        self._roughness = self._third.T @ self._third
        self._second = np.diff(np.eye(Q), 2, axis=0) / step**2
        self._flatness, self._bend = smoothing.flatness * step, np.where(grid.nodes[1:-1] < 0, smoothing.bend, 0.0)
        self.n_free_weights = structure.n_groups * (Q - 1)  # weights of a group sum to 1

    def start(self) -> Floats:
        return np.tile(self.grid.log_weights(), self.structure.n_groups)

    def log_weights(self, full: Floats) -> Floats:
        return normalise(full[self.structure.weights].reshape(self.structure.n_groups, -1))

    def scores_by_place(self, means: Floats, sds: Floats, log_weights: Floats) -> tuple[Floats, Ints]:  # noqa: ARG002
        at = self.structure.weights
        places = np.arange(at.start, at.stop).reshape(self.structure.n_groups, -1)
        return np.eye(log_weights.shape[1]) - np.exp(log_weights)[:, :, None], places

    def penalty(self, log_weights: Floats, at_nodes: Floats) -> tuple[float, Floats]:
        persons = at_nodes.sum(axis=1)
        found = [self._penalty(log_weights[g], persons[g], g) for g in range(len(at_nodes))]
        slopes = np.stack([slope for _, slope in found])
        return sum(penalty for penalty, _ in found), at_nodes - persons[:, None] * np.exp(log_weights) - slopes

    def newton_step(self, gradient: Floats, log_weights: Floats, at_nodes: Floats) -> Floats:
        steps = []
        for g, persons in enumerate(at_nodes.sum(axis=1)):
            matrix = self._complete_information(log_weights[g], persons, g)
            own = gradient.reshape(log_weights.shape)[g]
            steps.append(np.linalg.solve(matrix, own))
        return np.concatenate(steps)

    def em_step(self, log_weights: Floats, at_nodes: Floats) -> Floats:
        groups = range(self.structure.n_groups)
        return np.concatenate([self._maximum(log_weights[g], at_nodes[g], g) - log_weights[g] for g in groups])

    def information_scale(self, log_weights: Floats, at_nodes: Floats) -> Floats:
        return at_nodes.sum(axis=1)[:, None] * np.exp(log_weights) + np.diag(self._roughness)

    def describe(self, normal: Population, log_weights: Floats) -> Population:
        nodes, weights = self.grid.nodes, np.exp(log_weights)
        mean = float(weights @ nodes)
        sd = float(np.sqrt(weights @ (nodes - mean) ** 2))
        return replace(normal, mean=mean, sd=sd, nodes=tuple(nodes.tolist()), weights=tuple(weights.tolist()))

    def observed_information(self, products: Floats, log_weights: Floats, at_nodes: Floats) -> Floats:
        """Minus the Hessian of the objective in each group's log weights, shape (G, Q, Q), with the items known.

        `products` (G, Q, Q) is Σ p pᵀ over the persons of each group, with posterior weights p.
        """
        found, weights, persons = products.copy(), np.exp(log_weights), at_nodes.sum(axis=1)
        for g, w in enumerate(weights):
            found[g] += self._penalty_information(log_weights[g], persons[g], g) + np.diag(persons[g] * w - at_nodes[g])
        found[0] += self._constraint_curvature(weights[0], persons[0])
        return found

    def shape_penalty(self, log_weights: Floats) -> Floats:
        """Second derivatives of the penalties on the shape of a histogram, shape (Q, Q)."""
        flat = np.maximum(self._second @ log_weights - self._bend, 0.0)
        return self._roughness + self._flatness * self._second.T @ (flat[:, None] * self._second)

    def free_directions(self, log_weights: Floats) -> tuple[Floats, Floats]:
        """Directions of the log weights, (GQ, W), that keep the sum of weights and the origin and unit of θ; and the
        derivatives of each group's mean and log SD, (2G, GQ)."""
        s, nodes = self.structure, self.grid.nodes
        directions, moments = [], []
        for g, own in enumerate(log_weights):
            weights = np.exp(own)
            off = nodes - weights @ nodes
            variance = weights @ off**2
            by_mean, by_log_sd = weights * off, weights * (off**2 - variance) / (2 * variance)
            constrained = [] if g or s.anchored else [by_mean] if s.item_model.fixed_slopes else [by_mean, by_log_sd]
            held = np.stack([weights, *constrained], axis=1)
            directions.append(np.linalg.qr(held, mode="complete")[0][:, held.shape[1] :])
            moments.append(np.stack([by_mean, by_log_sd]))
        return block_diagonal(*directions), block_diagonal(*moments)

    def penalty_information(self, log_weights: Floats, free: Floats) -> Floats:
        """Part of the information of the free directions that comes from the penalties on shape, shape (W, W)."""
        return free.T @ block_diagonal(*(self.shape_penalty(each) for each in log_weights)) @ free

    def _maximum(self, log_weights: Floats, at_nodes: Floats, group: int) -> Floats:
        """Log weights of a group, (Q,), that maximise the penalised likelihood of its expected persons at the nodes."""
        value, slope = self._objective(log_weights, at_nodes, group)
        for _ in range(_STEPS):
            step = np.linalg.solve(self._complete_information(log_weights, at_nodes.sum(), group), slope)
            if step @ slope < _ENOUGH:
                break
            for _ in range(_HALVINGS):
                there = normalise(log_weights + step)
                found = self._objective(there, at_nodes, group)
                if found[0] > value:
                    break
                step *= 0.5
            else:
                break
            log_weights, (value, slope) = there, found
        return log_weights

    def _penalty(self, log_weights: Floats, persons: float, group: int) -> tuple[float, Floats]:
        """All penalties on the histogram of a group, and their derivatives (Q,) with respect to its log weights
        (Q,)."""
        # Third differences first: the product of roughness and log weights loses digits that the ascent needs.
        third, flat = self._third @ log_weights, np.maximum(self._second @ log_weights - self._bend, 0.0)
        penalty = float(0.5 * (third @ third) + self._flatness / 6 * (flat**3).sum())
        slope = third @ self._third + 0.5 * self._flatness * flat**2 @ self._second
        for off, by_weights in self._constraints(np.exp(log_weights), persons) if group == 0 else []:
            penalty += 0.5 * off**2
            slope = slope + off * by_weights
        return penalty, slope

    def _objective(self, log_weights: Floats, at_nodes: Floats, group: int) -> tuple[float, Floats]:
        """Penalised expected log-likelihood of a group's log weights (Q,), and its derivatives (Q,).

        The weights sum to 1. `at_nodes` (Q,) is the number of persons at each node.
        """
        penalty, slope = self._penalty(log_weights, at_nodes.sum(), group)
        return float(at_nodes @ log_weights) - penalty, at_nodes - at_nodes.sum() * np.exp(log_weights) - slope

    def _complete_information(self, log_weights: Floats, persons: float, group: int) -> Floats:
        """Information of a group's log weights as if abilities were known, shape (Q, Q).

        Adding a constant to all log weights has no effect, so this direction is held.
        """
        return np.diag(persons * np.exp(log_weights)) + self._penalty_information(log_weights, persons, group)

    def _penalty_information(self, log_weights: Floats, persons: float, group: int) -> Floats:
        """Second derivatives of a histogram's penalties, shape (Q, Q), without those of its constraints."""
        information = self.shape_penalty(log_weights)
        for _, by_weights in self._constraints(np.exp(log_weights), persons) if group == 0 else []:
            information += np.outer(by_weights, by_weights)
        return information

    def _constraints(self, weights: Floats, persons: float) -> list[tuple[float, Floats]]:
        """Terms of the constraints that the reference group's mean and variance are 0 and 1, with their derivatives
        (Q,) with respect to its log weights. Half the square of each term is a penalty."""
        s, nodes = self.structure, self.grid.nodes
        if s.anchored:
            return []
        mean = float(weights @ nodes)
        unit = np.sqrt(persons)
        constraints = [(unit * mean, unit * weights * (nodes - mean))]
        if not s.item_model.fixed_slopes:
            variance = float(weights @ (nodes - mean) ** 2)
            unit = np.sqrt(0.5 * persons)
            constraints.append((unit * (variance - 1), unit * weights * ((nodes - mean) ** 2 - variance)))
        return constraints

    def _constraint_curvature(self, weights: Floats, persons: float) -> Floats:
        """Second derivatives of the constraints with respect to the log weights, each times its term, shape (Q, Q)."""
        out, constraints = np.zeros((len(weights), len(weights))), self._constraints(weights, persons)
        for off, by in constraints:
            out += off * (np.diag(by) - np.outer(by, weights) - np.outer(weights, by))
        if len(constraints) == 2:
            by_mean, (off, _) = weights * (self.grid.nodes - weights @ self.grid.nodes), constraints[1]
            out -= off * np.sqrt(2 * persons) * np.outer(by_mean, by_mean)
        return out


def normalise(log_weights: Floats) -> Floats:
    """Log weights shifted so that the weights sum to 1 over the last axis."""
    off: Floats = log_weights - log_weights.max(axis=-1, keepdims=True)
    return off - np.log(np.exp(off).sum(axis=-1, keepdims=True))
