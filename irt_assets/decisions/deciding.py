"""Preview, record and undo decisions of every kind, for commands and pages alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg

from irt_assets.common.wording import join_names
from irt_assets.ledger.decision_rows import (
    DecisionRow,
    Kind,
    Plan,
    append_decisions,
    lock_ledgers,
    read_decisions,
    standing_decisions,
)
from irt_assets.scales.scale_decisions import require_text
from resources.failures import PermanentFailure
from resources.postgres.database import Database


def preview(connection: psycopg.Connection, kind: Kind, request: Any) -> Plan:
    """Plan a decision, with all of its effects in words. Changes nothing. Raises the PermanentFailure of `decide`."""
    plan = kind.plan(connection, request)
    return replace(plan, sentences=(*plan.sentences, *plan.effects(connection)))


def decide(
    database: Database,
    kind: Kind,
    request: Any,
    basis: Mapping[str, str] | None = None,
    *,
    by: str,
    reason: str,
) -> str:
    """Record a decision and apply it, completely or not at all. Returns a sentence with the decision's number.

    `basis`: the basis of the plan that the person has seen, or None if a program decides.

    Raises PermanentFailure if the decision is not possible, without a name or a reason, or if a part of the basis has
    changed since.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        first = kind.plan(connection, request)
        kind.lock(connection, first)
        lock_ledgers(connection, (entry.scale_id for entry in first.entries))
        plan = kind.plan(connection, request)
        require_same_basis(first.basis if basis is None else basis, plan.basis)
        for entry in plan.entries:
            kind.value.model_validate(entry.value)
        decided = append_decisions(connection, kind.name, plan.entries, by=by, reason=reason)
        kind.apply(connection, decided)
    return f"recorded as decision {join_names(str(decision.decision_id) for decision in decided)} by {by}"


def undo(connection: psycopg.Connection, kinds: Mapping[str, Kind], decision_id: int) -> Kind:
    """Return the decision that undoes a decision, as a kind to preview and decide on. Its request is None.

    Raises PermanentFailure if there is no such decision, or if it cannot be undone.
    """
    for decision in read_decisions(connection, decision_id=decision_id):
        former = kinds[decision.kind]
        name, _ = former.inverse(connection, decision)
        related = [each.name for each in kinds.values() if each.value is former.value]
        return _Inverse(former, kinds[name], decision, related)
    raise PermanentFailure(f"there is no decision {decision_id}: `irt decisions` lists the numbers of decisions")


class _Inverse(Kind):
    """The decision that undoes a decision, if its subject has no later one.

    Attributes:
        former, undone: the decision, and its kind.
        kind: kind of the decision that undoes it.
        related: names of the kinds that decide on the same thing.
    """

    def __init__(self, former: Kind, kind: Kind, undone: DecisionRow, related: Sequence[str]) -> None:
        self.former, self.kind, self.undone, self.related = former, kind, undone, related
        self.name, self.value, self.subject = kind.name, kind.value, kind.subject

    def plan(self, connection: psycopg.Connection, _request: Any) -> Plan:
        number, scale_id, name = self.undone.decision_id, self.undone.scale_id, self.undone.subject
        decisions = read_decisions(connection, kinds=self.related, scale_id=scale_id, subject=name)
        standing = [decision.decision_id for decision in standing_decisions(decisions)]
        if number not in standing:
            raise PermanentFailure(f"decision {number} is undone already, or undoes another one: decide again instead")
        if number != standing[-1]:
            raise PermanentFailure(f"decision {standing[-1]} on {name} is newer than decision {number}: undo it first")
        _, request = self.former.inverse(connection, self.undone)
        plan = self.kind.plan(connection, request)
        return replace(plan, entries=[replace(entry, undoes=number) for entry in plan.entries])

    def lock(self, connection: psycopg.Connection, plan: Plan) -> None:
        self.kind.lock(connection, plan)

    def apply(self, connection: psycopg.Connection, decisions: Sequence[DecisionRow]) -> None:
        self.kind.apply(connection, decisions)


def require_same_basis(seen: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise PermanentFailure, which names the changed parts, if the basis `now` differs from `seen`."""
    changed = [
        f"{part} has changed since: {now.get(part, 'gone')}"
        for part in {**seen, **now}
        if seen.get(part) != now.get(part)
    ]
    if changed:
        raise PermanentFailure(f"nothing was decided, because {'; '.join(changed)}. Look again")
