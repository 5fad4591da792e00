"""Information lost because abilities are unknown, compared with Louis' formula computed person by person."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics.core import kernels
from irt_psychometrics.core.models import Calibration
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.drift.errors import Comparison, Published
from irt_psychometrics.estimation import information_kernels
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.likelihood import (
    Guessing,
    Logistic,
    missing_information,
    missing_information_blocks,
)
from irt_psychometrics.estimation.response_layout import ResponseLayout
from irt_psychometrics.information.functions import (
    Abilities,
    ItemLosses,
    LossOfTest,
    loss_of_test,
    losses_of_items,
)
from irt_psychometrics.linking.linking import link_to_anchors
from psychometrics_testbed.drift_worlds import ITEMS as ITEMS_OF_A_WORLD, anchor_set, world
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

ITEMS = 12


def plain_loss(x, p, log_weights, latent, factors):
    """Σ_i Cov(score | pattern i) with score (x − P)·V of items and `latent` of the two groups, node by node."""
    K, J, Q = factors.shape
    loss = np.zeros((K * J + 4, K * J + 4))
    for i, row in enumerate(x):
        seen, group = ~np.isnan(row), i % 2
        score = np.zeros((K, J, Q))
        score[:, seen] = (row[seen, None] - p[seen]) * factors[:, seen]
        like = np.where(row[seen, None] == 1, p[seen], 1 - p[seen])
        post = np.exp(np.log(like).sum(axis=0) + log_weights[group])
        post /= post.sum()
        whole = np.zeros((K * J + 4, Q))
        whole[: K * J] = score.reshape(K * J, Q)
        whole[K * J + group], whole[K * J + 2 + group] = latent[0, group], latent[1, group]
        off = whole - (whole @ post)[:, None]
        loss += (off * post) @ off.T
    return loss


# the slope sets the number of terms per person: 6, 12 or one per node; persons with the same form share sums
@pytest.mark.parametrize("slope", [0.6, 1.2, 4.0])
@pytest.mark.parametrize("design", ["forms", "random"])
@pytest.mark.parametrize("guessing", [False, True])
def test_loss_of_information_matches_louis_formula_for_forms_and_random_designs(slope, design, guessing):
    rng = np.random.default_rng(5)
    theta = rng.normal(size=(80, 1))
    a, d = slope * np.exp(rng.normal(0, 0.1, ITEMS)), rng.normal(0, 0.5, ITEMS)
    x = (rng.random((80, ITEMS)) < expit(theta * a + d)).astype(float)
    half = (np.arange(80)[:, None] % 2 == 0) == (np.arange(ITEMS) < ITEMS // 2)
    x[half if design == "forms" else rng.random(x.shape) < 0.4] = np.nan
    x[0] = 1.0
    data = ResponseLayout.from_responses(Responses.from_wide(x), group=np.arange(80) % 2, rarer=guessing, shards=3)
    grid = Grid.symmetric()
    log_weights = np.stack([grid.log_weights(), grid.log_weights(0.5, 1.2)])
    latent = rng.normal(size=(2, 2, 1)) * np.stack([grid.nodes, grid.nodes**2])[:, None]
    if guessing:
        curves = Guessing(data, grid.nodes, a, d, rng.normal(-1.4, 0.3, ITEMS))
        p, factors = curves.tables.p, curves.tables.factors
    else:
        curves = Logistic(data, grid.nodes, a, d)
        p = curves.p
        factors = np.stack(np.broadcast_arrays(grid.nodes, np.ones_like(p), p)[:2])
    plain = plain_loss(x, p, log_weights, latent, factors)
    with kernels.runner(2) as run:
        total = data.sums(run)
        found = missing_information(curves, total, log_weights, latent)
        blocks = missing_information_blocks(curves, total, log_weights)
    scale = np.sqrt(np.diag(plain))
    # a sum of 6 or 12 terms leaves out about 1e-5 of a score's variance, somewhat more with guessing
    tolerance = 5e-5 if guessing else 2e-5
    np.testing.assert_allclose(found / scale / scale[:, None], plain / scale / scale[:, None], atol=tolerance)
    own = np.arange(len(factors)) * ITEMS + np.arange(ITEMS)[:, None]
    scale = scale[own]
    outer = scale[:, :, None] * scale[:, None, :]
    np.testing.assert_allclose(blocks / outer, plain[own[:, :, None], own[:, None, :]] / outer, atol=tolerance)


@pytest.mark.parametrize("one_form", [True, False])
def test_fit_calls_only_the_kernels_that_its_design_needs(one_form, monkeypatch):
    """Compiling a kernel takes seconds."""
    rng = np.random.default_rng(2)
    x = (rng.random((90, ITEMS)) < expit(rng.normal(size=(90, 1)))).astype(float)
    if not one_form:
        x[np.arange(90)[:, None], np.argsort(rng.random(x.shape))[:, :3]] = np.nan
    if one_form:
        monkeypatch.setattr(information_kernels, "add_persons", None)
    else:
        monkeypatch.setattr(information_kernels, "add_runs", None)
    assert np.isfinite(fit_em(Responses.from_wide(x)).a_se).all()


# -- flagged items -----------------------------------------------------------------------------------
# Information after estimation and linking: items that lost information are flagged, sound items are not.

FLAG_ITEMS, FLATTENED = 30, 3
IDS = [f"item{j:02d}" for j in range(FLAG_ITEMS)]


def fit_answers(rng: np.random.Generator, n: int, a: np.ndarray, b: np.ndarray, mean: float, sd: float) -> Calibration:
    theta = rng.normal(mean, sd, (n, 1))
    right = rng.random((n, FLAG_ITEMS)) < 1 / (1 + np.exp(-a * (theta - b)))
    return fit_em(Responses.from_wide(right.astype(float), IDS), threads=1)


def measure_losses(seed: int, n: int, kept: float) -> tuple[ItemLosses, LossOfTest]:
    """A month of other learners, N(0.5, 1.2²), in which the first three items keep this share of their a."""
    rng = np.random.default_rng([9, seed])
    a, b = np.exp(rng.normal(0, 0.3, FLAG_ITEMS)), rng.normal(0, 1, FLAG_ITEMS)
    old = fit_answers(rng, n, a, b, 0.0, 1.0)
    frozen = anchor_set(old.a, old.b, old.cov_ab)
    new = fit_answers(rng, n, a * np.where(np.arange(FLAG_ITEMS) < FLATTENED, kept, 1.0), b, 0.5, 1.2)
    anchors, linking = frozen, link_to_anchors(new, frozen)
    found = Comparison.from_linked_fit(new, linking, anchors, Published.from_anchors(anchors))
    return losses_of_items(found, Abilities.normal()), loss_of_test(found, Abilities.normal())


@WHERE_STATISTICS_CHANGE
@pytest.mark.timeout(300)
def test_sound_items_are_not_flagged_for_lost_information() -> None:
    """The plain rule (a ratio below 0.8) flags 16 % of sound items with 1000 learners; over 1200 items, the standard
    error of this share is 1.1 %. The mean square of z is 1 with a standard error of √(2/1200) = 0.04, if items of a
    month are independent. The test as a whole is flagged by its estimate, which falls below 0.8 at some θ in 1 % of
    sound months."""
    months = [measure_losses(seed, 1000, 1.0) for seed in range(40)]
    items = [losses for losses, _ in months]
    assert np.mean([len(losses.flagged) / FLAG_ITEMS for losses in items]) <= 0.01
    assert np.mean([losses.ratio < 0.8 for losses in items]) > 0.12
    z = np.array([np.log(losses.ratio) / losses.log_se for losses in items])
    assert np.mean(z**2) == pytest.approx(1.0, abs=0.16)
    assert sum(test.flagged for _, test in months) <= 3


@WHERE_STATISTICS_CHANGE
@pytest.mark.timeout(300)
def test_items_with_half_of_their_slope_are_flagged_at_2000_learners() -> None:
    months = [measure_losses(100 + seed, 2000, 0.5)[0] for seed in range(8)]
    found = np.array([np.isin(IDS, losses.flagged) for losses in months])
    assert found[:, :FLATTENED].mean() >= 0.8
    assert found[:, FLATTENED:].mean() <= 0.01


@WHERE_STATISTICS_CHANGE
def test_errors_of_log_ratios_match_their_spread_if_no_item_moved() -> None:
    """In these worlds nothing moved, so log R over its error has a mean square of 1: over 75 worlds its standard
    error is 0.17 for one item and near 0.06 over all 14."""
    generator = np.random.default_rng(6)
    z = []
    for _ in range(75):
        found = losses_of_items(world(generator)[1][0], Abilities.normal())
        z.append(np.log(found.ratio) / found.log_se)
    assert (np.shape(z), np.mean(np.square(z))) == ((75, ITEMS_OF_A_WORLD), pytest.approx(1.0, abs=0.15))
