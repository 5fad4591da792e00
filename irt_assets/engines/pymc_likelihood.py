"""The marginal likelihood as a PyTensor Op: θ is integrated out, value and gradient come from one E-step.

The loops are in `pymc_kernels`; the numba dispatch lets a compiled model call them without Python. Only θ ~ N(0, 1):
another mean and SD of θ are the model's to write, because a·θ + d with θ = μ + σ·z is (a·σ)·z + (d + a·μ). No priors
and no sampler here.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import DisconnectedType
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import register_funcify_default_op_cache_key

from irt_assets.common.arrays import Floats
from irt_assets.engines import pymc_kernels
from irt_psychometrics import Responses
from irt_psychometrics.core import kernels
from irt_psychometrics.estimation import Grid, ResponseLayout


@dataclass(frozen=True)
class Likelihood:
    """log P(answers | item parameters) of one data set, as a PyTensor expression and as a number.

    The data are shared variables and not constants, so that compiled code takes them as arguments: what compiling
    costs does not grow with the number of responses.
    """

    op: "MarginalLikelihood"
    shared: tuple[Any, ...]

    @classmethod
    def of(cls, responses: Responses, grid: Grid, *, guessing: bool) -> "Likelihood":
        data = ResponseLayout.of(responses, rarer=guessing, shards=1)
        people = data.shards[0]
        named: dict[str, Any] = {"theta_nodes": grid.nodes, "theta_log_weights": grid.log_weights()}
        named |= (
            {"flipped": data.flipped}
            if guessing
            else {"n_correct": data.correct, "codes": _codes(people, data.n_items)}
        )
        named |= people._asdict()
        return cls(
            MarginalLikelihood(guessing), tuple(pytensor.shared(v, name=n, borrow=True) for n, v in named.items())
        )

    def __call__(self, *parameters: Any) -> Variable:
        """Scalar; slope, intercept and, with guessing, c have shape (J,), θ ~ N(0, 1). Differentiable once."""
        return self.op(*parameters, *self.shared)[0]

    def value(self, *parameters: Floats) -> float:
        arrays = (shared.get_value(borrow=True) for shared in self.shared)
        return float(self.op.kernel(*(np.ascontiguousarray(x) for x in parameters), *arrays)[0])


def _codes(people: kernels.People, n_items: int) -> np.ndarray:
    """Shape (bytes of the longest set, N): bit k of byte b of a learner is the answer to item 8b + k of the set."""
    length = np.diff(people.set_start)
    set_of_entry = np.repeat(np.arange(len(length)), length)
    key = set_of_entry * n_items + people.set_items
    order = np.argsort(key)
    person = np.repeat(np.arange(len(people.set_of)), np.diff(people.right_start))
    entry = order[np.searchsorted(key[order], people.set_of[person] * n_items + people.right_items)]
    place = entry - people.set_start[people.set_of[person]]
    codes = np.zeros((-(-int(length.max()) // 8), len(people.set_of)), dtype=np.uint8)
    np.add.at(codes, (place // 8, person), (1 << place % 8).astype(np.uint8))
    return codes


class MarginalLikelihood(Op):
    """(slope, intercept[, c], data …) → log-likelihood and its gradient by each of the parameters, all (J,)."""

    __props__ = ("guessing",)

    def __init__(self, guessing: bool) -> None:
        self.guessing = guessing
        self.n_parameters = 3 if guessing else 2
        self.kernel = (pymc_kernels.guessing if guessing else pymc_kernels.logistic).compiled  # PyTensor reads its name

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


@register_funcify_default_op_cache_key(MarginalLikelihood)
def _loops(op: MarginalLikelihood, **_: Any) -> tuple[Any, int]:
    """A key that changes with the loops, so that PyTensor keeps compiled models on disk: the second takes a second."""
    loops = b"".join(Path(str(module.__file__)).read_bytes() for module in (pymc_kernels, kernels))
    return op.kernel, zlib.crc32(loops)
