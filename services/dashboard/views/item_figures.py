"""Over which abilities the curves of a page are drawn."""

from irt_assets.reports.item_shown import abilities as abilities
