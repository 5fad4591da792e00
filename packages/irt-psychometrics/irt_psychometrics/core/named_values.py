"""Names that are stored, each with what others ask of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


@dataclass(frozen=True)
class Meaning:
    """What others ask of a name.

    Attributes:
        value: the name as it is stored.
        explanation: what it means, for people.
    """

    value: str
    explanation: str


class NameWithMeaning(StrEnum):
    """Its members are written as a `Meaning` and are looked up by its value."""

    meaning: Meaning

    def __new__(cls, meaning: Meaning | str) -> Self:
        assert isinstance(meaning, Meaning)  # a text is looked up among the values
        name = str.__new__(cls, meaning.value)
        name._value_, name.meaning = meaning.value, meaning
        return name

    @property
    def explanation(self) -> str:
        return self.meaning.explanation
