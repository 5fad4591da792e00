"""Accuracy, consistency and subscores against cacIRT, betafunctions and subscore (reference/classification.R)."""

import json
from pathlib import Path

import numpy as np
import pytest

from irt_psychometrics import PsychometricsError
from irt_psychometrics.classical import subscores
from irt_psychometrics.items import ItemParameters
from irt_psychometrics.scoring import Classification

REFERENCE = json.loads((Path(__file__).parent / "reference" / "classification.json").read_text("utf-8"))


def form_of_thirty(c: float) -> ItemParameters:
    a, b, _ = np.array(REFERENCE["items"]).T
    return ItemParameters(
        tuple(f"q{k}" for k in range(30)), a, b, np.full(30, c), np.full((30, 2, 2), 0.01 * np.eye(2))
    )


@pytest.mark.parametrize(("model", "c"), [("2pl", 0.0), ("3pl", 0.2)])
def test_lee_is_that_of_cac_irt(model, c):
    found, expected = (
        Classification.from_items(form_of_thirty(c), [15, 22], mean=0, sd=1),
        np.array(REFERENCE[model]["lee"]),
    )
    np.testing.assert_allclose(found.consistency, expected[:, 1], atol=1e-8)
    np.testing.assert_allclose(found.accuracy, expected[:, 0], atol=5e-4)  # cacIRT's nodes are .006 apart at the cut
    np.testing.assert_allclose(found.accuracy + found.false_pass + found.false_fail, 1)
    assert (found.accuracy_se > 0).all()


@pytest.mark.parametrize("model", ["2pl", "3pl"])
def test_rudner_is_that_of_cac_irt(model):
    found = Classification.from_abilities(REFERENCE["theta"], REFERENCE[model]["se"], [-0.3, 0.8])
    np.testing.assert_allclose(np.column_stack([found.accuracy, found.consistency]), REFERENCE[model]["rudner"])


@pytest.mark.parametrize("cut", [15, 18])
def test_livingston_and_lewis_is_that_of_betafunctions(cut):
    scores, expected = np.repeat(np.arange(31), REFERENCE["x"]), REFERENCE[f"LL {cut}"]
    found = Classification.from_reliability(scores, 0.85, [cut], max_score=30)
    near = 5e-6  # the tolerance of R's `integrate`
    assert found.accuracy[0] == pytest.approx(expected["accuracy"], abs=near)
    assert found.false_fail[0] == pytest.approx(expected["matrix"][1][0], abs=near)
    assert found.false_pass[0] == pytest.approx(expected["matrix"][1][1], abs=near)
    if cut == 15:  # at 18 of 30, betafunctions rounds 19.8 of 33 to 20 for one form and to 19 for the other
        assert found.consistency[0] == pytest.approx(expected["consistency"], abs=near)
        assert found.kappa[0] == pytest.approx(expected["kappa"], abs=near)


def test_subscores_are_those_of_subscore(shared):
    points = np.loadtxt(shared / "data" / "sat12_scored_wide.csv", delimiter=",", skiprows=1, usecols=range(1, 33))
    found = subscores(points, ["a"] * 10 + ["b"] * 10 + ["c"] * 12)
    np.testing.assert_allclose(found.by_subscore, REFERENCE["subscores"]["by_subscore"])
    np.testing.assert_allclose(found.by_total, REFERENCE["subscores"]["by_total"])
    assert not found.adds_value.any()


def test_subscores_of_unrelated_topics_add_value():
    random = np.random.default_rng(3)
    theta = random.normal(size=(2, 3000, 1))
    points = np.hstack([theta[k] + random.normal(size=(3000, 10)) > 0 for k in range(2)])
    assert subscores(points, ["x"] * 10 + ["y"] * 10).adds_value.all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Classification.from_abilities([0.0], [0.0], [0.0]), "se above 0"),
        (lambda: Classification.from_abilities([0.0], [1.0], [1.0, 0.0]), "must be numbers that ascend"),
        (
            lambda: Classification.from_items(form_of_thirty(0.2), [5], mean=0, sd=1),
            "between the expected scores 6 and 30",
        ),
        (lambda: Classification.from_reliability([1, 2], 1.0, [1], max_score=3), "reliability 1 must be"),
        (lambda: Classification.from_reliability([1, 2], 0.8, [3], max_score=3), "above 0 and below 3"),
        (lambda: subscores([[1, 0, 1]] * 5, ["a", "a", "b"]), "topic a has 2 items and variance 0"),
        (lambda: subscores([[1, np.nan]] * 5, ["a", "a"]), "all items"),
    ],
)
def test_input_that_determines_no_decision_is_refused_with_its_reason(call, message):
    with pytest.raises(PsychometricsError, match=message):
        call()
