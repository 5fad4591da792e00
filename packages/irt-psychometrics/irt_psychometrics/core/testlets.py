"""Testlets of items, and the effects of learners in them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Ints


def number_testlets(item_ids: Sequence[str], testlets: Mapping[str, str]) -> Ints:
    """Shape (J,): the number of each item's testlet, from 0; −1 for items of none, or alone in theirs."""
    named = [testlets.get(item) for item in item_ids]
    sizes = Counter(name for name in named if name is not None)
    number = {name: k for k, name in enumerate(sorted(name for name, size in sizes.items() if size > 1))}
    return np.array([-1 if name is None else number.get(name, -1) for name in named], dtype=np.int64)


def share_testlets(item_ids: Sequence[str], testlets: Mapping[str, str]) -> bool:
    """Whether two of the items stand in one testlet (item → testlet)."""
    return bool((number_testlets(item_ids, testlets) >= 0).any())


@dataclass(frozen=True)
class Effects:
    """Effects of learners in testlets: `testlet` (n_items,) numbers each item's from 0, −1 for items of none, and `sd`
    is their SD in units of θ."""

    testlet: Ints
    sd: float

    @classmethod
    def from_testlets(cls, item_ids: Sequence[str], testlets: Mapping[str, str], sd: float) -> Self | None:
        """With this SD in `testlets` (item → testlet). Returns None if answers to these items share nothing."""
        places = number_testlets(item_ids, testlets)
        return cls(places, sd) if sd > 0 and (places >= 0).any() else None
