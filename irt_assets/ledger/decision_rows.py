"""The table `decision`, and the types with which a room declares a kind of decision.

`irt_assets.decisions.deciding` previews, records and undoes decisions of every kind. `irt_assets.decision_kinds` lists
the kinds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from resources.failures import PermanentFailure
from resources.postgres.database import advisory_lock, records


@dataclass(frozen=True)
class DecisionRow:
    """A row of `decision`. Its fields are described in the registry of tables."""

    decision_id: int
    kind: str
    scale_id: str
    subject: str
    window: str | None
    value: dict[str, Any]
    undoes: int | None
    effective_from: datetime | None
    decided_by: str
    reason: str
    decided_at: datetime


@dataclass(frozen=True)
class Entry:
    """A row of `decision` before somebody decides: one subject with its value."""

    scale_id: str
    value: BaseModel
    subject: str = ""
    window: str | None = None
    effective_from: datetime | None = None
    undoes: int | None = None

    @property
    def name(self) -> str:
        return self.subject or self.window or self.scale_id


_COLUMNS: LiteralString = """decision_id, kind, scale_id, subject, "window", value, undoes, effective_from, decided_by,
                             reason, decided_at"""


def no_effects(_connection: psycopg.Connection) -> list[str]:
    return []


@dataclass(frozen=True)
class Plan:
    """The effect of a decision, before it is made.

    Attributes:
        entries: an entry for each subject.
        sentences: the effect in words, for the person who decides.
        basis: thing that the decision replaces or rests on → its state in words, such as the item's use. Counts and
            effects, which new answers move, are not part of it.
        effects: further sentences that may take seconds, so that they are computed for a preview only, without locks.
    """

    entries: Sequence[Entry]
    sentences: Sequence[str]
    basis: Mapping[str, str]
    effects: Callable[[psycopg.Connection], Sequence[str]] = no_effects


class Kind:
    """A kind of decision. A room declares it once; `irt_assets.decision_kinds` lists it.

    Attributes:
        name: the kind in words, such as "withdraw an item".
        value: model of the value. Kinds with the same model decide on the same thing, and one can undo the other.
        subject: noun for the subject, for links and lists: item, month or test.
        why_no_undo: reason why decisions of this kind cannot be undone; empty if they can.
    """

    name: str
    value: type[BaseModel]
    subject: str
    why_no_undo: str = ""

    def plan(self, _connection: psycopg.Connection, _request: Any) -> Plan:
        """Plan the decision. Raises PermanentFailure if it is not possible."""
        raise NotImplementedError

    def lock(self, _connection: psycopg.Connection, _plan: Plan) -> None:
        """Take the locks that come before the lock of the scale's ledger, such as the intake's."""

    def apply(self, _connection: psycopg.Connection, _decisions: Sequence[DecisionRow]) -> None:
        """Project recorded decisions into working tables, if there are any."""

    def inverse(self, _connection: psycopg.Connection, decision: DecisionRow) -> tuple[str, Any]:
        """Return the name of the kind, and the request, that undo a decision.

        Raises PermanentFailure if it cannot be undone.
        """
        raise PermanentFailure(f"decision {decision.decision_id} cannot be undone: {self.why_no_undo}")


def lock_ledgers(connection: psycopg.Connection, scales: Iterable[str]) -> None:
    """Wait until no other transaction decides on these scales or publishes their months. Keeps the locks until the
    transaction ends."""
    for scale_id in sorted({*scales}):
        advisory_lock(connection, "ledger", scale_id)


def append_decisions(
    connection: psycopg.Connection, kind: str, entries: Iterable[Entry], *, by: str, reason: str
) -> list[DecisionRow]:
    """Append decisions in the caller's transaction. Returns the rows."""
    return [
        row
        for entry in entries
        for row in records(
            connection,
            DecisionRow,
            f"""INSERT INTO decision
                  (kind, scale_id, subject, "window", value, undoes, effective_from, decided_by, reason)
                VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING {_COLUMNS}""",
            (
                *(kind, entry.scale_id, entry.subject, entry.window, Jsonb(entry.value.model_dump(mode="json"))),
                *(entry.undoes, entry.effective_from, by, reason),
            ),
        )
    ]


def read_decisions(
    connection: psycopg.Connection,
    *,
    decision_id: int | None = None,
    kinds: Iterable[str] | None = None,
    scale_id: str | None = None,
    subject: str | None = None,
) -> list[DecisionRow]:
    """Read the decisions with these properties (None: any), oldest first. The subject may be a month."""
    return records(
        connection,
        DecisionRow,
        f"""SELECT {_COLUMNS} FROM decision
           WHERE coalesce(decision_id = %(decision)s, true) AND coalesce(kind = ANY(%(kinds)s), true)
             AND coalesce(scale_id = %(scale)s, true)
             AND coalesce(coalesce(nullif(subject, ''), "window") = %(subject)s, true)
           ORDER BY decision_id""",
        {
            "decision": decision_id,
            "kinds": None if kinds is None else [*kinds],
            "scale": scale_id,
            "subject": subject,
        },
    )


def ids_in_decisions(connection: psycopg.Connection) -> list[tuple[int, str]]:
    """Find subjects and strings in values that equal a learner's id, each with the number of the decision."""
    return connection.execute(
        """SELECT decision_id, user_id
           FROM (SELECT decision_id, subject AS string FROM decision
                 UNION SELECT decision_id, part #>> '{}'
                 FROM decision, jsonb_path_query(value, '$.** ? (@.type() == "string")') part) strings
             JOIN learner ON user_id = string
           ORDER BY 1, 2"""
    ).fetchall()


def standing_decisions(decisions: Sequence[DecisionRow]) -> list[DecisionRow]:
    """Return the decisions on one subject that neither undo another one nor are undone, oldest first."""
    undone = {decision.undoes for decision in decisions}
    return [each for each in decisions if each.undoes is None and each.decision_id not in undone]
