"""Minus signs: a true minus in numbers, and hyphens in code and names; natural order and capital letters."""

import pytest

from irt_assets.blocks import Paragraph, Span, with_minus
from irt_assets.blocks.html import part
from irt_assets.common.wording import natural_order, sentence


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("b = -1.13 ± 0.10", "b = −1.13 ± 0.10"),
        ("moved (a -0.25)", "moved (a −0.25)"),
        ("from 2026-08-01, item q-7, --from 2026-08, 1e-07", "from 2026-08-01, item q-7, --from 2026-08, 1e-07"),
    ],
)
def test_numbers_in_a_sentence_have_a_true_minus(text: str, shown: str) -> None:
    assert with_minus(text) == shown
    assert shown in part(Paragraph(text))


def test_code_keeps_its_hyphens() -> None:
    assert "set x -1" in part(Paragraph(Span("set x -1", "code")))


def test_items_are_sorted_in_natural_order() -> None:
    names = ["item_10", "item_2", "item_1", "b", "item_02", "9", "10"]
    assert sorted(names, key=natural_order) == ["9", "10", "b", "item_1", "item_02", "item_2", "item_10"]
    assert sorted(["1" * 5000, "1" * 4999]) == sorted(["1" * 4999, "1" * 5000], key=natural_order)


def test_sentence_that_begins_with_theta_keeps_the_small_letter() -> None:
    assert sentence("θ is normal") == "θ is normal."
