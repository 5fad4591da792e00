"""Simulated adaptive tests predict real ones: planted banks, calibrated from answers in a planned-missing design."""

from __future__ import annotations

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.adaptive import AdaptiveTest, ItemPosterior, simulate

BANKS, ITEMS, ANSWERS, FORM, LEARNERS = 12, 300, 500, 30, 8_000


def calibrated_bank(rng: np.random.Generator) -> tuple[irt.ItemParameters, irt.ItemParameters]:
    """True items, and their estimates with joint errors from `ANSWERS` answers an item by learners θ ~ N(0, 1)."""
    ids = [f"i{j}" for j in range(ITEMS)]
    true = irt.ItemParameters.from_frame({"item": ids, "a": rng.lognormal(0, 0.3, ITEMS), "b": rng.normal(0, 1, ITEMS)})
    order = np.stack([rng.permutation(ITEMS) for _ in range(ANSWERS)]).reshape(-1, FORM)
    wide = np.full((len(order), ITEMS), np.nan)
    right = rng.random(wide.shape) < true.curve(rng.normal(0, 1, len(order)))
    np.put_along_axis(wide, order, np.take_along_axis(right, order, axis=1).astype(float), axis=1)
    return true, irt.fit(irt.Responses.from_wide(wide, ids), "2pl").calibration.items


@pytest.mark.ci
def test_tests_simulated_with_drawn_banks_have_the_precision_of_real_tests() -> None:
    """Predicted and real tests differ in the true items alone. The errors of a bank make its tests better or worse than
    the mean of all banks with these estimates, with an SD of 1.9 %. So the mean of 12 banks has an error of .6 %, to
    which the learners contribute .3 %.
    """
    found: dict[str, list[list[float]]] = {"maximum-information": [], "expected-information": []}
    for k in range(BANKS):
        rng = np.random.default_rng([61, k])
        true, items = calibrated_bank(rng)
        posterior, theta = ItemPosterior.from_items(items), rng.normal(0, 1, LEARNERS)
        assert items.cov.shape == (1, 2 * ITEMS, 2 * ITEMS)
        for method, results in found.items():
            test = AdaptiveTest(method=method, max_items=20)
            real = simulate(items, test, theta, truth=true, errors=posterior, seed=1)
            predicted = simulate(items, test, theta, errors=posterior, seed=2)
            ratios = predicted.rmse / real.rmse, predicted.mean_se / real.mean_se
            results.append([*ratios, real.capitalisation, predicted.capitalisation, real.rmse])
    by_estimates, by_posterior = (np.mean(results, axis=0) for results in found.values())
    print(f"\npredicted/real RMSE, SE; promised/real precision: real, predicted; RMSE\n{by_estimates}\n{by_posterior}")
    for rmse, se, real, predicted, _ in (by_estimates, by_posterior):
        assert rmse == pytest.approx(1, abs=0.02)
        assert se == pytest.approx(1, abs=0.005)
        assert predicted == pytest.approx(real, abs=0.02)
    assert by_estimates[2] < 0.95, "items chosen for their estimates look better than they are"
    assert by_posterior[2] == pytest.approx(1, abs=0.02)
    assert by_posterior[4] < by_estimates[4]
