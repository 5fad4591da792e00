"""A bank with an item that has changed, so that a decision waits, and queries for decisions and publications."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from irt_assets.calibration.month import publish_month
from irt_assets.common.partitions import Month
from irt_assets.decisions import release
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.proposals import Proposal, Reference, find_proposals, latest_waiting, proposals
from irt_assets.invariants.invariant import InvariantContext, evaluate
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.responses.verdict_states import states_of_months
from irt_assets.responses.verdicts import judge_differing
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from tests.helpers.rooms import (
    SCALE,
    add_attempts,
    add_items,
    attempt,
    call,
    link_made_up,
    made_up_calibration,
    rows,
    run_sql,
)
from tests.helpers.sentences import refusal

JAN, FEB, MAR = "2026-01", "2026-02", "2026-03"
APRIL = Month(MAR).end
NOW = datetime(2026, 3, 10, tzinfo=UTC)
ANCHORS = {"K1": (1.0, -1.0), "K2": (1.0, 0.0), "K3": (1.0, 1.0)}
MOVED = Reference(FEB, "moved")


def link(database: Database, store: FolderStore, month: str, items: dict[str, tuple[float, float]]) -> str:
    return link_made_up(database, store, month, made_up_calibration(ANCHORS | items))


def publish(database: Database, store: FolderStore, month: str) -> None:
    publish_month(database, store, month, (), None)


def calibrate(database: Database, store: FolderStore, month: str, items: dict[str, tuple[float, float]]) -> None:
    """Store a month that is linked and whose publication step is done."""
    link(database, store, month, items)
    publish(database, store, month)


def proposal_of(database: Database, reference: Reference = MOVED) -> Proposal:
    return call(database, find_proposals, [reference])[0]


def waiting_references(database: Database) -> list[str]:
    """Proposals that need a decision: the latest of each item."""
    return [str(p.reference) for p in latest_waiting(call(database, proposals))]


@pytest.fixture
def bank(database: Database, store: FolderStore) -> Database:
    """January has published two items. February proposes both; `moved` has become easier by 0.8 and is flagged."""
    add_items(database, {item: {"a": a, "b": b, "a_se": 0.1, "b_se": 0.1} for item, (a, b) in ANCHORS.items()})
    add_items(database, dict.fromkeys(["moved", "still", "late"]))
    initialise(database, SCALE, first_month=JAN, thresholds={"min_anchors": 3})
    for month, b in ((JAN, 0.5), (FEB, -0.3)):
        calibrate(database, store, month, {"moved": (1.0, b), "still": (1.2, 0.1 if month == JAN else 0.12)})
    run_sql(
        database,
        """INSERT INTO item_drift (month, scale_id, item_id, engine, delta_b, severity, details)
           VALUES (%s, %s, 'moved', 'em', -0.8, 'high', '{"change": {"kind": "drift", "size": -0.8}}')""",
        (FEB, SCALE),
    )
    return database


def answers_as_fitted(database: Database) -> None:
    """Judge the log, and make February's snapshot equal to it."""
    judge(database)
    with database.connect() as connection:
        now = states_of_months(connection, [FEB])[FEB]
        connection.execute("UPDATE scored_snapshot SET verdict_state = %s WHERE month = %s", (now, FEB))


def late_answer(database: Database) -> None:
    """Add a late answer to February and judge it."""
    add_attempts(database, [attempt("somebody", "moved", Month(FEB).start)])
    judge(database)


def judge(database: Database) -> None:
    judge_differing(database, *(at.date() for at in Month(FEB).bounds))


def accept(database: Database, *references: Reference, **others: Any) -> None:
    release.accept(
        database,
        references or (MOVED,),
        **{"by": "Ann", "reason": "it became easier", "effective_from": None, "now": NOW} | others,
    )


def decisions(database: Database) -> list[tuple[Any, ...]]:
    return rows(
        database,
        """SELECT month, item_id, decision, decided_by, reason, effective_from FROM release_decision
           ORDER BY decision_id""",
    )


def published_rows(database: Database, item: str = "moved") -> list[tuple[Any, ...]]:
    return rows(
        database,
        """SELECT b, rule, month, decided_by, reason, effective_from FROM item_parameter_publication
           WHERE item_id = %s ORDER BY publication_id""",
        (item,),
    )


def violations(database: Database, store: FolderStore) -> list[str]:
    with database.connect() as connection:
        look = InvariantContext(connection, store, NOW, ())
        names = ("one_set_is_in_force_and_changes_are_decided", "published_parameters_come_from_sound_fits")
        return [
            f"{v.invariant.name}: {found.subject}: {found.observed}"
            for v in evaluate(look, [one for one in INVARIANTS if one.name in names])
            for found in v.violations
        ]


def refused(bank: Database, *references: Reference, decide: Callable[..., object] = accept, **others: Any) -> str:
    """Returns the message of a decision that must fail, and checks that it changes nothing."""
    before = decisions(bank), published_rows(bank)
    reason = refusal(decide, bank, *references, **others)
    assert (decisions(bank), published_rows(bank)) == before
    return reason
