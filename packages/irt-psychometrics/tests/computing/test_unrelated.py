"""Answers that have something in common are told from answers that have not, however little of it there is."""

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
    """A weak scale: slopes of 0.6, so many answers a learner, to items of his own."""
    b, theta = rng.normal(0, 1, ITEMS), rng.normal(0, 1, (learners, 1))
    x = (rng.random((learners, ITEMS)) < expit(0.6 * (theta - b))).astype(float)
    x[np.argsort(rng.random(x.shape), axis=1) >= answers] = np.nan
    return Responses.from_wide(x)


def shuffled(rng: np.random.Generator, responses: Responses) -> Responses:
    """Each item's answers by other learners than those who gave them."""
    score = responses.score.copy()
    for j in range(responses.n_items):
        rows = np.flatnonzero(responses.item == j)
        score[rows] = rng.permutation(score[rows])
    return replace(responses, score=score)


def fitted(responses: Responses) -> Calibration:
    return fit_em(responses, threads=1)


@pytest.mark.ci
def test_a_weak_scale_is_accepted_below_what_chance_never_exceeds_and_refused_once_it_is_shuffled() -> None:
    """Eight of each. With 12 answers a learner the gain of half of them lies below the bound of 3 an item and 8; a
    shuffled log passes once in a hundred."""
    rng = np.random.default_rng(4)
    logs = [sparse(rng, 12) for _ in range(8)]
    assert all(fitted(log).convergence.converged for log in logs)
    refused = [fitted(shuffled(rng, log)).convergence for log in logs]
    assert sum(not c.converged for c in refused) >= 7
    assert all("cannot be distinguished from unrelated ones" in c.reason for c in refused if not c.converged)
    assert all("scored by the right key" in c.reason for c in refused if not c.converged), "a way out"


def test_where_slopes_are_too_much_a_model_with_one_is_offered_and_fits() -> None:
    """4 answers a learner: a slope common to all items shows, items' own do not."""
    log = sparse(np.random.default_rng(1), 4)
    reason = fitted(log).convergence.reason
    assert "fit a rasch or 1pl model" in reason
    assert "unrelated" not in reason
    assert fit_em(log, model="rasch", threads=1).convergence.converged


def test_the_answer_is_the_same_each_time_and_within_groups() -> None:
    """Groups that differ in mean have a gain of their own, which shuffling within groups leaves to them."""
    rng = np.random.default_rng(2)
    log = shuffled(rng, sparse(rng, 11))
    assert fitted(log).convergence.reason == fitted(log).convergence.reason
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


def test_a_fit_that_passes_the_bound_shuffles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(independence, "_shuffles", lambda *_: pytest.fail("shuffled"))
    assert fitted(sparse(np.random.default_rng(3), 30)).convergence.converged
