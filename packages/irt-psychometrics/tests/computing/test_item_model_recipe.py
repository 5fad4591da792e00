"""A model in one file of the testbed, which no file of the product names, goes through everything: the 4PL.

`docs/explanation/architecture.md` shows this file as the recipe for a new item model.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

import irt_psychometrics as irt
from irt_psychometrics.adaptive import AdaptiveTest, simulate_tests
from irt_psychometrics.assembly import FormDesign, assemble
from irt_psychometrics.commands import Files, fit as fit_file
from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.core.item_models import ITEM_MODELS
from irt_psychometrics.dif import Dif
from irt_psychometrics.drift import Comparison, Drift, Published
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.itemfit import FitSummary, person_fit
from irt_psychometrics.linking import AnchorLimits, link_to_anchors
from irt_psychometrics.scoring import ScoreScale, ScoreTable
from psychometrics_testbed.made_anchors import anchors_of_items
from psychometrics_testbed.trial_item_model import MODEL
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

ITEMS, PERSONS, MOVED = 20, 3000, 3
IDS = [f"q{j:02}" for j in range(ITEMS)]
THETA = np.linspace(-3, 3, 13)
MIRT_LOG_L, MIRT_LOG_POSTERIOR = -36202.027313, -36217.506437
MIRT = np.array(
    [
        [1.40245125, 0.827016569, 0.14702919, 0.94231280],
        [1.21543944, 0.500846947, 0.17732886, 0.94089354],
        [1.74889144, -0.615410563, 0.15489541, 0.92215959],
        [1.80738199, 0.170285520, 0.16092261, 0.95395123],
        [1.11704741, -1.630492551, 0.16674371, 0.94862118],
        [1.10888739, 1.995218899, 0.20714550, 0.93130171],
    ]
)
"""a, d, c and u of the first items by R mirt 1.47 from the answers of `draw`: itemtype "4PL", 61 nodes on ±6, TOL 1e-7,
priors g ~ norm(−1.3863, 0.5) and u ~ norm(2.9444, 0.5) on the logits."""


def parameters() -> np.ndarray:
    """a, d, logit c and logit u of the items."""
    rng = np.random.default_rng(4)
    a, b = np.exp(rng.normal(0.4, 0.2, ITEMS)), rng.normal(0, 0.8, ITEMS)
    c, u = rng.uniform(0.1, 0.3, ITEMS), rng.uniform(0.85, 0.98, ITEMS)
    return np.stack([a, -a * b, logit(c), logit(u)])


TRUTH = parameters()


def draw(seed: int, mean: float = 0.0, harder: float = 0.0, persons: int = PERSONS) -> tuple[np.ndarray, irt.Responses]:
    """Draw θ ~ N(mean, 1) and answers; the b of the item `MOVED` is higher by `harder`."""
    rng, truth = np.random.default_rng(seed), TRUTH.copy()
    truth[1, MOVED] -= harder * truth[0, MOVED]
    theta = mean + rng.standard_normal(persons)
    c, u = expit(truth[2:])
    p = c + (u - c) * expit(np.multiply.outer(theta, truth[0]) + truth[1])
    return theta, irt.Responses.from_wide((rng.random(p.shape) < p).astype(float), item_ids=IDS)


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ITEM_MODELS, MODEL.name, MODEL)
        yield


@pytest.fixture(scope="module")
def fit(registered: None) -> irt.Calibration:
    return fit_em(draw(1)[1], model=MODEL.name, threads=1)


def test_derivatives_of_the_model_match_finite_differences() -> None:
    two, step = np.full(ITEMS, 2), 1e-6
    by = MODEL.by_parameters(THETA, TRUTH, two)
    for k, move in enumerate(step * np.eye(4)):
        up, down = (MODEL.log_probabilities(THETA, TRUTH + sign * move[:, None], two) for sign in (1, -1))
        np.testing.assert_allclose(by[k], (up - down) / (2 * step), atol=1e-8)
    up, down = (MODEL.log_probabilities(THETA + x, TRUTH, two) for x in (step, -step))
    np.testing.assert_allclose(MODEL.by_theta(THETA, TRUTH, two), (up - down) / (2 * step), atol=1e-8)


def test_fit_and_log_posterior_match_mirt(fit: irt.Calibration) -> None:
    a, d, logit_c, logit_u = fit.parameters
    z = np.stack([(logit_c - np.log(0.25)) / 0.5, (logit_u - logit(0.95)) / 0.5])
    log_prior = (-(z**2) / 2 - np.log(0.5 * np.sqrt(2 * np.pi))).sum()
    assert fit.convergence.converged
    assert fit.convergence.loglik == pytest.approx(MIRT_LOG_L, abs=1e-3)
    assert fit.convergence.loglik + log_prior == pytest.approx(MIRT_LOG_POSTERIOR, abs=1e-3)
    np.testing.assert_allclose(np.stack([a, d, expit(logit_c), expit(logit_u)])[:, : len(MIRT)].T, MIRT, atol=1e-3)


def test_errors_cover_the_truth(fit: irt.Calibration) -> None:
    z = (fit.parameters - TRUTH) / np.sqrt(np.diagonal(fit.cov, axis1=1, axis2=2).T)
    assert np.isfinite(z).all()
    assert np.mean(z[:2] ** 2) < 1.6  # 40 squares with mean 1 exceed this with probability .008; the seed is fixed
    assert np.mean(z[2:] ** 2) < 1.6  # priors make errors of c and u smaller than errors from the answers alone


def test_fit_statistics_find_no_misfit(fit: irt.Calibration) -> None:
    _, responses = draw(1)
    found = FitSummary.from_fit(responses, fit)
    for name in ("infit", "outfit"):
        np.testing.assert_allclose(found.items[name], 1, atol=0.1)
    assert np.abs(found.items["infit_z"]).max() < 4
    assert np.isnan(found.items["outfit_z"]).all()  # 1 − 2P is a combination of ∂P/∂c and ∂P/∂u
    assert np.mean(np.asarray(found.items["rmsd_p"]) < 0.05) <= 0.2
    assert np.asarray(found.items["s_x2_p"]).min() > 0.001
    lz = person_fit(responses, fit).lz
    assert (lz.mean(), lz.std()) == (pytest.approx(0, abs=0.15), pytest.approx(1, abs=0.05))


def test_link_recovers_the_populations_and_drift_flags_the_moved_item(fit: irt.Calibration) -> None:
    anchors = anchors_of_items(fit.items)
    raw = fit_em(draw(3, mean=0.4, harder=0.8)[1], model=MODEL.name, threads=1)
    link = link_to_anchors(raw, anchors, limits=AnchorLimits(min_anchors=5))
    assert IDS[MOVED] not in link.anchors_used
    assert (link.slope, link.intercept) == (pytest.approx(1, abs=0.1), pytest.approx(0.4, abs=0.1))
    comparison = Comparison.from_linked_fit(raw, link, anchors, Published.from_anchors(anchors))
    assert comparison.by_curves.all()
    assert Drift.from_comparison(comparison).flagged == (IDS[MOVED],)


def test_items_held_in_a_fit_keep_their_curves(fit: irt.Calibration) -> None:
    held = fit.items.select(IDS[:8])
    found = fit_em(draw(3, mean=0.4)[1], model=MODEL.name, anchors=anchors_of_items(held), threads=1)
    np.testing.assert_allclose(found.items.select(IDS[:8]).curve(THETA), held.curve(THETA), rtol=1e-12)
    assert (found.latent_mean, found.latent_sd) == (pytest.approx(0.4, abs=0.1), pytest.approx(1, abs=0.1))
    with pytest.raises(irt.PsychometricsError, match="anchor q00 has the parameters of a 4PL, and the item"):
        fit_em(draw(3)[1], model="3pl", anchors=anchors_of_items(held))


def test_dif_is_found_in_the_moved_item_alone() -> None:
    both = [draw(1)[1], draw(2, mean=-0.3, harder=0.8)[1]]
    wide = np.vstack([one.score.reshape(PERSONS, ITEMS) for one in both]).astype(float)
    groups = ["reference"] * PERSONS + ["focal"] * PERSONS
    found = Dif.from_responses("group", irt.Responses.from_wide(wide, item_ids=IDS), groups, model=MODEL.name)
    assert found.wald is not None
    others = np.arange(ITEMS) != MOVED
    assert found.wald.wald[MOVED] > 50
    assert found.wald.wabc[0, MOVED] > 0.1
    assert found.wald.wald[others].max() < 13.8  # the 99.9 % point of χ² with 2 degrees of freedom


def test_score_table_matches_answers_of_many_persons(fit: irt.Calibration) -> None:
    table = ScoreTable.from_items(fit.items, ScoreScale(slope=1, intercept=0), mean=0, sd=1)
    theta = np.random.default_rng(9).standard_normal(100_000)
    total = irt.simulate_responses(fit.items, theta, random_state=9).score.reshape(-1, ITEMS).sum(axis=1)
    for k in (6, 10, 14):
        of_score = theta[total == k]
        assert table.theta[k] == pytest.approx(of_score.mean(), abs=4 * of_score.std() / np.sqrt(of_score.size))


@pytest.mark.parametrize("method", ["maximum-information", "kullback-leibler", "posterior-variance"])
def test_adaptive_tests_estimate_ability_within_their_errors(fit: irt.Calibration, method) -> None:
    test = AdaptiveTest(max_items=10, method=method)
    found = simulate_tests(fit.items, test, 2000, mean=0, sd=1, random_state=3, threads=1)
    z = (found.estimate - found.theta) / found.se
    assert np.mean(z**2) == pytest.approx(1, abs=0.15)  # 4 standard errors of a mean of 2,000 squares are .13
    assert np.corrcoef(found.estimate, found.theta)[0, 1] > 0.75


def test_assembled_form_has_the_most_informative_items(fit: irt.Calibration) -> None:
    form = assemble(fit.items, FormDesign(min_items=8, max_items=8)).forms[0]
    information = fit.items.curves.information(np.zeros(1))[0]
    assert set(form) == {IDS[j] for j in np.argsort(-information)[:8]}


def test_written_items_are_read_back(fit: irt.Calibration, tmp_path: Path) -> None:
    items = fit.items
    assert irt.ItemParameters.from_json(items.to_json()) == items
    fit_file(Answers(draw(1)[1], tuple(map(str, range(PERSONS)))), model=MODEL.name).write(tmp_path)
    read = {name: Files().parameters(tmp_path / name) for name in ("fit.json", "params.csv")}
    for found in (irt.ItemParameters.from_frame(items.to_frame("pandas")), *read.values()):
        np.testing.assert_allclose(found.curve(THETA), items.curve(THETA), rtol=1e-9)
        np.testing.assert_allclose(found.cov_of_all, items.cov_of_all, rtol=1e-6, atol=1e-12)
    with pytest.raises(irt.PsychometricsError, match="item q00: winsteps has no 4PL"):
        items.to_program("winsteps", "pandas")


@pytest.mark.parametrize(
    ("cells", "message"),
    [({"u": [1.2]}, "u = 1.2 is not in"), ({}, "u is missing"), ({"u": [0.9], "max_score": [2]}, "max_score 2")],
)
def test_rows_with_wrong_parameters_are_refused(cells: dict[str, list[float]], message: str) -> None:
    row = {"item": ["q1"], "a": [1.0], "b": [0.0], "c": [0.2], "model": [MODEL.name]}
    with pytest.raises(irt.PsychometricsError, match=message):
        irt.ItemParameters.from_frame(row | cells)
