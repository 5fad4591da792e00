"""Documents to HTML and to PDF: the one way in which a report is written.

Both are made from the same blocks by a template (`templates/report.html`, `templates/report.typ`), neither from the
other. Text of a document is data in both: Jinja escapes it, Typst reads it from JSON. Nothing is fetched. The HTML
needs neither Typst nor a font. What does not belong here: a report's content.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from irt_assets.reports.document import Document, Figure
from resources.failures import PermanentFailure
from resources.files.typesetting import FONTS, pdf_problem

TEMPLATES = Path(__file__).parent / "templates"
LONGEST_WORD = 24
"""The longest word, in letters, that fits into a column of a PDF; a longer one may be broken anywhere."""
_LONG = re.compile(rf"[^\s\u200b]{{{LONGEST_WORD + 1},}}")
_UNSEEN = ("Cc", "Cf", "Co", "Cn")
_TURNING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Characters that turn the direction of the text after them, to the end of a sentence."""
_ONE_AT_A_TIME = Lock()


def html(document: Document) -> str:
    """The document as one HTML file that needs no other."""
    return _environment().get_template("report.html").render(document=document)


def pdf(document: Document) -> bytes:
    """The document as a tagged PDF (PDF/UA-1), the same bytes for the same document.

    Raises PermanentFailure where Typst is not installed or refuses the
    document.
    """
    if problem := pdf_problem():
        raise PermanentFailure(problem)
    from typst import TypstError  # may be absent, see `pdf_problem`

    data = json.dumps(_plain(document), ensure_ascii=False)
    with _ONE_AT_A_TIME:
        try:
            made: bytes = _compiler().compile(format="pdf", pdf_standards=["ua-1"], sys_inputs={"document": data})
        except TypstError as error:
            raise PermanentFailure(f"Typst made no PDF of “{document.title}”: {error}") from error
    return made


def _plain(value: Any) -> Any:
    """For JSON: each block is an object whose `is` names it; a word too long for a column may be broken."""
    if is_dataclass(value):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        if isinstance(value, Figure) or named.get("style") == "code":  # drawn, or to be copied as it is
            return {"is": type(value).__name__.lower()} | {
                name: _visible(inner) if isinstance(inner, str) else inner for name, inner in named.items()
            }
        return {"is": type(value).__name__.lower()} | {name: _plain(inner) for name, inner in named.items()}
    if isinstance(value, tuple | list):
        return [_plain(inner) for inner in value]
    return _LONG.sub(_breakable, _visible(value)) if isinstance(value, str) else value


def _visible(text: str) -> str:
    """With a space for each line break and tab, and without other characters that no font has, such as control
    characters; a lone surrogate becomes a question mark."""
    if not text.isprintable():
        spaced = " ".join(re.split(r"\s", text))
        text = "".join(one for one in spaced if unicodedata.category(one) not in _UNSEEN)
    return text.encode("utf-8", "replace").decode()


def _breakable(word: re.Match[str]) -> str:
    """With a zero-width space, at which a line may end, every few letters."""
    letters = word.group()
    return "\u200b".join(letters[at : at + 8] for at in range(0, len(letters), 8))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("irt_assets.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value.translate(_TURNING) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _compiler() -> Any:
    """One for each process: it keeps the fonts, and what it has read of the template."""
    from typst import Compiler  # may be absent, see `pdf_problem`

    return Compiler(
        str(TEMPLATES / "report.typ"), root=str(TEMPLATES), font_paths=[str(FONTS)], ignore_system_fonts=True
    )
