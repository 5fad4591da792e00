"""Judge months by set gates, and keep the results in the ledger, where `month_status` reads them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import psycopg

from irt_assets.gates.evidence import Evidence, load_evidence
from irt_assets.gates.gates import SET_GATES, SetGate, judge_gates
from irt_assets.ledger.month_verdicts import GateVerdict, read_verdict, write_gates
from irt_assets.responses.closed_months import scales_of_month
from resources.postgres.database import advisory_lock


@dataclass(frozen=True)
class ChangedVerdict:
    """A set gate whose result for a month is no longer the stored one."""

    month: str
    gate: str
    passed: bool
    why: str


@dataclass(frozen=True)
class SecondVerdict:
    """The results of some set gates for a month of a scale, as stored `before` and as judged `now`."""

    evidence: Evidence
    before: Mapping[str, GateVerdict]
    now: Mapping[str, GateVerdict]

    @property
    def changes(self) -> list[ChangedVerdict]:
        """The gates that passed before and fail now, or the other way round."""
        return [
            ChangedVerdict(self.evidence.month, name, verdict.passed, verdict.why)
            for name, verdict in self.now.items()
            if verdict.passed != self.before[name].passed
        ]


def judge_and_store(
    connection: psycopg.Connection, evidence: Evidence, gates: Collection[SetGate] = SET_GATES
) -> dict[str, GateVerdict]:
    """Judge a month of a scale by some gates, and store the results in the caller's transaction."""
    verdicts = judge_gates(evidence, gates)
    _store(connection, evidence, verdicts)
    return verdicts


def _store(connection: psycopg.Connection, evidence: Evidence, verdicts: Mapping[str, GateVerdict]) -> None:
    snapshot_hash = evidence.snapshot.snapshot_hash if evidence.snapshot else None
    write_gates(connection, evidence.month, evidence.scale.scale_id, snapshot_hash, verdicts)


def judge_second_time(
    connection: psycopg.Connection, gates: Iterable[SetGate], month: str, scale_id: str
) -> SecondVerdict:
    """Judge a month of a scale by the gates that were judged before. The month's file is not read."""
    before = read_verdict(connection, month, scale_id).gates
    evidence = load_evidence(connection, month, scales_of_month(connection, month)[scale_id])
    return SecondVerdict(evidence, before, judge_gates(evidence, [gate for gate in gates if gate.name in before]))


def judge_again(
    connection: psycopg.Connection, gates: Collection[SetGate], scale_id: str, months: Iterable[str]
) -> Iterator[ChangedVerdict]:
    """Judge months of a scale again, and store the results. Yields each result that has changed."""
    advisory_lock(connection, "ledger", scale_id)
    for month in months:
        found = judge_second_time(connection, gates, month, scale_id)
        _store(connection, found.evidence, found.now)
        yield from found.changes
