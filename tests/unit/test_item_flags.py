"""Flags of items and options, and the certainty with which an option beats the key."""

from __future__ import annotations

import pytest

from irt_assets.item_analysis.flags import add_flags, find_option_above_key
from irt_assets.item_analysis.stored import ItemRow, OptionRow
from irt_assets.responses.eligibility.rules import WarningRules


def item(n: int = 600, key_r: float = 0.04, option_r: float = 0.20, **others: object) -> ItemRow:
    """SAT12's item 32: key 5, chosen by 16 %, and option 3, chosen by 44 %; with the other options by 36 % and 4 %."""
    options = tuple(
        OptionRow(
            option=name,
            is_key=name == "5",
            n=round(share * n),
            share=share,
            mean_rest=0.0,
            rest_correlation=r,
            thirds=(share,) * 3,
        )
        for name, share, r in (("3", 0.44, option_r), ("5", 0.16, key_r), ("1", 0.36, -0.2), ("2", 0.04, 0.02))
    )
    known = {"presented": n, "n": n, "omitted": 0, "not_reached": 0, "facility": 0.16, "item_rest": key_r, "key": "5"}
    unknown = dict.fromkeys(("mean", "sd", "facility_se", "biserial", "alpha_if_deleted", "lower", "upper"))
    row = ItemRow(item_id="item_32", form_id="", rest="sum", options=options, **(known | unknown | others))  # type: ignore[arg-type]
    return add_flags(row, WarningRules())


def test_flags_name_the_rules_that_an_item_and_its_options_break() -> None:
    found = item(not_reached=30)
    assert found.flags == ("min_item_rest", "above_key", "speeded")
    assert {o.option: o.flags for o in found.options} == {
        "3": ("above_key",),
        "5": (),
        "1": (),
        "2": ("min_option_share",),
    }
    assert item(facility=0.96, item_rest=0.5, key_r=0.5).flags == ("max_facility",)
    assert item(key_r=-0.3, option_r=-0.1).options[0].flags == ()


@pytest.mark.parametrize(
    ("n", "key_r", "option_r", "option"),
    [
        (600, 0.04, 0.20, "3"),
        (100, 0.04, 0.20, None),  # z of the option's r is 2
        (600, 0.15, 0.20, None),  # z of the difference is 0.7
        (2, -1.0, 1.0, None),
        (600, 0.30, 0.20, None),
    ],
)
def test_option_beats_the_key_only_if_it_is_certain(n: int, key_r: float, option_r: float, option: str | None) -> None:
    found = find_option_above_key(item(n, key_r, option_r))
    assert (found and found.option) == option
