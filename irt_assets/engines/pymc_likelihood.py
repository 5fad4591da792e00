"""The marginal likelihood as a PyTensor Op: θ is integrated out, and one E-step gives value and gradient.

The loops are in `MarginalLikelihood`; the numba dispatch lets a compiled model call them without Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from irt_assets.common.arrays import Floats
from irt_psychometrics import Responses
from irt_psychometrics.estimation import MarginalLikelihood


@dataclass(frozen=True)
class Likelihood:
    """log P(answers | item parameters) of one data set, as a PyTensor expression and as a number.

    The data are shared variables and not constants, so that compiled code gets them as arguments. The time to compile
    then does not grow with the number of responses.
    """

    op: "LikelihoodOp"
    shared: tuple[Any, ...]
    plain: MarginalLikelihood

    @classmethod
    def from_responses(cls, responses: Responses, nodes: int, *, guessing: bool) -> "Likelihood":
        """The likelihood of these responses, with this number of quadrature nodes for θ."""
        plain = MarginalLikelihood.from_responses(responses, nodes, guessing=guessing)
        shared = tuple(pytensor.shared(value, name=name, borrow=True) for name, value in plain.data.items())
        return cls(LikelihoodOp(guessing, plain.graded), shared, plain)

    def __call__(self, *parameters: Any) -> Variable:
        """Log-likelihood with θ ~ N(0, 1), a scalar that can be differentiated once.

        `parameters`: as those of `MarginalLikelihood`.
        """
        return self.op(*parameters, *self.shared)[0]

    def value(self, *parameters: Floats) -> float:
        return float(self.plain(*parameters)[0])


class LikelihoodOp(Op):
    """(slope, intercept[, c or w], data …) → log-likelihood and its gradient by each parameter."""

    __props__ = ("guessing", "graded")

    def __init__(self, guessing: bool, graded: bool) -> None:
        self.guessing, self.graded = guessing, graded
        self.n_parameters = 2 + (guessing or graded)
        self.kernel = MarginalLikelihood.kernel(guessing, graded)  # PyTensor reads the attribute's name

    def make_node(self, *inputs: Any) -> Apply:
        parameters = [pt.as_tensor(x, dtype="float64") for x in inputs[: self.n_parameters]]
        outputs = [pt.dscalar(), *(pt.dvector() for _ in parameters)]
        return Apply(self, [*parameters, *inputs[self.n_parameters :]], outputs)

    def perform(self, node: Apply, inputs: Sequence[Any], output_storage: Sequence[list[Any]]) -> None:  # noqa: ARG002
        for storage, value in zip(output_storage, self.kernel(*inputs), strict=True):
            storage[0] = np.asarray(value)

    def grad(self, inputs: Sequence[Variable], output_grads: Sequence[Variable]) -> list[Variable]:
        if any(not isinstance(g.type, DisconnectedType) for g in output_grads[1:]):
            raise NotImplementedError("the marginal likelihood has first derivatives only")
        _, *by_parameters = self(*inputs)
        rest = inputs[self.n_parameters :]
        return [*(output_grads[0] * by for by in by_parameters), *(DisconnectedType()() for _ in rest)]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        n = self.n_parameters
        return [[k < n] * (n + 1) for k in range(len(node.inputs))]

    def infer_shape(self, fgraph: Any, node: Apply, shapes: Sequence[Any]) -> list[Any]:  # noqa: ARG002
        return [(), *shapes[: self.n_parameters]]


@register_funcify_default_op_cache_key(LikelihoodOp)
def _loops(op: LikelihoodOp, **_: Any) -> tuple[Any, int]:
    """The kernel, and a key that changes with its code, so that PyTensor can cache compiled models on disk. From the
    second time on, compiling takes a second."""
    return op.kernel, MarginalLikelihood.fingerprint()
