"""Names of items, persons and columns in messages."""

from collections.abc import Iterable


def some(names: Iterable[str], most: int = 5) -> str:
    """Returns the first names, and the number of the others."""
    known = list(names)
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")
