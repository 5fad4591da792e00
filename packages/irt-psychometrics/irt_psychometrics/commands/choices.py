"""Choices in answers that a key scores, and keys that cannot be right."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from irt_psychometrics.commands.tables import Cells, Table
from irt_psychometrics.core.arrays import Ints, Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.option_statistics import Choices
from irt_psychometrics.core.wording import some_of

MANY = 50
"""Number of answers from which a key that nobody chose is an error: if one in ten answers is right, 50 wrong answers in
a row have probability .005."""
REMEDY = (
    "Is each key written as the choices are (2 and 2.0 are two choices), and of this item? If nobody was right, leave"
    " the item out of the key"
)
_SHORTENED = re.compile(r"\d(\.\d+)?E\+\d+")


class ChoiceCounts:
    """Counts of the options that were chosen, by item, and a code of each option in the order of first occurrence."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys
        self._of: dict[str, Counter[str]] = {}
        self._codes: dict[tuple[str, str], int] = {}

    def add(self, items: Cells, chosen: Cells, seen: Mask) -> Ints:
        """Count answers. Returns the codes of their options, shape (n_rows,), −1 for other cells.

        The mask `seen` (n_rows,) marks the cells that are answers.
        """
        codes = np.full(len(seen), -1, dtype=np.int64)
        if not self._keys:
            return codes
        pairs, place, counts = np.unique(
            items.places[seen] * len(chosen.texts) + chosen.places[seen], return_inverse=True, return_counts=True
        )
        of_pair = np.full(len(pairs), -1, dtype=np.int64)
        for k, (pair, n) in enumerate(zip(pairs.tolist(), counts.tolist(), strict=True)):
            item, choice = divmod(pair, len(chosen.texts))
            if (name := items.texts[item]) in self._keys:
                found = self._of.setdefault(name, Counter())
                of_pair[k] = self._codes.setdefault((name, chosen.texts[choice]), len(found))
                found[chosen.texts[choice]] += n
        codes[seen] = of_pair[place]
        return codes

    def chosen(self, items: Sequence[str], item: Ints, code: Ints) -> Choices:
        """The options, in the order of their names, of responses to the items of index `item` with these codes."""
        labels, ranks = [], []
        for name in items:
            found = [*self._of.get(name, ())]
            options = sorted({*found, self._keys[name]}, key=lambda option: (len(option), option))
            labels.append(tuple(options))
            ranks.append([options.index(option) for option in found])
        start = np.cumsum([0, *map(len, ranks)])
        rank = np.array([place for of_item in ranks for place in of_item] + [-1], dtype=np.int64)
        option = np.where(code < 0, -1, rank[np.where(code < 0, -1, start[item] + code)])
        return Choices(option, tuple(labels), tuple(frozenset((self._keys[name],)) for name in items))

    def check(self, file: str) -> list[str]:
        """Notes about the key.

        Raises PsychometricsError if nobody chose the key of an item with many answers, or, if there are many answers in
        all, the key of any item.
        """
        unchosen = {item: counts for item, counts in self._of.items() if not counts[self._keys[item]]}
        many = [item for item, counts in unchosen.items() if counts.total() >= MANY]
        total = sum(counts.total() for counts in self._of.values())
        every = [*unchosen] if len(unchosen) == len(self._of) and total >= MANY else many
        if every:
            raise PsychometricsError(
                f"{file}: nobody chose the key of {len(every)} of {len(self._of)} items:"
                f" {some_of(self._describe_choices(every), between='; ')}. {REMEDY}."
            )
        notes = []
        if unchosen:
            notes.append(f"{file}: nobody chose the key of {some_of(self._describe_choices(unchosen), between='; ')}")
        if absent := [item for item in self._keys if item not in self._of]:
            notes.append(f"{file}: no answers to {len(absent)} items of the key: {some_of(absent)}")
        options = {*self._keys.values()}
        others = sum(self._of.values(), Counter[str]())
        if named := [f"{choice!r} ({n:,})" for choice, n in others.most_common() if choice not in options]:
            of_no_item = "choices that are the key of no item count as wrong (--missing: as no answer)"
            notes.append(f"{file}: {of_no_item}: {some_of(named)}")
        return notes

    def _describe_choices(self, items: Iterable[str]) -> list[str]:
        named = []
        for item in items:
            chosen = [f"{choice!r} ({n:,})" for choice, n in self._of[item].most_common() if n]
            named.append(f"item {item}, key {self._keys[item]!r}, chosen: {some_of(chosen)}")
        return named


def read_key(table: Table) -> dict[str, str]:
    """Right option of each item, from a table with the columns item and key; items without a key are left out.

    Raises PsychometricsError for other columns, an item with two keys, and a table without any key.
    """
    item, key = table.item, table.first_of(("key", "answer", "correct"))
    if item is None or key is None:
        raise PsychometricsError(f"{table.path}: a key is a table item,key; its columns are {', '.join(table.columns)}")
    keys: dict[str, str] = {}
    for line, row in table.rows():
        name, right = row[item], row[key]
        if name and right and keys.setdefault(name, right) != right:
            raise PsychometricsError(f"{table.path}, line {line}: item {name} has the keys {keys[name]} and {right}")
    if not keys:
        raise PsychometricsError(f"{table.path}: no item has a key")
    return keys


def blanks_described(counts: Mapping[str, int]) -> str:
    """Text about the cells that count as no answer, such as: 12 empty, 3 × 'NA'. Returns "" if there are none."""
    spelled = [f"{n:,} × {text!r}" for text, n in sorted(counts.items(), key=lambda one: -one[1]) if text and n]
    named = ([f"{counts['']:,} empty"] if counts.get("") else []) + spelled
    return f"counted as no answer: {some_of(named)}" if named else ""


def shortened_ids(ids: Collection[str]) -> str:
    """A warning about ids that look like numbers that Excel has shortened, such as 2.026E+11; "" if there are none."""
    found = sorted(name for name in {*ids} if "E+" in name and _SHORTENED.fullmatch(name))
    if not found:
        return ""
    return (
        f"ids that look like numbers which Excel has shortened: {some_of(found)}. Different learners or items"
        " may have become one: export the file again with ids as text"
    )
