"""What a text says."""

from __future__ import annotations


def unsaid(text: str, *sentences: str) -> list[str]:
    """Those of the sentences that the text does not contain."""
    return [sentence for sentence in sentences if sentence not in text]
