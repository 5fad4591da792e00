"""Covariates of latent regressions are coded and checked, and results can be stored."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics.regression.covariates import design_matrix, labels_of

ITEMS = irt.ItemParameters.from_frame(
    {"item": [f"q{j}" for j in range(1, 11)], "a": [1.5] * 10, "b": np.linspace(-1, 1, 10)}
)
X = irt.simulate_responses(ITEMS, np.random.default_rng(1).normal(size=40), random_state=1)
HALVES = ["north", "south"] * 20


def test_texts_and_named_numbers_are_dummy_coded() -> None:
    columns = {"age": np.arange(40) % 7, "year": [9, 10] * 20, "place": ["town", "city", "village", "town"] * 10}
    names, design = design_matrix(columns, X, {"year": 10, "place": "town"})
    assert names == ("intercept", "age", "year: 9", "place: city", "place: village")
    assert design[:3].tolist() == [[1, 0, 1, 0, 0], [1, 1, 0, 1, 0], [1, 2, 1, 0, 1]]
    assert design_matrix(pd.DataFrame(columns), X)[0][-2:] == ("place: town", "place: village")


def test_labels_of_numbers_are_sorted_as_numbers() -> None:
    names, place = labels_of([10, 9, 2, 9] * 10, X, "groups")
    assert names == ("2", "9", "10")
    assert place[:4].tolist() == [2, 1, 0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"covariates": {"age": [1.0, None] * 20}}, r"covariate 'age' is missing for person 1 .* and 19 more"),
        ({"covariates": {"age": [1.0, np.inf] * 20}}, "covariate 'age' is infinite for person 1"),
        ({"covariates": {"age": [1.0] * 3}}, "covariate 'age' must have 40 values, one per person; got 3"),
        ({"covariates": [1.0] * 40}, "covariates must be a data frame or a mapping"),
        ({"covariates": {"one": [1.0] * 40}}, "covariate 'one' is determined by the columns before"),
        ({"covariates": {"half": HALVES}, "reference": {"half": "east"}}, "'half' has no level 'east'"),
        ({"covariates": {"half": HALVES}, "reference": {"age": 3}}, "reference must name covariates, got age"),
        ({"groups": HALVES[:-1] + [None]}, "groups is missing for person 39"),
        ({"clusters": ["all"] * 40}, r"more labels than there are coefficients \(1\), got 1"),
        ({"sampling_weights": [1.0] * 39}, r"sampling_weights must be 40 numbers, one per person; got shape \(39,\)"),
        ({"sampling_weights": [1.0, 0.0] * 20}, "must be finite and above 0, got 0 of person 1"),
        ({"items": ITEMS.select(["q1", "q2"])}, "items has no parameters for q10, q3"),
        ({"items": X}, "latent_regression needs a Fit, a ScaleLink or ItemParameters"),
        ({"items": None, "model": "3pl"}, "needs items with parameters of their own"),
        ({"items": None, "model": {"q1": "2pl"}}, "no model is named for q2, q3"),
        ({"responses": X.of_rows(X.person < 0)}, "no person has answered an item that has parameters"),
        ({"responses": {"q1": [1, 0]}}, "latent_regression needs Responses, got dict"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_wrong_arguments_are_refused_by_name(arguments, message) -> None:
    with pytest.raises(irt.PsychometricsError, match=message):
        irt.latent_regression(**({"responses": X, "items": ITEMS} | arguments))


def test_result_survives_json_and_pickle_and_has_tables() -> None:
    found = irt.latent_regression(X, ITEMS, {"age": np.arange(40) % 7}, groups=HALVES, sampling_weights=[1.0, 2.0] * 20)
    assert irt.LatentRegression.from_json(found.to_json()) == found
    assert pickle.loads(pickle.dumps(found)) == found
    assert found.to_frame("pandas")["parameter"].tolist() == [
        "intercept",
        "age",
        "residual SD: north",
        "residual SD: south",
    ]
    ends = found.conf_int(0.9)
    assert (ends["low"] < ends["estimate"]).all()
    assert (ends["low"][2:] > 0).all()
    assert "errors of the items are not known" in str(found.summary())
    assert found.aic == pytest.approx(8 - 2 * found.log_likelihood)


def test_persons_without_answers_have_the_prior_as_posterior() -> None:
    x = X.of_rows(X.person > 0)
    found = irt.latent_regression(x, ITEMS)
    nodes, weights = found.posterior()
    mean, sd = (own[0] for own in found.prior())
    assert weights[0] @ nodes == pytest.approx(mean, abs=1e-8)
    assert weights[0] @ (nodes - mean) ** 2 == pytest.approx(sd**2, abs=1e-8)
    assert found.person_influence[0] == pytest.approx(0.0, abs=1e-10)
    assert any("1 persons have no answer" in note for note in found.summary().notes)
