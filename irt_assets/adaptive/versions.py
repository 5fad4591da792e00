"""Decide on the policy of an adaptive test, and read the versions in force. Rows are only ever added.

A session keeps the version that was in force when it began.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg.types.json import Jsonb

from irt_assets.adaptive.policy import Policy
from irt_assets.scales.scale_decisions import require_text, standing_decisions
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, one_value, records
from resources.postgres.form_names import lock_form_names, require_free_names


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


def set_policy(
    database: Database, policy: Policy, *, by: str, reason: str, effective_from: datetime | None = None
) -> int:
    """Store a new version of a test, by default in force from now on. Returns its number.

    Raises PermanentFailure if the test has another scale, if a form has its name, or without a person or a reason.
    """
    with database.connect() as connection, connection.transaction():
        advisory_lock(connection, "adaptive_test", policy.test)
        lock_form_names(connection)
        require_free_names(connection, [policy.test], "test")
        former = read_versions(connection, policy.test)
        if former and former[-1].scale_id != policy.scale:
            raise PermanentFailure(
                f"test {policy.test} is of scale {former[-1].scale_id}; give the new test its own name"
            )
        stored = policy.model_dump(mode="json")
        return _store(connection, policy.test, policy.scale, stored, None, effective_from, by, reason)


def undo_version(database: Database, test_id: str, *, by: str, reason: str) -> int:
    """Restore the version before the last decision that stands, from now on. Returns the number of the new version.

    After the first version is undone, the test is not offered.
    """
    with database.connect() as connection, connection.transaction():
        advisory_lock(connection, "adaptive_test", test_id)
        versions = read_versions(connection, test_id)
        decisions = [vars(each) | {"decision_id": each.version} for each in versions]
        *before, last = standing_decisions(decisions, f"decision on test {test_id}")
        former = before[-1]["stored"] if before else None
        return _store(connection, test_id, last["scale_id"], former, last["version"], None, by, reason)


def _store(
    connection: psycopg.Connection,
    test_id: str,
    scale_id: str,
    policy: Mapping[str, object] | None,
    undoes: int | None,
    effective_from: datetime | None,
    by: str,
    reason: str,
) -> int:
    return one_value(
        connection,
        """INSERT INTO adaptive_test (test_id, scale_id, policy, undoes, effective_from, decided_by, reason)
           VALUES (%s, %s, %s, %s, coalesce(%s, now()), %s, %s) RETURNING version""",
        (
            *(test_id, scale_id, policy and Jsonb(policy), undoes, effective_from),
            *(require_text("person", by), require_text("reason", reason)),
        ),
    )
