"""Observed proportions by ability, with which an item's curve is compared."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.confidence import Z95
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.scoring.abilities import Curves, eap_by


@dataclass(frozen=True)
class ByScore:
    """Answers to an item by score, 0 … m.

    Attributes:
        share: shape (m + 1, G), share of each group's answers that have this score.
        n: shape (m + 1,), number of answers with this score.
        theta: shape (m + 1,), mean ability of the learners with this score; NaN if there are none.
    """

    share: Floats
    n: Ints
    theta: Floats


@dataclass(frozen=True)
class Observed:
    """Proportions correct of one item in G groups of learners with similar ability; each array has shape (G,).

    Attributes:
        theta: mean ability of the group.
        proportion: share correct, or the mean score as a share of the maximum score, 0 … 1.
        n: number of answers in the group.
        by_score: the answers by score, if the item's maximum score is above 1; otherwise None.
    """

    theta: Floats
    proportion: Floats
    n: Ints
    by_score: ByScore | None = None

    @classmethod
    def by_ability(
        cls, responses: Responses, items: ItemParameters, wanted: Collection[str], *, mean: float, sd: float
    ) -> "dict[str, Observed]":
        """Observed proportions of those `wanted` items that are among the items of `responses`.

        A learner's θ is the posterior mean given the answers to the items that are not wanted, with their curves and
        the prior N(mean, sd²).
        """
        others = items.select([item for item in items.item_ids if item not in wanted]).among(responses.item_ids)
        theta = eap_by(responses, Curves.from_items(others.curves, mean=mean, sd=sd)).theta
        found = {}
        for name in wanted:
            if name in responses.item_ids:
                j = responses.item_ids.index(name)
                mine, most = responses.item == j, int(responses.n_categories[j]) - 1
                found[name] = group_answers(theta[responses.person[mine]], responses.score[mine], max_score=most)
        return found

    def of_score(self, score: int) -> "Observed":
        """Shares of answers with this score. The item must have `by_score`."""
        assert self.by_score is not None
        return Observed(self.theta, self.by_score.share[score], self.n)

    def interval(self) -> tuple[Floats, Floats]:
        """95 % interval of each proportion (Wilson 1927), which is within 0 … 1 even if all answers are right or wrong.

        For an item with `by_score`: the interval of the mean score, from its standard error.
        """
        if self.by_score is not None:
            shares = np.linspace(0, 1, len(self.by_score.share))
            variance = shares**2 @ self.by_score.share - self.proportion**2
            half = Z95 * np.sqrt(np.maximum(variance, 0) / np.maximum(self.n, 1))
            return np.maximum(self.proportion - half, 0.0), np.minimum(self.proportion + half, 1.0)
        n, p, z = np.maximum(self.n, 1), self.proportion, Z95
        middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
        return np.minimum(np.maximum(middle - half, 0.0), p), np.maximum(np.minimum(middle + half, 1.0), p)


def group_answers(
    theta: Floats, score: npt.ArrayLike, *, max_score: int = 1, groups: int = 8, min_answers: int = 20
) -> Observed:
    """Divide answers into groups of (nearly) equal size, from the least able learners to the ablest.

    Args:
        theta: shape (n,), ability of the learner who gave the answer. It must be estimated without this item. Otherwise
            the item would partly agree with itself. If θ is a posterior mean, the model's proportion of a group is
            about the curve at the group's mean.
        score: shape (n,), 0 … max_score.
        max_score: the item's maximum score.
        groups: largest number of groups.
        fewest: minimum number of answers of a group. The number of groups is reduced if necessary, but to no less than
            one if there are answers.
    """
    theta, points = np.asarray(theta, dtype=float), np.asarray(score, dtype=float)
    order = np.argsort(theta, kind="stable")
    parts = np.array_split(order, max(1, min(groups, theta.size // min_answers))) if theta.size else []
    by_score = None
    if max_score > 1:
        got = points == np.arange(max_score + 1)[:, None]
        n = got.sum(axis=1)
        share = np.array([got[:, part].mean(axis=1) for part in parts]).reshape(-1, max_score + 1).T
        with np.errstate(invalid="ignore"):
            by_score = ByScore(share, n, got @ theta / n)
    return Observed(
        np.array([theta[part].mean() for part in parts]),
        np.array([points[part].mean() / max_score for part in parts]),
        np.array([part.size for part in parts], dtype=np.int64),
        by_score,
    )
