"""Read the versions of adaptive tests, and add one. Rows are only ever added, by decisions (`policy_decision`).

A session keeps the version that was in force when it began.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from irt_assets.adaptive.policy import Policy
from irt_assets.ledger.decision_rows import DecisionRow
from resources.failures import PermanentFailure
from resources.postgres.database import records


@dataclass(frozen=True)
class TestVersion:
    """A row of `adaptive_test`. `stored` is the policy as JSON; None: the test is not offered."""

    __test__ = False

    version: int
    test_id: str
    scale_id: str
    stored: dict[str, object] | None
    undoes: int | None
    effective_from: datetime
    decided_by: str
    reason: str
    decided_at: datetime

    @property
    def policy(self) -> Policy:
        """The policy of a test that is offered."""
        return Policy.model_validate(self.stored)


def read_versions(connection: psycopg.Connection, test_id: str | None = None) -> list[TestVersion]:
    """All versions of a test (None: of all tests), oldest first."""
    return records(
        connection,
        TestVersion,
        """SELECT version, test_id, scale_id, policy AS stored, undoes, effective_from, decided_by, reason, decided_at
           FROM adaptive_test WHERE %(test)s::text IS NULL OR test_id = %(test)s ORDER BY version""",
        {"test": test_id},
    )


def versions_in_force(connection: psycopg.Connection, at: datetime) -> dict[str, TestVersion]:
    """The newest version of each test that has taken effect at `at`, by test, without tests that are not offered."""
    newest = {each.test_id: each for each in read_versions(connection) if each.effective_from <= at}
    return {test_id: each for test_id, each in newest.items() if each.stored is not None}


def version_in_force(connection: psycopg.Connection, test_id: str, at: datetime) -> TestVersion:
    """The version of a test in force at `at`. Raises PermanentFailure, which names the tests in force, without it."""
    known = versions_in_force(connection, at)
    if test_id not in known:
        raise PermanentFailure(f"there is no test {test_id}; the tests are: {', '.join(known) or 'none'}")
    return known[test_id]


def add_versions(connection: psycopg.Connection, decisions: Iterable[DecisionRow]) -> None:
    """Add the versions of tests that these decisions declare."""
    connection.cursor().executemany(
        """INSERT INTO adaptive_test
             (test_id, scale_id, policy, undoes, effective_from, decided_by, reason, decided_at, decision_id)
           VALUES (%s, %s, %s, (SELECT version FROM adaptive_test WHERE decision_id = %s), %s, %s, %s, %s, %s)""",
        [
            (
                *(each.subject, each.scale_id, each.value["policy"] and Jsonb(each.value["policy"]), each.undoes),
                *(each.effective_from or each.decided_at, each.decided_by, each.reason, each.decided_at),
                each.decision_id,
            )
            for each in decisions
        ],
    )
