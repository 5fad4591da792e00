"""Propose a smaller minimum of responses per item for a small log, with the items and errors to expect of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_psychometrics import PsychometricsError


@dataclass(frozen=True)
class Option:
    """Effect of a minimum of responses per item.

    Attributes:
        min_responses: the minimum.
        items_admitted, share_admitted: number and share of the log's items that reach it.
        expected_b_se: expected SE(b) of an item that just reaches it (unit: SD of θ).
    """

    min_responses: int
    items_admitted: int
    share_admitted: float
    expected_b_se: float


MINIMA = (500, 400, 300, 250, 200, 150, 125, 100, 75, 50)
_ENOUGH_ITEMS = 0.90


def expected_b_se(n: float) -> float:
    """SE(b) that n responses to a medium 2PL item (a = 1, b = 0) by learners θ ~ N(0, 1) can give, for n ≥ 1.

    The expected information of one response about (a, b) is E[P(1 − P) · g gᵀ] with g = (θ − b, −a). At b = 0 the
    off-diagonal term E[P(1 − P) θ] is zero by symmetry, so Var(b) = 1 / (n · a² · E[P(1 − P)]), with
    E[P(1 − P)] = 0.2066. It is a lower bound: it treats θ as known (with 20 items of a ≈ 1 per learner, SE(b) is about
    15 % larger), and SE(b) is larger for an item far from the learners or flatter than a = 1.
    """
    theta, weight = np.polynomial.hermite_e.hermegauss(41)
    p = 1 / (1 + np.exp(-theta))
    return float(1 / np.sqrt(n * np.sum(weight * p * (1 - p)) / np.sum(weight)))


def propose_minimum(n_per_item: npt.ArrayLike, minima: Sequence[int] = MINIMA) -> list[Option]:
    """Options for a log with `n_per_item` responses per item, shape (J,): one for each of `minima`, largest first.

    Pass counts from before the two sample-size filters (`judge` with both off). Without the items that are left out,
    learners may fall below their own minimum, so an option close to an item's count may admit fewer items.
    """
    n = np.asarray(n_per_item)
    if n.size == 0:
        raise PsychometricsError("the log has no items, so no minimum can be proposed: check the counts by reason")
    return [
        Option(m, int(np.count_nonzero(n >= m)), float(np.mean(n >= m)), expected_b_se(m))
        for m in sorted(minima, reverse=True)
    ]


def recommend(options: Sequence[Option]) -> Option:
    """The option with the largest minimum that keeps 90 % of the items, or else the option with the smallest minimum.

    The smallest of `MINIMA` is 50: below it SE(b) exceeds 0.3, and the slope of a 2PL is mostly noise.
    """
    ordered = sorted(options, key=lambda option: -option.min_responses)
    return next((option for option in ordered if option.share_admitted >= _ENOUGH_ITEMS), ordered[-1])
