"""Documents as Word and Excel files, read by other programs' parsers."""

from io import BytesIO

import docx
import pytest
from python_calamine import CalamineWorkbook

from irt_assets.blocks import Box, Document, Figure, Figures, Pairs, Paragraph, Section, Span, table
from irt_assets.blocks.excel import write_xlsx
from irt_assets.blocks.word import write_docx
from irt_psychometrics.plots import Chart

CHART = Chart((0, 1), (0, 1), "x", "y", "A line that rises.")
ITEMS = table(
    ("item", "n", "p", "flag"),
    [("=1+1", 1200, 0.12345678901234, Span("low", "bold")), ("http://b", None, float("nan"), "")],
    numbers={"n": ",", "p": ".2f"},
    caption="Items: 2026/09",
)


def document(*blocks: object) -> Document:
    return Document("Form A", "en", "bank", blocks, "scale default", "running head")  # type: ignore[arg-type]


def test_word_file_contains_texts_tables_and_pictures_with_descriptions() -> None:
    """Control characters, which XML does not allow, are left out."""
    figure = Figure(CHART, "Below it")
    made = docx.Document(
        BytesIO(
            write_docx(
                document(
                    Box((Paragraph("No\x00 <b>, Δ ≥ -0.5"),), "bad"),
                    Section("Items", (ITEMS, Figures((figure, figure)))),
                    Pairs((("mean", "18.20"),)),
                )
            )
        )
    )
    assert [text.text for text in made.paragraphs if text.text] == [
        *("Form A", "scale default", "No <b>, Δ ≥ −0.5", "Items", "Items: 2026/09", "Below it", "Below it")
    ]
    assert made.sections[0].header.paragraphs[0].text == "running head"
    items, pairs = ([[cell.text for cell in row.cells] for row in one.rows] for one in made.tables)
    assert items == [["item", "n", "p", "flag"], ["=1+1", "1,200", "0.12", "low"], ["http://b", "–", "–", ""]]
    assert pairs == [["mean", "18.20"]]
    assert [shape._inline.docPr.get("descr") for shape in made.inline_shapes] == [figure.description] * 2
    assert all(shape.width > 0.4 * (made.sections[0].page_width or 0) * 0.8 for shape in made.inline_shapes)


def test_word_file_with_a_long_title_has_the_whole_title_as_its_heading() -> None:
    """Uses a long id (up to 600 bytes), because a property of a Word file has at most 255 characters."""
    title = "T" * 700
    word = docx.Document(BytesIO(write_docx(Document(title, "en", "bank", ()))))
    assert word.core_properties.title == title[:255]
    assert word.paragraphs[0].text == title


def test_workbook_has_a_sheet_for_each_table_with_whole_numbers_and_a_last_sheet_about() -> None:
    made = write_xlsx(document(Section("Options", (ITEMS, Pairs((("mean", "18.20"),)), ITEMS)), ITEMS))
    book = CalamineWorkbook.from_filelike(BytesIO(made))
    assert book.sheet_names == ["Options", "Options 2", "Form A", "About"]
    assert book.get_sheet_by_index(0).to_python() == [
        ["item", "n", "p", "flag"],
        ["=1+1", 1200.0, 0.12345678901234, "low"],
        ["http://b", "", "", ""],
    ]
    assert book.get_sheet_by_name("About").to_python() == [["Form A", ""], ["", "scale default"], ["mean", "18.20"]]


@pytest.mark.parametrize("render", [write_docx, write_xlsx])
def test_document_without_content_is_written(render: object) -> None:
    assert render(document())[:2] == b"PK"  # type: ignore[operator]
