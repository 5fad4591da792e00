"""Letters to learners: words in three languages, the band of a second sitting, hostile names, and the letterhead."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import docx
import numpy as np
import pypdfium2
import pytest
from scipy.stats import norm

from irt_assets.blocks import Document, Letterhead, excel, html, pdf, word
from irt_assets.reports.learner_words import LANGUAGES_OF
from irt_assets.reports.letter_blocks import document, read_letterhead
from irt_assets.reports.letter_facts import AGAIN, PROBABLY, Letter, Limits, read_names
from irt_assets.scores.issued import IssuedScore
from irt_psychometrics import ItemParameters
from irt_psychometrics.scoring import ScoreScale, ScoreTable
from resources.failures import PermanentFailure
from resources.version import code_version
from tests.helpers.pictures import Picture

AT = datetime(2026, 7, 15, tzinfo=UTC)
SCORE = IssuedScore(
    user_id="u-17",
    scale_id="default",
    form_id="B1",
    session_id="s1",
    sat_at=datetime(2026, 6, 3, 22, 30, tzinfo=UTC),
    raw=34,
    theta=0.4,
    theta_se=0.3,
    scaled=612.5,
    scaled_se=26.0,
    percentile=61.0,
    passes=True,
    pass_probability=0.9,
    table_id=4321,
    set_hash="hash",
    status="issued",
    decided_by="Ann",
    reason="key of i3",
    issued_id=3,
    issued_at=AT,
)
LETTER = Letter(
    name="Kim Müller",
    language="en",
    zone="Europe/Berlin",
    score=SCORE,
    limits=Limits(200.0, 800.0, (565.5, 659.5), 500.0),
    sections=(),
    n_results=1,
    best_counts=False,
    counting=SCORE,
    replaced=None,
)
FAILED = replace(
    LETTER,
    score=replace(SCORE, passes=False),
    limits=replace(LETTER.limits, mark=620.0),
    sections=(("algebra", 14, 20), ("geometry", 9, 15)),
    n_results=3,
    best_counts=True,
    counting=replace(SCORE, form_id="F2", session_id="s2", scaled=640.0),
    replaced=replace(SCORE, scaled=630.0, issued_at=datetime(2026, 6, 20, tzinfo=UTC)),
)
NO_MARK = replace(LETTER, score=replace(SCORE, passes=None), limits=Limits(-np.inf, np.inf, None, None), name=None)
NAMES = {
    "markup": "<b>Bob</b> \"'; -- & <script>alert(1)</script> #strong[x] $x$ {name} \\x",
    "Hangul": "김하늘",
    "right to left": "محمد بن سلمان",
    "300 letters": "N" * 300,
    "300 letters in words": "Anna " * 60,
}


def png(width: int, height: int) -> bytes:
    """Return a blue picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + bytes([0, 114, 178] * width) for _ in range(height)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


HEAD = Letterhead(png(300, 40), ("Example Assessments", "12 Long Street"), {"": ("Yours,", "Office"), "de": ("Gruß",)})


def pages(made: Document) -> list[str]:
    return [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(pdf.typeset(made))]


def word_text(made: Document) -> str:
    found = docx.Document(BytesIO(word.write_docx(made)))
    cells = [cell.text for table in found.tables for row in table.rows for cell in row.cells]
    return "\n".join([*(paragraph.text for paragraph in found.paragraphs), *cells])


def table_of_20_items() -> tuple[ScoreTable, np.ndarray, np.ndarray]:
    a, b = np.linspace(0.8, 1.6, 20), np.linspace(-2, 2, 20)[np.arange(20) * 7 % 20]
    items = ItemParameters(tuple(f"i{k}" for k in range(20)), a, b, np.zeros(20), np.zeros((20, 2, 2)))
    return ScoreTable.from_items(items, ScoreScale(100.0, 500.0), mean=0, sd=1), a, b


@pytest.mark.parametrize(
    ("letter", "names"),
    [
        (LETTER, {"en": "passed_en", "de": "passed_de", "ko": "passed_ko"}),
        (FAILED, {"en": "failed_en", "de": "failed_de", "ko": "failed_ko"}),
        (NO_MARK, {"en": "no_mark_en", "de": "no_mark_de", "ko": "no_mark_ko"}),
    ],
)
def test_letter_shows_the_facts_in_each_language(picture: Picture, letter: Letter, names: dict[str, str]) -> None:
    """The sitting ended at 00:30 of the next day in Berlin. German numbers have a comma."""
    assert (*names,) == LANGUAGES_OF["letter"]
    for language, name in names.items():
        picture(html.page(document([replace(letter, language=language)], HEAD, AT)), name)


@pytest.mark.parametrize("letter", [LETTER, FAILED])
def test_letter_contains_nothing_of_the_company_s_records(letter: Letter) -> None:
    for text in (html.page(document([letter], HEAD, AT)), word_text(document([letter], HEAD, AT))):
        for hidden in ("4321", code_version(), "u-17", "hash", "Ann", "key of i3", "counts,", "probability", "held"):
            assert hidden not in text.replace("<style>", "")


def test_second_sittings_score_is_in_the_band_in_eight_of_ten_cases() -> None:
    """Exact distributions of raw scores (Lord & Wingersky 1984) of two sittings of learners from N(0, 1)."""
    table, a, b = table_of_20_items()
    theta = np.linspace(-4, 4, 161)
    raw = np.ones((theta.size, 1))
    for slope, difficulty in zip(a, b, strict=True):
        p = 1 / (1 + np.exp(-slope * (theta - difficulty)))[:, None]
        raw = np.pad(raw * (1 - p), ((0, 0), (0, 1))) + np.pad(raw * p, ((0, 0), (1, 0)))
    both = np.einsum("t,ti,tj->ij", norm.pdf(theta) / norm.pdf(theta).sum(), raw, raw)
    inside = np.abs(table.scaled - table.scaled[:, None]) <= AGAIN * table.scaled_se[:, None]
    assert both.sum() == pytest.approx(1)
    assert both[inside].sum() == pytest.approx(PROBABLY, abs=0.06)


@pytest.mark.parametrize("name", NAMES)
def test_letter_with_any_name_fits_a_page_and_escapes_the_name(name: str) -> None:
    letter = replace(FAILED, name=NAMES[name])
    made = document([letter, LETTER, replace(letter, language="ko")], HEAD, AT)
    texts = pages(made)
    assert len(texts) == 3
    assert "Kim Müller" in texts[1]
    assert "<script>" not in html.page(made)
    assert NAMES[name].strip() in word_text(made)
    if name != "right to left":
        squeezed = re.sub(r"\s|\u200b|\ufffe", "", texts[0])
        assert re.sub(r"\s", "", NAMES[name]) in squeezed


def test_letters_are_one_document_with_a_page_each() -> None:
    letters = [replace(LETTER, name=f"Learner {k}", language=LANGUAGES_OF["letter"][k % 3]) for k in range(9)]
    made = document(letters, HEAD, AT)
    assert [text.count("Learner") for text in pages(made)] == [1] * 9
    page = html.page(made)
    assert page.count("<article") == page.count("<h1>") == 9
    assert page.count('lang="de"') == 3
    assert excel.write_xlsx(made).startswith(b"PK"), "the dashboard offers each page as a workbook"
    parts = docx.Document(BytesIO(word.write_docx(made)))
    assert sum(bool(one.paragraph_format.page_break_before) for one in parts.paragraphs) == 8


def test_score_that_rounds_to_the_mark_without_passing_is_explained() -> None:
    letter = replace(LETTER, score=replace(SCORE, scaled=500.0, passes=False))
    assert "decided before it is rounded" in html.page(document([letter], HEAD, AT))
    assert "decided before it is rounded" not in html.page(document([LETTER, FAILED], HEAD, AT))


def test_letterhead_is_read_from_its_folder(tmp_path: Path) -> None:
    assert read_letterhead(None) == Letterhead()
    files = {"address.txt": "\ufeffExample\n\n12 Long Street\n", "closing.txt": "Yours,", "closing.de.txt": "Gruß"}
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "logo.png").write_bytes(png(2000, 40))
    head = read_letterhead(tmp_path)
    assert head.address == ("Example", "12 Long Street")
    made = document([LETTER, replace(LETTER, language="de")], head, AT)
    first, second = pages(made)
    assert ("Yours," in first, "Gruß" in second, "Yours," in second) == (True, True, False)
    assert "data:image/png;base64," in html.page(made)
    logo = docx.Document(BytesIO(word.write_docx(made))).inline_shapes[0]
    assert logo.width / logo.height == pytest.approx(50, rel=0.01)


def test_letterhead_with_a_wrong_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match="IRT_LETTERHEAD must be a folder"):
        read_letterhead(tmp_path / "missing")
    (tmp_path / "address.txt").write_bytes("Straße".encode("latin-1"))
    with pytest.raises(PermanentFailure, match=r"address.txt must be UTF-8"):
        read_letterhead(tmp_path)
    (tmp_path / "logo.svg").write_text("<svg/>")
    with pytest.raises(PermanentFailure, match="must be a PNG or JPEG file"):
        read_letterhead(tmp_path)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("user_id,name\nu1,Kim\nu1,Lee\n", "row 3: learner u1 is in an earlier row"),
        ("user,name\nu1,Kim\n", "lacks the column user_id"),
    ],
)
def test_file_of_names_with_a_fault_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "names.csv").write_text(rows)
    with pytest.raises(PermanentFailure, match=message):
        read_names(tmp_path / "names.csv")


def test_file_of_names_keeps_names_as_they_are(tmp_path: Path) -> None:
    text = 'user_id,name\nu1,"<b>""Kim"", the 2nd</b>"\nu2,김하늘\nu3,\nu4,' + "N" * 300 + "\n"
    (tmp_path / "names.csv").write_text(text, "utf-8")
    assert read_names(tmp_path / "names.csv") == {
        "u1": '<b>"Kim", the 2nd</b>',
        "u2": "김하늘",
        "u4": "N" * 300,
    }
