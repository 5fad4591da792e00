"""Whether an item that could not be calibrated is answered as its published curve says.

Belongs here: the test of an item's proportion correct against its published curve, for items that had too few answers
for a fit, or whose estimate stopped at a bound. Does not belong here: items with an estimate (items.py), and which
answers count.

With learner i's posterior h_i from the *other* items, an answer is right with chance p_i = ∫ P(θ) h_i(θ) dθ, and given
all parameters answers of different learners are independent: the proportion x̄ of n has expectation p̄ = Σ p_i/n and
variance Σ p_i(1 − p_i)/n². What is published has errors as well, so

    Var(x̄ − p̄) = Σ p_i(1 − p_i)/n² + gᵀ Cov(a, b) g + Σ_k g_kᵀ Cov(a_k, b_k) g_k + g_μ² Var(μ),

g being the gradient of p̄ by the item's own parameters, g_k by those of another item, through the posteriors, and g_μ by
the mean μ of the learners. Errors of different items are taken as independent.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from irt_assets.psychometrics.core.arrays import Floats, Ints
from irt_assets.psychometrics.core.curves import HIGH_WABC, MEDIUM_WABC
from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.significance import q_values
from irt_assets.psychometrics.drift.items import FALSE_DISCOVERIES, Severity, graded
from irt_assets.psychometrics.scoring.rest_posterior import RestPosterior

FEWEST = 30
"""An item with fewer answers is not tested."""
LEAST_SPREAD = 5.0
"""An item with a smaller Σ p_i(1 − p_i) is not tested: the number of right answers is then too far from normal."""


@dataclass(frozen=True)
class ProportionsCorrect:
    """The K tested items.

    Attributes:
        n: shape (K,), answers.
        observed, expected: shape (K,), proportions correct, and by the published curve.
        se: shape (K,), of their difference.
        p, q: shape (K,), two-sided, of "no difference"; q after Benjamini & Hochberg (1995) over the K items.
    """

    item_ids: tuple[str, ...]
    n: Ints
    observed: Floats
    expected: Floats
    se: Floats
    p: Floats
    q: Floats

    @property
    def difference(self) -> Floats:
        """Shape (K,): observed − expected, > 0 where the item became easier. The area between the response curves,
        weighted by the learners who answered, is at least as large."""
        return self.observed - self.expected

    @property
    def severity(self) -> tuple[Severity, ...]:
        """Severity by the limits of drift: q < 0.05, and the difference above 0.05 medium, above 0.10 high."""
        size = np.where(self.q < FALSE_DISCOVERIES, np.abs(self.difference), 0.0)
        return graded(size, MEDIUM_WABC, HIGH_WABC)


def proportions_correct(
    responses: Responses,
    tested: Collection[str],
    published: ItemParameters,
    *,
    mean: float,
    sd: float,
    mean_se: float = 0.0,
) -> ProportionsCorrect:
    """Test those of `tested` that have enough answers: 30, and not nearly all right or wrong as expected.

    published: in the order of `responses.item_ids`. N(mean, sd²): the window's learners on the bank's scale, mean_se
    the error of its mean.
    Tested items do not contribute to anyone's θ.
    """
    known, cov = published.curves.known, published.cov_of_each
    is_tested = np.isin(responses.item_ids, list(tested))
    informative = known & ~is_tested
    others = RestPosterior.of(
        responses.person, responses.item, responses.score, informative, published, mean=mean, sd=sd
    )
    right, wrong = others.right[:, informative], others.wrong[:, informative]
    informing = [item for item, is_one in zip(responses.item_ids, informative, strict=True) if is_one]
    of_right, of_wrong = _scores(others.nodes, published.select(informing))
    by_item = np.argsort(responses.item, kind="stable")
    starts = np.searchsorted(responses.item[by_item], np.arange(responses.n_items + 1))
    found = []
    for j in np.flatnonzero(is_tested & known).tolist():
        tested_one = published.select([responses.item_ids[j]])
        rows = by_item[starts[j] : starts[j + 1]]
        correct = responses.score[rows]
        if correct.size < FEWEST:
            continue
        people = responses.person[rows]
        posterior = others.posterior(people)
        curve = tested_one.curve(others.nodes)[:, 0]
        p = posterior @ curve
        spread = float((p * (1 - p)).sum())
        if spread < LEAST_SPREAD:
            continue
        own = posterior.mean(axis=0) @ tested_one.curve_by_ab(others.nodes)[0]
        tilt = posterior * (curve - p[:, None]) / correct.size  # (n, Q): what moving a posterior does to p̄
        by_others = np.einsum("jkq,jq->jk", of_right, right[people].T @ tilt)
        by_others += np.einsum("jkq,jq->jk", of_wrong, wrong[people].T @ tilt)
        by_mean = tilt.sum(axis=0) @ (others.nodes - mean) / sd**2
        variance = spread / correct.size**2 + own @ cov[j] @ own + (by_mean * mean_se) ** 2
        variance += np.einsum("jk,jkl,jl->", by_others, cov[informative], by_others)
        found.append((responses.item_ids[j], correct.size, correct.mean(), p.mean(), np.sqrt(variance)))
    items, n, *numbers = zip(*found, strict=True) if found else ((),) * 5
    observed, expected, se = (np.array(x, dtype=float) for x in numbers)
    chance = 2 * ndtr(-np.abs(observed - expected) / se)
    q = q_values(chance)
    return ProportionsCorrect(tuple(items), np.array(n, dtype=np.int64), observed, expected, se, chance, q)


def _scores(nodes: Floats, items: ItemParameters) -> tuple[Floats, Floats]:
    """Shape (J, 2, Q) each: ∂/∂(a, b) of log P and of log(1 − P) at the nodes.

    An item's share in the gradient of p̄ is Σ_i Cov_h(P, its score at i's answer), as posteriors are made of these.
    """
    tiny = np.finfo(float).tiny
    by_parameters, p = items.curve_by_ab(nodes).transpose(0, 2, 1), items.curve(nodes).T[:, None]
    return by_parameters / np.maximum(p, tiny), -by_parameters / np.maximum(1 - p, tiny)
