"""Distances of anchors from the anchor set if anchors that moved have biased the linking constants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irt_assets.gates.anchor_shifts import anchor_shifts
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_psychometrics.items import ItemRow
from irt_psychometrics.linking import AnchorSet
from psychometrics_testbed.made_anchors import anchor_set_of
from tests.helpers.fit_specs import CONSTANTS

A, B = np.array([0.8, 1.0, 1.2, 1.5]), np.array([-1.0, 0.0, 0.5, 1.5])
MOVED_BY = np.array([0.0, 0.0, 0.7, 0.0])  # in b; the third anchor moved
OTHERS, USED = (1.1, 0.2), (0.95, 0.05)  # slope, intercept of the anchors that stayed; the constants that linking used
ERRORS = np.full(4, 0.1)


def anchors() -> AnchorSet:
    names = ("A1", "A2", "A3", "A4")
    nothing = np.zeros(4)
    return anchor_set_of(
        "default", "1", names, A, B, nothing, ERRORS, ERRORS, nothing, (None,) * 4, np.zeros(4, dtype=bool)
    )


def month(suspects: dict[str, Any]) -> tuple[dict[str, ItemRow], LinkingConstants]:
    """Return the month's linked items, and constants with these suspects."""
    raw_a, raw_b = A * OTHERS[0], (B + MOVED_BY - OTHERS[1]) / OTHERS[0]
    linked = {
        item: ItemRow(raw_a[k] / USED[0], USED[0] * raw_b[k] + USED[1], b_se=0.2)
        for k, item in enumerate(("A1", "A2", "A3", "A4"))
    }
    stored = CONSTANTS | {"suspects": suspects, "anchors_dropped": {"A4": "It has 3 responses."}}
    return linked, LinkingConstants.from_json(stored, "of the test")


def test_unmoved_anchors_have_no_shift_if_moved_anchors_biased_the_constants() -> None:
    suspect = {"delta_b": 0.7, "delta_a": 0.0, "z": 5.0, "parameter": "b"}
    found = anchor_shifts(anchors(), *month({"A3": suspect}))
    assert (found[0].item_id, [one.item_id for one in found if one.moved]) == ("A3", ["A3"])
    shifts = {one.item_id: one.delta_b for one in found}
    assert [shifts[item] for item in ("A1", "A2", "A3", "A4")] == pytest.approx(MOVED_BY, abs=1e-12)
    error = np.hypot(0.2 * OTHERS[0] / USED[0], 0.1)
    assert [one.error for one in found] == pytest.approx([error] * 4)
    assert next(one.left_out for one in found if one.item_id == "A4") == "It has 3 responses."


def test_shifts_use_the_months_own_linking_if_no_anchor_moved() -> None:
    items, constants = month({})
    found = {one.item_id: one.delta_b for one in anchor_shifts(anchors(), items, constants)}
    assert found["A1"] == pytest.approx(items["A1"].b - B[0])


def test_anchor_without_an_estimate_is_omitted() -> None:
    items, constants = month({})
    del items["A2"]
    items["A1"] = ItemRow(0.0, 0.0)
    assert {one.item_id for one in anchor_shifts(anchors(), items, constants)} == {"A3", "A4"}
