"""What PDFs are made with: Typst from a Python package, and the fonts of this folder, so that nothing of the system is
needed.

Korean is set in NanumGothic, other characters in DejaVu Sans, and what neither has are the boxes of Last Resort; the
licences are next to them. What does not belong here: templates and rendering (irt_assets/reports).
"""

from pathlib import Path

FONTS = Path(__file__).parent / "fonts"


def pdf_problem() -> str | None:
    """Why no PDF can be made, with the way out; None where one can."""
    try:
        import typst  # noqa: F401
    except ImportError as error:
        return f"PDFs cannot be made ({error}): pip install typst"
    return None
