"""The marginal likelihood as a PyTensor Op: θ is integrated out, value and gradient come from one E-step.

The kernels are those of the em engine (`psychometrics.kernels`); the numba dispatch lets a compiled model call them
without Python. Only c = 0 and θ ~ N(0, 1): another mean and SD of θ are the model's to write, because
a·θ + d with θ = μ + σ·z is (a·σ)·z + (d + a·μ). No priors and no sampler here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch import numba_funcify

from irt_assets.psychometrics import kernels
from irt_assets.psychometrics.data import Data
from irt_assets.psychometrics.models import Floats
from irt_assets.psychometrics.quadrature import Grid

_LAYOUT = ("set_of", "set_group", "set_start", "set_items", "right_start", "right_items", "person_weight")


@dataclass(frozen=True)
class Likelihood:
    """log P(answers | slopes, intercepts) of one data set, as a PyTensor expression and as a number.

    The data are shared variables and not constants, so that compiled code takes them as arguments: what compiling
    costs does not grow with the number of responses.
    """

    shared: tuple[Any, ...]

    @classmethod
    def of(cls, data: Data, grid: Grid) -> Likelihood:
        named = {
            "theta_nodes": grid.nodes,
            "theta_log_weights": np.tile(grid.log_weights(), (data.n_groups, 1)),
            "n_correct": data.correct,
        } | dict(zip(_LAYOUT, data.people, strict=True))
        return cls(tuple(pytensor.shared(value, name=name, borrow=True) for name, value in named.items()))

    def __call__(self, slope: Any, intercept: Any) -> Variable:
        """Scalar; slope and intercept have shape (J,), θ ~ N(0, 1). Differentiable once."""
        value, *_ = marginal_likelihood(slope, intercept, *self.shared)
        return value

    def value(self, slope: Floats, intercept: Floats) -> float:
        return float(_value_and_gradient(slope, intercept, *(s.get_value(borrow=True) for s in self.shared))[0])


class MarginalLikelihood(Op):
    """(slope, intercept, data …) → log-likelihood, its gradient by slope (J,), its gradient by intercept (J,).

    By Fisher's identity the gradient is the posterior expectation of the complete-data score: Σ E[θ(x − P)] and
    Σ E[x − P] over the persons who saw the item.
    """

    __props__ = ()

    def make_node(self, slope: Any, intercept: Any, *data: Any) -> Apply:
        parameters = [pt.as_tensor(slope, dtype="float64"), pt.as_tensor(intercept, dtype="float64")]
        return Apply(self, [*parameters, *data], [pt.dscalar(), pt.dvector(), pt.dvector()])

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Sequence[list[Any]]) -> None:  # noqa: ARG002
        for storage, value in zip(output_storage, _value_and_gradient(*inputs), strict=True):
            storage[0] = np.asarray(value)

    def grad(self, inputs: Sequence[Variable], output_grads: Sequence[Variable]) -> list[Variable]:
        if any(not isinstance(g.type, DisconnectedType) for g in output_grads[1:]):
            raise NotImplementedError("the marginal likelihood has first derivatives only")
        _, by_slope, by_intercept = self(*inputs)
        return [output_grads[0] * by_slope, output_grads[0] * by_intercept, *(DisconnectedType()() for _ in inputs[2:])]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        return [[k < 2] * 3 for k in range(len(node.inputs))]

    def infer_shape(self, fgraph: Any, node: Apply, shapes: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        return [(), shapes[0], shapes[1]]


marginal_likelihood = MarginalLikelihood()


@numba.njit(nogil=True, error_model="numpy")
def _value_and_gradient(  # type: ignore[no-untyped-def]
    slope,
    intercept,
    nodes,
    log_weights,
    correct,
    set_of,
    set_group,
    set_start,
    set_items,
    right_start,
    right_items,
    weight,
):
    J, Q = slope.size, nodes.size
    a, d = np.ascontiguousarray(slope), np.ascontiguousarray(intercept)
    log_wrong, p, seen = np.empty((J, Q)), np.empty((J, Q)), np.zeros((J, Q))
    theta_right, by_intercept, mass = np.zeros((J, 1)), correct.copy(), np.zeros(log_weights.shape)
    kernels.logistic_table(a, d, nodes, log_wrong, p)
    people = kernels.People(set_of, set_group, set_start, set_items, right_start, right_items, weight)
    curves = kernels.Curves(a, log_wrong, np.empty((0, Q)))
    value = kernels.expected_counts(0, set_of.size, people, curves, nodes, log_weights, seen, theta_right, mass)
    by_slope = theta_right[:, 0].copy()
    for j in range(J):
        value += d[j] * correct[j]
        for q in range(Q):
            expected = seen[j, q] * p[j, q]
            by_slope[j] -= expected * nodes[q]
            by_intercept[j] -= expected
    return np.asarray(value), by_slope, by_intercept


@numba_funcify.register(MarginalLikelihood)
def _compiled(op: MarginalLikelihood, **_: Any) -> Any:  # noqa: ARG001
    return _value_and_gradient
