"""Choices in answers that a key scores, and keys that cannot be right."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from irt_psychometrics.classical.option_statistics import Choices
from irt_psychometrics.commands.tables import Table
from irt_psychometrics.core.arrays import Ints
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.wording import some_of

MANY = 50
"""Number of answers from which a key that nobody chose is an error: if one in ten answers is right, 50 wrong answers in
a row have probability .005."""
BLOCK = 2**20
"""Number of answers whose choices are counted at once."""
REMEDY = (
    "Check that each key is spelled like the choices (2 and 2.0 are different choices) and belongs to its item. If"
    " nobody was right, leave the item out of the key"
)
_SHORTENED = re.compile(r"\d(\.\d+)?E\+\d+")


def choices_of(
    items: Sequence[str], item: Ints, code: Ints, texts: Sequence[str], keys: Mapping[str, str]
) -> tuple[Choices, dict[str, Counter[str]]]:
    """Return the choices among the options of each item, shortest first, and how often each option was chosen.

    `item` and `code`, shape (n_responses,), are places in `items` and in `texts`; the code is −1 without a choice.
    """
    counts: dict[str, Counter[str]] = {}
    parts, size = [slice(first, first + BLOCK) for first in range(0, len(code), BLOCK)], np.int64(len(texts))
    for part in parts:
        pairs, n = np.unique((item[part] * size + code[part])[code[part] >= 0], return_counts=True)
        for pair, times in zip(pairs.tolist(), n.tolist(), strict=True):
            counts.setdefault(items[pair // size], Counter())[texts[pair % size]] += times
    labels = {name: sorted({*counts.get(name, ()), keys[name]}, key=lambda text: (len(text), text)) for name in items}
    place, label = {text: k for k, text in enumerate(texts)}, dict[int, int]()
    for j, name in enumerate(items):
        label |= {j * len(texts) + place[text]: k for k, text in enumerate(labels[name]) if text in place}
    known = np.array(sorted(label), dtype=np.int64)
    of_known = np.array([label[pair] for pair in known.tolist()], dtype=np.int64)
    option = np.full(len(code), -1, dtype=np.min_scalar_type(-1 - max(map(len, labels.values()), default=0)))
    for part in parts:
        chosen = code[part] >= 0
        option[part][chosen] = of_known[np.searchsorted(known, (item[part] * size + code[part])[chosen])]
    right = tuple(frozenset((keys[name],)) for name in items)
    return Choices(option, tuple(map(tuple, labels.values())), right), counts


def check_key(
    file: str, keys: Mapping[str, str], counts: Mapping[str, Counter[str]], *, name_absent: bool = True
) -> list[str]:
    """Notes about a key, given the number of answers with each option, by item.

    `name_absent`: also name items of the key without answers. Raises PsychometricsError if nobody chose the key of an
    item with many answers, or, if there are many answers in all, the key of any item.
    """

    def describe(items: Iterable[str]) -> str:
        named = []
        for item in items:
            chosen = [f"{choice!r} ({n:,})" for choice, n in counts[item].most_common() if n]
            named.append(f"item {item}, key {keys[item]!r}, chosen: {some_of(chosen)}")
        return some_of(named, between="; ")

    unchosen = [item for item in keys if item in counts and not counts[item][keys[item]]]
    total = sum(found.total() for found in counts.values())
    all_wrong = len(unchosen) == len(counts) and total >= MANY
    if wrong := [item for item in unchosen if all_wrong or counts[item].total() >= MANY]:
        n = f"{len(wrong)} of {len(counts)} items"
        raise PsychometricsError(f"{file}: nobody chose the key of {n}: {describe(wrong)}. {REMEDY}.")
    notes = [f"{file}: nobody chose the key of {describe(unchosen)}"] if unchosen else []
    if name_absent and (absent := [item for item in keys if item not in counts]):
        notes.append(f"{file}: no answers to {len(absent)} items of the key: {some_of(absent)}")
    options = {*keys.values()}
    others = sum(counts.values(), Counter[str]())
    if named := [f"{choice!r} ({n:,})" for choice, n in others.most_common() if choice not in options]:
        of_no_item = "choices that are the key of no item count as wrong (--missing: as no answer)"
        notes.append(f"{file}: {of_no_item}: {some_of(named)}")
    return notes


def read_key(table: Table) -> dict[str, str]:
    """Right option of each item, from a table with the columns item and key; items without a key are left out.

    Raises PsychometricsError for other columns, an item with two keys, and a table without any key.
    """
    item, key = table.item, table.first_of(("key", "answer", "correct", "correct_answer"))
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


def describe_blanks(counts: Mapping[str, int]) -> str:
    """Text about the cells that count as no answer, such as: 12 empty, 3 × 'NA'. Returns "" if there are none."""
    spelled = [f"{n:,} × {text!r}" for text, n in sorted(counts.items(), key=lambda one: -one[1]) if text and n]
    named = ([f"{counts['']:,} empty"] if counts.get("") else []) + spelled
    return f"counted as no answer: {some_of(named)}" if named else ""


def describe_shortened(ids: Collection[str]) -> str:
    """A warning about ids that look like numbers that Excel has shortened, such as 2.026E+11; "" if there are none."""
    found = sorted(name for name in {*ids} if "E+" in name and _SHORTENED.fullmatch(name))
    remedy = "Different learners or items may have become one: export the file again with ids as text"
    return f"ids that look like numbers which Excel has shortened: {some_of(found)}. {remedy}" if found else ""
