"""Blocks in Markdown, on a terminal, in HTML and in PDF: all show the same content, and text is escaped."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime

import pypdfium2
import pytest
from rich.console import Console

from irt_assets.blocks import (
    Badge,
    Block,
    Box,
    Column,
    Details,
    Document,
    Figure,
    Figures,
    List,
    Moment,
    Pairs,
    Paragraph,
    Section,
    Span,
    Table,
    chance,
    html as as_html,
    number,
    pairs,
    pdf as as_pdf,
    percent,
    prose,
    signed_number,
    table,
    terminal,
    value_with_error,
    with_minus,
)
from irt_assets.blocks.html import part
from irt_assets.blocks.markdown import markdown
from irt_psychometrics.plots import Chart, Picture
from resources.failures import PermanentFailure
from resources.files import typesetting
from tests.helpers.pictures import Picture as StoredPicture

CHART = Chart((0, 1), (0, 1), "x", "y", "A line that rises.")
ITEMS = table(
    ("item", "n", "b", ""),
    [("a", 1200, -0.5, ""), ("b", None, float("nan"), Badge("red", "bad"))],
    numbers={"n": ",", "b": ".2f"},
    caption="Items",
)


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
def test_special_characters_in_a_markdown_cell_are_escaped(text: str, cell: str) -> None:
    assert markdown(table(("x",), [(text,)])).splitlines()[2] == f"| {cell} |"


@pytest.mark.parametrize("width", [None, 200, 60])
def test_numbers_of_a_table_are_printed_whole_if_the_terminal_is_narrow(
    capsys: pytest.CaptureFixture[str], width: int | None
) -> None:
    """A table that is too wide is printed in parts, each with the first column; a pipe gets whole lines.

    At 100 columns every number was once cut to `0.` or `-1.`; at 160, -0.018 was -0.01 and item names were empty.
    """
    names = ["item", "n", *(f"b{k}" for k in range(24)), ""]
    rows = [(f"item_{k}", 1200 + k, *(-0.018 - k - j / 8 for j in range(24)), "few_persons") for k in range(3)]
    columns = tuple(Column(name, 0 < k < 26, ".3f" if k > 1 else ",") for k, name in enumerate(names))
    shown = Console(width=width, force_terminal=True) if width else Console()
    terminal.show(Table(columns, tuple(rows)), console=shown)
    printed = capsys.readouterr().out
    expected = [names[:-1], *([row[0], f"{row[1]:,}", *(f"{x:.3f}" for x in row[2:-1]), row[-1]] for row in rows)]
    parts = [[line.split() for line in part.splitlines()] for part in printed.split("\n\n")]
    lines = [[line[0], *(cell for part in parts for cell in part[k][1:])] for k, line in enumerate(parts[0])]
    assert lines == expected
    assert width is None or max(map(len, printed.splitlines())) <= width


BLOCKS: dict[str, tuple[Block, ...]] = {
    "a table": (ITEMS,),
    "a table of text": (table(("item", "n", ""), [("a", "1", ""), ("b", "", "why")], numbers=("n",)),),
    "a table without rows": (table(("item", "why"), [], empty="nothing to delete"),),
    "a table without rows, with a caption": (table(("item", "why"), [], caption="Deleted", empty="nothing to delete"),),
    "pairs of which some are not known": (pairs({"fit": Span("f1", "code"), "run": None, "why": ""}),),
    "a list in a cell and a link in a heading": (
        table((Span("item", link="?sort=item"), "why"), [("a", List(("x", Badge("y", link="?view=y"))))]),
    ),
    "a section": (
        Section("Title", (Paragraph(("see ", Span("here", "bold", "https://x"))), List(("one", prose("do `it`"))))),
    ),
    "a box": (Box((Paragraph(Moment(datetime(2026, 9, 1, tzinfo=UTC))), List(("first",), numbered=True))),),
    "details with charts": (
        Details("More", (Figures((Figure(CHART, "caption"), Figure(Picture("two", [CHART]), alt="both"))),)),
    ),
}


def test_blocks_are_shown_in_markdown_on_a_terminal_and_in_html(
    picture: StoredPicture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers of a table are right-aligned, a missing number is a dash, and pairs without a value are omitted."""

    def printed(*blocks: Block) -> str:
        terminal.show(*blocks, console=Console(highlight=False, width=80))
        return capsys.readouterr().out

    media = {"Markdown": markdown, "terminal": printed, "HTML": html}
    shown = {f"{title}, {name}": show(*blocks) for title, blocks in BLOCKS.items() for name, show in media.items()}
    picture(shown, "media", image=r"(?<=base64,)[^)]+", chart=r"(?s)<svg.*?</svg>")


def html(*blocks: Block) -> str:
    return "".join(map(part, blocks)).replace("><", ">\n<")


@pytest.mark.parametrize("value", [None, float("nan")])
def test_missing_numbers_are_formatted_as_a_dash(value: float | None) -> None:
    assert {number(value), signed_number(value), percent(value), value_with_error(value, value)} == {"–"}


def test_numbers_have_a_true_minus_sign_and_small_chances_are_not_rounded_to_0() -> None:
    assert (number(-0.5), signed_number(-0.5, 1), signed_number(2), percent(0.256)) == (
        "−0.50",
        "−0.5",
        "+2.00",
        "26 %",
    )
    assert (number(-0.004), with_minus("mean -0.00, SD -0.0%, c -0.001")) == ("0.00", "mean 0.00, SD 0.0%, c −0.001")
    (row,) = table(("a", "b"), [(-0.004, -0.0004)], numbers={"a": ".2f", "b": ".1%"}).body()
    assert row == ["0.00", "0.0%"]
    assert (value_with_error(-0.5, 0.1), value_with_error(0.5, None)) == ("−0.50 ± 0.10", "0.50")
    assert (chance(0.04), chance(0.0), chance(2e-5), chance(None)) == ("0.040", "0e+00", "2e−05", "–")


# -- rendered ----------------------------------------------------------------------------------------
# Rendering of a document as HTML and PDF: text is escaped, nothing is fetched, and HTML works without typst.

HOSTILE = (
    '<script>alert(\'x\')</script>{{ 7 * 7 }}{% x %} #panic() $a$ *b* [c] @d <e> \\ " `f` ~ // /* ] #image("g.png")'
)
HOSTILE_CHART = Chart((0, 1), (0, 1), "θ", HOSTILE, HOSTILE)


def document(*blocks: Block, **changes: str) -> Document:
    return Document(**({"title": "Report", "language": "en", "kind": "bank", "blocks": blocks} | changes))  # type: ignore[arg-type]


def text_of(pdf: bytes) -> str:
    read = pypdfium2.PdfDocument(pdf)
    return "\n".join(page.get_textpage().get_text_bounded() for page in read)


def without_spaces(text: str) -> str:
    return re.sub(r"[\s\u200b\ufffe]", "", text)


def every_block(text: str) -> list[Block]:
    return [
        Section(text, (), "here"),
        Paragraph((text, Span(text, "bold"), Span(text, "code"), Span(text, "quiet", "#here"), Badge(text))),
        List((text,), numbered=True),
        Pairs(((text, text),)),
        Pairs(((text, text), (text, text)), small=True),
        Table((Column(text, share=1), Column(text)), ((text, List((text,))),), text, filter_id="of-all"),
        Figures((Figure(HOSTILE_CHART, text), Figure(HOSTILE_CHART, text))),
        Details(text, (Figure(HOSTILE_CHART, text, wide=True),)),
        Section("", (Section(text, (Box((Paragraph(text),), "bad"),), level=3, together=True),)),
    ]


def test_markup_in_text_is_escaped_in_every_block_of_html_and_pdf() -> None:
    made = document(*every_block(HOSTILE), title=HOSTILE, subtitle=HOSTILE, running=HOSTILE)
    page = as_html.page(made)
    assert page.count("<script") == 1, "the page's own"
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;{{ 7 * 7 }}{% x %}") >= 15
    assert without_spaces(text_of(as_pdf.typeset(made))).count(without_spaces(HOSTILE)) >= 15


@pytest.mark.parametrize(
    "text",
    [
        "ก ไทย 中文 😀 ﷽",
        "\x01\x85\u200b\u202e\ufeff",
        "\ud800",
        "",
        "x" * 1000,
        "가" * 300,
        "x̱y אָ",
        "e" + "\u0301" * 30,
    ],
)
def test_pdf_is_typeset_if_text_has_unprintable_or_very_long_words(text: str) -> None:
    """Letters that no font contains become boxes, a lone surrogate becomes a question mark, and a long word is broken.
    The long words here fill pages."""
    assert as_pdf.typeset(document(*every_block(text), title=f"Report {text}", subtitle=text, running=text)).startswith(
        b"%PDF"
    )


def test_pdf_prints_the_caption_above_the_table() -> None:
    printed = text_of(as_pdf.typeset(document(table(("item", "use"), (("q1", "free"),), caption="Items in use"))))
    assert 0 <= printed.find("Items in use") < printed.find("q1")


def test_pdf_contains_latin_and_korean_text_and_signs_of_formulas() -> None:
    made = text_of(as_pdf.typeset(document(Paragraph("Ability θ ≥ 0.5 ± 0.1 Δb² −1 – …"), Paragraph("학습자 보고서"))))
    assert "Ability θ ≥ 0.5 ± 0.1 Δb² −1 – …" in made
    assert "학습자 보고서" in made


def test_pdf_contains_only_fonts_of_the_packages() -> None:
    """A PDF looks the same on every machine, because no font of the system is used."""
    assert fonts_of(document(Paragraph("Ability 학습자 ≙"))) <= {"NanumGothic", "NanumGothicBold", "DejaVuSans"}


def test_backslash_is_not_drawn_as_a_won_sign() -> None:
    """NanumGothic's glyph for the backslash is a won sign."""
    assert fonts_of(document(Paragraph("\\"), title="\\", kind="learner")) == {"DejaVuSans", "DejaVuSans-Bold"}


def fonts_of(made: Document) -> set[str]:
    page = pypdfium2.PdfDocument(as_pdf.typeset(made))[0]
    fonts = {one.get_font().get_base_name() for one in page.get_objects() if hasattr(one, "get_font")}
    return {font.partition("+")[2] or font for font in fonts}


def test_korean_lines_end_between_words() -> None:
    word = "학습자보고서입니다84명"
    lines = text_of(as_pdf.typeset(document(Paragraph(" ".join([word] * 40)), language="ko"))).splitlines()
    broken = [line for line in lines if word[:3] in line and set(line.split()) != {word}]
    assert broken == []


def test_pdf_of_a_document_is_reproducible_and_tagged_for_screen_readers() -> None:
    made = document(*every_block("text"))
    assert as_pdf.typeset(made) == as_pdf.typeset(made)
    assert pypdfium2.PdfDocument(as_pdf.typeset(made)).is_tagged()
    assert b"pdfuaid:part" in as_pdf.typeset(made)


def test_only_sections_longer_than_a_page_are_broken_across_pages() -> None:
    long = Section("Long", (Paragraph(" ".join(f"w{n}" for n in range(4000))),), level=3, together=True)
    made = text_of(as_pdf.typeset(document(Section("First", (long,)))))
    assert all(f"w{n}" in made for n in (0, 1999, 3999))
    groups = (Section(f"H{n}", tuple(Paragraph(f"P{n}") for _ in range(12)), level=3, together=True) for n in range(20))
    pages = [
        page.get_textpage().get_text_bounded()
        for page in pypdfium2.PdfDocument(as_pdf.typeset(document(Section("First", tuple(groups)))))
    ]
    assert len(pages) > 2
    assert all(sum(f"P{n}\r\n" in f"{page}\r\n" for page in pages) == 1 for n in range(20))


def test_an_error_of_the_typesetter_names_the_document() -> None:
    with pytest.raises(PermanentFailure, match=r"could not make a PDF of “Report”: .*nowhere"):
        as_pdf.typeset(document(Paragraph(Span("text", link="#nowhere"))))


def test_pdf_error_names_the_package_and_html_still_works_if_typst_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(PermanentFailure, match="pip install typst"):
        as_pdf.typeset(document(Paragraph("text")))
    assert "<p>text</p>" in as_html.page(document(Paragraph("text")))


def test_every_font_is_installed_together_with_its_licence() -> None:
    fonts = {path.name for path in typesetting.FONTS.iterdir()}
    assert {
        "NanumGothic.ttf",
        "NanumGothicBold.ttf",
        "DejaVuSans.ttf",
        "DejaVuSans-Bold.ttf",
        "LastResortHE-Regular.ttf",
    } <= fonts
    assert "SIL OPEN FONT LICENSE" in (typesetting.FONTS / "LICENSE_OFL").read_text("utf-8")
    assert "Bitstream Vera" in (typesetting.FONTS / "LICENSE_DEJAVU").read_text("utf-8")
