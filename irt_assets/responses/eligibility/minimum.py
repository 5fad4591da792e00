"""A smaller minimum of responses an item for a small log, and what it would give."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_psychometrics import PsychometricsError


@dataclass(frozen=True)
class Option:
    """What a minimum of responses per item would give.

    Attributes:
        min_responses: the setting.
        items_admitted, share_admitted: how many of the log's items reach it, and which share.
        expected_b_se: SE(b) to expect of an item that just reaches it (unit: SD of θ).
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
    E[P(1 − P)] = 0.2066. It is a floor: it treats θ as known (with 20 items of a ≈ 1 a learner SE(b) is some 15 %
    larger), and an item far from the learners or flatter than a = 1 has more.
    """
    theta, weight = np.polynomial.hermite_e.hermegauss(41)
    p = 1 / (1 + np.exp(-theta))
    return float(1 / np.sqrt(n * np.sum(weight * p * (1 - p)) / np.sum(weight)))


def propose_minimum(n_per_item: npt.ArrayLike, minima: Sequence[int] = MINIMA) -> list[Option]:
    """What each of `minima`, largest first, would admit of a log with `n_per_item` (shape (J,)) responses per item.

    The counts are those before the two sample-size filters (`judge` with both off). Items that drop out may take
    learners below their own minimum, so an option near a count may admit fewer.
    """
    n = np.asarray(n_per_item)
    if n.size == 0:
        raise PsychometricsError("the log has no items, so no minimum can be proposed: look at the counts by reason")
    return [
        Option(m, int(np.count_nonzero(n >= m)), float(np.mean(n >= m)), expected_b_se(m))
        for m in sorted(minima, reverse=True)
    ]


def recommend(options: Sequence[Option]) -> Option:
    """The largest minimum that keeps nine items in ten; where none does, the smallest on offer.

    The smallest of `MINIMA` is 50: below it SE(b) exceeds 0.3, and a 2PL slope is more noise than measure.
    """
    ordered = sorted(options, key=lambda option: -option.min_responses)
    return next((option for option in ordered if option.share_admitted >= _ENOUGH_ITEMS), ordered[-1])
