"""Read and write the verdict on a month of a scale: the results of its set gates, and its publication step.

A row of `month_verdict` is written by whoever judges: the checks of an asset, the publication step, and whoever judges
months again. `gates.month_status` derives the state of a month from the row and from later changes.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import psycopg
from pydantic_core import to_json

from irt_assets.ledger.steps import Step
from resources.postgres.database import first_column, named_rows


@dataclass(frozen=True, kw_only=True)
class GateVerdict:
    """The result of a set gate for a month of a scale.

    Attributes:
        asset: the asset that the gate checks.
        passed, why, details: the result, the reason, and the numbers behind it.
        fit_id: the attempt at a fit that was judged, or None without one.
        rules: the rules of the scale that the gate reads, as they were; absent rules had their defaults.
    """

    asset: str
    passed: bool
    why: str
    details: dict[str, Any] = field(default_factory=dict)
    fit_id: str | None = None
    rules: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MonthVerdict:
    """A row of `month_verdict`.

    Attributes:
        gates: the results by gate; empty if an earlier release took the step, which kept none.
        step: the publication step, or None if it has not run.
    """

    gates: dict[str, GateVerdict]
    step: Step | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        step = Step(**{name: row[name] for name in Step.__dataclass_fields__}) if row["state"] else None
        gates = {name: GateVerdict(**stored) for name, stored in (row["gates"] or {}).items()}
        return cls(gates, step)


NOTHING_JUDGED = MonthVerdict({}, None)


def read_verdicts(connection: psycopg.Connection, months: Collection[str]) -> dict[tuple[str, str], MonthVerdict]:
    """Read the verdict on each of the months on each scale, by month and scale, without the numbers of gates."""
    rows = named_rows(
        connection,
        """SELECT month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why, settled_at,
                  stepped_at,
                  (SELECT jsonb_object_agg(key, value - 'details') FROM jsonb_each(gates)) AS gates
           FROM month_verdict v WHERE month = ANY(%s)""",
        ([*months],),
    )
    return {(row["month"], row["scale_id"]): MonthVerdict.from_row(row) for row in rows}


def read_verdict(connection: psycopg.Connection, month: str, scale_id: str) -> MonthVerdict:
    """Read the verdict on the month of the scale, without the numbers of gates."""
    return read_verdicts(connection, [month]).get((month, scale_id), NOTHING_JUDGED)


def judged_months(connection: psycopg.Connection, scale_id: str) -> list[str]:
    """The months of the scale of which anything was judged, in order."""
    return first_column(connection, "SELECT month FROM month_verdict WHERE scale_id = %s ORDER BY 1", (scale_id,))


def write_gates(
    connection: psycopg.Connection,
    month: str,
    scale_id: str,
    snapshot_hash: str | None,
    gates: Mapping[str, GateVerdict],
) -> None:
    """Store the results of some gates in the caller's transaction, and keep the month's other results and its step."""
    stored = {name: asdict(verdict) for name, verdict in gates.items()}
    connection.execute(
        """INSERT INTO month_verdict AS kept (month, scale_id, snapshot_hash, gates, stepped_at)
           VALUES (%s, %s, %s, %s, NULL)
           ON CONFLICT (month, scale_id) DO UPDATE SET
             snapshot_hash = excluded.snapshot_hash, gates = coalesce(kept.gates, '{}') || excluded.gates""",
        (month, scale_id, snapshot_hash, to_json(stored, inf_nan_mode="null", fallback=np.generic.item).decode()),
    )
