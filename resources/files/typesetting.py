"""What PDFs are made with: Typst and fonts, both from Python packages, so that nothing of the system is needed.

Korean is set in NanumGothic, whose files come with the package koreanize-matplotlib (its code is never imported); other
characters in DejaVu Sans, whose files come with matplotlib. What does not belong here: templates and rendering
(irt_assets/reports).
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

FONTS = {"NanumGothic.ttf": "koreanize-matplotlib", "DejaVuSans.ttf": "matplotlib"}
"""A font file and the package that brings it; its folder is offered to Typst."""


def pdf_problem() -> str | None:
    """Why no PDF can be made, with the way out; None where one can."""
    try:
        import typst  # noqa: F401
    except ImportError as error:
        return f"PDFs cannot be made ({error}): pip install typst"
    return None


def typst_version() -> str:
    """The version of the package that makes PDFs, "none" if it is not installed."""
    try:
        return version("typst")
    except PackageNotFoundError:
        return "none"


def missing_fonts() -> list[str]:
    """The packages whose font is not there: a PDF without it is made all the same, and may show boxes for letters."""
    return [package for font, package in FONTS.items() if _font_file(font, package) is None]


def font_folders() -> list[Path]:
    """The folders of the installed fonts."""
    found = (_font_file(font, package) for font, package in FONTS.items())
    return [path.parent for path in found if path is not None]


@cache
def _font_file(font: str, package: str) -> Path | None:
    try:
        paths = [Path(str(one.locate())) for one in files(package) or () if one.name == font]
    except PackageNotFoundError:
        return None
    return next((path for path in paths if path.is_file()), None)
