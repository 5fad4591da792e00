"""Flags of items and options, by the rules of the scale."""

import math
from dataclasses import replace

from irt_assets.item_analysis.stored import ItemRow, OptionRow
from irt_assets.responses.eligibility.rules import WarningRules

ABOVE_KEY, SPEEDED = "above_key", "speeded"
"""Flags without a rule: an option whose option-rest correlation is above 0 and above the key's, and an item that many
learners did not reach. All other flags are names of rules."""
MAX_NOT_REACHED = 0.05
"""Share of the learners who did not reach an item from which it is flagged as speeded."""
MIN_Z, MIN_Z_DIFFERENCE = 3.3, 2.0
"""An option beats the key if its option-rest correlation is this many standard errors above 0 (1 in 2,000 by chance)
and this many above the key's (1 in 40). Options of sound items have negative correlations."""

MAX_R = 0.999
"""Bound of correlations, because Fisher's z of 1 is infinite."""


def add_flags(item: ItemRow, rules: WarningRules) -> ItemRow:
    """The item and its options with their flags."""
    options = tuple(replace(option, flags=_option_flags(option, item, rules)) for option in item.options)
    found = {
        "min_facility": item.facility is not None and item.facility < rules.min_facility,
        "max_facility": item.facility is not None and item.facility > rules.max_facility,
        "min_item_rest": item.item_rest is not None and item.item_rest < rules.min_item_rest,
        ABOVE_KEY: any(ABOVE_KEY in option.flags for option in options),
        SPEEDED: item.presented > 0 and item.not_reached >= MAX_NOT_REACHED * item.presented,
    }
    return replace(item, options=options, flags=tuple(name for name, is_so in found.items() if is_so))


def _option_flags(option: OptionRow, item: ItemRow, rules: WarningRules) -> tuple[str, ...]:
    key = best_key(item)
    if key is None or option.is_key:
        return ()
    found = {
        "min_option_share": option.share is not None and option.share < rules.min_option_share,
        ABOVE_KEY: (option.rest_correlation or 0) > max(0.0, key.rest_correlation or 0),
    }
    return tuple(name for name, is_so in found.items() if is_so)


def best_key(item: ItemRow) -> OptionRow | None:
    """The right option with the highest option-rest correlation. Returns None for items without options and a key."""
    keys = [option for option in item.options if option.is_key and item.key is not None]
    return max(keys, key=lambda option: option.rest_correlation or 0, default=None)


def find_option_above_key(item: ItemRow) -> OptionRow | None:
    """The option with the highest option-rest correlation. Returns None unless it certainly beats the key.

    The two correlations are compared as dependent correlations with the same variable (Meng, Rosenthal & Rubin 1992).
    """
    flagged = [option for option in item.options if ABOVE_KEY in option.flags]
    option, key = max(flagged, key=lambda o: o.rest_correlation or 0, default=None), best_key(item)
    if option is None or key is None or option.share is None or key.share is None or option.rest_correlation is None:
        return None
    n, r = item.n, (option.rest_correlation, key.rest_correlation or 0.0)
    z = _z_of_difference(r, _overlap(option.share, key.share), n)
    return option if r[0] * math.sqrt(n) > MIN_Z and z > MIN_Z_DIFFERENCE else None


def _overlap(p: float, q: float) -> float:
    """Correlation of choosing one of two options with choosing the other, of which everybody can choose one."""
    return -math.sqrt(p * q / ((1 - p) * (1 - q))) if p < 1 and q < 1 else -1.0


def _z_of_difference(r: tuple[float, float], between: float, n: int) -> float:
    r = max(-MAX_R, min(r[0], MAX_R)), max(-MAX_R, min(r[1], MAX_R))
    squared = (r[0] ** 2 + r[1] ** 2) / 2
    f = min((1 - between) / (2 * (1 - squared)), 1.0)
    h = (1 - f * squared) / (1 - squared)
    return (math.atanh(r[0]) - math.atanh(r[1])) * math.sqrt(max(n - 3, 0) / (2 * (1 - between) * h))
