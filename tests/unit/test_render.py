"""The way from a template to a PDF: everything is escaped, nothing is fetched, what is missing is named."""

from __future__ import annotations

import sys

import jinja2
import pypdfium2
import pytest

from irt_assets.reports import render
from resources import typesetting
from resources.failures import PermanentFailure


@pytest.fixture
def typesetter(require) -> None:
    require(typesetting.pango_problem() is None, "Pango")
    require(not typesetting.missing_fonts(["en", "ko"]), "fonts for English and Korean")


def text_of(pdf: bytes) -> str:
    document = pypdfium2.PdfDocument(pdf)
    return "\n".join(page.get_textpage().get_text_bounded() for page in document)


def test_whatever_is_put_into_a_template_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    of_one = jinja2.DictLoader({"one.html": "<p title='{{ name }}'>{{ name }}</p>"})
    monkeypatch.setattr(render._environment(), "loader", of_one)
    made = render.html("one.html", name="<script>'x'</script>")
    assert made == "<p title='&lt;script&gt;&#39;x&#39;&lt;/script&gt;'>&lt;script&gt;&#39;x&#39;&lt;/script&gt;</p>"


def test_a_name_that_a_template_does_not_find_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render._environment(), "loader", jinja2.DictLoader({"one.html": "{{ learner.name }}"}))
    with pytest.raises(jinja2.UndefinedError, match="learner"):
        render.html("one.html")


def test_a_pdf_holds_latin_and_korean_and_the_signs_of_the_formulas(typesetter: None) -> None:
    made = text_of(render.pdf("<p>Ability θ ≥ 0.5 ± 0.1 Δb</p><p>학습자 보고서</p>"))
    assert "Ability θ ≥ 0.5 ± 0.1 Δb" in made
    assert "학습자 보고서" in made


def test_a_pdf_is_made_without_reading_files_or_the_network(
    typesetter: None, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word in a file beside the page, and a host that would be asked: neither comes into the PDF."""
    (tmp_path / "secret.css").write_text("p::before { content: 'secret' }", "utf-8")
    asked = []
    monkeypatch.setattr("socket.getaddrinfo", lambda *of: asked.append(of) or [])
    made = render.pdf(
        f'<link rel="stylesheet" href="file://{tmp_path}/secret.css"><img src="http://example.com/a.png"><p>text</p>'
    )
    assert text_of(made).strip() == "text"
    assert asked == []


def test_without_pango_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(PermanentFailure, match="apt install libpango"):
        render.pdf("<p>text</p>")


def test_korean_text_without_a_font_for_it_is_an_error_that_names_the_package(
    typesetter: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typesetting, "_has_font", lambda language: language != "ko")
    with pytest.raises(PermanentFailure, match="fonts-nanum"):
        render.pdf("<p>학습자</p>")
    assert render.pdf("<p>learner</p>").startswith(b"%PDF")


def test_fontconfig_knows_which_languages_have_a_font(typesetter: None) -> None:
    """xzz is no language, so no font holds it: the question can be answered with no."""
    assert typesetting.missing_fonts(["en", "ko", "xzz"]) == ["xzz"]
