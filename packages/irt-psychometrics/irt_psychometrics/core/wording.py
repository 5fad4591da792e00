"""Names of items, persons and columns in messages."""

from collections.abc import Iterable


def some_of(names: Iterable[str], most: int = 5, between: str = ", ") -> str:
    """The first `most` names, and the number of the others: a, b, c and 12 more."""
    known = list(names)
    rest = len(known) - most
    return between.join(known[:most]) + (f" and {rest:,} more" if rest > 0 else "")
