"""What an invariant is, what it reads, and what it may find.

An invariant is a function of an `InvariantContext` that yields every violation, and what it could not test. Its name
states what must be true. What does not belong here: the invariants themselves, and what becomes of a violation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.gates.month_judged import MonthState
from irt_assets.invariants.open_violations import SEVERITY
from irt_assets.ledger.steps import steps
from irt_assets.responses.scales import Scale, read_scales
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
    """What could not be tested, and why: a partition, and the subjects that begin with `subject` (empty: all)."""

    why: str
    partition: str = ""
    subject: str = ""

    def covers(self, partition: str, subject: str) -> bool:
        return self.partition in ("", partition) and subject.startswith(self.subject)


def no_month_yet(scale_id: str, subject: str) -> NotTested:
    return NotTested(f"no month of scale {scale_id} has been taken to the ledger yet", subject=subject)


@dataclass(frozen=True)
class InvariantContext:
    """What invariants may read: the database, the store, the months' states. Those that read no files see one state of
    the database, through one read-only transaction; to the others each query is a transaction of its own.

    `made`: when the assets that follow a month were last made, by asset and month.
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
    def settled(self) -> Mapping[str, list[str]]:
        """By scale, the months that publication has handled, oldest first."""
        return {
            scale_id: sorted(month for month, step in steps(self.connection, scale_id).items() if step.state == "done")
            for scale_id in self.scales
        }

    def window(self, month: str) -> dict[str, datetime]:
        """Start and end of a month, as the parameters of a query."""
        start, end = Month(month).bounds
        return {"start": start, "end": end}


Found = Iterable[Violation | NotTested]


@dataclass(frozen=True)
class Invariant:
    """A statement, what it protects and how to fix a violation, each in a sentence; `kind` is what its subjects are.

    `note`: what is judged and what is not, where that is not plain.
    `alerted_by_checks`: the checks of the same partition alert about it already, so that it needs no alert of its own
    while theirs is open. `reads_files`: it reads the object store, which may take hours: no transaction is open
    meanwhile.
    """

    find: Callable[[InvariantContext], Found]
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
class Verdict:
    """The outcome of one invariant; `crashed`: why it could not be evaluated, if so."""

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
) -> Callable[[Callable[[InvariantContext], Found]], Invariant]:
    """Make an invariant of the function that finds its violations; `SEVERITY` has its name."""
    return lambda find: Invariant(
        find, SEVERITY[find.__name__], kind, protects, fix, alerted_by_checks, note, reads_files
    )


def evaluate(look: InvariantContext, invariants: Iterable[Invariant]) -> list[Verdict]:
    """Every invariant's verdict. One that crashes does not stop the others; transient errors are raised."""
    verdicts = []
    for one in invariants:
        try:
            with nullcontext() if look.connection.autocommit else look.connection.transaction():
                found = list(one.find(look))
        except Exception as error:
            if is_transient(error):
                raise
            verdicts.append(Verdict(one, crashed=f"{type(error).__name__}: {error}"))
            continue
        violations = tuple(v for v in found if isinstance(v, Violation))
        verdicts.append(Verdict(one, violations, tuple(n for n in found if isinstance(n, NotTested))))
    return verdicts
