"""Which dimensions items measure, and the curves of items on several dimensions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import model_of
from irt_psychometrics.dimensions import curves
from irt_psychometrics.dimensions.structure import Dimensions

TOPICS = {"q1": "a", "q2": "a", "q3": "a", "q4": "b", "q5": "b", "q6": "b", "q7": None}


def test_bifactor_items_measure_the_general_and_at_most_one_specific_dimension() -> None:
    found = Dimensions.bifactor(TOPICS)
    assert found.names == ("general", "a", "b")
    assert found.n_primary == 1
    assert found.specific.tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert found.n_slopes == 7 + 6


def test_topics_may_be_a_column_with_gaps_and_numbers() -> None:
    column = pd.Series([1, 1, 1, 2, 2, 2, np.nan], index=[*TOPICS], dtype=object)
    found = Dimensions.bifactor(column)
    assert found.names == ("general", "1", "2")
    np.testing.assert_array_equal(found.free, Dimensions.bifactor(TOPICS).free)


def test_between_dimensions_are_correlated_and_explored_ones_are_not() -> None:
    read_and_write = Dimensions.between({"q1": "read", "q2": "write", "q3": "read", "q4": "write"})
    assert read_and_write.free.tolist() == [[True, False], [False, True], [True, False], [False, True]]
    assert read_and_write.free_correlations.tolist() == [[False, True], [True, False]]
    explored = Dimensions.explore([*"abcdef"], 3)
    assert explored.free.sum() == 3 * 6 - 3
    assert not explored.free_correlations.any()


def test_table_gives_the_same_dimensions_after_a_round_trip() -> None:
    rows = {
        "item": ["q1", "q2", "q3", "q1", "q2", "q3"],
        "dimension": ["g", "g", "g", "s", "s", "s"],
        "slope": ["free", 1.5, "free", "alike", "alike", 0],
    }
    read = Dimensions.from_frame(rows, specific=["s"])
    assert read.tied.tolist() == [[0, 1], [-1, 1], [2, -1]]
    assert read.fixed.tolist() == [[0, 0], [1.5, 0], [0, 0]]
    assert Dimensions.from_frame(read.to_frame("pandas"), specific=["s"]) == read
    assert Dimensions.from_json(read.to_json()) == read


def test_selected_items_keep_their_dimensions_and_equal_slopes() -> None:
    rows = {"item": [*"abcdef"], "dimension": ["x"] * 3 + ["y"] * 3, "slope": ["free", "s", "s", "t", "t", "free"]}
    found = Dimensions.from_frame(rows).among([*"edcb"])
    assert found.item_ids == ("e", "d", "c", "b")
    assert found.tied.max(axis=1).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dimensions.explore([*"abcdefgh"], 4), "1 to 3, got 4: use bifactor"),
        (lambda: Dimensions.bifactor({"a": "x", "b": "x", "c": None, "d": None}), "'x' must have at least three"),
        (lambda: Dimensions.bifactor(dict.fromkeys("abcd", "x")), "must not measure all items"),
        (lambda: Dimensions.bifactor(dict.fromkeys("abc", "general")), "must not be named 'general'"),
        (lambda: Dimensions.between({"a": "x", "b": "y", "c": "y"}), "'x' must have at least three"),
        (lambda: Dimensions.from_frame({"item": ["a", "a"], "dimension": ["x", "x"]}), "item a has several rows"),
        (lambda: Dimensions.from_frame({"item": ["a", "b"], "dimension": ["x", ""]}), "row 1 has no dimension"),
        (lambda: Dimensions.from_frame({"item": ["a"]}), "no column 'dimension'"),
        (lambda: Dimensions.from_frame({"item": ["a"], "dimension": ["x"], "slope": [np.inf]}), "finite number"),
        (
            lambda: Dimensions.from_frame({"item": [*"abc"], "dimension": ["x"] * 3}, specific=["z"]),
            "no row has the specific dimension 'z'",
        ),
        (
            lambda: Dimensions.from_frame({"item": [*"aabbcc"], "dimension": ["x", "y"] * 3}),
            "can be rotated: 2 slopes must be fixed, got 0",
        ),
        (
            lambda: Dimensions.from_frame(
                {"item": [*"aabbccdd"] + ["a"], "dimension": ["g", "s"] * 4 + ["t"], "slope": ["free"] * 8 + [1]},
                specific=["s", "t"],
            ),
            "items a measure several specific",
        ),
        (lambda: Dimensions.from_frame({"item": ["a"], "dimension": ["x"], "slope": [0]}), "items a measure no"),
        (lambda: Dimensions.bifactor(TOPICS).among(["q1", "q9"]), "items q9 are not known"),
        (lambda: Dimensions.bifactor([*"abc"]), "must be a mapping item → name, got"),
        (lambda: Dimensions.bifactor({}), "must be a mapping item → name, got"),
        (lambda: Dimensions.explore([*"abcdefgh"], 2.5), "must be 2 or 3, got 2.5"),
    ],
)
def test_dimensions_that_answers_cannot_determine_are_rejected(make, message: str) -> None:
    with pytest.raises(PsychometricsError, match=message):
        make()


def test_curves_depend_on_abilities_by_their_weighted_sum_alone() -> None:
    """The curve at z has the value of the one-dimensional model with slope 1 at θ = z."""
    models = ("3pl", "gpcm", "grm", "nominal", "2pl")
    model, categories = model_of(models), np.array([2, 3, 3, 3, 2])
    given = np.ones((5, 3), dtype=bool)
    further = np.where(model.free(categories, given), 0.4, model.fixed_values(categories, given))[2:].T
    z = np.tile(np.linspace(-2, 2, 5), (5, 1))
    as_parameters = np.vstack([np.ones(5), np.zeros(5), further.T])
    expected = model.log_probabilities(z[0], as_parameters, categories)
    np.testing.assert_allclose(curves.log_probabilities(model, z, further, categories), expected, atol=1e-12)
    step = 1e-6
    numerical = (
        np.exp(curves.log_probabilities(model, z + step, further, categories))
        - np.exp(curves.log_probabilities(model, z - step, further, categories))
    ) / (2 * step)
    by_z = curves.derivatives(model, z, further, categories)[0] * np.exp(expected)
    np.testing.assert_allclose(by_z, numerical, atol=1e-9)  # central differences: error of the order step²
