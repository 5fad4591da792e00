"""Topics that are easier or harder for a learner than expected at the learner's ability."""

from typing import Any

import numpy as np
import numpy.typing as npt

from irt_assets.common.arrays import Floats, Ints
from irt_psychometrics.scoring import Curves

TOPIC_VARIANCE = 0.5**2
"""Prior variance of a topic's difference from the learner's ability, in θ²."""


def topic_differences(
    group: npt.NDArray[np.intp],
    n_groups: int,
    item: npt.NDArray[np.integer[Any]],
    score: npt.NDArray[np.int8],
    theta: Floats,
    curves: Curves,
    categories: Ints | None = None,
) -> tuple[Floats, Floats]:
    """Difference between the ability in each group of responses and θ: posterior mean and SD, shapes (n_groups,).

        δ = S/(I + 1/0.25),   SD = 1/√(I + 1/0.25),   S = Σ ∂ log P/∂θ,   I = Σ information

    This is one step of Fisher scoring from δ = 0 under δ ~ N(0, 0.25). A group contains one learner's responses to one
    topic. θ is the learner's ability over all topics, treated as known. A group without information has δ = 0 and
    SD 0.5.

    Args:
        group: shape (R,), group of each response, 0 … n_groups − 1.
        n_groups: number of groups.
        item: shape (R,), index of the item among the items of the curves.
        score: shape (R,), score of each response.
        theta: shape (R,), θ of the learner of each response.
        curves: response curves of the items.
        categories: shape (J,), number of possible scores of each item, or None if all are scored 0 and 1.
    """
    gradient, information = curves.items.score_function_of(item, score, theta, categories=categories)
    precision = np.bincount(group, weights=information, minlength=n_groups) + 1 / TOPIC_VARIANCE
    return np.bincount(group, weights=gradient, minlength=n_groups) / precision, 1 / np.sqrt(precision)
