"""Testlets of items, and the effects of learners in them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from irt_psychometrics.core.arrays import Ints


def number_testlets(item_ids: Sequence[str], testlets: Mapping[str, str]) -> Ints:
    """The number of each item's testlet, from 0, shape (J,); −1 for items in no testlet, or alone in a testlet."""
    named = [testlets.get(item) for item in item_ids]
    sizes = Counter(name for name in named if name is not None)
    number = {name: k for k, name in enumerate(sorted(name for name, size in sizes.items() if size > 1))}
    return np.array([-1 if name is None else number.get(name, -1) for name in named], dtype=np.int64)


def share_testlets(item_ids: Sequence[str], testlets: Mapping[str, str]) -> bool:
    """Whether two of the items are in the same testlet (item → testlet)."""
    return bool((number_testlets(item_ids, testlets) >= 0).any())


@dataclass(frozen=True)
class Effects:
    """Effects of learners in testlets.

    Attributes:
        testlet: shape (n_items,), the number of each item's testlet, from 0; −1 for items in no testlet.
        sd: the SD of the effects in units of θ.
    """

    testlet: Ints
    sd: float

    @classmethod
    def from_testlets(cls, item_ids: Sequence[str], testlets: Mapping[str, str], sd: float) -> Self | None:
        """Effects with this SD in `testlets` (item → testlet).

        Returns None if the SD is 0, or if no two of the items are in the same testlet.
        """
        places = number_testlets(item_ids, testlets)
        return cls(places, sd) if sd > 0 and (places >= 0).any() else None
