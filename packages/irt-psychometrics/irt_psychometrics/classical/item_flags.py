"""Flags of items and options: limits that their statistics break, and options that beat the key.

Does not belong here: the statistics (`item_analysis`), and flags of a fit (`models`).
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints, Mask

MIN_FACILITY, MAX_FACILITY, MIN_ITEM_REST, MIN_OPTION_SHARE = 0.15, 0.95, 0.15, 0.05
MIN_Z, MIN_Z_DIFFERENCE = 3.3, 2.0
"""An option beats the key if its option-rest correlation is this many standard errors above 0 (1 in 2,000 by chance)
and this many above the key's (1 in 40). Options of sound items have negative correlations."""
EQUAL_REST = 0.99
"""Item-rest correlation from which an item equals the rest: it is a total among the items, or a copy."""
MAX_R = 0.999
"""Bound of correlations, because Fisher's z of 1 is infinite."""


class Flags(NamedTuple):
    """The flags of each item and of each option."""

    items: list[tuple[str, ...]]
    options: list[tuple[str, ...]]


def compare_with_keys(
    item: Ints, n: Ints, named: Mask, is_key: Mask, share: Floats, r: Floats, min_share: float
) -> dict[str, Mask]:
    """Compare M options with the keys of their J items. Returns flag → the options that have it, shape (M,).

    If an item has several keys, the one with the highest option-rest correlation counts.

    Args:
        item: shape (M,), index of the option's item.
        n: shape (J,), number of learners.
        named: shape (M,), whether the option is one that learners can choose.
        is_key: shape (M,).
        share, r: shape (M,), share of the learners who chose the option, and option-rest correlation.
        min_share: smallest share that is not flagged.
    """
    r = np.nan_to_num(r)
    keys = np.flatnonzero(is_key & named)
    keys = keys[np.argsort(r[keys])]
    best = np.full(len(n), -1)
    best[item[keys]] = keys
    key = best[item]
    rival = named & ~is_key & (key >= 0)
    above = rival & (r > np.maximum(r[key], 0))
    certain = r * np.sqrt(n[item]) > MIN_Z
    certain &= _z_of_difference(r, r[key], share, share[key], n[item]) > MIN_Z_DIFFERENCE
    return {"min_option_share": rival & (share < min_share), "above_key": above, "beats_key": above & certain}


def names_where(masks: Mapping[str, Mask]) -> list[tuple[str, ...]]:
    """The names of the masks that are true at each place; masks have shape (N,)."""
    return [
        tuple(name for name, holds in zip(masks, row, strict=True) if holds)
        for row in zip(*masks.values(), strict=True)
    ]


def _z_of_difference(r: Floats, key_r: Floats, p: Floats, key_p: Floats, n: Ints) -> Floats:
    """z of the difference between an option's and the key's correlation with the same variable (Meng, Rosenthal & Rubin
    1992). Everybody can choose one of the two, which correlates the choices negatively."""
    r, key_r = np.clip(r, -MAX_R, MAX_R), np.clip(key_r, -MAX_R, MAX_R)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.where(np.maximum(p, key_p) < 1, -np.sqrt(p * key_p / ((1 - p) * (1 - key_p))), -1.0)
        squared = (r**2 + key_r**2) / 2
        f = np.minimum((1 - between) / (2 * (1 - squared)), 1.0)
        h = (1 - f * squared) / (1 - squared)
        error = np.sqrt(2 * (1 - between) * h / np.maximum(n - 3, 0))
        return (np.arctanh(r) - np.arctanh(key_r)) / error
