"""Names in stored data, with their explanations."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


@dataclass(frozen=True)
class Meaning:
    """A name's properties.

    Attributes:
        value: the stored name.
        explanation: the meaning of the name in words.
    """

    value: str
    explanation: str


class NameWithMeaning(StrEnum):
    """An enumeration whose members are declared as a `Meaning` and looked up by its value."""

    meaning: Meaning

    def __new__(cls, meaning: Meaning | str) -> Self:
        assert isinstance(meaning, Meaning)  # a text is looked up among the values
        name = str.__new__(cls, meaning.value)
        name._value_, name.meaning = meaning.value, meaning
        return name

    @property
    def explanation(self) -> str:
        return self.meaning.explanation
