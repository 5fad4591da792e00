"""Preparations that the Bayesian engines share: their priors, and the choice of items by a fit with the em engine.

Imports none of the packages that sample.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from irt_assets.common.arrays import Mask
from irt_assets.common.wording import some_of
from irt_psychometrics import Calibration, PsychometricsError, Responses
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.items import Model, Priors

ITEM_PRIORS = Priors.weakly_informative()
"""Priors of items that are not anchors; `irt.R` has the same priors."""
MIN_ITEMS = 3


def screen_items(
    responses: Responses, model: Model | Sequence[Model], priors: Priors | None, data_hash: str
) -> tuple[Calibration, npt.NDArray[np.intp]]:
    """The em engine's fit, and the indices (K,) of the items to sample: the items that it estimates with a positive
    slope.

    Raises PsychometricsError if em refuses the responses, or if fewer than `MIN_ITEMS` items are left.
    """
    em = fit_em(responses, model=model, priors=priors, data_hash=data_hash)
    kept = np.flatnonzero(em.estimated & (np.nan_to_num(em.a) > 0))
    if len(kept) < MIN_ITEMS:
        negative = [item for item, a in zip(em.item_ids, em.a, strict=True) if a < 0]
        raise PsychometricsError(
            f"only {len(kept)} items have a positive slope, too few for a scale; with a negative one: "
            f"{some_of(negative, 5)}. Check their keys"
        )
    return em, kept


def number_scores(responses: Responses) -> tuple[Responses, Mask]:
    """Return the responses with the scores that occur numbered from 0, item by item, and these scores, shape (J, C)."""
    present = np.zeros((responses.n_items, int(responses.n_categories.max())), dtype=bool)
    present[responses.item, responses.score] = True
    number = present.cumsum(axis=1)[responses.item, responses.score] - 1
    return replace(responses, score=number.astype(np.int8), categories=present.sum(axis=1)), present
