"""Options that look better than the key, in analysed items."""

from irt_assets.item_analysis.stored import ItemRow, OptionRow

BEATS_KEY = "beats_key"
"""Flag of an option that certainly beats the key (see `irt_psychometrics.classical.ItemAnalysis.flags`)."""


def find_option_above_key(item: ItemRow) -> OptionRow | None:
    """Return the option with the highest option-rest correlation, or None unless it certainly beats the key."""
    options = (option for option in item.options if BEATS_KEY in option.flags)
    return max(options, key=lambda option: option.rest_correlation or 0, default=None)
