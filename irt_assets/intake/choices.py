"""Counts of the chosen options in answers that are scored by a key, and detection of wrong keys."""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping as Map

import pyarrow as pa
import pyarrow.compute as pc

from irt_assets.common.wording import some_of
from resources.failures import PermanentFailure

MIN_ANSWERS = 50
"""Number of answers from which on a key that nobody chose is an error. If one learner in ten is right, 50 wrong answers
in a row have p = .005."""
MAX_CHOICES = 1_000
MAX_LINES_SHOWN = 5
REMEDY = (
    "Check that each key is spelled like the choices (2 and 2.0 are different choices) and belongs to its item. If"
    " nobody was right, leave the item out of the key"
)


class Choices:
    """Counts of the options that were chosen, by item."""

    def __init__(self, keys: Map[str, str]) -> None:
        self._keys = keys
        self._counts: dict[str, Counter[str]] = {}
        self._others: Counter[str] = Counter()
        self._options = {*keys.values()}

    def add(self, items: pa.StringArray, cells: pa.StringArray) -> None:
        """Count answers; nulls are left out."""
        pairs = pa.table({"item": items, "choice": cells}).drop_null()
        for row in pairs.group_by(["item", "choice"]).aggregate([([], "count_all")]).to_pylist():
            item, choice, n = row["item"], row["choice"], row["count_all"]
            if item not in self._keys:
                continue
            counts = self._counts.setdefault(item, Counter())
            if choice in counts or len(counts) < MAX_CHOICES or choice == self._keys[item]:
                counts[choice] += n
            if choice not in self._options and (choice in self._others or len(self._others) < MAX_CHOICES):
                self._others[choice] += n

    def check(self, file: str, *, name_absent: bool = True) -> list[str]:
        """Notes on the key for the report. `name_absent`: also name items of the key without answers.

        Raises PermanentFailure if nobody chose the key of an item with many answers, or of any item.
        """
        unchosen = {item: counts for item, counts in self._counts.items() if not counts[self._keys[item]]}
        many = [item for item, counts in unchosen.items() if counts.total() >= MIN_ANSWERS]
        every = [*unchosen] if len(unchosen) == len(self._counts) and self.n >= MIN_ANSWERS else many
        if every:
            raise PermanentFailure(
                f"{file}: nobody chose the key of {len(every)} of {len(self._counts)} items:"
                f" {some_of(self._descriptions(every), MAX_LINES_SHOWN, between='; ')}. {REMEDY}."
            )
        notes = []
        if unchosen:
            items = some_of(self._descriptions(unchosen), MAX_LINES_SHOWN, between="; ")
            notes.append(f"{file}: nobody chose the key of {items}")
        absent = [item for item in self._keys if item not in self._counts] if name_absent else []
        if absent:
            notes.append(f"{file}: no answers to {len(absent)} items of the key: {some_of(absent, MAX_LINES_SHOWN)}")
        if self._others:
            named = [f"{choice!r} ({n:,})" for choice, n in self._others.most_common()]
            notes.append(
                f"{file}: choices that are the key of no item count as wrong: {some_of(named, MAX_LINES_SHOWN)}"
            )
        return notes

    @property
    def n(self) -> int:
        return sum(counts.total() for counts in self._counts.values())

    def _descriptions(self, items: Iterable[str]) -> list[str]:
        named = []
        for item in items:
            chosen = [f"{choice!r} ({n:,})" for choice, n in self._counts[item].most_common() if n]
            named.append(f"item {item}, key {self._keys[item]!r}, chosen: {some_of(chosen, MAX_LINES_SHOWN)}")
        return named


def no_answer_note(counts: Map[str, int]) -> str:
    """The numbers of cells that count as no answer, in words: 12 empty, 3 × 'NA'. Returns "" if there are no such
    cells."""
    spelled = [f"{n:,} × {text!r}" for text, n in sorted(counts.items(), key=lambda pair: -pair[1]) if text and n]
    named = ([f"{counts['']:,} empty"] if counts.get("") else []) + spelled
    return f"counted as no answer: {some_of(named, MAX_LINES_SHOWN)}" if named else ""


def spellings(cells: pa.StringArray) -> Counter[str]:
    """Count each text; nulls and empty cells count as ''."""
    counts = pc.value_counts(pc.fill_null(cells, ""))
    return Counter({row["values"]: row["counts"] for row in counts.to_pylist()})
