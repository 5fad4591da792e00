"""Write workbooks for Excel: a sheet for each table, with a frozen bold header and a filter, and a last sheet *About*.

A sheet has the whole value of each number; its format shows fewer digits. Does not belong here: the tables of a
document (see the callers), and CSV and Parquet files (see `decisions.exports`).
"""

import re
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any, TypeAlias

from xlsxwriter import Workbook

from irt_assets.blocks import (
    Badge,
    Column,
    Details,
    Document,
    List,
    Moment,
    Pairs,
    Span,
    Table,
    plain,
    walk,
)

MAX_NAME = 31
"""Length of the longest name of a sheet."""
MAX_WIDTH = 400
"""Width of the widest column, in pixels."""
ABOUT = "About"


Sheet: TypeAlias = tuple[str, Sequence[Column], Iterable[Sequence[Any]]]
"""Name, columns and rows of a sheet."""


def write_workbook(file: str | BytesIO, title: str, about: Iterable[tuple[str, str]], sheets: Iterable[Sheet]) -> None:
    """Write the sheets, then *About* with the title and pairs of name and value.

    A missing value is an empty cell. Text is never a formula or a link. Times must have no time zone.
    """
    options = {"strings_to_formulas": False, "strings_to_urls": False}
    with Workbook(file, options | {"default_date_format": "yyyy-mm-dd hh:mm"}) as book:
        book.set_properties({"title": title})
        bold, wrapped = book.add_format({"bold": True, "bottom": 1}), book.add_format({"text_wrap": True})
        for sheet in sheets:
            _add_sheet(book, sheet, title, bold)
        last = book.add_worksheet(ABOUT)
        last.set_column(0, 0, 30)
        last.set_column(1, 1, 90, wrapped)
        last.write_row(0, 0, (title,), bold)
        for k, pair in enumerate(about, 1):
            last.write_row(k, 0, pair)


def write_xlsx(document: Document) -> bytes:
    """Write the document's tables as sheets, named after their sections, and its pairs on *About*."""
    written = BytesIO()
    pairs, tables = [("", document.subtitle)], list[Sheet]()
    for section, block in walk(document.blocks, document.title):
        if isinstance(block, Pairs):
            pairs += [(name, plain(value)) for name, value in block.rows]
        elif isinstance(block, Table) and block.rows:
            tables.append((section, block.columns, block.rows))
    write_workbook(written, document.title, pairs, tables)
    return written.getvalue()


def _add_sheet(book: Workbook, sheet: Sheet, title: str, bold: Any) -> None:
    section, columns, rows = sheet
    taken = {page.get_name().casefold() for page in book.worksheets()} | {ABOUT.casefold()}
    name = re.sub(r"[\[\]:*?/\\']", " ", section).strip()[:MAX_NAME] or "Table"
    if name.casefold() in taken:
        name = f"{name[: MAX_NAME - 4]} {len(taken)}"
    page = book.add_worksheet(name)
    for k, column in enumerate(columns):
        page.write_string(0, k, plain(column.name), bold)
        page.set_column(k, k, None, book.add_format({"num_format": _excel_format(column.format)}))
    n = 0
    for n, row in enumerate(rows, 1):
        page.write_row(n, 0, map(_value, row))
    page.autofit(MAX_WIDTH)
    page.freeze_panes(1, 0)
    page.autofilter(0, 0, n, max(len(columns) - 1, 0))
    page.set_header(f"&L{title.replace('&', '&&')}&R&D")
    page.repeat_rows(0)


def _value(cell: Any) -> Any:
    if isinstance(cell, str | tuple | Span | Badge | Moment | List | Details):
        return plain(cell)
    return cell if cell == cell else None


def _excel_format(spec: str) -> str:
    """Excel's format for a format specification such as `,` or `.2f`."""
    found = re.fullmatch(r"(\+?)(,?)(?:\.(\d)([f%]))?", spec)
    if not spec or not found:
        return "General"
    sign, comma, digits, kind = found.groups()
    number = ("#,##0" if comma else "0") + (f".{'0' * int(digits)}" if int(digits or 0) else "")
    number += "%" if kind == "%" else ""
    return f"+{number};-{number};{number}" if sign else number
