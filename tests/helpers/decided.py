"""Decisions as commands and pages make them, and rows of decisions that a test needs as they are."""

from __future__ import annotations

from datetime import datetime

from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.policy_decision import SET_POLICY, PolicyRequest, last_decision_on
from irt_assets.adaptive.versions import read_versions
from irt_assets.decision_kinds import KINDS, RESTORE, WITHDRAW
from irt_assets.decisions.closing import REOPEN_MONTHS, MonthRange
from irt_assets.decisions.deciding import decide, undo
from irt_assets.decisions.withdrawal import UseRequest
from irt_assets.scales.item_status import Status, item_status
from resources.postgres.database import Database

WITHDRAWN = """INSERT INTO decision (kind, scale_id, subject, value, effective_from, decided_by, reason)
               VALUES ('withdraw an item', 'default', %s, '{"state": "withdrawn"}', %s, 'Ann', 'leaked')"""
"""Query that withdraws an item from a time on, without any check."""


def set_policy(database: Database, policy: Policy, effective_from: datetime | None = None, **signed: str) -> int:
    """Set the policy of a test. Returns the number of the version."""
    decide(database, SET_POLICY, PolicyRequest.of(policy, effective_from), **signed)
    return database.call(read_versions, policy.test)[-1].version


def undo_policy(database: Database, test_id: str, **signed: str) -> int:
    """Undo the last decision on a test that stands. Returns the number of the version."""
    decide(database, database.call(undo, KINDS, database.call(last_decision_on, test_id)), None, **signed)
    return database.call(read_versions, test_id)[-1].version


def decide_use(
    database: Database, items: list[str], state: str, *, now: datetime, since: datetime | None = None, **signed: str
) -> list[Status]:
    """Withdraw or restore items. Returns the decisions in force."""
    decide(database, WITHDRAW if state == "withdrawn" else RESTORE, UseRequest(items, since, now), **signed)
    known = database.call(item_status)
    return [known[item] for item in items]


def reopen_months(database: Database, first: str, last: str | None = None, **signed: str) -> str:
    """Reopen months. Returns the sentence that the person gets."""
    return decide(database, REOPEN_MONTHS, MonthRange(first, last), **signed)
