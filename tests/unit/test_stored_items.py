"""Item parameters in the JSON that the ledger stores."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from irt_assets.ledger.encoding import item_as_json
from irt_psychometrics.items import ItemRow

OWN = ("a", "b", "c", "a_se", "b_se", "cov_ab", "c_se")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
GUESSING = st.floats(0, 1)


@given(NUMBERS, NUMBERS, GUESSING, st.none() | NUMBERS, st.dictionaries(st.sampled_from(["u", "u_se", "d2"]), NUMBERS))
def test_row_is_restored_exactly_from_json(a, b, c, error, further) -> None:  # type: ignore[no-untyped-def]
    row = ItemRow(a, b, c, error, c_se=error, further=further)
    kept = json.loads(item_as_json(row))
    again = ItemRow.from_row(
        {name: None if kept.get(name) is None else float(kept[name]) for name in OWN}
        | {"further": {name: kept[name] for name in further}}
    )
    assert repr(again) == repr(row)  # repr distinguishes −0 from 0


def test_further_parameters_of_a_model_are_read_from_its_fit_and_written_to_json() -> None:
    row = ItemRow.from_row({"a": 1.5, "b": -0.5, "c": 0.2, "further": {"u": 0.95, "u_se": 0.02}, "fit": {}})
    assert json.loads(item_as_json(row)) == {"a": 1.5, "b": -0.5, "c": 0.2, "u": 0.95, "u_se": 0.02}
    assert row.scored_with == [1.5, -0.5, 0.2, {"u": 0.95, "u_se": 0.02}]
    assert ItemRow(1.5, -0.5, 0.2).scored_with == [1.5, -0.5, 0.2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_infinite_and_missing_values_are_refused_as_json(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        item_as_json(ItemRow(1.0, value))
