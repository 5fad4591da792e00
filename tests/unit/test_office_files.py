"""Documents as Word and Excel files, read by other programs' parsers."""

from io import BytesIO

import docx
import pytest
from PIL.ImageFont import truetype
from python_calamine import CalamineWorkbook

from irt_assets.blocks import Box, Document, Figure, Figures, Pairs, Paragraph, Section, Span, table
from irt_assets.blocks.excel import write_xlsx
from irt_assets.blocks.word import PADDING, POINT, write_docx
from irt_psychometrics.plots import Chart
from resources.files.typesetting import FONTS

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
        *("Form A", "scale default", "No <b>, Δ ≥ −0.5", "Items", "Items: 2026/09")
    ]
    assert made.sections[0].header.paragraphs[0].text == "running head"
    items, figures, pairs = ([[cell.text for cell in row.cells] for row in one.rows] for one in made.tables)
    assert figures == [["\nBelow it", "\nBelow it"]]
    assert items == [["item", "n", "p", "flag"], ["=1+1", "1,200", "0.12", "low"], ["http://b", "–", "–", ""]]
    assert pairs == [["mean", "18.20"]]
    assert [shape._inline.docPr.get("descr") for shape in made.inline_shapes] == [figure.description] * 2
    assert all(shape.width > 0.4 * (made.sections[0].page_width or 0) * 0.8 for shape in made.inline_shapes)


def test_word_table_has_room_for_each_word_and_number_in_the_widest_font() -> None:
    """Measured in DejaVu Sans, which is wider than the fonts of Word and of LibreOffice."""
    names = ["at", "item", "n", "p", "SD", "α without", "omitted", "not reached", "flags"]
    row = (10, "item_10", 600, 0.422, 0.49, 0.789, 0.0, 0.0, "low item-rest r; many did not reach it " * 4)
    formats = dict(zip(names[2:-1], (",", ".3f", ".2f", ".3f", ".1%", ".1%"), strict=True)) | {"at": ""}
    for block in (table(names, [row] * 3, numbers=formats), table([*names[:2]] * 9, [row[:2] * 9])):
        (made,) = docx.Document(BytesIO(write_docx(document(block)))).tables
        assert [column.width for column in made.columns] == [cell.width for cell in made.rows[0].cells]
        for cell, column in (pair for one in made.rows for pair in zip(one.cells, block.columns, strict=True)):
            (run,) = cell.paragraphs[0].runs
            assert run.font.size is not None
            assert cell.width is not None
            font = truetype(str(FONTS / f"DejaVuSans{'-Bold' * bool(run.bold)}.ttf"), 100)
            words = [run.text] if column.number and not run.bold else run.text.split()
            widths = [font.getlength(word) / 100 * run.font.size.pt for word in words]
            assert max(widths) <= (cell.width - 2 * PADDING) / POINT


def test_word_table_repeats_its_header_and_keeps_it_with_the_first_row() -> None:
    made = docx.Document(BytesIO(write_docx(document(Section("Items", (ITEMS,))))))
    (items,) = made.tables
    assert [len(row._tr.xpath("w:trPr/w:tblHeader")) for row in items.rows] == [1, 0, 0]
    assert all(row._tr.xpath("w:trPr/w:cantSplit") for row in items.rows)
    kept = [{bool(cell.paragraphs[0].paragraph_format.keep_with_next) for cell in row.cells} for row in items.rows]
    assert kept == [{True}, {False}, {False}]
    title, caption = (one for one in made.paragraphs if one.text in ("Items", ITEMS.caption))
    assert title.style is not None
    assert title.style.paragraph_format.keep_with_next
    assert caption.paragraph_format.keep_with_next


def test_word_file_places_two_pictures_in_a_row_each_above_its_caption() -> None:
    figures = Figures(tuple(Figure(CHART, f"Picture {k}") for k in range(3)))
    made = docx.Document(BytesIO(write_docx(document(figures))))
    (grid,) = made.tables
    assert [[cell.text.strip() for cell in row.cells] for row in grid.rows] == [
        ["Picture 0", "Picture 1"],
        ["Picture 2", ""],
    ]
    for row, (left, right) in zip(grid.rows, ((1, 1), (1, 0)), strict=True):
        assert [len(cell._tc.xpath("w:p[1]//wp:inline")) for cell in row.cells] == [left, right]
    (wide,) = docx.Document(BytesIO(write_docx(document(Figure(CHART, "Wide", wide=True))))).inline_shapes
    assert wide.width > 1.9 * made.inline_shapes[0].width


def test_word_file_has_page_numbers_and_short_pairs_next_to_each_other() -> None:
    short = Pairs((("mean", "18.20"), ("SD", "5.05"), ("why", "long " * 20), ("α", "0.80")), small=True)
    made = docx.Document(BytesIO(write_docx(document(short))))
    assert made.sections[0].footer._element.xpath("//w:fldSimple/@w:instr") == ["PAGE", "NUMPAGES"]
    rows = [[cell.text for cell in row.cells] for row in made.tables[0].rows]
    assert rows[0] == ["mean", "18.20", "SD", "5.05"]
    assert rows[1][0] == "why"
    assert rows[2][:2] == ["α", "0.80"]


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
