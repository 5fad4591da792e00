"""The kinds of decisions that are rows of `decision`. A new kind is declared in its room and listed here."""

from collections.abc import Mapping

from irt_assets.adaptive.changes import effects_of_withdrawal
from irt_assets.adaptive.policy_decision import SET_POLICY
from irt_assets.decisions.closing import REOPEN_MONTHS
from irt_assets.decisions.withdrawal import ChangeOfUse
from irt_assets.ledger.decision_rows import Kind
from irt_assets.new_items.decided import ITEM_DECISIONS
from irt_assets.new_items.publishing import PUBLISH
from irt_assets.scores.left_out import COUNT_ITEMS_AGAIN, LEAVE_ITEMS_OUT

WITHDRAW = ChangeOfUse("withdraw an item", "withdrawn", "restore an item", effects_of_withdrawal)
RESTORE = ChangeOfUse("restore an item", "restored", "withdraw an item")
KINDS: Mapping[str, Kind] = {
    kind.name: kind
    for kind in (
        REOPEN_MONTHS,
        WITHDRAW,
        RESTORE,
        SET_POLICY,
        LEAVE_ITEMS_OUT,
        COUNT_ITEMS_AGAIN,
        *ITEM_DECISIONS,
        PUBLISH,
    )
}
"""Kinds by name."""
ITEM_KINDS = tuple(name for name, kind in KINDS.items() if kind.subject == "item")
