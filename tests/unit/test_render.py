"""The way from a document to HTML and PDF: text stays text, nothing is fetched, and neither waits for the other."""

from __future__ import annotations

import re
import sys

import pypdfium2
import pytest

from irt_assets.charts.chart import Chart
from irt_assets.charts.svg import svg
from irt_assets.reports import render
from irt_assets.reports.document import (
    Block,
    Box,
    Column,
    Document,
    Figure,
    Figures,
    Group,
    Heading,
    Numbered,
    Pairs,
    Paragraph,
    Span,
    Table,
)
from resources.failures import PermanentFailure
from resources.files import typesetting

HOSTILE = (
    '<script>alert(\'x\')</script>{{ 7 * 7 }}{% x %} #panic() $a$ *b* [c] @d <e> \\ " `f` ~ // /* ] #image("g.png")'
)
CHART = svg(Chart((0, 1), (0, 1), "θ", HOSTILE, HOSTILE))


def document(*blocks: Block, **changes: str) -> Document:
    return Document(**({"title": "Report", "language": "en", "kind": "bank", "blocks": blocks} | changes))  # type: ignore[arg-type]


def text_of(pdf: bytes) -> str:
    read = pypdfium2.PdfDocument(pdf)
    return "\n".join(page.get_textpage().get_text_bounded() for page in read)


def squeezed(text: str) -> str:
    return re.sub(r"[\s\u200b\ufffe]", "", text)


def every_block(text: str) -> list[Block]:
    return [
        Heading(text, id="here"),
        Paragraph((text, Span(text, "bold"), Span(text, "code"), Span(text, "quiet", "#here"))),
        Numbered((text,)),
        Pairs(((text, text),)),
        Pairs(((text, text), (text, text)), small=True),
        Table((Column(text, share=1),), ((text,),), filter_id="of-all"),
        Figures((Figure(CHART, text, text), Figure(CHART, text, text))),
        Group((Heading(text, 3), Box((Paragraph(text),), "bad"))),
    ]


def test_text_is_text_in_every_block_of_both_whatever_it_holds() -> None:
    made = document(*every_block(HOSTILE), title=HOSTILE, subtitle=HOSTILE, running=HOSTILE)
    page = render.html(made)
    assert page.count("<script") == 1, "the page's own"
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;{{ 7 * 7 }}{% x %}") >= 15
    assert squeezed(text_of(render.pdf(made))).count(squeezed(HOSTILE)) >= 15


@pytest.mark.parametrize(
    "text", ["ก ไทย 中文 😀 ﷽", "\x01\x85\u200b\u202e\ufeff", "\ud800", "", "x" * 3000, "가" * 3000]
)
def test_no_text_keeps_a_pdf_from_being_made(text: str) -> None:
    """Letters that no font holds are boxes, a lone surrogate is a question mark, a long word is broken."""
    assert render.pdf(document(*every_block(text), title=f"Report {text}", subtitle=text, running=text)).startswith(
        b"%PDF"
    )


def test_a_pdf_holds_latin_and_korean_and_the_signs_of_the_formulas() -> None:
    made = text_of(render.pdf(document(Paragraph("Ability θ ≥ 0.5 ± 0.1 Δb² −1 – …"), Paragraph("학습자 보고서"))))
    assert "Ability θ ≥ 0.5 ± 0.1 Δb² −1 – …" in made
    assert "학습자 보고서" in made


def test_fonts_of_a_pdf_are_those_of_the_packages() -> None:
    """So that it looks the same on every machine: a font of the system would be another on the next one."""
    assert fonts_of(document(Paragraph("Ability 학습자 ≙"))) <= {"NanumGothic", "NanumGothicBold", "DejaVuSans"}


def test_a_backslash_is_not_drawn_as_a_won_sign() -> None:
    """NanumGothic has that glyph for it."""
    assert fonts_of(document(Paragraph("\\"), title="\\", kind="learner")) == {"DejaVuSans", "DejaVuSans-Bold"}


def fonts_of(made: Document) -> set[str]:
    page = pypdfium2.PdfDocument(render.pdf(made))[0]
    fonts = {one.get_font().get_base_name() for one in page.get_objects() if hasattr(one, "get_font")}
    return {font.partition("+")[2] or font for font in fonts}


def test_korean_lines_end_between_words() -> None:
    word = "학습자보고서입니다84명"
    lines = text_of(render.pdf(document(Paragraph(" ".join([word] * 40)), language="ko"))).splitlines()
    broken = [line for line in lines if word[:3] in line and set(line.split()) != {word}]
    assert broken == []


def test_the_same_document_is_the_same_pdf_and_is_tagged_for_people_who_hear_it() -> None:
    made = document(*every_block("text"))
    assert render.pdf(made) == render.pdf(made)
    assert pypdfium2.PdfDocument(render.pdf(made)).is_tagged()
    assert b"pdfuaid:part" in render.pdf(made)


def test_what_is_longer_than_a_page_is_on_the_next_and_what_belongs_together_is_not_parted() -> None:
    first = Heading("First")
    long = Group((Heading("Long", 3), Paragraph(" ".join(f"w{n}" for n in range(4000)))))
    made = text_of(render.pdf(document(first, long)))
    assert all(f"w{n}" in made for n in (0, 1999, 3999))
    groups = [Group((Heading(f"H{n}", 3), *(Paragraph(f"P{n}") for _ in range(12)))) for n in range(20)]
    pages = [
        page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(render.pdf(document(first, *groups)))
    ]
    assert len(pages) > 2
    assert all(sum(f"P{n}\r\n" in f"{page}\r\n" for page in pages) == 1 for n in range(20))


def test_an_error_of_the_typesetter_names_the_document() -> None:
    with pytest.raises(PermanentFailure, match=r"no PDF of “Report”: .*nowhere"):
        render.pdf(document(Paragraph(Span("text", link="#nowhere"))))


def test_without_typst_the_error_names_the_package_and_the_html_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(PermanentFailure, match="pip install typst"):
        render.pdf(document(Paragraph("text")))
    assert "<p>text</p>" in render.html(document(Paragraph("text")))


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
