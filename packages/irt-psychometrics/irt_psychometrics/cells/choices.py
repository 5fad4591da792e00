"""Choices in answers that a key scores, and keys that cannot be right."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain

import numpy as np

from irt_psychometrics.cells.columns import Cells
from irt_psychometrics.cells.reading import KeyScores
from irt_psychometrics.core.arrays import Ints, Mask
from irt_psychometrics.core.choices import Choices, sort_options
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.wording import some_of

MANY = 50
"""Number of answers from which a key that nobody chose is an error: if one in ten answers is right, 50 wrong answers in
a row have probability .005."""
MAX_CODE = 3
"""Length of an option up to which it may be a code and not a text, if most items have a key of their own."""
BLOCK = 2**20
"""Number of answers whose choices are written at once."""
EITHER = "If either option is right, write a line for each option, or | between them"
REMEDY = (
    "Check that each key is spelled like the choices (2 and 2.0 are different choices) and belongs to its item. If"
    " nobody was right, leave the item out of the key"
)


class OptionCounts:
    """Numbers of answers with each option, by item, added up batch by batch, to find keys that cannot be right.

    Parameters
    ----------
    keys
        Item → options of the key. Answers to other items are not counted.
    max_options
        Number of options of an item from which on only its key is still counted, because more are free texts.

    Attributes
    ----------
    by_item
        Item → option → number of answers.

    Examples
    --------
    >>> counts = OptionCounts({"q1": ["A"], "q2": ["B"]})
    >>> counts.add(Cells.of(["q1", "q1", "q1"]), Cells.of(["A", "C", ""]))
    >>> counts.by_item
    {'q1': Counter({'A': 1, 'C': 1})}
    >>> counts.notes("test.csv")[0]
    'test.csv: no answers to 1 items of the key: q2'
    """

    def __init__(self, keys: Mapping[str, Collection[str]], max_options: float = math.inf) -> None:
        self._keys, self._max_options = keys, max_options
        self.by_item: dict[str, Counter[str]] = {}

    def add(self, items: Cells, options: Cells, is_choice: Mask | None = None) -> None:
        """Count answers.

        Parameters
        ----------
        items, options
            Item and chosen option of each answer; "" if no option was chosen.
        is_choice
            Answers to count, shape (n_rows,); None: all.

        Examples
        --------
        >>> counts = OptionCounts({"q1": ["A"]})
        >>> counts.add(Cells.of(["q1", "q1"]), Cells.of(["B", "A"]), np.array([True, False]))
        >>> counts.by_item
        {'q1': Counter({'B': 1})}
        """
        pairs = items.places * np.int64(len(options.texts)) + options.places
        codes, n = np.unique(pairs if is_choice is None else pairs[is_choice], return_counts=True)
        for pair, times in zip(codes.tolist(), n.tolist(), strict=True):
            item, option = items.texts[pair // len(options.texts)], options.texts[pair % len(options.texts)]
            if item in self._keys and option:
                counts = self.by_item.setdefault(item, Counter())
                if option in counts or len(counts) < self._max_options or option in self._keys[item]:
                    counts[option] += times

    def notes(self, file: str, *, name_absent: bool = True) -> list[str]:
        """Return sentences about the key.

        Parameters
        ----------
        file
            Name of the file, for the sentences.
        name_absent
            Whether to list items of the key without answers.

        Returns
        -------
        list[str]
            A sentence for each thing that deserves a look; empty if the key fits the answers.

        Raises
        ------
        PsychometricsError
            If nobody chose the key of an item with many answers, or, if there are many answers in all, the key of any
            item, or if an item's key has several options together and no answer has.

        Examples
        --------
        >>> counts = OptionCounts({"q1": ["A"]})
        >>> counts.add(Cells.of(["q1", "q1"]), Cells.of(["B", "C"]))
        >>> counts.notes("test.csv")[0]
        "test.csv: nobody chose the key of item q1, key 'A', chosen: 'B' (1), 'C' (1)"
        """
        keys, by_item = self._keys, self.by_item

        def describe(items: Iterable[str]) -> str:
            named = []
            for item in items:
                chosen = [f"{choice!r} ({n:,})" for choice, n in by_item[item].most_common() if n]
                key = " or ".join(map(repr, keys[item]))
                named.append(f"item {item}, key {key}, chosen: {some_of(chosen)}")
            return some_of(named, between="; ")

        unchosen = [item for item in keys if item in by_item and not by_item[item].keys() & {*keys[item]}]
        together = [item for item in unchosen if ";" in "".join(keys[item]) and ";" not in "".join(by_item[item])]
        if together:
            raise PsychometricsError(f"{file}: nobody chose several options: {describe(together)}. {EITHER}.")
        total = sum(counts.total() for counts in by_item.values())
        all_wrong = len(unchosen) == len(by_item) and total >= MANY
        if wrong := [item for item in unchosen if all_wrong or by_item[item].total() >= MANY]:
            n = f"{len(wrong)} of {len(by_item)} items"
            raise PsychometricsError(f"{file}: nobody chose the key of {n}: {describe(wrong)}. {REMEDY}.")
        notes = [f"{file}: nobody chose the key of {describe(unchosen)}"] if unchosen else []
        if name_absent and (absent := [item for item in keys if item not in by_item]):
            notes.append(f"{file}: no answers to {len(absent)} items of the key: {some_of(absent)}")
        options = {*chain.from_iterable(keys.values())}
        others = sum(by_item.values(), Counter[str]())
        own = set() if 2 * len(options) <= len(keys) else {choice for choice in others if len(choice) > MAX_CODE}
        if named := [f"{choice!r} ({n:,})" for choice, n in others.most_common() if choice not in options | own]:
            of_no_item = "choices that are the key of no item count as wrong (--missing: as no answer)"
            notes.append(f"{file}: {of_no_item}: {some_of(named)}")
        return notes


def choices_of(
    items: Sequence[str],
    item: Ints,
    code: Ints,
    texts: Sequence[str],
    keys: KeyScores,
    counts: Mapping[str, Counter[str]],
) -> Choices:
    """Return the choices among the options of each item, shortest first.

    `item` and `code`, shape (n_responses,), are places in `items` and in `texts`; the code is −1 without a choice.
    `counts`: the chosen options of each item, as in `OptionCounts.by_item`.
    """
    labels = {name: sort_options({*counts.get(name, ()), *keys[name]}) for name in items}
    place, label, size = {text: k for k, text in enumerate(texts)}, dict[int, int](), np.int64(len(texts))
    for j, name in enumerate(items):
        label |= {j * len(texts) + place[text]: k for k, text in enumerate(labels[name]) if text in place}
    known = np.array(sorted(label), dtype=np.int64)
    of_known = np.array([label[pair] for pair in known.tolist()], dtype=np.int64)
    option = np.full(len(code), -1, dtype=np.min_scalar_type(-1 - max(map(len, labels.values()), default=0)))
    for part in (slice(first, first + BLOCK) for first in range(0, len(code), BLOCK)):
        chosen = code[part] >= 0
        option[part][chosen] = of_known[np.searchsorted(known, (item[part] * size + code[part])[chosen])]
    most = {name: max(keys[name].values()) for name in items}
    right = tuple(frozenset(text for text, score in keys[name].items() if score == most[name]) for name in items)
    return Choices(option, tuple(labels.values()), right)
