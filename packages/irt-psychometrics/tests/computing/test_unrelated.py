"""Answers that depend on a common ability are distinguished from unrelated answers, even if they are few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation import independence
from irt_psychometrics.estimation.em import fit_em
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

ITEMS = 40


def sparse(rng: np.random.Generator, answers: int, learners: int = 300) -> Responses:
    """Answers on a weak scale with slopes of 0.6; each learner answers a random set of `answers` items."""
    b, theta = rng.normal(0, 1, ITEMS), rng.normal(0, 1, (learners, 1))
    x = (rng.random((learners, ITEMS)) < expit(0.6 * (theta - b))).astype(float)
    x[np.argsort(rng.random(x.shape), axis=1) >= answers] = np.nan
    return Responses.from_wide(x)


def shuffled(rng: np.random.Generator, responses: Responses) -> Responses:
    """Permute each item's answers among the learners who answered the item."""
    score = responses.score.copy()
    for j in range(responses.n_items):
        rows = np.flatnonzero(responses.item == j)
        score[rows] = rng.permutation(score[rows])
    return replace(responses, score=score)


def fit_responses(responses: Responses) -> Calibration:
    return fit_em(responses, threads=1)


@pytest.mark.ci
def test_weak_scale_is_accepted_but_refused_if_its_answers_are_shuffled() -> None:
    """Eight logs of each kind. With 12 answers per learner, half of the gains are below the bound of 3 per item plus 8.
    A shuffled log passes once in a hundred."""
    rng = np.random.default_rng(4)
    logs = [sparse(rng, 12) for _ in range(8)]
    assert all(fit_responses(log).convergence.converged for log in logs)
    refused = [fit_responses(shuffled(rng, log)).convergence for log in logs]
    assert sum(not c.converged for c in refused) >= 7
    assert all("cannot be distinguished from unrelated ones" in c.reason for c in refused if not c.converged)
    assert all("scored with the right key" in c.reason for c in refused if not c.converged), "a way out"


def test_common_slope_is_suggested_if_answers_do_not_determine_slopes() -> None:
    """4 answers per learner determine a common slope, but not the items' own slopes."""
    log = sparse(np.random.default_rng(1), 4)
    reason = fit_responses(log).convergence.reason
    assert "fit a rasch or 1pl model" in reason
    assert "unrelated" not in reason
    assert fit_em(log, model="rasch", threads=1).convergence.converged


def test_verdict_on_unrelated_answers_is_reproducible_and_shuffles_within_groups() -> None:
    """The difference of the groups' means contributes to the gain; shuffling within groups preserves this part."""
    rng = np.random.default_rng(2)
    log = shuffled(rng, sparse(rng, 11))
    assert fit_responses(log).convergence.reason == fit_responses(log).convergence.reason
    low, high = sparse(rng, 11), sparse(rng, 11)
    noise = [shuffled(rng, replace(part, score=np.where(rng.random(part.score.size) < p, 1, 0).astype(np.int8)))
             for part, p in ((low, 0.3), (high, 0.7))]  # fmt: skip
    both = Responses(
        np.concatenate([noise[0].person, noise[1].person + 300]).astype(np.int32),
        np.concatenate([one.item for one in noise]),
        np.concatenate([one.score for one in noise]),
        600,
        low.item_ids,
    )
    groups = ["low"] * 300 + ["high"] * 300
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(independence, "NOISE_PER_ITEM", 1000.0)
        assert "unrelated" in fit_em(both, groups=groups, threads=1).convergence.reason


def test_answers_are_not_shuffled_if_a_fit_passes_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(independence, "_shuffles", lambda *_: pytest.fail("shuffled"))
    assert fit_responses(sparse(np.random.default_rng(3), 30)).convergence.converged
