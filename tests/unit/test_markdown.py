"""Markdown tables."""

from __future__ import annotations

from resources.markdown import markdown_table


def test_a_table_has_its_numbers_to_the_right_and_a_line_a_row() -> None:
    rows = [("a", "1", ""), ("b", "", "why")]
    assert markdown_table(("item", "n", ""), rows, numeric=("n",)).splitlines() == [
        "| item | n | |",
        "|---|--:|---|",
        "| a | 1 | |",
        "| b | | why |",
    ]


def test_no_text_ends_its_cell_or_its_line() -> None:
    assert markdown_table(("x",), [("a|b\nc",), (r"a\|b",)]).splitlines()[2:] == [r"| a\|b c |", r"| a\|b |"]
