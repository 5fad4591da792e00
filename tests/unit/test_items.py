"""Items by themselves: a row and back, their curves against known formulas, and another scale."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irt_assets.ledger.encoding import item_as_json
from irt_assets.psychometrics.core.covariances import block_diagonal
from irt_assets.psychometrics.core.items import ItemParameters, ItemRow

EASY, HARD = ItemRow(0.8, -1.0, 0.0, 0.1, 0.2, 0.01), ItemRow(1.5, 1.2, 0.2, 0.2, 0.1, -0.005)
ITEMS = ItemParameters.of_rows(("easy", "hard", "none"), [EASY, HARD, None])
THETA = np.linspace(-3, 3, 7)


def test_a_row_is_read_from_columns_of_its_names_and_written_as_a_sentence() -> None:
    row = {"item_id": "x", "new_a": 1.5, "new_b": 1.2, "new_c": 0.2, "new_a_se": 0.2, "new_b_se": None, "a": None}
    assert ItemRow.of(row, "new_") == ItemRow(1.5, 1.2, 0.2, 0.2)
    assert ItemRow.if_known(row) is None
    assert ItemRow.of({"a": 1.0, "b": 0.5, "c": None}) == ItemRow(1.0, 0.5)
    assert str(ItemRow.of(row, "new_")) == "a = 1.50 ± 0.20, b = 1.20 ± ?, c = 0.20"
    assert str(EASY) == "a = 0.80 ± 0.10, b = -1.00 ± 0.20"


@pytest.mark.parametrize(
    ("other", "agrees"),
    [(ItemRow(0.9, -1.3), True), (ItemRow(1.0, -1.0), False), (ItemRow(0.8, -0.6), False)],
)
def test_a_value_agrees_where_both_parameters_lie_in_its_intervals(other: ItemRow, agrees: bool) -> None:
    assert EASY.agrees_with(other) is agrees
    assert not other.agrees_with(EASY), "its errors are not known"


def test_columns_hold_what_the_rows_say_to_the_last_bit() -> None:
    for name in ("a", "b", "c", "a_se", "b_se", "cov_ab"):
        np.testing.assert_array_equal(getattr(ITEMS, name), [getattr(EASY, name), getattr(HARD, name), np.nan])
    np.testing.assert_array_equal(ITEMS.d, [0.8, -1.5 * 1.2, np.nan])


def test_the_curve_is_birnbaums() -> None:
    p = ITEMS.curve(THETA)
    by_hand = 0.2 + 0.8 / (1 + np.exp(-1.5 * (THETA - 1.2)))
    np.testing.assert_allclose(p[:, 1], by_hand, rtol=1e-14)
    np.testing.assert_allclose(HARD.curve(THETA), by_hand, rtol=1e-14)
    assert np.isnan(p[:, 2]).all()


def test_a_row_without_errors_has_no_interval() -> None:
    assert ItemRow(1.0, 0.0).interval(THETA) is None
    low, high = HARD.interval(THETA) or (THETA, THETA)
    assert (low < HARD.curve(THETA)).all()
    assert (HARD.curve(THETA) < high).all()


@pytest.mark.parametrize("joint", [False, True])
def test_items_of_another_scale_have_the_same_curves_there(joint: bool) -> None:
    """θ* = 1.3·θ − 0.4, so that SE(a*) = SE(a)/1.3 and SE(b*) = 1.3·SE(b)."""
    some = ITEMS.select(["easy", "hard"])
    if joint:
        some = ItemParameters(some.item_ids, some.a, some.b, some.c, block_diagonal(some.cov)[None])
    moved = some.rescaled(1.3, -0.4)
    np.testing.assert_allclose(moved.curve(1.3 * THETA - 0.4), some.curve(THETA), rtol=1e-12)
    np.testing.assert_allclose(moved.a_se, some.a_se / 1.3)
    np.testing.assert_allclose(moved.b_se, some.b_se * 1.3)
    np.testing.assert_allclose(moved.cov_ab, some.cov_ab)


def test_chosen_items_keep_their_covariances() -> None:
    joint = np.arange(36.0).reshape(6, 6)
    all_of_it = ItemParameters(ITEMS.item_ids, ITEMS.a, ITEMS.b, ITEMS.c, joint[None], np.arange(9.0).reshape(3, 1, 3))
    last = all_of_it.select(["none", "easy"])
    np.testing.assert_array_equal(last.cov[0], joint[np.ix_([4, 5, 0, 1], [4, 5, 0, 1])])
    np.testing.assert_array_equal(last.further_cov, [[[6, 7, 8]], [[0, 1, 2]]])
    with pytest.raises(KeyError, match="other"):
        all_of_it.select(["other"])
    among = all_of_it.among(["other", "hard"])
    np.testing.assert_array_equal(among.b, [np.nan, 1.2])
    np.testing.assert_array_equal(among.cov, [np.full((2, 2), np.nan), joint[2:4, 2:4]])


OWN = ("a", "b", "c", "a_se", "b_se", "cov_ab", "c_se")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
GUESSING = st.floats(0, 1)


@given(NUMBERS, NUMBERS, GUESSING, st.none() | NUMBERS, st.dictionaries(st.sampled_from(["u", "u_se", "d2"]), NUMBERS))
def test_a_row_keeps_every_bit_as_json(a, b, c, error, further) -> None:  # type: ignore[no-untyped-def]
    row = ItemRow(a, b, c, error, c_se=error, further=further)
    kept = json.loads(item_as_json(row))
    again = ItemRow.of(
        {name: None if kept.get(name) is None else float(kept[name]) for name in OWN}
        | {"further": {name: kept[name] for name in further}}
    )
    assert repr(again) == repr(row)  # which tells −0 from 0


def test_a_parameter_of_a_models_own_is_read_from_its_fit_and_written_beside_the_others() -> None:
    row = ItemRow.of({"a": 1.5, "b": -0.5, "c": 0.2, "further": {"u": 0.95, "u_se": 0.02}, "fit": {}})
    assert json.loads(item_as_json(row)) == {"a": 1.5, "b": -0.5, "c": 0.2, "u": 0.95, "u_se": 0.02}
    assert row.scored_with == [1.5, -0.5, 0.2, {"u": 0.95, "u_se": 0.02}]
    assert ItemRow(1.5, -0.5, 0.2).scored_with == [1.5, -0.5, 0.2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_is_not_written(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        item_as_json(ItemRow(1.0, value))
