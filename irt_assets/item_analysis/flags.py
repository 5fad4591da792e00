"""Options that look better than the key, in analysed items."""

from irt_assets.item_analysis.stored import ItemRow, OptionRow

BEATS_KEY = "beats_key"
"""Flag of an option that certainly beats the key (see `irt_psychometrics.classical.ItemAnalysis.flags`)."""


def find_option_above_key(item: ItemRow) -> OptionRow | None:
    """Find the option with the highest option-rest correlation among the rivals that certainly beat the key."""
    rivals = (option for option in item.options if BEATS_KEY in option.flags)
    return max(rivals, key=lambda option: option.rest_correlation or 0, default=None)
