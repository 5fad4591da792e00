"""Scales whose items are assigned by what was known of a learner before: fits by groups of earlier ability.

Where items follow an earlier θ̂, learners with other items are other learners, and one normal prior for all flattens
the slopes. Given θ̂ the assignment says nothing more of θ (it is ignorable, Rubin 1976), so learners are grouped by θ̂
and each group has its own mean and SD of θ (Bock & Zimowski 1997; Mislevy 1984 for conditioning on what is observed).

Belongs here: the groups, the sequence of fits, and the correlation that gives such an assignment away. Does not belong
here: where earlier answers come from, and the fit itself, which is handed in.
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
"""Quintiles leave learners of one group too different where items lie within half an SD of θ̂ (`bench_levels.py`)."""
LEARNERS_PER_LEVEL = 50
"""Levels with fewer learners are merged: a group's mean and SD would be mostly noise."""
REFINEMENTS = 2
"""How often earlier answers are scored again with the fit's own parameters; a third time changes no bias by more than
0.01."""
UNKNOWN = "unknown"
"""The group of learners whose earlier θ is not known."""
_PLAUSIBLE_B = 6.0


@dataclass(frozen=True)
class Earlier:
    """An earlier θ̂ of each of N learners, shape (N,); NaN where there are fewer than `MIN_EARLIER_ANSWERS` answers."""

    theta: Floats

    @classmethod
    def scored(cls, answers: Responses, item_ids: Sequence[str], items: ItemCurves) -> Self:
        """EAP against N(0, 1) from those of the earlier `answers` that are on `item_ids`, the `items` with curves.

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
        """N labels: equally large levels by θ̂, `level 01` the lowest, and `UNKNOWN`.

        There are as many levels as have `LEARNERS_PER_LEVEL`, at most `LEVELS`. Fewer unknown learners than make a
        level stand in the middle one.
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

    Attributes:
        groups: the label of each learner, as fit statistics need them.
    """

    calibration: Calibration
    groups: list[str]


Fit = Callable[[list[str], str, float], Calibration]
"""A fit by groups: labels, the reference group, and the SD of all learners in the unit of this fit as far as known (1
where it is not), which a prior on slopes needs."""


@dataclass(frozen=True)
class EarlierAnswers:
    """Answers that the learners of a fit gave before it; a person for each of the learners, in their order."""

    answers: Responses

    def fit_by_level(self, fit: Fit, anchors: AnchorSet | None) -> LevelledFit:
        """Calls `fit` with groups by the earlier θ̂.

        At first θ̂ rests on the anchors among the earlier answers and their parameters on the scale. These are a part of
        what the items were assigned by, so the fit's own parameters then score all earlier answers, for better groups;
        nothing but the window, the answers before it and the frozen anchors has a say.
        """
        answers = self.answers
        if anchors is None:
            earlier = Earlier(np.full(answers.n_persons, np.nan))
        else:
            earlier = Earlier.scored(answers, anchors.item_ids, anchors.curves)
        sd = 1.0
        for _ in range(REFINEMENTS):
            found = _fitted(fit, earlier, sd)
            sd = found.latent_sd
            unit = found.standardised(found.latent_mean, found.latent_sd)
            earlier = Earlier.scored(answers, unit.item_ids, unit.curves)
        found = _fitted(fit, earlier, sd)
        return LevelledFit(found.standardised(found.latent_mean, found.latent_sd), earlier.groups())

    def assignment_correlation(self, responses: Responses, calibration: Calibration) -> tuple[float, int]:
        """Correlation, over the responses of a calibration, of the item's b with the learner's earlier θ̂; and how many
        learners these are of."""
        unit = calibration.rescaled(1 / calibration.latent_sd, -calibration.latent_mean / calibration.latent_sd)
        return correlation_with(responses, unit.b, Earlier.scored(self.answers, unit.item_ids, unit.curves))


def _fitted(fit: Fit, earlier: Earlier, sd: float) -> Calibration:
    groups = earlier.groups()
    names = sorted(set(groups) - {UNKNOWN}) or [UNKNOWN]
    found = fit(groups, names[len(names) // 2], sd)
    found.item_model.require_logistic_or_scores("a fit by level")
    return found


def correlation_with(responses: Responses, difficulty: Floats, earlier: Earlier) -> tuple[float, int]:
    """As `assignment_correlation`, of difficulties and an earlier θ̂.

    `difficulty`: shape (J,); items without a finite b within ±6 do not count. NaN where there is nothing to correlate.
    """
    if earlier.theta.shape != (responses.n_persons,):
        raise PsychometricsError(f"earlier θ of {earlier.theta.size} learners for {responses.n_persons} in the fit")
    usable = np.isfinite(difficulty) & (np.abs(difficulty) <= _PLAUSIBLE_B)
    rows = usable[responses.item] & earlier.known[responses.person]
    b, theta = difficulty[responses.item[rows]], earlier.theta[responses.person[rows]]
    learners = int(np.unique(responses.person[rows]).size)
    if learners < 2 or b.std() == 0 or theta.std() == 0:
        return float("nan"), learners
    return float(np.corrcoef(b, theta)[0, 1]), learners
