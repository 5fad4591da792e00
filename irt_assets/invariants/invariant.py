"""Invariants: their definition, the data they may read, and their results.

An invariant is a function of an `InvariantContext` that yields every violation, and everything that it could not test.
Its name states what must be true.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.gates.month_classification import MonthState
from irt_assets.invariants.open_violations import SEVERITY
from irt_assets.ledger.steps import steps
from irt_assets.scales.scale import Scale, read_scales
from resources.alerts.outbox import Severity
from resources.failures import is_transient
from resources.files.object_store import ObjectStore


@dataclass(frozen=True)
class Violation:
    """One subject that violates the invariant; `partition` is the month, week or day concerned, if any."""

    subject: str
    observed: str
    expected: str
    partition: str = ""


@dataclass(frozen=True)
class NotTested:
    """Something that could not be tested, and why.

    It covers the subjects that begin with `subject` (empty: all) in `partition` (empty: every partition).
    """

    why: str
    partition: str = ""
    subject: str = ""

    def covers(self, partition: str, subject: str) -> bool:
        return self.partition in ("", partition) and subject.startswith(self.subject)


def no_finished_month(scale_id: str, subject: str) -> NotTested:
    return NotTested(f"no month of scale {scale_id} has completed its publication step yet", subject=subject)


@dataclass(frozen=True)
class InvariantContext:
    """The data that invariants may read: the database, the store, the states of the months.

    Invariants that read no files share one transaction, and so one state of the database. Their temporary tables are
    rolled back. For the others each query is a transaction of its own, and read-only. `made`: time at which the assets
    that follow a month were last materialised, by asset and month.
    """

    connection: psycopg.Connection
    store: ObjectStore
    now: datetime
    states: Sequence[MonthState]
    made: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)

    @cached_property
    def scales(self) -> Mapping[str, Scale]:
        return read_scales(self.connection)

    @cached_property
    def finished_months(self) -> Mapping[str, list[str]]:
        """The months of each scale whose publication step is done, oldest first."""
        return {
            scale_id: sorted(month for month, step in steps(self.connection, scale_id).items() if step.state == "done")
            for scale_id in self.scales
        }

    def window(self, month: str) -> dict[str, datetime]:
        """Start and end of a month, as the parameters of a query."""
        start, end = Month(month).bounds
        return {"start": start, "end": end}


Findings = Iterable[Violation | NotTested]


@dataclass(frozen=True)
class Invariant:
    """A statement that must be true of the stored data.

    Attributes:
        kind: kind of its subjects, such as items.
        protects: the purpose, in a sentence.
        fix: how to fix a violation, in a sentence.
        note: the exact test, if the statement does not make it clear.
        alerted_by_checks: whether checks of the same partition alert about it, too. It then opens no alert of its own
            while theirs is open.
        reads_files: whether it reads the object store, which may take hours. No transaction is open meanwhile.
    """

    find: Callable[[InvariantContext], Findings]
    severity: Severity
    kind: str
    protects: str
    fix: str
    alerted_by_checks: bool = False
    note: str = ""
    reads_files: bool = False

    @property
    def name(self) -> str:
        return self.find.__name__

    @property
    def truth(self) -> str:
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class InvariantResult:
    """The outcome of one invariant. `crashed`: why it could not be evaluated; empty if it could."""

    invariant: Invariant
    violations: tuple[Violation, ...] = ()
    not_tested: tuple[NotTested, ...] = ()
    crashed: str = ""

    @property
    def passed(self) -> bool:
        return not self.violations and not self.crashed


def invariant(
    *,
    kind: str,
    protects: str,
    fix: str,
    alerted_by_checks: bool = False,
    note: str = "",
    reads_files: bool = False,
) -> Callable[[Callable[[InvariantContext], Findings]], Invariant]:
    """Decorator that makes an invariant from the function that finds its violations. `SEVERITY` must contain its
    name."""
    return lambda find: Invariant(
        find, SEVERITY[find.__name__], kind, protects, fix, alerted_by_checks, note, reads_files
    )


def evaluate(context: InvariantContext, invariants: Iterable[Invariant]) -> list[InvariantResult]:
    """The verdicts of the invariants. One that crashes does not stop the others. Raises transient errors."""
    verdicts = []
    for invariant in invariants:
        try:
            with (
                nullcontext() if context.connection.autocommit else context.connection.transaction(force_rollback=True)
            ):
                found = list(invariant.find(context))
        except Exception as error:
            if is_transient(error):
                raise
            verdicts.append(InvariantResult(invariant, crashed=f"{type(error).__name__}: {error}"))
            continue
        violations = tuple(v for v in found if isinstance(v, Violation))
        verdicts.append(InvariantResult(invariant, violations, tuple(n for n in found if isinstance(n, NotTested))))
    return verdicts
