"""The daily evaluation of every invariant: store the results, open and resolve violations and their alerts.

A violation that persists is one row, from the run that opened it until it is gone. A violation whose invariant could
not be tested stays open.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg
import psycopg

from irt_assets.common.job_names import INVARIANT_REPORT
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.common.run_progress import last_materializations
from irt_assets.gates.month_classification import MonthState
from irt_assets.gates.month_status import month_states
from irt_assets.invariants.drift import ANALYSES
from irt_assets.invariants.invariant import Invariant, InvariantContext, InvariantResult, evaluate
from irt_assets.invariants.registry import INVARIANTS
from resources.alerts.outbox import Alert, open_alert, open_keys, resolve_alert
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database, advisory_lock, one_value


@dataclass(frozen=True)
class Report:
    """The results of one evaluation."""

    evaluated_at: datetime
    verdicts: tuple[InvariantResult, ...]

    @property
    def incomplete(self) -> list[tuple[str, str]]:
        """Everything that could not be tested: pairs of invariant and reason."""
        crashed = [(v.invariant.name, f"it could not be evaluated: {v.crashed}") for v in self.verdicts if v.crashed]
        return crashed + [(v.invariant.name, n.why) for v in self.verdicts for n in v.not_tested]

    @property
    def crashed_results(self) -> list[InvariantResult]:
        return [verdict for verdict in self.verdicts if verdict.crashed]

    def violated_invariants(self, severity: str) -> list[InvariantResult]:
        return [v for v in self.verdicts if v.violations and v.invariant.severity == severity]

    @property
    def sentence(self) -> str:
        held = sum(verdict.passed and not verdict.not_tested for verdict in self.verdicts)
        errors, warnings = len(self.violated_invariants("error")), len(self.violated_invariants("warning"))
        summary = f"{held} of {len(self.verdicts)} invariants hold; {errors} violated, {warnings} with a warning"
        return f"incomplete ({len(self.incomplete)} things not tested): {summary}" if self.incomplete else summary


def make_report(
    database: Database, store: ObjectStore, instance: dg.DagsterInstance, *, first_month: str, run: str
) -> Report:
    """Evaluate every invariant, and then store the results under the name `run`."""
    now = datetime.now(UTC)
    months = list(months_between(first_month, last_complete_month(now)))
    made = {asset: last_materializations(instance, dg.AssetKey(asset)) for asset in ANALYSES}
    report = evaluate_all(database, store, month_states(database, instance, months), now, made)
    database.call(store_results, run, report)
    return report


def evaluate_all(
    database: Database,
    store: ObjectStore,
    states: Sequence[MonthState],
    now: datetime,
    made: Mapping[str, Mapping[str, datetime]],
    invariants: Iterable[Invariant] = INVARIANTS,
) -> Report:
    """Evaluate the invariants, and change nothing. The verdicts have the order of `invariants`.

    Invariants that read no files share one transaction, and so one state of the database. Invariants that read files
    take long, and a long transaction would keep the database from vacuuming. Each of their queries is a transaction of
    its own.
    """
    wanted, verdicts = list(invariants), list[InvariantResult]()
    for reads_files in (False, True):
        with database.connect() as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = reads_files  # the others are rolled back, because one fills temporary tables
            connection.autocommit = reads_files
            context = InvariantContext(connection, store, now, states, made)
            verdicts += evaluate(context, [invariant for invariant in wanted if invariant.reads_files is reads_files])
    return Report(now, tuple(sorted(verdicts, key=lambda verdict: wanted.index(verdict.invariant))))


def store_results(connection: psycopg.Connection, run: str, report: Report) -> None:
    """Store the verdicts, open new violations, close violations that are gone, and send missing alerts."""
    advisory_lock(connection, "invariants")
    for verdict in report.verdicts:
        _store_verdict(connection, run, verdict)
        _store_violations(connection, run, verdict)
        _alert(connection, verdict.invariant)


def _store_verdict(connection: psycopg.Connection, run: str, verdict: InvariantResult) -> None:
    observed = f"it could not be evaluated: {verdict.crashed}" if verdict.crashed else None
    if verdict.violations:
        observed = f"{len(verdict.violations)} violations"
    not_tested = "; ".join(dict.fromkeys(n.why for n in verdict.not_tested)) or None
    connection.execute(
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed, not_tested, observed)
           VALUES (%s, %s, '', '', %s, %s, %s)
           ON CONFLICT (run, invariant, partition, subject) DO UPDATE
           SET passed = excluded.passed, not_tested = excluded.not_tested, observed = excluded.observed""",
        (run, verdict.invariant.name, verdict.passed, not_tested, observed),
    )


def _store_violations(connection: psycopg.Connection, run: str, verdict: InvariantResult) -> None:
    name = verdict.invariant.name
    connection.cursor().executemany(
        """INSERT INTO invariant_result (run, invariant, partition, subject, passed, observed, expected, fix)
               VALUES (%s, %s, %s, %s, false, %s, %s, %s)
               ON CONFLICT (invariant, partition, subject)
                 WHERE NOT passed AND subject <> '' AND resolved_at IS NULL
               DO UPDATE SET observed = excluded.observed, expected = excluded.expected""",
        [
            (run, name, v.partition, v.subject, v.observed, v.expected, verdict.invariant.fix)
            for v in verdict.violations
        ],
    )
    if verdict.crashed:
        return
    present = {(v.partition, v.subject) for v in verdict.violations}
    closed = [
        (name, partition, subject)
        for partition, subject in _open_violations(connection, name)
        if (partition, subject) not in present and not any(n.covers(partition, subject) for n in verdict.not_tested)
    ]
    connection.cursor().executemany(
        """UPDATE invariant_result SET resolved_at = now()
               WHERE (invariant, partition, subject) = (%s, %s, %s) AND NOT passed AND resolved_at IS NULL""",
        closed,
    )


def _alert(connection: psycopg.Connection, invariant: Invariant) -> None:
    """Open one alert per partition for the violations that no open alert covers. Resolve alerts whose violations are
    all gone."""
    violated: dict[str, dict[str, str]] = defaultdict(dict)
    for (partition, subject), observed in _open_violations(connection, invariant.name).items():
        violated[partition][subject] = observed
    prefix = f"invariant {invariant.name} "
    alerted: dict[str, set[str]] = defaultdict(set)
    for key, subjects in open_keys(connection, prefix).items():
        partition = key.removeprefix(prefix).partition("|")[0]
        if violated[partition].keys().isdisjoint(subjects):
            resolve_alert(connection, key)
        else:
            alerted[partition] |= set(subjects)
    for partition, observed_of in violated.items():
        not_alerted = sorted(observed_of.keys() - alerted[partition])
        if not not_alerted or (invariant.alerted_by_checks and _alerted_by_checks(connection, partition)):
            continue
        observed = observed_of[not_alerted[0]]
        # The text goes to chats, where ALERT_LEARNERS decides whether `subjects` are named.
        example = observed if invariant.kind == "learners" else f"{not_alerted[0]}: {observed}"
        open_alert(
            connection,
            Alert(
                key=f"{prefix}{partition}|{not_alerted[0]}",
                severity=invariant.severity,
                what=f"invariant violated: {invariant.truth}. Example: {example}",
                fix=invariant.fix,
                partition=partition,
                kind=invariant.kind,
                subjects=tuple(not_alerted),
                link=f"/assets/{INVARIANT_REPORT}?view=checks&checkDetail={invariant.name}",
            ),
        )


def _open_violations(connection: psycopg.Connection, name: str) -> dict[tuple[str, str], str]:
    """The observed values of an invariant's open violations, by partition and subject."""
    rows = connection.execute(
        """SELECT partition, subject, observed FROM invariant_result
           WHERE invariant = %s AND NOT passed AND subject <> '' AND resolved_at IS NULL""",
        (name,),
    ).fetchall()
    return {(partition, subject): observed for partition, subject, observed in rows}


def resolve_alerts_of_checks(connection: psycopg.Connection, partition: str) -> int:
    """Resolve the partition's alerts for invariants that its checks also alert about. Returns their number."""
    names = [invariant.name for invariant in INVARIANTS if invariant.alerted_by_checks]
    keys = [key for name in names for key in open_keys(connection, f"invariant {name} {partition}|")]
    return sum(resolve_alert(connection, key) for key in keys)


def _alerted_by_checks(connection: psycopg.Connection, partition: str) -> bool:
    return bool(
        one_value(
            connection,
            """SELECT 1 FROM alert WHERE resolved_at IS NULL AND partition = %s
                 AND (starts_with(key, 'check') OR starts_with(key, 'run ') OR starts_with(key, 'held ')) LIMIT 1""",
            (partition,),
        )
    )
