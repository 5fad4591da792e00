"""The fitted part of a data set, and new answers to it as the fitted model would give them.

What every fit statistic starts from. No statistic is here, and no estimation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.models import Calibration, Floats, Responses

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Fitted:
    """Responses to the J items that have parameters, and the calibration of just these items.

    Attributes:
        place: shape (J,), where these items stand among the `n_all` items of the whole calibration.
    """

    responses: Responses
    calibration: Calibration
    place: Ints
    n_all: int

    @classmethod
    def of(cls, responses: Responses, calibration: Calibration) -> Fitted:
        """Raises PsychometricsError where the two are not about the same items in the same order."""
        if responses.item_ids != calibration.item_ids:
            odd = sorted(set(responses.item_ids) ^ set(calibration.item_ids))
            named = f"not in both: {', '.join(odd[:5])}" if odd else "the same items in another order"
            raise PsychometricsError(
                f"responses ({responses.n_items} items) and calibration ({calibration.n_items} items) must list the "
                f"same items in one order; {named}"
            )
        keep = calibration.estimated
        place = np.flatnonzero(keep)
        index = np.cumsum(keep) - 1
        rows = keep[responses.item]
        kept = Responses(
            responses.person[rows],
            index[responses.item[rows]].astype(np.int32),
            responses.score[rows],
            responses.n_persons,
            tuple(responses.item_ids[j] for j in place),
        )
        return cls(kept, calibration.select(keep), place, responses.n_items)

    def among_all(self, values: Floats) -> Floats:
        """`values`, shape (J,), at the items' places among all items, NaN for items without parameters."""
        out = np.full(self.n_all, np.nan)
        out[self.place] = values
        return out

    def some_persons(self, most: int, rng: np.random.Generator) -> Fitted:
        """Itself, or where it has more than `most` persons, `most` drawn of them."""
        if self.responses.n_persons <= most:
            return self
        chosen = np.zeros(self.responses.n_persons, dtype=bool)
        chosen[rng.choice(self.responses.n_persons, most, replace=False)] = True
        return self._with(chosen[self.responses.person], np.cumsum(chosen) - 1, most)

    def new_answers(self, rng: np.random.Generator) -> Fitted:
        """Other persons, drawn from N(latent_mean, latent_sd²), who see what these saw and answer by the model."""
        r, fit = self.responses, self.calibration
        theta = rng.normal(fit.latent_mean, fit.latent_sd, r.n_persons)
        p = fit.c[r.item] + (1.0 - fit.c[r.item]) * expit(fit.a[r.item] * theta[r.person] + fit.d[r.item])
        return replace(self, responses=replace(r, score=(rng.random(r.n_responses) < p).astype(np.int8)))

    def _with(self, rows: npt.NDArray[np.bool_], person_index: Ints, n_persons: int) -> Fitted:
        r = self.responses
        person = person_index[r.person[rows]].astype(np.int32)
        return replace(self, responses=Responses(person, r.item[rows], r.score[rows], n_persons, r.item_ids))
