"""Documents as files that a person names."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from irt_assets.blocks import Document, List, excel, html, pdf, table, word
from irt_assets.cli.console import say
from irt_assets.intake.library_files import FILES
from irt_psychometrics.commands import FileResult
from resources.failures import PermanentFailure

CONTENT: Mapping[str, Callable[[Document], bytes]] = {
    ".pdf": pdf.typeset,
    ".docx": word.write_docx,
    ".html": lambda document: html.page(document).encode(),
    ".xlsx": excel.write_xlsx,
}
"""Ending of a file's name → the function that returns the file's content."""
OF_DOCUMENTS = (".pdf", ".docx", ".html")
"""Files that have all parts of a document. A workbook has only the tables."""


def write_document(document: Document, to: Path) -> None:
    """Write a document as the PDF, Word or HTML file that the name asks for, and print the file's size."""
    if to.suffix not in OF_DOCUMENTS:
        raise PermanentFailure(f"{to} is neither .pdf, .docx nor .html: --to {to.stem or 'file'}.pdf")
    data = CONTENT[to.suffix](document)
    try:
        to.write_bytes(data)
    except OSError as error:
        raise PermanentFailure(f"{to} cannot be written: {error.strerror}") from error
    say(f"{to} ({len(data) / 1024:.0f} KiB): {document.title}")


def result_document(result: FileResult) -> Document:
    """Build the document of a command's table, with its facts and notes."""
    shown = result.table
    numbers = {name: form for name, form in result.formats.items() if name in shown.headings}
    rows = table(shown.headings, shown.rows, numbers=numbers)
    return Document(result.title, "en", "bank", (rows, List(tuple(result.sentences))) if result.sentences else (rows,))


def _writer(ending: str) -> Callable[[FileResult], bytes]:
    return lambda result: CONTENT[ending](result_document(result))


WITH_DOCUMENTS = replace(FILES, writers={**FILES.writers, **{e: _writer(e) for e in (".html", ".pdf", ".xlsx")}})
"""Reader of all files, and writer of tables as CSV, HTML, PDF and Excel."""
