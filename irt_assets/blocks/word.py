"""Render documents as Word files with python-docx. Typst draws the charts, because not every Word shows SVG.

Does not belong here: the layout of a document (see the callers).
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

from irt_assets.blocks import (
    Badge,
    Block,
    Box,
    Content,
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
    plain,
    with_minus,
)
from irt_assets.blocks.pdf import draw_png, visible

CM, POINT = 360_000, 12_700
"""Lengths in English Metric Units, in which python-docx measures."""
LOGO_HEIGHT, LOGO_WIDTH = 18 * CM // 10, 6 * CM
"""Height and largest width of a letter's logo."""
TEXT_WIDTH = 17 * CM
"""Width of the text on a page of A4 with margins of 2 cm."""
SINGLE_WIDTH = 11 * CM
"""Width of a figure without a neighbour."""
MIN_LETTERS, MAX_LETTERS = 5, 40
"""Shortest and longest text of a cell that its column's width follows."""
MAX_PROPERTY = 255
"""Longest property of a document that python-docx accepts."""
GREY = "595959"
COLOURS = {"good": "0072B2", "bad": "D55E00", "warning": "D55E00", "info": "0072B2", "neutral": "C0C0C0", "dark": GREY}
"""Colour of the line at the left of a box of each tone."""


def write_docx(document: Document) -> bytes:
    """Render the document as a Word file. Raises PermanentFailure if Typst, which draws the charts, is missing."""
    import docx  # only Word files need it

    word: Any = docx.Document()
    page, properties, normal = word.sections[0], word.core_properties, word.styles["Normal"]
    page.page_width, page.page_height = 21 * CM, 297 * CM // 10
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = 2 * CM
    normal.font.size, normal.paragraph_format.space_after = 10 * POINT, 4 * POINT
    properties.title = visible(document.title)[:MAX_PROPERTY]
    properties.author, properties.language = "irt-assets", document.language
    page.header.paragraphs[0].text = visible(document.running)
    if document.kind == "letter":
        _add_letters(word, document)
    else:
        word.add_heading(visible(document.title), 0)
        if document.subtitle:
            _add_text(word.add_paragraph(), document.subtitle, quiet=True)
        _add_blocks(word, document.blocks)
    written = BytesIO()
    word.save(written)
    return written.getvalue()


def _add_letters(word: Any, document: Document) -> None:
    """Add each letter on a new page, below the letterhead."""
    for number, block in enumerate(document.blocks):
        sender = word.add_paragraph()
        sender.paragraph_format.page_break_before = number > 0
        if document.letterhead.logo:
            picture = sender.add_run().add_picture(BytesIO(document.letterhead.logo), height=LOGO_HEIGHT)
            shrunk = min(1.0, LOGO_WIDTH / picture.width)
            picture.width, picture.height = int(shrunk * picture.width), int(shrunk * picture.height)
        address = word.add_paragraph("\n".join(map(visible, document.letterhead.address)))
        address.paragraph_format.left_indent = TEXT_WIDTH * 2 // 3
        _add_blocks(word, (block,))


def _add_blocks(word: Any, blocks: Iterable[Block]) -> None:
    for block in blocks:
        match block:
            case Paragraph():
                _add_text(word.add_paragraph(), block.text, bold=block.style == "lead", quiet=block.style == "quiet")
            case List():
                for item in block.items:
                    _add_text(word.add_paragraph(style="List Number" if block.numbered else "List Bullet"), item)
            case Pairs():
                _add_table(word, [(Span(name, "bold"), value) for name, value in block.rows])
            case Table():
                _add_data(word, block)
            case Figure():
                _add_figures(word, (block,))
            case Figures():
                _add_figures(word, block.figures)
            case Section():
                word.add_heading(visible(block.title) or "–", block.level - 1)
                _add_blocks(word, block.blocks)
            case Details():
                _add_text(word.add_paragraph(), block.summary, bold=True)
                _add_blocks(word, block.blocks)
            case Box():
                _add_box(word, block)


def _add_text(paragraph: Any, text: Content, *, bold: bool = False, quiet: bool = False) -> None:
    """Add the text to the paragraph, with a run for each style."""
    from docx.shared import RGBColor

    if isinstance(text, tuple):
        for part in text:
            _add_text(paragraph, part, bold=bold, quiet=quiet)
        return
    run = paragraph.add_run(with_minus(visible(plain(text))))
    style = text.style if isinstance(text, Span) else ""
    run.bold = bold or style == "bold" or isinstance(text, Badge) or None
    if style == "code":
        run.font.name, run.font.size = "Consolas", 9 * POINT
    if quiet or style == "quiet":
        run.font.color.rgb = RGBColor.from_string(GREY)


def _add_data(word: Any, block: Table) -> None:
    """Add the table below its caption. Word repeats its header on each page."""
    from docx.enum.text import WD_ALIGN_PARAGRAPH
    from docx.oxml import OxmlElement

    if block.caption:
        _add_text(word.add_paragraph(), block.caption, bold=True)
    if not block.rows:
        _add_text(word.add_paragraph(), block.empty, quiet=True)
        return
    header = [Span(plain(column.name), "bold") for column in block.columns]
    table = _add_table(word, [header, *block.body()], "Light Shading Accent 1")
    table.rows[0]._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
    for row in table.rows:
        for cell, column in zip(row.cells, block.columns, strict=True):
            paragraph = cell.paragraphs[0]
            if column.number:
                paragraph.alignment = WD_ALIGN_PARAGRAPH.RIGHT
            for run in paragraph.runs:
                run.font.size = 8 * POINT


def _add_table(word: Any, rows: Sequence[Sequence[Content]], style: str | None = None) -> Any:
    table = word.add_table(len(rows), max(map(len, rows), default=1), style)
    longest = [max(len(plain(content)) for content in column) for column in zip(*rows, strict=True)]
    letters = [min(max(length, MIN_LETTERS), MAX_LETTERS) for length in longest]
    table.autofit = False
    for row, contents in zip(table.rows, rows, strict=True):
        for cell, content, share in zip(row.cells, contents, letters, strict=True):
            cell.width = TEXT_WIDTH * share // sum(letters)
            cell.paragraphs[0].paragraph_format.space_after = POINT
            _add_text(cell.paragraphs[0], content)
    word.add_paragraph()
    return table


def _add_figures(word: Any, figures: Sequence[Figure]) -> None:
    """Add the pictures, two in a row unless they are wide, with their captions below them."""
    width = TEXT_WIDTH if figures[0].wide else TEXT_WIDTH // 2 - CM // 2 if len(figures) > 1 else SINGLE_WIDTH
    paragraph = word.add_paragraph()
    for figure in figures:
        picture = paragraph.add_run().add_picture(BytesIO(draw_png(figure)), width=width)
        picture._inline.docPr.set("descr", visible(figure.description))
    for figure in figures:
        if figure.caption:
            _add_text(word.add_paragraph(), figure.caption, quiet=True)


def _add_box(word: Any, block: Box) -> None:
    """Add the blocks with a line at their left, in the colour of the tone."""
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    before = len(word.paragraphs)
    _add_blocks(word, block.blocks)
    line = f'w:val="single" w:sz="24" w:space="8" w:color="{COLOURS[block.tone]}"'
    for paragraph in word.paragraphs[before:]:
        borders = parse_xml(f"<w:pBdr {nsdecls('w')}><w:left {line}/></w:pBdr>")
        paragraph._p.get_or_add_pPr().insert_element_before(borders, "w:shd", "w:spacing", "w:jc")
