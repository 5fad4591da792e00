"""Flags of items and options, and the certainty with which an option beats the key."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irt_psychometrics import Responses
from irt_psychometrics.classical import Choices, ItemAnalysis, analyse_items

CHOICES = Choices(np.zeros(2, dtype=np.int64), (("3", "5", "1", "2", ""),), (frozenset("5"),))


def item(n: int = 600, key_r: float = 0.04, option_r: float = 0.20, p: float = 0.16) -> ItemAnalysis:
    """SAT12's item 32: key 5, chosen by 16 %, and option 3, chosen by 44 %; with the other options by 36 % and 4 %."""
    responses = Responses(np.zeros(2, np.int32), np.zeros(2, np.int32), np.zeros(2, np.int8), 1, ("item_32",))
    found = analyse_items(responses, CHOICES)
    known = {"n": [n], "facility": [p], "item_rest": [key_r]}
    correlations = np.array([option_r, key_r, -0.2, 0.02, 0.9])
    options = replace(found.options, share=np.array([0.44, 0.16, 0.35, 0.04, 0.01]), rest_correlation=correlations)
    return replace(found, options=options, **{name: np.array(value) for name, value in known.items()})  # type: ignore[arg-type]


def test_flags_name_the_limits_that_an_item_and_its_options_break() -> None:
    items, options = item().flags()
    assert items == [("min_item_rest", "above_key", "beats_key")]
    assert options == [("above_key", "beats_key"), (), (), ("min_option_share",), ()]
    assert item(p=0.96, key_r=0.5).flags().items == [("max_facility",)]
    assert item(key_r=-0.3, option_r=-0.1).flags().options[0] == ()
    assert item(p=0.3).flags(min_facility=0.4, min_option_share=0.0) == (
        [("min_facility", "min_item_rest", "above_key", "beats_key")],
        [("above_key", "beats_key"), (), (), (), ()],
    )
    scored = item()
    scored = replace(scored, options=replace(scored.options, is_choice=np.zeros(5, dtype=bool)))
    assert scored.flags() == ([("min_item_rest",)], [()] * 5)  # scores have no key


@pytest.mark.parametrize(
    ("n", "key_r", "option_r", "beats"),
    [
        (600, 0.04, 0.20, True),
        (100, 0.04, 0.20, False),  # z of the option's r is 2
        (600, 0.15, 0.20, False),  # z of the difference is 0.7
        (2, -1.0, 1.0, False),
        (600, 0.30, 0.20, False),
    ],
)
def test_option_beats_the_key_only_if_it_is_certain(n: int, key_r: float, option_r: float, beats: bool) -> None:
    [flags, *_] = item(n, key_r, option_r).flags().options
    assert ("beats_key" in flags) is beats


def test_total_among_the_items_equals_the_rest() -> None:
    """The total correlates perfectly with the sum of the other items."""
    scores = np.random.default_rng(3).integers(0, 2, (60, 5))
    x = Responses.from_wide(np.c_[scores, scores.sum(axis=1)], categories=[2] * 5 + [6])
    flags = analyse_items(x).flags().items
    assert [("equals_rest" in found) for found in flags] == [False] * 5 + [True]
