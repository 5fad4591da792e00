"""Responses drawn from known items and abilities."""

from typing import Any

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_sources import ItemSource, require_items
from irt_psychometrics.core.responses import Responses


def simulate_responses(
    items: ItemSource, theta: npt.ArrayLike, *, random_state: int | np.random.Generator | None = None
) -> Responses:
    """Draw a response of every person to every item.

    Parameters
    ----------
    items
        A `Fit`, a `ScaleLink` (the new fit on the old scale), or `ItemParameters`, for example from
        `ItemParameters.from_frame`; every item needs parameters.
    theta
        Shape (N,), abilities of N persons.
    random_state
        A seed or a NumPy generator; None: different responses at each call.

    Returns
    -------
    Responses
        N persons × J items. With the same random numbers a person with higher θ has no lower score on an item with
        a > 0.

    Raises
    ------
    PsychometricsError
        If an item has no parameters, or an ability is NaN.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["easy", "hard"], "a": [2, 2], "b": [-4, 4]})
    >>> irt.simulate_responses(items, [0, 0, 0], random_state=0).score.tolist()
    [1, 0, 1, 0, 1, 0]
    """
    known = require_items(items, "simulate_responses")
    at, curves = np.atleast_1d(np.asarray(theta, dtype=float)), known.curves
    if at.ndim != 1 or not np.isfinite(at).all():
        raise PsychometricsError("theta must be finite numbers, one for each person")
    if not curves.known.all():
        unknown = known.item_ids[int(np.flatnonzero(~curves.known)[0])]
        raise PsychometricsError(f"item {unknown} has no parameters; leave it out to simulate responses")
    uniform = np.random.default_rng(random_state).random((at.size, len(known.item_ids)))
    scores = (uniform < curves.probability(at)).astype(float)
    categories = np.full(len(known.item_ids), 2)
    for some in curves.others:
        categories[some.at] = some.categories
        for k, j in enumerate(some.at.tolist()):
            own: Any = some.model.probabilities(at, some.parameters(curves.a, curves.d)[:, [k]], some.categories[[k]])
            at_least = own[0][:, ::-1].cumsum(axis=1)[:, ::-1]
            scores[:, j] = (uniform[:, [j]] < at_least[:, 1:]).sum(axis=1)
    sizes = categories if (categories > 2).any() else None
    return Responses.from_wide(scores, known.item_ids, sizes)
