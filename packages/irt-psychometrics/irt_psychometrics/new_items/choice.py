"""Choose the new item that a person sees next, by the expected gain in precision (van der Linden & Ren 2015)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.items import ItemParameters


class Choice(NamedTuple):
    """An item that was drawn: the index, the probability with which it was drawn, and whether it was at random."""

    index: int
    probability: float
    at_random: bool


def answer_information(items: ItemParameters, theta: npt.ArrayLike, se: npt.ArrayLike) -> Floats:
    """Compute the expected information of one answer about (ln a, b), as a mean over persons.

    Parameters
    ----------
    items
        J items at the present estimates.
    theta, se
        Posterior means and SDs of θ of P persons, shape (P,), or of one person.

    Returns
    -------
    array of shape (J, 2, 2)
        Σₓ ∂Pₓ ∂Pₓᵀ / Pₓ, with P integrated over θ; further parameters are held.
    """
    raise NotImplementedError


def expected_gain(items: ItemParameters, precision: Floats, theta: float, se: float) -> Floats:
    """Compute the D-optimal gain of one answer by a person: the growth of log det of the precision of (ln a, b).

    Parameters
    ----------
    items
        J items at the present estimates.
    precision
        Precision of (ln a, b), shape (J, 2, 2), as `NewItemEstimates.precision`.
    theta, se
        The person's posterior mean and SD.

    Returns
    -------
    array of shape (J,)
        log det(Λ + I) − log det Λ ≥ 0.
    """
    raise NotImplementedError


def choose_item(
    gain: Floats, eligible: npt.ArrayLike, random_state: int | np.random.Generator, random_share: float = 0.2
) -> Choice:
    """Choose an eligible item: the one with the largest gain, or, with probability `random_share`, any at random.

    Parameters
    ----------
    gain
        Expected gains, shape (J,).
    eligible
        Mask of the items that may be chosen, shape (J,).
    random_state
        A seed or a NumPy generator. The same seed makes the same choice.
    random_share
        Probability of a draw at random, 0 … 1, so that persons of all abilities answer each item.

    Returns
    -------
    Choice
        The index, the probability of this item before the draw, and whether the draw was at random.

    Raises
    ------
    PsychometricsError
        If no item is eligible, or if the share is not between 0 and 1.
    """
    raise NotImplementedError
