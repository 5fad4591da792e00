"""Numbers as the drift report writes them.

What does not belong here: counts and lists and sentences (see `wording`).
"""

from __future__ import annotations


def number(value: float | None, digits: int = 2) -> str:
    """With a true minus sign; a dash if there is no number."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")


def chance(value: float | None) -> str:
    """A probability: small ones as a power of ten, never as 0."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}".replace("-", "−")
