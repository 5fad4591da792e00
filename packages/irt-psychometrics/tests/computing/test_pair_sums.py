"""Sums over pairs of items: the kernel for few answers and the dense products against loops over persons."""

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.itemfit.model_replicates import FittedData
from irt_psychometrics.itemfit.pair_sums import expected_answers, observed_answers, sum_over_pairs


@pytest.mark.parametrize("answered", [3, 20], ids=["few", "all"])
def test_sums_over_pairs_equal_loops_over_persons(answered: int) -> None:
    rng = np.random.default_rng(1)
    chances = 1 / (1 + np.exp(np.linspace(-1, 1, 20) - rng.normal(size=(400, 1))))
    scores = (rng.random((400, 20)) < chances).astype(float)
    scores[rng.permuted(np.tile(np.arange(20), (400, 1)), axis=1) >= answered] = np.nan
    responses = irt.Responses.from_wide(scores)
    fit = irt.fit(responses, model="rasch")
    whole = FittedData.from_responses(responses, fit.calibration, None)
    theta = rng.normal(size=400)
    values = observed_answers(whole) - expected_answers(whole, theta)
    found = sum_over_pairs(whole, values)

    b = fit.items.to_frame()["b"]
    dense = np.nan_to_num(scores - 1 / (1 + np.exp(np.asarray(b) - theta[:, None])))
    saw = ~np.isnan(scores)
    for j, k in ((0, 0), (0, 1), (1, 0), (7, 19)):
        both = saw[:, j] & saw[:, k]
        x, y = dense[both, j], dense[both, k]
        expected = [both.sum(), x.sum(), (x**2).sum(), (x * y).sum()]
        assert [sums[j, k] for sums in found] == pytest.approx(expected, abs=1e-9)
