"""The marginal likelihood of item parameters as a function that compiled samplers call. It has no priors."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from irt_psychometrics.core import kernels
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation import integrated_kernels
from irt_psychometrics.estimation.response_layout import ResponseLayout


@dataclass(frozen=True)
class MarginalLikelihood:
    """log P(answers | item parameters) with θ ~ N(0, 1) integrated out, and its gradient.

    For another mean μ and SD σ of θ, the caller transforms the parameters: a·θ + d with θ = μ + σ·z is
    (a·σ)·z + (d + a·μ). One call runs on one thread.

    Attributes
    ----------
    guessing
        Whether items have a c. The parameters are then slope, intercept and c, else slope and intercept; shape (J,)
        each.
    graded
        Whether items have more than two scores. The third parameter is then w (`GradedModel`) of all scores that are
        neither an item's lowest nor its highest, item by item.
    data
        Arrays by name, in the order of the arguments of `kernel` after the parameters.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> import numpy as np
    >>> from irt_psychometrics.estimation import MarginalLikelihood
    >>> likelihood = MarginalLikelihood.from_responses(x, 31, guessing=False)
    >>> value, by_slope, by_intercept = likelihood(np.ones(3), np.zeros(3))
    >>> by_slope.shape
    (3,)
    """

    guessing: bool
    data: dict[str, Any]
    graded: bool = False

    @classmethod
    def from_responses(cls, responses: Responses, nodes: int, *, guessing: bool) -> Self:
        """Prepare the likelihood of these responses.

        Parameters
        ----------
        responses
            Responses to J items. Items with more than two scores are graded; each of their scores occurs.
        nodes
            Number of equally spaced nodes in [−6, 6].
        guessing
            Whether items have a c.

        Returns
        -------
        MarginalLikelihood
            A function of the parameters, which can be pickled.

        Raises
        ------
        DisconnectedDesignError
            If the responses fall into groups without common learners or items.
        """
        grid = Grid.symmetric(nodes)
        graded = bool((responses.n_categories > 2).any())
        layout = ResponseLayout.from_responses(responses, rarer=guessing, by_category=graded, shards=1)
        people = layout.shards[0]
        data: dict[str, Any] = {"theta_nodes": grid.nodes, "theta_log_weights": grid.log_weights()}
        if graded:
            data |= {"first_width": np.concatenate([[0], np.cumsum(responses.n_categories - 2)])}
        elif guessing:
            data |= {"flipped": layout.flipped}
        else:
            data |= {"n_correct": layout.correct, "codes": _codes(people, layout.n_items)}
        return cls(guessing, data | people._asdict(), graded)

    @staticmethod
    def kernel(guessing: bool, graded: bool = False) -> Callable[..., Any]:
        """Return the function compiled by numba: (parameters …, data …) → log-likelihood, and its gradient with respect
        to each parameter."""
        if graded:
            return integrated_kernels.graded.dispatcher
        return (integrated_kernels.guessing if guessing else integrated_kernels.logistic).dispatcher

    @staticmethod
    @cache
    def fingerprint() -> int:
        """Return a number that changes with the code of `kernel`, for caches of compiled code that calls it."""
        return zlib.crc32(b"".join(Path(str(m.__file__)).read_bytes() for m in (integrated_kernels, kernels)))

    def __call__(self, *parameters: Floats) -> tuple[Floats, ...]:
        """Compute the log-likelihood and its gradient. `parameters` are those listed at the class."""
        return self.kernel(self.guessing, self.graded)(
            *(np.ascontiguousarray(x) for x in parameters), *self.data.values()
        )


def _codes(people: kernels.People, n_items: int) -> np.ndarray:
    """Answers as bits, shape (bytes of the longest set, N). Bit k of a learner's byte b is the answer to item 8b + k of
    the set."""
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
