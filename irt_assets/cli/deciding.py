"""Ask before a decision is recorded, for the commands of all kinds of decisions."""

from typing import Any

from irt_assets.cli.console import confirm, print_json, say
from irt_assets.cli.installation import current_database
from irt_assets.common.wording import join_names
from irt_assets.decision_kinds import KINDS
from irt_assets.decisions import deciding
from irt_assets.ledger.decision_rows import Kind

MAX_NAMED = 5


def confirm_decision(
    kind: Kind, request: Any, *, by: str, reason: str, yes: bool = False, dry_run: bool = False, as_json: bool = False
) -> None:
    """Print the effect of a decision, ask, and record it. `as_json`: print the decision as JSON in the end."""
    database = current_database()
    plan = database.call(deciding.preview, kind, request)
    names = [*dict.fromkeys(entry.name for entry in plan.entries)]
    if not as_json:
        say(*plan.sentences)
    if not dry_run:
        confirm(f"{kind.name}: {join_names(names, MAX_NAMED)}?", yes)
        decided = deciding.decide(database, kind, request, plan.basis, by=by, reason=reason)
        if as_json:
            print_json({"kind": kind.name, "subjects": names, "effects": plan.sentences, "decided": decided})
        else:
            say(decided)


def confirm_undo(decision_id: int, *, by: str, reason: str, yes: bool = False) -> None:
    """Print the effect of undoing a decision, ask, and record the decision that undoes it."""
    confirm_decision(current_database().call(deciding.undo, KINDS, decision_id), None, by=by, reason=reason, yes=yes)
