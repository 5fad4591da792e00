"""Blocks in Markdown, on a terminal and in HTML: the same table and sentence, and any text as it is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from io import StringIO
from itertools import groupby

import pytest
from rich.console import Console

from irt_assets.blocks import (
    Badge,
    Block,
    Box,
    Column,
    Details,
    Figure,
    Figures,
    List,
    Moment,
    Paragraph,
    Section,
    Span,
    Table,
    chance,
    number,
    pairs,
    percent,
    prose,
    signed,
    table,
    terminal,
    value_with_error,
)
from irt_assets.blocks.html import part
from irt_assets.blocks.markdown import markdown
from irt_assets.charts.chart import Chart, Picture

CHART = Chart((0, 1), (0, 1), "x", "y", "A line that rises.")
ITEMS = table(
    ("item", "n", "b", ""),
    [("a", 1200, -0.5, ""), ("b", None, float("nan"), Badge("red", "bad"))],
    numbers={"n": ",", "b": ".2f"},
    caption="Items",
)


def printed(*blocks: Block) -> str:
    written = StringIO()
    terminal.show(*blocks, console=Console(file=written, highlight=False, width=80))
    return written.getvalue()


def test_a_table_has_its_numbers_to_the_right_and_a_line_a_row() -> None:
    rows = [("a", "1", ""), ("b", "", "why")]
    assert markdown(table(("item", "n", ""), rows, numbers=("n",))).splitlines() == [
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
    assert markdown(table(("x",), [(text,)])).splitlines()[2] == f"| {cell} |"


def test_a_column_writes_its_numbers_in_every_medium_and_a_dash_where_there_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert markdown(ITEMS).splitlines()[2:] == ["| a | 1,200 | -0.50 | |", "| b | – | – | **red** |"]
    terminal.show(ITEMS, console=Console(highlight=False))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["item", "n", "b"], ["a", "1,200", "-0.50"], ["b", "–", "–", "red"]]
    page = part(ITEMS)
    assert '<td class="number" data-name="b">−0.50</td>' in page
    assert page.count(">–<") == 2
    assert '<span class="badge text-bg-danger">red</span>' in page
    assert 'role="region" aria-label="Items"' in page


@pytest.mark.parametrize("width", [None, 200, 160, 120, 100, 60, 40])
def test_no_number_of_a_table_is_cut_however_narrow_the_terminal(
    capsys: pytest.CaptureFixture[str], width: int | None
) -> None:
    """At 100 columns every number was `0.` or `-1.`; with 160, -0.018 was -0.01 and the items had no names."""
    names = ["item", "n", *(f"{name}{k}" for k in range(12) for name in ("b", "SE")), "p", ""]
    names = [name if name[:2] != "SE" else "SE" for name in names]
    rows = [(f"item_{k}", 1200 + k, *(-0.018 - k - j / 8 for j in range(24)), 0.129, "few_persons") for k in range(3)]
    columns = tuple(Column(name, 0 < k < 27, ".3f" if k > 1 else ",") for k, name in enumerate(names))
    shown = Console(width=width, force_terminal=True) if width else Console()
    terminal.show(Table(columns, tuple(rows)), console=shown)
    lines = capsys.readouterr().out.splitlines()
    parts = [list(group) for blank, group in groupby(lines, key=lambda line: not line.strip()) if not blank]
    assert len(parts) == 1 if width is None else max(map(len, lines)) <= width
    read: dict[str, list[str]] = {}
    for header, *body in parts:
        assert header.split()[0] == "item"
        assert not header.split()[-1].startswith("b")
        assert not re.search(r"SE +SE", header)
        for line in body:
            item, *cells = line.split()
            read.setdefault(item, []).extend(cells)
    written = {row[0]: [f"{row[1]:,}", *(f"{x:.3f}" for x in row[2:-1]), row[-1]] for row in rows}
    assert read == written


def test_a_table_without_rows_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = table(("item", "why"), [], empty="nothing to delete")
    assert markdown(nothing) == "nothing to delete"
    terminal.show(nothing, console=Console(highlight=False))
    assert capsys.readouterr().out == "nothing to delete\n"
    assert part(nothing).strip() == "<p>nothing to delete</p>"
    captioned = part(table(("item", "why"), [], caption="Deleted", empty="nothing to delete"))
    assert '<td class="quiet" colspan="2">nothing to delete</td>' in captioned


def test_every_block_is_shown_in_markdown_and_on_a_terminal() -> None:
    blocks: tuple[Block, ...] = (
        Section("Title", (Paragraph(("see ", Span("here", "bold", "https://x"))), List(("one", prose("do `it`"))))),
        Box((Paragraph(Moment(datetime(2026, 9, 1, tzinfo=UTC))), List(("first",), numbered=True))),
        Details("More", (Figures((Figure(CHART, "caption"), Figure(Picture("two", [CHART]), alt="both"))),)),
    )
    written = markdown(*blocks)
    assert written.startswith("## Title\n\nsee [**here**](https://x)\n\n- one\n- do <code>it</code>\n\n")
    assert "> 2026-09-01 00:00 UTC\n> \n> 1. first" in written
    assert "#### More\n\n![A line that rises.](data:image/svg+xml;base64," in written
    assert "\n\ncaption\n\n![both](" in written
    shown = "Title\nsee here\n- one\n- do it\n2026-09-01 00:00 UTC\n1. first\nMore\nA line that rises.\nboth\n"
    assert printed(*blocks) == shown


def test_pairs_leave_out_what_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    known = pairs({"fit": Span("f1", "code"), "run": None, "why": ""})
    assert markdown(known) == "- **fit**: <code>f1</code>"
    terminal.show(known, console=Console(highlight=False))
    assert capsys.readouterr().out == "fit  f1\n"
    assert "<dt>fit</dt><dd><code>f1</code></dd>" in part(known)


def test_html_holds_a_list_in_a_cell_and_a_link_in_a_heading() -> None:
    page = part(table((Span("item", link="?sort=item"), "why"), [("a", List(("x", Badge("y", link="?view=y"))))]))
    assert '<a href="?sort=item">item</a></th>' in page
    assert 'data-name="item">a</td>' in page
    assert '<ul><li>x</li><li><a href="?view=y"><span class="badge text-bg-secondary">y</span></a></li></ul>' in page


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_number_that_is_not_known_is_a_dash(value: float | None) -> None:
    assert {number(value), signed(value), percent(value), value_with_error(value, value)} == {"–"}


def test_numbers_have_a_true_minus_sign_and_small_chances_are_no_0() -> None:
    assert (number(-0.5), signed(-0.5, 1), signed(2), percent(0.256)) == ("−0.50", "−0.5", "+2.00", "26 %")
    assert (value_with_error(-0.5, 0.1), value_with_error(0.5, None)) == ("−0.50 ± 0.10", "0.50")
    assert (chance(0.04), chance(0.0), chance(2e-5), chance(None)) == ("0.040", "0e+00", "2e−05", "–")
