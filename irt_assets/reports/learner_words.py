"""Phrases of learners' reports and letters: a catalogue for each language (`templates/*.yaml`), dates and shares."""

from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import yaml

Kind = Literal["learner", "letter"]
"""learner: the weekly report. letter: the letter with a score."""
LetterLanguage = Literal["en", "de", "ko"]
LANGUAGES = ("en", "ko")
LANGUAGES_OF: dict[Kind, tuple[str, ...]] = {"learner": LANGUAGES, "letter": get_args(LetterLanguage)}
FALLBACK = "en"


def language_of(attribute: object, kind: Kind = "learner") -> str:
    """Language for a learner's attribute `lang` (`ko`, `ko-KR`, `KO_kr` …); English if there is no catalogue for it."""
    first = str(attribute).replace("_", "-").partition("-")[0].strip().lower()
    return first if first in LANGUAGES_OF[kind] else FALLBACK


class Words:
    """Phrases of one language. `words("steps.weak", topic="fractions")` fills the placeholders of a phrase.

    A phrase with the forms `one` and `other` is chosen by the value `n`. Raises KeyError for an unknown key or
    placeholder.
    """

    def __init__(self, language: str, kind: Kind = "learner") -> None:
        self.language = language
        self._catalogue = catalogue(language, kind)

    def __call__(self, key: str, **values: object) -> str:
        phrase: Any = self._catalogue
        for part in key.split("."):
            phrase = phrase[part]
        if isinstance(phrase, dict):
            phrase = phrase["one" if values["n"] == 1 else "other"]
        return str(phrase.format_map(values))

    def in_full(self, day: date) -> str:
        return self("date", day=day.day, month=self._month(day), year=day.year)

    def without_year(self, day: date) -> str:
        return self("day", day=day.day, month=self._month(day))

    def week(self, monday: date) -> str:
        sunday = monday + timedelta(days=6)
        if monday.year == sunday.year:
            first, last = self.without_year(monday), self.without_year(sunday)
            return self("week", first=first, last=last, year=monday.year)
        return self("week_over_new_year", first=self.in_full(monday), last=self.in_full(sunday))

    def share(self, value: float) -> str:
        return self("percent", n=round(100 * value))

    def chance(self, value: float) -> str:
        """A probability in percent; below 5 % and above 95 % only as "under" and "over", as it is not known better."""
        if value < 0.05:
            return self("under_percent", n=5)
        if value > 0.95:
            return self("over_percent", n=95)
        return self("about_percent", n=round(100 * value))

    def _month(self, day: date) -> str:
        return str(self._catalogue["months"][day.month - 1])


@cache
def catalogue(language: str, kind: Kind = "learner") -> dict[str, Any]:
    """Read the phrases of a language, nested as in its file."""
    text = files("irt_assets.reports").joinpath("templates", f"{kind}.{language}.yaml").read_text("utf-8")
    return yaml.safe_load(text)
