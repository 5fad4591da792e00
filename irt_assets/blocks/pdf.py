"""Typeset documents as PDF with Typst, which reads their text from JSON, so that no text is read as markup.

Typst also draws charts as PNG for Word files.
Nothing is downloaded: the fonts are part of this distribution.
"""

import json
import re
import unicodedata
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from irt_assets.blocks import Badge, Details, Document, Figure, Letterhead, List, Moment, Span, Table, plain, with_minus
from resources.failures import PermanentFailure
from resources.files.typesetting import FONTS, pdf_problem

TEMPLATES = Path(__file__).parent / "templates"
MAX_WORD_LENGTH = 24
"""Length in letters of the longest word that fits into a column of a PDF. Longer words may be broken."""
_LONG_WORD = re.compile(rf"[^\s\u200b]{{{MAX_WORD_LENGTH + 1},}}")
_INVISIBLE_CATEGORIES = ("Cc", "Cf", "Co", "Cn", "Mn", "Me")
"""Unicode categories of characters that are removed. A mark (M…) stays if NFC combines it with its letter."""
_COMPILER_LOCK = Lock()


def typeset(document: Document) -> bytes:
    """Typeset the document as a tagged PDF (PDF/UA-1). The same document gives the same bytes.

    Raises PermanentFailure if Typst is not installed or rejects the document.
    """
    inputs = {"document": json.dumps(_plain(document), ensure_ascii=False)}
    return _compile("document.typ", inputs, f"a PDF of “{document.title}”", format="pdf", pdf_standards=["ua-1"])


def draw_png(figure: Figure) -> bytes:
    """Draw the figure's chart as PNG, 1,600 pixels wide. Raises PermanentFailure as `typeset` does."""
    return _compile(
        "picture.typ", {"svg": visible(figure.svg)}, f"the figure “{figure.caption}”", format="png", ppi=240
    )


def _compile(template: str, inputs: dict[str, str], name: str, **options: Any) -> bytes:
    if problem := pdf_problem():
        raise PermanentFailure(problem)
    from typst import TypstError  # may be absent, see `pdf_problem`

    with _COMPILER_LOCK:
        try:
            made: bytes = _compiler(template).compile(sys_inputs=inputs, **options)
        except TypstError as error:
            raise PermanentFailure(f"Typst could not make {name}: {error}") from error
    return made


def _plain(value: Any) -> Any:
    """Convert a value for JSON. A block becomes an object whose `is` names its type; long words become breakable."""
    if isinstance(value, str):
        return _LONG_WORD.sub(_insert_breaks, with_minus(visible(value)))
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    if isinstance(value, Letterhead):
        return {"logo": [*value.logo], "address": _plain(value.address)}
    if not is_dataclass(value):
        return value
    if isinstance(value, Moment):
        return value.text
    if isinstance(value, Figure):
        found = {"svg": value.svg, "description": value.description, "caption": value.caption}
        return {name: visible(text) for name, text in found.items()} | {"is": "figure", "wide": value.wide}
    if isinstance(value, Span) and value.style == "code":  # must be copyable, so without zero-width spaces
        return {"is": "span", "text": visible(value.text), "style": "code", "link": value.link}
    if isinstance(value, Badge):
        value = Span(value.text, "bold", value.link)
    named = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Table):
        rows = [[plain(cell) if isinstance(cell, List | Details) else cell for cell in row] for row in value.body()]
        named["rows"] = rows
    return {"is": type(value).__name__.lower()} | {name: _plain(inner) for name, inner in named.items()}


def visible(text: str) -> str:
    """Remove the characters that no font has, such as control characters and marks that do not combine.

    Line breaks and tabs become spaces, and a lone surrogate becomes a question mark.
    """
    if not text.isascii() or not text.isprintable():
        text = unicodedata.normalize("NFC", text)
        spaced = " ".join(re.split(r"\s", text))
        text = "".join(
            character for character in spaced if unicodedata.category(character) not in _INVISIBLE_CATEGORIES
        )
    return text.encode("utf-8", "replace").decode()


def _insert_breaks(word: re.Match[str]) -> str:
    """Insert a zero-width space, at which a line may break, after every eighth letter."""
    letters = word.group()
    return "\u200b".join(letters[at : at + 8] for at in range(0, len(letters), 8))


@cache
def _compiler(template: str) -> Any:
    """The process's compiler of a template, which caches the fonts and the template."""
    from typst import Compiler  # may be absent, see `pdf_problem`

    return Compiler(str(TEMPLATES / template), root=str(TEMPLATES), font_paths=[str(FONTS)], ignore_system_fonts=True)
