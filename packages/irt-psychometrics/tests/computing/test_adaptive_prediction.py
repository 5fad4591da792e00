"""Simulated adaptive tests predict real ones: planted banks, calibrated from answers in a planned-missing design."""

from __future__ import annotations

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.adaptive import AdaptiveTest, ItemPosterior, simulate_tests
from irt_psychometrics.core.item_models import OtherItems
from irt_psychometrics.core.model_families import GPCM
from irt_psychometrics.simulation.scored_items import ScoredItems

BANKS, ITEMS, ANSWERS, FORM, LEARNERS = 12, 300, 500, 30, 8_000


def calibrated_bank(rng: np.random.Generator, scored: int = 0) -> tuple[irt.ItemParameters, irt.ItemParameters]:
    """True items, and their estimates with joint errors from `ANSWERS` answers an item by learners θ ~ N(0, 1).

    The last `scored` items have the scores 0 … 3. Difficulties then vary less, so that each score occurs.
    """
    plain, ids = ITEMS - scored, tuple(f"i{j}" for j in range(ITEMS))
    scores = [(0, 1)] * plain + [(0, 1, 2, 3)] * scored
    drawn = ScoredItems.draw(rng, scores, rng.lognormal(0, 0.3, ITEMS), rng.normal(0, 0.7 if scored else 1, ITEMS))
    others = (OtherItems(GPCM, np.arange(plain, ITEMS), drawn.t[plain:].T, np.full(scored, 4)),) if scored else ()
    zeros = np.zeros((ITEMS, 2, 2))
    true = irt.ItemParameters(ids, drawn.a, drawn.b, zeros[:, 0, 0], zeros, others=others)
    order = np.stack([rng.permutation(ITEMS) for _ in range(ANSWERS)]).reshape(-1, FORM)
    answers = irt.simulate_responses(true, rng.normal(0, 1, len(order)), random_state=rng)
    wide = np.full((len(order), ITEMS), np.nan)
    np.put_along_axis(wide, order, np.take_along_axis(answers.score.reshape(wide.shape), order, 1).astype(float), 1)
    fit = irt.fit(irt.Responses.from_wide(wide, ids, answers.n_categories), "gpcm" if scored else "2pl")
    return true, fit.calibration.items


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
            real = simulate_tests(items, test, theta, truth=true, errors=posterior, random_state=1, mean=0, sd=1)
            predicted = simulate_tests(items, test, theta, errors=posterior, random_state=2, mean=0, sd=1)
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


@pytest.mark.ci
def test_precision_predicted_by_a_bank_of_plain_and_scored_items_is_real() -> None:
    """Uses items scored 0 … 3 whose slope per point is 1/√3 times the slope of 0/1 items."""
    ratios = []
    for k in range(BANKS):
        rng = np.random.default_rng([62, k])
        true, items = calibrated_bank(rng, scored=ITEMS // 2)
        posterior, theta, test = ItemPosterior.from_items(items), rng.normal(0, 1, LEARNERS), AdaptiveTest(max_items=20)
        real = simulate_tests(items, test, theta, truth=true, random_state=1, mean=0, sd=1)
        ratios.append(
            simulate_tests(items, test, theta, errors=posterior, random_state=2, mean=0, sd=1).rmse / real.rmse
        )
    print(f"\npredicted/real RMSE {np.mean(ratios):.4f} ± {np.std(ratios, ddof=1) / np.sqrt(BANKS):.4f}")
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)
