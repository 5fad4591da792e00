"""Test of an uncalibrated item: its proportion correct, compared with its published curve.

The test is for items that had too few answers for a fit, or whose estimate stopped at a bound. Items with an estimate
are in items.py. The caller chooses the answers that count.

Let h_i be the posterior of learner i from the *other* items. An answer is right with probability
p_i = ∫ P(θ) h_i(θ) dθ. Given all parameters, answers of different learners are independent, so the proportion x̄ of n
answers has expectation p̄ = Σ p_i/n and variance Σ p_i(1 − p_i)/n². Published parameters have errors, too, so

    Var(x̄ − p̄) = Σ p_i(1 − p_i)/n² + gᵀ Cov(a, b) g + Σ_k g_kᵀ Cov(a_k, b_k) g_k + g_μ² Var(μ),

where g is the gradient of p̄ with respect to the item's own parameters, g_k its gradient with respect to the parameters
of another item, through the posteriors, and g_μ its derivative with respect to the mean μ of the learners. Errors of
different items are assumed to be independent. For an item scored 0 … m, x is the score divided by m, P is its
expectation, and the first term is Σ (E x_i² − p_i²)/n², because E x² differs from E x. The errors of steps count like
the errors of a and b; c is treated as known.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.curves import HIGH_WABC, MEDIUM_WABC
from irt_psychometrics.core.item_models import CountedScores
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import q_values
from irt_psychometrics.drift.severity import FALSE_DISCOVERIES, Severity, grade_severity
from irt_psychometrics.scoring.rest_posterior import RestPosterior

MIN_ANSWERS = 30
"""An item with fewer answers is not tested."""
MIN_SPREAD = 5.0
"""An item with a smaller Σ p_i(1 − p_i) is not tested: the number of right answers is then too far from normal."""


@dataclass(frozen=True)
class ProportionsCorrect:
    """Tests of K items by the proportion correct, as `Drift.with_proportions` computes them.

    Attributes
    ----------
    item_ids
        K items.
    n
        Shape (K,), number of answers.
    observed, expected
        Shape (K,), the proportion correct, and its expectation under the published curve.
    se
        Shape (K,), standard error of their difference.
    p, q
        Shape (K,), two-sided p-value and q value of the hypothesis "no difference"; q by Benjamini & Hochberg (1995)
        over the K items.

    Examples
    --------
    >>> import numpy as np
    >>> from irt_psychometrics.drift import ProportionsCorrect
    >>> n, observed, expected = np.array([80]), np.array([0.75]), np.array([0.5])
    >>> tests = ProportionsCorrect(("q1",), n, observed, expected, np.array([0.06]), np.array([3e-5]), np.array([3e-5]))
    >>> tests.difference.tolist(), tests.severity
    ([0.25], ('high',))
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
        """observed − expected, shape (K,); > 0 if the item became easier.

        The area between the response curves, weighted by the learners who answered, is at least as large.
        """
        return self.observed - self.expected

    @property
    def severity(self) -> tuple[Severity, ...]:
        """Severity by the limits of drift: if q < 0.05, a difference above 0.05 is medium, and above 0.10 high."""
        size = np.where(self.q < FALSE_DISCOVERIES, np.abs(self.difference), 0.0)
        return grade_severity(size, MEDIUM_WABC, HIGH_WABC)


def proportions_correct(
    responses: Responses,
    tested: Collection[str],
    published: ItemParameters,
    *,
    mean: float,
    sd: float,
    mean_se: float = 0.0,
) -> ProportionsCorrect:
    """Test the items in `tested` with 30 answers or more, unless the published curve predicts that nearly all answers
    are alike.

    Args:
        responses: the responses of the window.
        tested: the items; they do not contribute to any learner's θ.
        published: the published items, in the order of `responses.item_ids`.
        mean, sd: the window's learners on the bank's scale, θ ~ N(mean, sd²).
        mean_se: standard error of the mean.
    """
    known = published.curves.known
    is_tested = np.isin(responses.item_ids, list(tested))
    informative = known & ~is_tested
    others = RestPosterior.from_answers(
        responses.person, responses.item, responses.score, informative, published,
        mean=mean, sd=sd, categories=responses.categories,
    )  # fmt: skip
    informing = [item for item, is_one in zip(responses.item_ids, informative, strict=True) if is_one]
    of_row = CountedScores.from_curves(published.curves).item_of_row
    right, wrong = (answers[:, informative[of_row]] for answers in (others.right, others.wrong))
    of_right, of_wrong = published.select(informing).log_by_parameters(others.nodes)
    of_row, cov_of_others = of_row[informative[of_row]], published.select(informing).cov_of_all
    place = np.cumsum(informative) - 1
    by_item = np.argsort(responses.item, kind="stable")
    starts = np.searchsorted(responses.item[by_item], np.arange(responses.n_items + 1))
    found = []
    for j in np.flatnonzero(is_tested & known).tolist():
        tested_one = published.select([responses.item_ids[j]])
        rows = by_item[starts[j] : starts[j + 1]]
        share = responses.score[rows] / (responses.n_categories[j] - 1)
        if share.size < MIN_ANSWERS:
            continue
        people = responses.person[rows]
        posterior = others.posterior(people)
        curve = tested_one.curve(others.nodes)[:, 0]
        p = posterior @ curve
        if (p * (1 - p)).sum() < MIN_SPREAD:
            continue
        own = np.zeros(2 + tested_one.n_further)
        own[:2] = posterior.mean(axis=0) @ tested_one.curve_by_ab(others.nodes)[0]
        if tested_one.others:
            own[2:] = tested_one.by_further(others.nodes)[0] @ posterior.mean(axis=0)
        tilt = posterior * (curve - p[:, None]) / share.size  # (n, Q): ∂p̄/∂ log-likelihood at each node
        by_rows = np.einsum("jkq,jq->jk", of_right, right[people].T @ tilt)
        by_rows += np.einsum("jkq,jq->jk", of_wrong, wrong[people].T @ tilt)
        by_others = np.zeros(cov_of_others.shape[:2])
        np.add.at(by_others, place[of_row], by_rows)
        by_mean = tilt.sum(axis=0) @ (others.nodes - mean) / sd**2
        spread = float((posterior @ _squared_score(tested_one, others.nodes, curve) - p**2).sum())
        variance = spread / share.size**2 + own @ tested_one.cov_of_all[0] @ own + (by_mean * mean_se) ** 2
        variance += np.einsum("jk,jkl,jl->", by_others, cov_of_others, by_others)
        found.append((responses.item_ids[j], share.size, share.mean(), p.mean(), np.sqrt(variance)))
    items, n, *numbers = zip(*found, strict=True) if found else ((),) * 5
    observed, expected, se = (np.array(x, dtype=float) for x in numbers)
    chance = 2 * ndtr(-np.abs(observed - expected) / se)
    q = q_values(chance)
    return ProportionsCorrect(tuple(items), np.array(n, dtype=np.int64), observed, expected, se, chance, q)


def _squared_score(item: ItemParameters, nodes: Floats, curve: Floats) -> Floats:
    """Expectation of the square of the score divided by its maximum, shape (Q,). `curve` is the first moment."""
    for some in item.others:
        p = some.model.probabilities(nodes, some.parameters(item.a, item.d), some.categories)[0]
        return np.asarray(p @ (np.arange(p.shape[1]) / (some.categories[0] - 1)) ** 2)
    return curve
