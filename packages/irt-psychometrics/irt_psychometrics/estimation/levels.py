"""Fit scales whose items are assigned by a learner's earlier ability, with groups by earlier ability.

If items are assigned by an earlier θ̂, learners of different ability see different items, and a common normal prior
flattens the slopes. Given θ̂, the assignment contains no further information about θ (it is ignorable, Rubin 1976). So
learners are grouped by θ̂ and each group has its own mean and SD of θ (Bock & Zimowski 1997; Mislevy 1984 for
conditioning on observed variables).

This module contains the groups, the sequence of fits, and the correlation that reveals such an assignment. The caller
supplies the earlier answers and the function that fits.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Floats, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring.abilities import Curves, eap_by

MIN_EARLIER_ANSWERS = 5
LEVELS = 20
"""Maximum number of levels. With quintiles, learners of one group differ too much if items are within half an SD of θ̂
(`bench_levels.py`)."""
LEARNERS_PER_LEVEL = 50
"""Minimum number of learners in a level. With fewer, a group's mean and SD would be mostly noise."""
REFINEMENTS = 2
"""Number of times that earlier answers are scored again with the fit's own parameters. A third time changes no bias by
more than 0.01."""
UNKNOWN = "unknown"
"""The group of learners whose earlier θ is unknown."""
_PLAUSIBLE_B = 6.0


@dataclass(frozen=True)
class EarlierTheta:
    """Earlier θ̂ of each of N learners, shape (N,). NaN for learners with fewer than `MIN_EARLIER_ANSWERS` answers."""

    theta: Floats

    @classmethod
    def from_answers(cls, answers: Responses, item_ids: Sequence[str], items: ItemCurves) -> Self:
        """EAP with prior N(0, 1) from the earlier `answers` to the items `item_ids`, whose curves are `items`.

        `answers` has one person for each of the learners, in their order.
        """
        known = {item for item, usable in zip(item_ids, items.known, strict=True) if usable}
        keep = np.array([item in known for item in answers.item_ids], dtype=bool)
        kept = answers.of_items(keep).among(item_ids)
        theta = eap_by(kept, Curves.from_items(items)).theta
        theta[np.bincount(kept.person, minlength=kept.n_persons) < MIN_EARLIER_ANSWERS] = np.nan
        return cls(theta)

    @property
    def known(self) -> Mask:
        return np.isfinite(self.theta)

    def groups(self) -> list[str]:
        """N labels: levels of equal size by θ̂, `level 01` the lowest, and `UNKNOWN`.

        Each level has at least `LEARNERS_PER_LEVEL` learners, and there are at most `LEVELS`. If the unknown learners
        are too few for a level, they are in the middle level.
        """
        known = self.known
        count = min(LEVELS, int(known.sum()) // LEARNERS_PER_LEVEL)
        if count < 2:
            return [UNKNOWN] * known.size
        edges = np.quantile(self.theta[known], np.arange(1, count) / count)
        level = np.searchsorted(edges, np.where(known, self.theta, 0.0), side="right")
        if (~known).sum() < LEARNERS_PER_LEVEL:
            level[~known] = count // 2
            known = np.ones_like(known)
        return [f"level {k + 1:02d}" if here else UNKNOWN for k, here in zip(level.tolist(), known, strict=True)]


@dataclass(frozen=True)
class LevelledFit:
    """A fit by level, with θ in the unit of all learners together (mean 0, SD 1; under Rasch only mean 0).

    `groups` are the labels of the learners, which fit statistics need.
    """

    calibration: Calibration
    groups: list[str]


Fit = Callable[[list[str], str, float], Calibration]
"""Function that fits by groups. Its arguments are the labels, the reference group, and the SD of all learners in the
unit of this fit, which a prior on slopes needs (1 if it is not known yet)."""


@dataclass(frozen=True)
class EarlierAnswers:
    """Answers that the learners of a fit gave before it. `answers` has one person per learner, in the fit's order.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> items = irt.ItemParameters.from_frame({"item": ["q1", "q2", "q3"], "a": [1, 1, 1], "b": [-1, 0, 1]})
    >>> x = irt.simulate_responses(items, [0.01 * k for k in range(-200, 201)], random_state=7)
    >>> from irt_psychometrics.estimation import EarlierAnswers
    >>> earlier = EarlierAnswers(x)
    >>> earlier.assignment_correlation(x, irt.fit(x, "rasch").calibration)[1]  # nobody has five earlier answers
    0
    """

    answers: Responses

    def fit_by_level(self, fit: Fit, anchors: AnchorSet | None) -> LevelledFit:
        """Fit with groups by the earlier θ̂.

        The first θ̂ is computed from earlier answers to anchors, with the anchors' parameters on the scale. Items were
        assigned by more than these answers, so the fit's own parameters then score all earlier answers, for better
        groups. The result depends only on the window, the answers before it and the frozen anchors.

        Parameters
        ----------
        fit
            Function that fits by groups; see `Fit`.
        anchors
            Frozen anchors of the scale. None: the first fit has a single group.

        Returns
        -------
        LevelledFit
            The last fit and the labels of its learners.
        """
        answers = self.answers
        if anchors is None:
            earlier = EarlierTheta(np.full(answers.n_persons, np.nan))
        else:
            earlier = EarlierTheta.from_answers(answers, anchors.item_ids, anchors.curves)
        sd = 1.0
        for _ in range(REFINEMENTS):
            found = _fit_groups(fit, earlier, sd)
            sd = found.latent_sd
            unit = found.standardised(found.latent_mean, found.latent_sd)
            earlier = EarlierTheta.from_answers(answers, unit.item_ids, unit.curves)
        found = _fit_groups(fit, earlier, sd)
        return LevelledFit(found.standardised(found.latent_mean, found.latent_sd), earlier.groups())

    def assignment_correlation(self, responses: Responses, calibration: Calibration) -> tuple[float, int]:
        """Compute the correlation of items' b with persons' earlier θ̂ over the responses of a calibration.

        Parameters
        ----------
        responses
            Responses of the calibration.
        calibration
            A fit of these responses.

        Returns
        -------
        float, int
            The correlation (NaN if it is not defined), and the number of learners in it.

        Raises
        ------
        PsychometricsError
            If `responses` are not of the persons who gave the earlier answers.
        """
        unit = calibration.rescaled(1 / calibration.latent_sd, -calibration.latent_mean / calibration.latent_sd)
        return correlation_with(responses, unit.b, EarlierTheta.from_answers(self.answers, unit.item_ids, unit.curves))


def _fit_groups(fit: Fit, earlier: EarlierTheta, sd: float) -> Calibration:
    groups = earlier.groups()
    names = sorted(set(groups) - {UNKNOWN}) or [UNKNOWN]
    return fit(groups, names[len(names) // 2], sd)


def correlation_with(responses: Responses, difficulty: Floats, earlier: EarlierTheta) -> tuple[float, int]:
    """`EarlierAnswers.assignment_correlation` for given difficulties and an earlier θ̂.

    `difficulty` has shape (J,). Items without a finite b within ±6 are left out. Returns NaN and the number of learners
    if there are fewer than two learners or no variance.
    """
    if earlier.theta.shape != (responses.n_persons,):
        raise PsychometricsError(
            f"there are {earlier.theta.size} earlier θ for the {responses.n_persons} learners in the fit"
        )
    usable = np.isfinite(difficulty) & (np.abs(difficulty) <= _PLAUSIBLE_B)
    rows = usable[responses.item] & earlier.known[responses.person]
    b, theta = difficulty[responses.item[rows]], earlier.theta[responses.person[rows]]
    learners = int(np.unique(responses.person[rows]).size)
    if learners < 2 or b.std() == 0 or theta.std() == 0:
        return float("nan"), learners
    return float(np.corrcoef(b, theta)[0, 1]), learners
