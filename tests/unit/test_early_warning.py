"""Early warnings of a night on made-up rows: changes beyond chance are reported, chance variation is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irt_assets.gates.early_warning import Difficulties, EarlyWarning, Value, compare
from irt_assets.ledger.fit_spec import LinkedSpec, LinkingConstants, Spread
from irt_assets.ledger.fits import LinkedFit
from irt_assets.ledger.fitted_items import FittedItem
from irt_assets.scales.rules import PublicationRules
from irt_psychometrics.items import ItemRow
from tests.helpers.fit_specs import CONSTANTS
from tests.helpers.pictures import Picture

LIMITS = PublicationRules()


def linked_night(
    items: dict[str, Value], slope: Value = (1.0, 0.02), intercept: Value = (0.0, 0.02), **constants: Any
) -> LinkedFit:
    linking = {"slope": slope[0], "slope_se": slope[1], "intercept": intercept[0], "intercept_se": intercept[1]}
    found = LinkingConstants.from_json(CONSTANTS | linking | constants, "fit")
    spec = LinkedSpec(linking_constants=found, latent=Spread(mean=0.0, sd=1.0))
    fitted = {
        item: FittedItem(None if b is None else ItemRow(1.0, b, b_se=se), 1, (), {}) for item, (b, se) in items.items()
    }
    return LinkedFit("fit", "", "", "", True, spec, fitted)


SOUND = {f"i{k}": (k / 10, 0.1) for k in range(10)}


def compare_shifted(night: Value, month: Value, name: str = "intercept") -> EarlyWarning:
    return compare(linked_night({}, **{name: night}), ("2026-07", linked_night({}, **{name: month})), {}, LIMITS)


def test_night_reports_changes_that_are_large_and_beyond_their_errors(picture: Picture) -> None:
    before, after = {"vague": (0.0, 0.6), "small": (0.0, 0.01)}, {"vague": (1.0, 0.6), "small": (0.2, 0.01)}
    moved = SOUND | {"i3": (1.2, 0.1), "i4": (-0.6, 0.1)}
    warnings = {
        "a sound night": compare(linked_night(SOUND), ("2026-07", linked_night({})), SOUND, LIMITS),
        "two items moved": compare(linked_night(moved), None, SOUND, LIMITS),
        "a vague item and a small move": compare(linked_night(after), None, before, LIMITS),
        "the intercept moved": compare_shifted((0.5, 0.05), (0.1, 0.05)),
        "the slope moved": compare_shifted((1.4, 0.05), (1.1, 0.02), "slope"),
        "the intercept moved within the limit": compare_shifted((0.39, 0.01), (0.10, 0.01)),
        "the intercept moved within its errors": compare_shifted((0.5, 0.1), (0.1, 0.1)),
        "another slope, without a month before": compare(linked_night({}, slope=(3.0, 0.1)), None, {}, LIMITS),
        "half of the anchors": compare(
            linked_night({}, share_kept=0.5, diagnosis="A01 moved by +0.6"), None, {}, LIMITS
        ),
        "only Q is against the anchors": compare(linked_night({}, q_p=0.001), None, {}, LIMITS),
    }
    picture({title: "\n".join(one.problems()) or "nothing" for title, one in warnings.items()}, "warnings")
    assert len(warnings["a sound night"].difficulties.item_ids) == 10


@pytest.mark.parametrize("missing", [{"i0": (None, None)}, {"i0": (0.0, None)}, {"other": (0.0, 0.1)}])
def test_item_is_not_compared_without_an_estimate_an_error_and_a_published_value(missing: dict[str, Any]) -> None:
    published = {"i0": (0.0, 0.1), "i1": (0.0, float("nan"))}
    warning = compare(linked_night(missing | {"i1": (2.0, 0.1)}), None, published, LIMITS)
    assert warning.difficulties.item_ids == ()
    assert warning.problems() == []


def test_night_reports_an_unmoved_item_in_5_percent_and_a_moved_item_in_98_percent() -> None:
    """If no item moved, Benjamini-Hochberg at 5 % reports an item in at most 5 % of nights. Three standard errors of a
    share of 0.05 among 400 nights are 0.033."""
    rng = np.random.default_rng(20261120)
    named = found = 0
    for _ in range(400):
        night = rng.normal(0, 0.15, 40)
        published = rng.normal(0, 0.10, 40)
        errors = np.full(40, 0.15), np.full(40, 0.10)
        ids = tuple(map(str, range(40)))
        named += Difficulties(ids, night, errors[0], published, errors[1]).moved.any()
        night[7] += 1.2  # 6.7 standard errors of the difference
        found += bool(Difficulties(ids, night, errors[0], published, errors[1]).moved[7])
    assert named / 400 < 0.05 + 0.033
    assert found / 400 > 0.98
