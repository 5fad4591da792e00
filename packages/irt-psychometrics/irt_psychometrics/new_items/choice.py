"""Choose the new item that a person sees next, by the expected gain in precision (van der Linden & Ren 2015)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.new_items.persons import PersonPosteriors

N_NODES, TINY = 7, float(np.finfo(float).tiny)


class Choice(NamedTuple):
    """An item that was drawn: its place, its probability before the draw, and whether the draw was at random."""

    place: int
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

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.new_items import answer_information
    >>> item = irt.ItemParameters.from_frame({"item": ["q1"], "a": [1.0], "b": [0.0]})
    >>> answer_information(item, 0.0, 0.0).tolist()
    [[[0.0, 0.0], [0.0, 0.25]]]
    """
    persons, counted = PersonPosteriors.normal(theta, se, N_NODES), CountedScores.from_curves(items.curves)
    nodes, shape = persons.nodes.ravel(), persons.nodes.shape
    by_logs, found = items.log_by_parameters(nodes), np.zeros((len(counted.item_of_row), 2, 2))
    for logs, by in zip(items.curves.score_tables(nodes), by_logs, strict=True):
        p = np.exp(logs)
        marginal = (p.reshape(-1, *shape) * persons.weights).sum(axis=2)
        slope = ((p[:, None] * by[:, :2]).reshape(-1, 2, *shape) * persons.weights).sum(axis=3)
        slope[:, 0] *= items.a[counted.item_of_row, None]
        found += (slope / np.maximum(marginal, TINY)[:, None]) @ slope.swapaxes(1, 2) / len(marginal[0])
    return np.add.reduceat(found, counted.first_row)


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

    Examples
    --------
    An item with b near the person's ability gains more than one that nearly everybody solves:

    >>> import numpy as np
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.new_items import expected_gain
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2"], "a": [1.0, 1.0], "b": [0.0, -5.0]})
    >>> expected_gain(items, np.array([np.eye(2)] * 2), theta=0.0, se=0.3).round(2).tolist()
    [0.21, 0.16]
    """
    found: Floats = np.log(np.linalg.det(precision + answer_information(items, theta, se)) / np.linalg.det(precision))
    return found


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
        The item's place, the probability of this item before the draw, and whether the draw was at random.

    Raises
    ------
    PsychometricsError
        If no item is eligible, or if the share is not between 0 and 1.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.new_items import choose_item
    >>> choose_item(np.array([0.1, 0.3, 0.2]), [True, True, False], random_state=1, random_share=0)
    Choice(place=1, probability=1.0, at_random=False)
    """
    if not 0 <= random_share <= 1:
        raise PsychometricsError(f"random_share must be from 0 to 1, got {random_share}")
    places, rng = np.flatnonzero(eligible), np.random.default_rng(random_state)
    if not places.size:
        raise PsychometricsError("no item is eligible: eligible must mark at least one item")
    best, at_random = places[np.argmax(gain[places])], bool(rng.random() < random_share)
    place = rng.choice(places) if at_random else best
    return Choice(int(place), random_share / places.size + (1 - random_share) * bool(place == best), at_random)
