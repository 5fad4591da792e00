"""Decide on the policy of an adaptive test. A session keeps the version that was in force when it began."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
from pydantic import BaseModel

from irt_assets.adaptive.changes import preview_policy
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.versions import add_versions, read_versions
from irt_assets.ledger.decision_rows import (
    DecisionRow,
    Entry,
    Kind,
    Plan,
    no_effects,
    read_decisions,
    standing_decisions,
)
from irt_assets.ledger.publications import newest_publication
from resources.failures import PermanentFailure
from resources.postgres.form_names import lock_form_names, require_free_names


class PolicyValue(BaseModel):
    """Value of a decision on a test: the policy, or null if the test is not offered any more."""

    policy: Policy | None


@dataclass(frozen=True)
class PolicyRequest:
    """Request to give sessions of a test a policy if they begin at `since` (None: now) or later.

    Attributes:
        policy: None: the test is not offered any more.
    """

    test_id: str
    scale_id: str
    policy: Policy | None
    since: datetime | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def of(cls, policy: Policy, since: datetime | None = None) -> "PolicyRequest":
        return cls(policy.test, policy.scale, policy, since)


class SetPolicy(Kind):
    """Declare an adaptive test, change its policy, or end it, by a `PolicyRequest`."""

    name = "set the policy of a test"
    value = PolicyValue
    subject = "test"

    def plan(self, connection: psycopg.Connection, request: PolicyRequest) -> Plan:
        """Plan the new version. Raises PermanentFailure if the test has another scale, or if a form has its name."""
        test, policy, since = request.test_id, request.policy, request.since or request.now
        require_free_names(connection, [test], "test")
        former = read_versions(connection, test)
        if former and former[-1].scale_id != request.scale_id:
            raise PermanentFailure(f"test {test} is of scale {former[-1].scale_id}; give the new test its own name")
        newest = f"version {former[-1].version} by {former[-1].decided_by}" if former else "no version"
        published = f"publication {newest_publication(connection, request.scale_id, since) or 0}"
        return Plan(
            entries=[Entry(request.scale_id, PolicyValue(policy=policy), test, effective_from=request.since)],
            sentences=[] if policy else [f"test {test} is not offered any more"],
            basis={f"the policy of test {test}": newest, f"the published set of scale {request.scale_id}": published},
            effects=(lambda connection: preview_policy(connection, policy, since)) if policy else no_effects,
        )

    def lock(self, connection: psycopg.Connection, _plan: Plan) -> None:
        lock_form_names(connection)

    def apply(self, connection: psycopg.Connection, decisions: Sequence[DecisionRow]) -> None:
        add_versions(connection, decisions)

    def inverse(self, connection: psycopg.Connection, decision: DecisionRow) -> tuple[str, PolicyRequest]:
        """Return the request to set the former policy, from now on."""
        decisions = read_decisions(connection, kinds=[self.name], scale_id=decision.scale_id, subject=decision.subject)
        before = [each for each in standing_decisions(decisions) if each.decision_id < decision.decision_id]
        policy = PolicyValue.model_validate(before[-1].value).policy if before else None
        return self.name, PolicyRequest(decision.subject, decision.scale_id, policy)


SET_POLICY = SetPolicy()


def last_decision_on(connection: psycopg.Connection, test_id: str) -> int:
    """Find the number of the last decision on a test that stands. Raises PermanentFailure if all are undone."""
    decisions = read_decisions(connection, kinds=[SetPolicy.name], subject=test_id)
    if standing := standing_decisions(decisions):
        return standing[-1].decision_id
    raise PermanentFailure(f"no decision on test {test_id} is in force: there is nothing to undo")
