"""The key of an item (`question.meta->'key'`): which of its options are right.

A key is an option; several right options as a list; true, if every answer gets credit; or an empty list, if the item is
dropped from scoring. New answers to a dropped item are stored in the mode `dropped`, which does not count.
"""

from typing import LiteralString

Key = str | list[str] | bool
DROPPED = "dropped"
RIGHT: LiteralString = "CASE {key} WHEN 'true' THEN true WHEN '[]' THEN NULL ELSE jsonb_exists({key}, {response}) END"
"""SQL: whether `response` is right by `key` (jsonb). Null if the item is dropped or has no key, or no option is stored
and not every answer gets credit."""


def key_in_words(key: Key | None) -> str:
    """The right options in words, such as C or D."""
    if isinstance(key, list):
        return " or ".join(key) or "dropped"
    return key if isinstance(key, str) else "every answer" if key else "no key"
