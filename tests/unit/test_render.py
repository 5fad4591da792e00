"""The way from a document to HTML and PDF: text stays text, nothing is fetched, and neither waits for the other."""

from __future__ import annotations

import re
import sys

import pypdfium2
import pytest

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
    Pairs,
    Paragraph,
    Section,
    Span,
    Table,
)
from irt_assets.blocks import html as as_html
from irt_assets.blocks import pdf as as_pdf
from irt_assets.charts.chart import Chart
from resources.failures import PermanentFailure
from resources.files import typesetting

HOSTILE = (
    '<script>alert(\'x\')</script>{{ 7 * 7 }}{% x %} #panic() $a$ *b* [c] @d <e> \\ " `f` ~ // /* ] #image("g.png")'
)
CHART = Chart((0, 1), (0, 1), "θ", HOSTILE, HOSTILE)


def document(*blocks: Block, **changes: str) -> Document:
    return Document(**({"title": "Report", "language": "en", "kind": "bank", "blocks": blocks} | changes))  # type: ignore[arg-type]


def text_of(pdf: bytes) -> str:
    read = pypdfium2.PdfDocument(pdf)
    return "\n".join(page.get_textpage().get_text_bounded() for page in read)


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u200b\ufffe]", "", text)


def every_block(text: str) -> list[Block]:
    return [
        Section(text, (), "here"),
        Paragraph((text, Span(text, "bold"), Span(text, "code"), Span(text, "quiet", "#here"), Badge(text))),
        List((text,), numbered=True),
        Pairs(((text, text),)),
        Pairs(((text, text), (text, text)), small=True),
        Table((Column(text, share=1), Column(text)), ((text, List((text,))),), text, filter_id="of-all"),
        Figures((Figure(CHART, text), Figure(CHART, text))),
        Details(text, (Figure(CHART, text, wide=True),)),
        Section("", (Section(text, (Box((Paragraph(text),), "bad"),), level=3, together=True),)),
    ]


def test_text_is_text_in_every_block_of_both_whatever_it_holds() -> None:
    made = document(*every_block(HOSTILE), title=HOSTILE, subtitle=HOSTILE, running=HOSTILE)
    page = as_html.page(made)
    assert page.count("<script") == 1, "the page's own"
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;{{ 7 * 7 }}{% x %}") >= 15
    assert squeezed(text_of(as_pdf.typeset(made))).count(squeezed(HOSTILE)) >= 15


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
def test_no_text_keeps_a_pdf_from_being_made(text: str) -> None:
    """Letters that no font holds are boxes, a lone surrogate is a question mark, a long word is broken:
    those here fill pages."""
    assert as_pdf.typeset(document(*every_block(text), title=f"Report {text}", subtitle=text, running=text)).startswith(
        b"%PDF"
    )


def test_a_pdf_holds_latin_and_korean_and_the_signs_of_the_formulas() -> None:
    made = text_of(as_pdf.typeset(document(Paragraph("Ability θ ≥ 0.5 ± 0.1 Δb² −1 – …"), Paragraph("학습자 보고서"))))
    assert "Ability θ ≥ 0.5 ± 0.1 Δb² −1 – …" in made
    assert "학습자 보고서" in made


def test_fonts_of_a_pdf_are_those_of_the_packages() -> None:
    """So that it looks the same on every machine: a font of the system would be another on the next one."""
    assert fonts_of(document(Paragraph("Ability 학습자 ≙"))) <= {"NanumGothic", "NanumGothicBold", "DejaVuSans"}


def test_a_backslash_is_not_drawn_as_a_won_sign() -> None:
    """NanumGothic has that glyph for it."""
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


def test_the_same_document_is_the_same_pdf_and_is_tagged_for_people_who_hear_it() -> None:
    made = document(*every_block("text"))
    assert as_pdf.typeset(made) == as_pdf.typeset(made)
    assert pypdfium2.PdfDocument(as_pdf.typeset(made)).is_tagged()
    assert b"pdfuaid:part" in as_pdf.typeset(made)


def test_what_is_longer_than_a_page_is_on_the_next_and_what_belongs_together_is_not_parted() -> None:
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
    with pytest.raises(PermanentFailure, match=r"no PDF of “Report”: .*nowhere"):
        as_pdf.typeset(document(Paragraph(Span("text", link="#nowhere"))))


def test_without_typst_the_error_names_the_package_and_the_html_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(PermanentFailure, match="pip install typst"):
        as_pdf.typeset(document(Paragraph("text")))
    assert "<p>text</p>" in as_html.page(document(Paragraph("text")))


def test_every_font_comes_with_the_installation_and_its_licence() -> None:
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
