"""The bank's prior in a window's fit: its items, its source, and whether it brings b nearer to the truth."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import expit

from irt_assets.calibration.request import PROVISIONAL_SLOPE, FitRequest, calibrate
from irt_assets.engines.em import EmEngine
from irt_assets.scales.rules import Rules
from irt_assets.scales.scale import Scale
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Flag, fit_em
from irt_psychometrics.items import LogitNormal, LogNormal, Normal, Priors
from irt_psychometrics.new_items import BankPrior
from irt_psychometrics.responses import Responses

LEARNERS, PUBLISHED, NEW, ANSWERS = 1200, 40, 40, 60
ITEMS = tuple(f"q{k:02d}" for k in range(PUBLISHED + NEW))
KNOWN, FEW = ITEMS[:PUBLISHED], ITEMS[PUBLISHED:]

_rng = np.random.default_rng(20)
LN_A, B = _rng.normal(0.2, 0.3, len(ITEMS)), _rng.normal(0.5, 1.0, len(ITEMS))


def simulate() -> Responses:
    """Learners N(0, 1) answer half of the published items each, and 60 of them answer each unpublished item."""
    theta, size = _rng.normal(0, 1, (LEARNERS, 1)), (LEARNERS, len(ITEMS))
    x = (_rng.random(size) < expit(np.exp(LN_A) * (theta - B))).astype(float)
    x[:, :PUBLISHED][_rng.random((LEARNERS, PUBLISHED)) < 0.5] = np.nan
    x[:, PUBLISHED:][_rng.random((LEARNERS, NEW)).argsort(axis=0) >= ANSWERS] = np.nan
    return Responses.from_wide(x, ITEMS)


MONTH = simulate()
REQUEST = FitRequest(
    scale=Scale("s"), responses=MONTH, provisional=FEW, left_out={}, published=frozenset((*KNOWN, "not seen"))
)


def fit(request: FitRequest) -> Calibration:
    return calibrate(EmEngine(1), request, "hash").calibration


@pytest.fixture(scope="module")
def with_prior() -> Calibration:
    return fit(REQUEST)


@pytest.fixture(scope="module")
def without() -> Calibration:
    return fit(replace(REQUEST, published=frozenset()))


def test_prior_is_the_distribution_of_the_published_items_in_the_window(with_prior: Calibration) -> None:
    priors = Priors.from_dict(with_prior.priors)
    assert (priors.only, priors.a is None, priors.b is None) == (FEW, False, False)
    for prior, truth in ((priors.a, LN_A[:PUBLISHED]), (priors.b, B[:PUBLISHED])):
        assert [prior.mean, prior.sd] == pytest.approx([truth.mean(), truth.std()], abs=0.1)


def test_prior_brings_items_with_few_answers_nearer_to_the_truth(with_prior: Calibration, without: Calibration) -> None:
    def rmse(found: Calibration) -> float:
        return float(np.sqrt(((found.b - B)[PUBLISHED:] ** 2).mean()))

    assert rmse(with_prior) < 0.8 * rmse(without)
    z = ((with_prior.b - B) / with_prior.b_se)[PUBLISHED:]
    assert 0.8 < z.std() < 1.25


def test_prior_hardly_moves_published_items(with_prior: Calibration, without: Calibration) -> None:
    for name in ("a", "b"):
        moved = (getattr(with_prior, name) - getattr(without, name)) / getattr(without, f"{name}_se")
        assert np.abs(moved[:PUBLISHED]).max() < 0.5


def test_window_repeats_and_a_fit_with_the_stored_priors_finds_the_same_values(with_prior: Calibration) -> None:
    again = fit(REQUEST)
    np.testing.assert_array_equal(again.cov, with_prior.cov)
    cold = fit_em(MONTH, priors=Priors.from_dict(with_prior.priors))
    np.testing.assert_allclose(np.stack([cold.a, cold.b]), np.stack([with_prior.a, with_prior.b]), atol=1e-4)


def test_unpublished_item_with_enough_answers_can_show_a_wrong_key() -> None:
    """A prior on a or b keeps slopes positive."""
    wrong = MONTH.item == len(ITEMS) - 1
    reversed_key = replace(MONTH, score=np.where(wrong, 1 - MONTH.score, MONTH.score).astype(MONTH.score.dtype))
    found = fit(replace(REQUEST, responses=reversed_key, provisional=FEW[:-1]))
    assert Priors.from_dict(found.priors).only == FEW[:-1]
    assert found.flags[-1] == (Flag.NEGATIVE_DISCRIMINATION,)


OWN = Scale("s", priors=Priors(b=Normal(0.0, 2.0)))


@pytest.mark.parametrize(
    "others",
    [
        {"published": frozenset(KNOWN[:19])},
        {"provisional": FEW + KNOWN[:21]},
        {"provisional": KNOWN},
        {"scale": OWN},
    ],
    ids=["19 published items", "19 with enough answers", "no unpublished item", "the scale's own prior"],
)
def test_window_has_no_bank_prior(others: dict[str, Any], without: Calibration) -> None:
    assert replace(REQUEST, **others).estimate_bank_prior(without) is None
    assert REQUEST.estimate_bank_prior(without) is not None


def test_window_whose_fit_did_not_converge_has_no_bank_prior(without: Calibration) -> None:
    stopped = replace(without, convergence=replace(without.convergence, converged=False))
    assert REQUEST.estimate_bank_prior(stopped) is None


PRIOR = BankPrior(Normal(0.1, 0.3), Normal(0.5, 1.1))
C = LogitNormal(float(np.log(0.25)), 0.5)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("2pl", Priors(LogNormal(0.1, 0.3), Normal(0.5, 1.1), only=FEW)),
        ("1pl", Priors(b=Normal(0.5, 1.1), only=FEW)),
        ("rasch", Priors(b=Normal(0.5, 1.1), only=FEW)),
        ("3pl", Priors(LogNormal(0.1, 0.3), Normal(0.5, 1.1), C, only=FEW)),
    ],
)
def test_bank_prior_is_on_b_and_on_slopes_of_their_own(model: Any, expected: Priors) -> None:
    assert replace(REQUEST, scale=Scale("s", model=model)).priors(bank_prior=PRIOR) == expected


@pytest.mark.parametrize("model", ["rasch", "1pl"])
def test_models_are_fitted_with_the_bank_prior(model: Any) -> None:
    found = fit(replace(REQUEST, scale=Scale("s", model=model)))
    assert (found.convergence.converged, Priors.from_dict(found.priors).only) == (True, FEW)


def test_weeks_of_learners_are_fitted_with_the_bank_prior() -> None:
    days = _rng.uniform(0, 28, MONTH.n_responses)
    days[np.unique(MONTH.person, return_index=True)[1]] = 0.0
    found = fit(replace(REQUEST, scale=Scale("s", occasions="week"), days=days))
    priors = Priors.from_dict(found.priors)
    assert (found.convergence.converged, priors.only, priors.b is None) == (True, FEW, False)


def test_levels_keep_the_weak_prior_because_b_is_in_the_unit_of_one_level() -> None:
    scale = Scale("s", rules=Rules.from_settings({"assignment": "by_level"}))
    priors = Priors.from_dict(fit(replace(REQUEST, scale=scale, earlier=MONTH)).priors)
    assert (priors.a, priors.b) == (PROVISIONAL_SLOPE, None)
