"""Render documents as Word files with python-docx. Typst draws the charts, because not every Word shows SVG.

Does not belong here: the layout of a document (see the callers).
"""

import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any
from unicodedata import east_asian_width

from irt_assets.blocks import (
    Badge,
    Block,
    Box,
    Column,
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
from irt_assets.blocks.pdf import MAX_WORD_LENGTH, draw_png, visible

CM, POINT = 360_000, 12_700
"""Lengths in English Metric Units, in which python-docx measures."""
LOGO_HEIGHT, LOGO_WIDTH = 18 * CM // 10, 6 * CM
"""Height and largest width of a letter's logo."""
TEXT_WIDTH = 17 * CM
"""Width of the text on a page of A4 with margins of 2 cm."""
SINGLE_WIDTH = 11 * CM
"""Width of a figure without a neighbour."""
PADDING = CM // 10
"""Distance between a cell's text and each side of the cell."""
LETTER = 0.66
"""Width of a letter of the widest usual font, as a share of the font's size."""
CELL_SIZE, MIN_SIZE, PAIR_SIZE = 8.0, 5.5, 9.0
"""Size of the letters in tables, in tables with many columns, and in pairs of name and value, in points."""
MAX_LETTERS = 40
"""Longest text of a cell for which a table has room in one line, if there is not room for every text."""
SHORT_PAIR = 42
"""Length of the longest value that fits next to another pair."""
MAX_PROPERTY = 255
"""Longest property of a document that python-docx accepts."""
GREY = "595959"
COLOURS = {"good": "0072B2", "bad": "D55E00", "warning": "D55E00", "info": "0072B2", "neutral": "C0C0C0", "dark": GREY}
"""Colour of the line at the left of a box of each tone."""
SIZES = {"Title": 18, "Heading 1": 13, "Heading 2": 11}
"""Size of titles, in points."""


def write_docx(document: Document) -> bytes:
    """Render the document as a Word file. Raises PermanentFailure if Typst, which draws the charts, is missing."""
    import docx  # only Word files need it

    word: Any = docx.Document()
    page, properties, normal = word.sections[0], word.core_properties, word.styles["Normal"]
    page.page_width, page.page_height = 21 * CM, 297 * CM // 10
    page.left_margin = page.right_margin = page.top_margin = page.bottom_margin = 2 * CM
    normal.font.name, normal.font.size, normal.paragraph_format.space_after = "Calibri", 10 * POINT, 4 * POINT
    for name, size in SIZES.items():
        word.styles[name].font.size, word.styles[name].paragraph_format.space_before = size * POINT, size * POINT // 2
    properties.title = visible(document.title)[:MAX_PROPERTY]
    properties.author, properties.language = "irt-assets", document.language
    page.header.paragraphs[0].text = visible(document.running)
    if document.kind == "letter":
        _add_letters(word, document)
    else:
        _add_page_number(page.footer.paragraphs[0])
        word.add_heading(visible(document.title), 0)
        if document.subtitle:
            _add_text(word.add_paragraph(), document.subtitle, quiet=True)
        _add_blocks(word, document.blocks)
    written = BytesIO()
    word.save(written)
    return written.getvalue()


def _add_page_number(paragraph: Any) -> None:
    """Add the page's number and the number of pages, which Word counts."""
    for text, field in (("", "PAGE"), (" / ", "NUMPAGES")):
        paragraph.add_run(text)
        paragraph._p.append(_xml(f'<w:fldSimple w:instr="{field}"><w:r><w:t>1</w:t></w:r></w:fldSimple>'))
    paragraph.paragraph_format.left_indent = TEXT_WIDTH - 2 * CM


def _xml(element: str) -> Any:
    """Parse an element of a Word file, because python-docx has no method for every element."""
    from docx.oxml import parse_xml
    from docx.oxml.ns import nsdecls

    return parse_xml(re.sub(r"^<[\w:]+", rf"\g<0> {nsdecls('w')}", element))


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
                _add_pairs(word, block)
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


def _add_text(
    paragraph: Any, text: Content, *, bold: bool = False, quiet: bool = False, size: float | None = None
) -> None:
    """Add the text to the paragraph, with a run for each style. `size` is in points."""
    from docx.shared import RGBColor

    if isinstance(text, tuple):
        for part in text:
            _add_text(paragraph, part, bold=bold, quiet=quiet, size=size)
        return
    run = paragraph.add_run(with_minus(visible(plain(text))))
    style = text.style if isinstance(text, Span) else ""
    run.bold = bold or style == "bold" or isinstance(text, Badge) or None
    if style == "code":
        run.font.name, size = "Consolas", size or 9.0
    if size is not None:
        run.font.size = round(size * POINT)
    if quiet or style == "quiet":
        run.font.color.rgb = RGBColor.from_string(GREY)


def _add_data(word: Any, block: Table) -> None:
    """Add the table below its caption. Word repeats the header on each page, and breaks no page within a row."""
    from docx.enum.text import WD_ALIGN_PARAGRAPH

    if block.caption:
        caption = word.add_paragraph()
        caption.paragraph_format.keep_with_next = True
        _add_text(caption, block.caption, bold=True)
    if not block.rows:
        _add_text(word.add_paragraph(), block.empty, quiet=True)
        return
    header, body = [Span(plain(column.name), "bold") for column in block.columns], [*block.body()]
    letters, size = _letters(block.columns, body)
    table = _add_grid(word, [header, *body], letters, size, "Light Shading")
    table.rows[0]._tr.get_or_add_trPr().append(_xml("<w:tblHeader/>"))
    for k, row in enumerate(table.rows):
        for cell, column in zip(row.cells, block.columns, strict=True):
            style = cell.paragraphs[0].paragraph_format
            style.keep_with_next = k == 0 or None  # the header is never the last row on a page
            if column.number:
                style.alignment = WD_ALIGN_PARAGRAPH.RIGHT


def _letters(columns: Sequence[Column], body: Sequence[Sequence[Content]]) -> tuple[list[float], float]:
    """Return each column's width in letters, and the size of the letters in points.

    A column is as wide as the longest word or, if it contains numbers, as the longest number. Longer texts share the
    rest of the page's width.
    """
    least, most = [], []
    for column, cells in zip(columns, zip(*body, strict=True), strict=True):
        texts, name = [plain(cell) for cell in cells], plain(column.name)
        words = [*name.split(), *(texts if column.number else (word for text in texts for word in text.split()))]
        most.append(float(max(map(_length, [name, *texts, "–"]))))
        least.append(float(max(min(_length(word), MAX_WORD_LENGTH) for word in [*words, "–"])))
    room = (TEXT_WIDTH - 2 * PADDING * len(columns)) / (LETTER * POINT)  # letters of one point in a line
    size = max(min(CELL_SIZE, room / sum(least)), MIN_SIZE)
    spare = room / size - sum(least)
    wanted = [max(min(length, MAX_LETTERS) - short, 0.0) for length, short in zip(most, least, strict=True)]
    if sum(most) * size <= room:
        return most, size
    share = max(spare, 0.0) / (sum(wanted) or 1.0)
    return [short + share * more for short, more in zip(least, wanted, strict=True)], size


def _length(text: str) -> int:
    """Return the text's width in Latin letters; a Chinese, Japanese or Korean letter is as wide as two."""
    return sum(2 if east_asian_width(letter) in "WF" else 1 for letter in text)


def _add_pairs(word: Any, block: Pairs) -> None:
    """Add names and values; if the block is small, two short pairs next to each other."""
    rows = list[list[Content]]()
    for name, value in block.rows:
        is_short = block.small and _length(plain(value)) <= SHORT_PAIR
        if is_short and rows and len(rows[-1]) == 2 and _length(plain(rows[-1][1])) <= SHORT_PAIR:
            rows[-1] += [Span(name, "bold"), value]
        else:
            rows.append([Span(name, "bold"), value])
    table = _add_grid(word, rows, (20, 30, 20, 30) if block.small else (25, 75), PAIR_SIZE)
    for row, contents in zip(table.rows, rows, strict=True):
        if len(contents) < len(row.cells) and _length(plain(contents[1])) > SHORT_PAIR:
            row.cells[1].merge(row.cells[-1])


def _add_grid(
    word: Any, rows: Sequence[Sequence[Content]], shares: Sequence[float], size: float, style: str | None = None
) -> Any:
    """Add a table over the whole width of the text. `shares` are the relative widths of the columns."""
    table = word.add_table(len(rows), len(shares), style)
    table.autofit = False
    margins = "".join(f'<w:{side} w:w="{PADDING * 20 // POINT}" w:type="dxa"/>' for side in ("left", "right"))
    (look,) = table._tbl.tblPr.xpath("w:tblLook")  # the last element; Word wants elements in their order
    look.addprevious(_xml(f"<w:tblCellMar>{margins}</w:tblCellMar>"))
    look.getparent().replace(look, _xml('<w:tblLook w:val="0420" w:firstRow="1" w:noVBand="1"/>'))
    room = TEXT_WIDTH - 2 * PADDING * len(shares)
    widths = [round(2 * PADDING + room * share / sum(shares)) for share in shares]
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    for row, contents in zip(table.rows, rows, strict=True):
        row._tr.get_or_add_trPr().append(_xml("<w:cantSplit/>"))
        for cell, width in zip(row.cells, widths, strict=True):
            cell.width, cell.paragraphs[0].paragraph_format.space_after = width, POINT
        for cell, content in zip(row.cells, contents, strict=False):  # a row may have fewer cells
            _add_text(cell.paragraphs[0], content, size=size)
    word.add_paragraph().paragraph_format.line_spacing = 0.5  # without it, Word joins tables that follow
    return table


def _add_figures(word: Any, figures: Sequence[Figure]) -> None:
    """Add the pictures, two in a row unless they are wide, each above its caption."""
    if len(figures) == 1 or figures[0].wide:
        for figure in figures:
            above = word.add_paragraph()
            above.paragraph_format.keep_with_next = True
            _add_picture(above, word.add_paragraph(), figure, TEXT_WIDTH if figure.wide else SINGLE_WIDTH)
        return
    rows = [("", "")] * ((len(figures) + 1) // 2)
    cells = [cell for row in _add_grid(word, rows, (1, 1), PAIR_SIZE).rows for cell in row.cells]
    for cell, figure in zip(cells, figures, strict=False):
        _add_picture(cell.paragraphs[0], cell.add_paragraph(), figure, TEXT_WIDTH // 2 - 2 * PADDING)


def _add_picture(above: Any, below: Any, figure: Figure, width: int) -> None:
    """Add the picture to the paragraph above, and its caption to the paragraph below."""
    picture = above.add_run().add_picture(BytesIO(draw_png(figure)), width=width)
    picture._inline.docPr.set("descr", visible(figure.description))
    above.paragraph_format.space_after = 0
    _add_text(below, figure.caption, quiet=True, size=PAIR_SIZE)


def _add_box(word: Any, block: Box) -> None:
    """Add the blocks with a line at their left, in the colour of the tone."""
    before = len(word.paragraphs)
    _add_blocks(word, block.blocks)
    line = f'w:val="single" w:sz="24" w:space="8" w:color="{COLOURS[block.tone]}"'
    for paragraph in word.paragraphs[before:]:
        borders = _xml(f"<w:pBdr><w:left {line}/></w:pBdr>")
        paragraph._p.get_or_add_pPr().insert_element_before(borders, "w:shd", "w:spacing", "w:jc")
