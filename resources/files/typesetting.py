"""Typst, from a Python package, and the fonts for PDFs. Nothing has to be installed on the system.

Korean is set in NanumGothic, other characters in DejaVu Sans, and characters that both lack as boxes of Last Resort;
the fonts' licences are next to them.
"""

from pathlib import Path

FONTS = Path(__file__).parent / "fonts"


def pdf_problem() -> str | None:
    """The reason why PDFs cannot be made, with the remedy. Returns None if they can."""
    try:
        import typst  # noqa: F401
    except ImportError as error:
        return f"PDFs cannot be made ({error}): pip install typst"
    return None
