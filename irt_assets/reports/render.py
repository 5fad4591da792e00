"""Templates to HTML, HTML to PDF: the one way in which a report is written.

Templates lie in `templates/`; whatever is put into one is escaped, and a name that it does not find is an error. A PDF
is made of its HTML alone: nothing is fetched. What does not belong here: what a report says.

Nearly all of WeasyPrint's time is layout, in Python and so on one core: two processes make twice as many PDFs, two
threads do not. A page of text with a table of 20 rows takes 55 ms; tables cost most (each cell is measured before it is
laid out), fonts little, as long as one process makes many PDFs.
"""

from __future__ import annotations

import gc
import re
from functools import cache
from threading import Lock
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from resources.failures import PermanentFailure
from resources.typesetting import INSTALL_FONT, missing_fonts, pango_problem

_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_ONE_AT_A_TIME = Lock()  # the font map of a process is shared, and Pango's is not made for threads


def html(template: str, **context: Any) -> str:
    """The template of this name (in `templates/`) with these values in it, each escaped."""
    return _environment().get_template(template).render(**context)


def pdf(page: str) -> bytes:
    """The HTML as a PDF. Only `data:` addresses in it are followed.

    Raises PermanentFailure where Pango, or a font for the languages of the text, is not installed, naming the package.
    """
    if problem := pango_problem():
        raise PermanentFailure(problem)
    if missing := missing_fonts(["en", "ko"] if _HANGUL.search(page) else ["en"]):
        said = "; ".join(f"{language}: {INSTALL_FONT[language]}" for language in missing)
        raise PermanentFailure(f"no font is installed that holds the text of this report ({said})")
    from weasyprint import HTML
    from weasyprint.urls import URLFetcher

    with _ONE_AT_A_TIME:
        collecting = gc.isenabled()
        gc.disable()  # the tree of boxes lives until the end; looking through it again and again takes a seventh
        try:
            source = HTML(string=page, url_fetcher=URLFetcher(allowed_protocols={"data"}))
            made: bytes = source.write_pdf(font_config=_fonts())
        finally:
            if collecting:
                gc.enable()
    return made


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("irt_assets.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def _fonts() -> Any:
    from weasyprint.text.fonts import FontConfiguration

    return FontConfiguration()
