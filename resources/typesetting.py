"""What PDFs need of the machine: Pango and its kin for WeasyPrint, and fonts that hold the languages of the reports.

What does not belong here: templates and rendering (irt_assets/reports).
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterable
from functools import cache

INSTALL_FONT = {"en": "apt install fonts-dejavu-core", "ko": "apt install fonts-nanum"}
"""The languages that reports are written in, by their ISO 639 code, and what installs a font for each."""

INSTALL_PANGO = "apt install libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"


def pango_problem() -> str | None:
    """Why WeasyPrint cannot be used, with the way out; None where it can."""
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError) as error:
        return f"PDFs cannot be made here, {_first_line(error)}: {INSTALL_PANGO}"
    return None


def missing_fonts(languages: Iterable[str]) -> list[str]:
    """Of `languages` (ISO 639 codes) those that no installed font holds."""
    return [language for language in languages if not _has_font(language)]


@cache
def _has_font(language: str) -> bool:
    """Whether fontconfig, which Pango asks as well, knows a font of the language."""
    name = ctypes.util.find_library("fontconfig")
    if name is None:
        return False
    library = ctypes.CDLL(name)
    for function in (library.FcNameParse, library.FcObjectSetBuild, library.FcFontList):
        function.restype = ctypes.c_void_p
    pattern = ctypes.c_void_p(library.FcNameParse(f":lang={language}".encode()))
    wanted = ctypes.c_void_p(library.FcObjectSetBuild(b"family", None))
    found = library.FcFontList(None, pattern, wanted)
    return bool(found) and ctypes.c_int.from_address(found).value > 0  # nfont, the first member of FcFontSet


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
