"""`compare` against R mirt, a published value, and its own null hypothesis by simulation."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, kstest

import irt_psychometrics as irt

REFERENCE = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[5] / "shared")) / "reference"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="the reference values are not here")
MIN_P = 1e-3
"""A correct test of uniform p-values fails for one seed in a thousand; the seeds are fixed."""


def items(a: np.ndarray, b: np.ndarray) -> irt.ItemParameters:
    return irt.ItemParameters.from_frame({"item": [f"q{j}" for j in range(len(a))], "a": a, "b": b})


@needs_reference
@pytest.mark.parametrize("data", ["lsat6", "lsat7", "sat12"])
def test_likelihood_ratios_agree_with_mirt(data: str) -> None:
    """Expected values come from mirt's log L with 10 digits, which its anova uses, too."""
    known = json.loads((REFERENCE / "mirt_reference.json").read_text())
    x = irt.Responses.from_wide(pd.read_csv(REFERENCE / f"{data}.csv"))
    small, large = (known[f"{data}_{model}"] for model in ("rasch", "2pl"))
    statistic, df = 2 * (large["logLik"] - small["logLik"]), large["n_est"] - small["n_est"]
    found = irt.compare(irt.fit(x, "rasch"), irt.fit(x, "2pl"))
    assert (found.test, found.df, found.notes) == ("likelihood ratio", df, ())
    assert found.statistic == pytest.approx(statistic, abs=1e-3)
    assert found.p == pytest.approx(chi2.sf(statistic, df), rel=1e-3)
    assert found.bic == pytest.approx([small["BIC"], large["BIC"]], abs=1e-3)
    turned = irt.compare(irt.fit(x, "2pl"), irt.fit(x, "1pl"))
    assert (turned.df, turned.p) == (df, pytest.approx(found.p, rel=1e-3))


@needs_reference
def test_lsat6_agrees_with_the_published_test() -> None:
    """Rizopoulos (2006), LSAT with a common and with free slopes: LRT .57 on 4 df, p = .967."""
    x = irt.Responses.from_wide(pd.read_csv(REFERENCE / "lsat6.csv"))
    found = irt.compare(irt.fit(x, "1pl"), irt.fit(x, "2pl"))
    assert (round(found.statistic, 2), found.df, round(found.p, 3)) == (0.57, 4, 0.967)


def test_likelihood_ratio_has_a_uniform_p_under_the_smaller_model() -> None:
    rng, truth = np.random.default_rng(11), items(np.full(6, 1.2), np.linspace(-1, 1, 6))
    p = []
    for _ in range(40):
        x = irt.simulate_responses(truth, rng.normal(size=1000), random_state=rng)
        p.append(irt.compare(irt.fit(x, "1pl"), irt.fit(x, "2pl")).p)
    assert kstest(p, "uniform").pvalue > MIN_P


def test_vuong_has_a_uniform_p_if_both_models_are_equally_wrong() -> None:
    """Both halves of the items are alike. Each model gives one half own slopes, and the other half a common slope."""
    rng = np.random.default_rng(5)
    truth = items(np.tile([0.5, 1.0, 1.5, 2.5], 2), np.tile([-0.6, 0.4, -0.2, 0.6], 2))
    names, p, z = truth.item_ids, [], []
    for _ in range(40):
        x = irt.simulate_responses(truth, rng.normal(size=800), random_state=rng)
        halves = [
            {name: "2pl" if (j < 4) == first else "1pl" for j, name in enumerate(names)} for first in (True, False)
        ]
        found = irt.compare(*(irt.fit(x, half) for half in halves))
        assert found.test == "Vuong"
        p.append(found.p)
        z.append(found.statistic)
    assert kstest(p, "uniform").pvalue > MIN_P
    assert abs(np.mean(z)) < 4 / np.sqrt(len(z))


def test_vuong_prefers_the_model_that_is_closer_to_the_truth() -> None:
    truth = items(np.array([0.4, 2.5, 0.6, 2.0, 1.0, 1.0, 1.0, 1.0]), np.linspace(-1, 1, 8))
    x = irt.simulate_responses(truth, np.random.default_rng(2).normal(size=3000), random_state=2)
    right, wrong = (
        irt.fit(x, {name: "2pl" if (j < 4) == free else "1pl" for j, name in enumerate(truth.item_ids)})
        for free in (True, False)
    )
    found = irt.compare(right, wrong)
    assert (found.statistic > 5, found.p < 1e-6) == (True, True)
    assert irt.compare(wrong, right).statistic == pytest.approx(-found.statistic)
    assert set(found.items.item_ids[:4]) == {"q0", "q1", "q2", "q3"}


def test_comparison_warns_if_chi_square_does_not_hold() -> None:
    x = irt.simulate_responses(
        items(np.full(8, 1.5), np.linspace(-1, 1, 8)), np.random.default_rng(4).normal(size=1500), random_state=4
    )
    two = irt.fit(x, "2pl")
    with pytest.warns(irt.ItemWarning):
        three, free = irt.fit(x, "3pl"), irt.fit(x, "3pl", priors=irt.Priors())
    with pytest.warns(irt.ComparisonWarning, match="different priors"):
        assert np.isnan(irt.compare(two, three).p)
    with pytest.warns(irt.ComparisonWarning):
        found = irt.compare(two, free)
    assert found.p > 0
    assert any("c = 0 of q0, q1, q2 and 5 more lies at its bound" in note for note in found.notes)
    assert any("In the larger model c of" in note for note in found.notes)
    with pytest.warns(irt.ComparisonWarning, match="weights of a histogram"):
        assert np.isnan(irt.compare(two, irt.fit(x, "2pl", latent="histogram")).p)
    with pytest.warns(irt.ComparisonWarning, match="Both are the same model"):
        assert irt.compare(two, two).test == ""


def test_fits_with_groups_and_anchors_have_df_by_their_constraints() -> None:
    rng, truth = np.random.default_rng(6), items(np.full(6, 1.2), np.linspace(-1, 1, 6))
    half = np.arange(2000) % 2
    x = irt.simulate_responses(truth, rng.normal(size=2000) + 0.5 * half, random_state=rng)
    one, grouped = irt.fit(x), irt.fit(x, groups=half)
    held = irt.fit(x, anchors=truth)
    found = irt.compare(one, grouped)
    assert (found.test, found.df, found.p < 1e-6) == ("likelihood ratio", 2, True)
    assert irt.compare(one, held).df == one.n_parameters - held.n_parameters


def test_fits_of_different_responses_are_refused() -> None:
    truth = items(np.full(6, 1.2), np.linspace(-1, 1, 6))
    first, second = (irt.simulate_responses(truth, np.linspace(-2, 2, 500), random_state=k) for k in (1, 2))
    with pytest.raises(irt.PsychometricsError, match="Fit both to the same Responses"):
        irt.compare(irt.fit(first), irt.fit(second))
