"""Markdown tables."""

from __future__ import annotations

import pytest

from resources.markdown import markdown_table


def test_a_table_has_its_numbers_to_the_right_and_a_line_a_row() -> None:
    rows = [("a", "1", ""), ("b", "", "why")]
    assert markdown_table(("item", "n", ""), rows, numeric=("n",)).splitlines() == [
        "| item | n | |",
        "|---|--:|---|",
        "| a | 1 | |",
        "| b | | why |",
    ]


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("a|b\nc", r"a\|b c"),
        (r"a\|b", r"a\\\|b"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("*bold* `x` ~~y~~", r"\*bold\* \`x\` \~\~y\~\~"),
        ("![](http://x)", r"!\[\](http://x)"),
        ("an_item _x_", r"an_item \_x\_"),
    ],
)
def test_a_cell_shows_any_text_as_it_is(text: str, cell: str) -> None:
    assert markdown_table(("x",), [(text,)]).splitlines()[2] == f"| {cell} |"
