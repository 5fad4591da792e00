"""Parts of sentences: counts, lists, capital letters and full stops."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

_NUMBER_WORDS = (
    "none",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


def quantity(n: int, noun: str) -> str:
    """A count in words: no item, one item, two items, 13 items."""
    return f"{in_words(n) if n else 'no'} {noun}{'' if n == 1 else 's'}"


def duration_in_words(time: timedelta) -> str:
    """A length of time in words: ten minutes, 36 hours, four days."""
    minutes = round(time / timedelta(minutes=1))
    if minutes < 120:
        return quantity(minutes, "minute")
    return quantity(round(minutes / 60), "hour") if minutes < 5_760 else quantity(round(minutes / 1_440), "day")


def is_or_are(n: int) -> str:
    return "is" if n == 1 else "are"


def in_words(n: int) -> str:
    """The number as a word up to twelve ("none" for 0), else as digits."""
    return _NUMBER_WORDS[n] if n < len(_NUMBER_WORDS) else f"{n:,}"


def join_names(names: Iterable[str], most: int = 0) -> str:
    """A list such as "a, b and c". After `most` names (0: all) the rest is counted: "a, b and 3 more"."""
    shown = [*names]
    if most and len(shown) > most:
        shown = [*shown[:most], f"{len(shown) - most} more"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def some_of(names: Sequence[str], most: int, n: int | None = None, between: str = ", ") -> str:
    """A list such as "a, b, c". After `most` names the rest is counted: "a, b, c and 12 more".

    `n`: the total number, if `names` is incomplete.
    """
    rest = (len(names) if n is None else n) - most
    return between.join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def first_sentences(sentences: Sequence[str], most: int) -> list[str]:
    """Shorten a list of sentences on many subjects: after `most` sentences, the rest is counted."""
    rest = len(sentences) - most
    return [*sentences[:most], *([f"And {quantity(rest, 'other')} likewise."] if rest > 0 else [])]


def sentences_by_scale(sentences: Mapping[str, str]) -> list[str]:
    """The sentence of each scale; if there are several scales, each sentence begins with its scale."""
    return list(sentences.values()) if len(sentences) == 1 else [f"{scale}: {why}" for scale, why in sentences.items()]


def span(first: str, last: str) -> str:
    """A range such as 2026-01…2026-08; only 2026-01 if both are equal."""
    return first if first == last else f"{first}…{last}"


def shorten(text: str, most: int = 60) -> str:
    """The first `most` characters, and … if the text is longer: an id may have any length."""
    return text if len(text) <= most else f"{text[:most]}…"


def natural_order(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key with which item_2 comes before item_10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part[:4000]) if k % 2 else part for k, part in enumerate(parts)), name


def with_capital(text: str) -> str:
    return text if text.startswith("θ") else text[:1].upper() + text[1:]


def with_stop(text: str) -> str:
    """The text with a full stop, unless it already ends with a full stop, ? or !."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Suggest the most similar of `names`: "did you mean length?". Return "" if no name is similar."""
    similar = get_close_matches(name, [*names], n=1)
    return f"did you mean {similar[0]}?" if similar else ""


def unknown_field(name: str, schema: Mapping[str, Any]) -> str:
    """Explain that a document has no field `name`. `schema`: JSON Schema of the document."""
    parts = (schema, *schema.get("$defs", {}).values())
    names = dict.fromkeys(field for part in parts for field in part.get("properties", ()))
    return f"unknown field; {did_you_mean(name, names) or 'must be ' + ' or '.join(names)}"


def fault_message(fault: Mapping[str, Any], make_schema: Callable[[], Mapping[str, Any]]) -> str:
    """Return the message about a fault that Pydantic found in a document, with a suggestion for an unknown field.

    `make_schema` returns the document's JSON Schema.
    """
    if fault["type"] == "extra_forbidden":
        return unknown_field(str(fault["loc"][-1]), make_schema())
    return str(fault["msg"]).removeprefix("Value error, ")


def sentence(text: str) -> str:
    return with_stop(with_capital(text))
