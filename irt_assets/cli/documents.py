"""Documents as files that a person names."""

from pathlib import Path

from irt_assets.blocks import Document, html, pdf, word
from irt_assets.cli.console import say
from resources.failures import PermanentFailure


def write_document(document: Document, to: Path) -> None:
    """Write a document as the PDF, Word or HTML file that the name asks for, and print the file's size."""
    renderers = {".pdf": pdf.typeset, ".docx": word.write_docx, ".html": lambda found: html.page(found).encode()}
    if to.suffix not in renderers:
        raise PermanentFailure(f"{to} is neither .pdf, .docx nor .html: --to {to.stem or 'file'}.pdf")
    write_file(renderers[to.suffix](document), to, document.title)


def write_file(data: bytes, to: Path, title: str) -> None:
    """Write the file, and print its size and title. Raises PermanentFailure if it cannot be written."""
    try:
        to.write_bytes(data)
    except OSError as error:
        raise PermanentFailure(f"{to} cannot be written: {error.strerror}") from error
    say(f"{to} ({len(data) / 1024:,.0f} KiB): {title}")
