"""Options that look better than the key, in analysed items."""

from collections.abc import Iterable

from irt_assets.item_analysis.stored import ItemRow, OptionRow

BEATS_KEY = "beats_key"
"""Flag of an option that certainly beats the key (see `irt_psychometrics.classical.ItemAnalysis.flags`)."""


def best_key(item: ItemRow) -> OptionRow | None:
    """The right option with the highest option-rest correlation. Returns None for items without options and a key."""
    return _best(option for option in item.options if option.is_key and item.key is not None)


def find_option_above_key(item: ItemRow) -> OptionRow | None:
    """The option with the highest option-rest correlation. Returns None unless it certainly beats the key."""
    return _best(option for option in item.options if BEATS_KEY in option.flags)


def _best(options: Iterable[OptionRow]) -> OptionRow | None:
    return max(options, key=lambda option: option.rest_correlation or 0, default=None)
