"""Judge months by set gates, and keep the results in the ledger, where `month_status` reads them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import psycopg

from irt_assets.gates.evidence import Evidence, load_evidence
from irt_assets.gates.gates import SET_GATES, SetGate, judge_gates
from irt_assets.ledger.month_verdicts import GateVerdict, read_verdict, write_gates
from irt_assets.responses.closed_months import scales_of_month
from resources.postgres.database import advisory_lock


@dataclass(frozen=True)
class ChangedVerdict:
    """A set gate whose result for a month of a scale is no longer the stored one."""

    month: str
    scale_id: str
    gate: str
    passed: bool
    why: str


def judge_and_store(
    connection: psycopg.Connection, evidence: Evidence, gates: Collection[SetGate] = SET_GATES
) -> dict[str, GateVerdict]:
    """Judge a month of a scale by some gates, and store the results in the caller's transaction."""
    verdicts = judge_gates(evidence, gates)
    snapshot_hash = evidence.snapshot.snapshot_hash if evidence.snapshot else None
    write_gates(connection, evidence.month, evidence.scale.scale_id, snapshot_hash, verdicts)
    return verdicts


def judge_again(
    connection: psycopg.Connection, gates: Collection[SetGate], scale_id: str, months: Collection[str]
) -> Iterator[ChangedVerdict]:
    """Judge months of a scale again by the gates that were judged before, and store the results.

    Yields each result that has changed.
    """
    advisory_lock(connection, "ledger", scale_id)
    for month in months:
        evidence = load_evidence(connection, month, scales_of_month(connection, month)[scale_id])
        before = read_verdict(connection, month, scale_id).gates
        judged = [gate for gate in gates if gate.name in before]
        yield from changed_verdicts(evidence, before, judge_and_store(connection, evidence, judged))


def changed_verdicts(
    evidence: Evidence, before: Mapping[str, GateVerdict], now: Mapping[str, GateVerdict]
) -> Iterator[ChangedVerdict]:
    """Yield each result of a gate that passed `before` and fails now, or the other way round."""
    for name, verdict in now.items():
        if verdict.passed != before[name].passed:
            yield ChangedVerdict(evidence.month, evidence.scale.scale_id, name, verdict.passed, verdict.why)
