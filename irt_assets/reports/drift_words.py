"""Numbers as the drift report writes them.

What does not belong here: counts and lists (see `wording`), sentences about a month or an item.
"""

from __future__ import annotations


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def number(value: float | None, digits: int = 2) -> str:
    """With a true minus sign; a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def chance(value: float | None) -> str:
    """A probability: small ones as a power of ten, never as 0."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}".replace("-", "−")
