"""Read and write the publication steps of months, in the rows of `month_verdict`."""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, LiteralString

import psycopg

from resources.postgres.database import first_column, one_value, records

StepState = Literal["done", "pending", "held"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """State of the publication of a month of a scale, stored in its row of `month_verdict`."""

    month: str
    scale_id: str
    fit_id: str | None
    state: StepState
    n_published: int = 0
    n_proposed: int = 0
    n_held: int = 0
    held: dict[str, list[str]] = field(default_factory=dict)
    why: str = ""
    settled_at: datetime | None = None
    stepped_at: datetime | None = None


def steps(connection: psycopg.Connection, scale_id: str) -> dict[str, Step]:
    """All steps of a scale, by month."""
    return {step.month: step for step in _read_steps(connection, "scale_id = %s", (scale_id,))}


def step_of(connection: psycopg.Connection, scale_id: str, month: str) -> Step | None:
    """The step of a month on a scale, or None."""
    found = _read_steps(connection, "scale_id = %s AND month = %s", (scale_id, month))
    return found[0] if found else None


def steps_of_month(connection: psycopg.Connection, month: str) -> list[Step]:
    """The steps of a month on all scales."""
    return _read_steps(connection, "month = %s", (month,))


def pending_steps(connection: psycopg.Connection) -> list[Step]:
    """Steps, on any scale, that wait for an earlier month."""
    return _read_steps(connection, "state = 'pending'", ())


def last_step_that_held(connection: psycopg.Connection, scale_id: str, item_id: str) -> Step | None:
    """The step of the newest month of a scale that held the item back."""
    found = _read_steps(connection, "scale_id = %s AND held ? %s", (scale_id, item_id))
    return found[-1] if found else None


def items_held_before(connection: psycopg.Connection, scale_id: str, month: str) -> dict[str, str]:
    """Items that the last done month before `month` held back, each with that earlier month."""
    row = connection.execute(
        """SELECT month, held FROM month_verdict
           WHERE scale_id = %s AND month < %s AND state = 'done' ORDER BY month DESC LIMIT 1""",
        (scale_id, month),
    ).fetchone()
    return {item: str(row[0]) for item in row[1]} if row else {}


def _read_steps(connection: psycopg.Connection, condition: LiteralString, values: tuple[str, ...]) -> list[Step]:
    """The steps that satisfy the condition, ordered by month and scale."""
    return records(
        connection,
        Step,
        """SELECT month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why, settled_at, stepped_at
               FROM month_verdict WHERE state IS NOT NULL AND """
        + condition
        + " ORDER BY month, scale_id",
        values,
    )


def stepped_months(connection: psycopg.Connection, scale_id: str | None = None) -> list[str]:
    """Months with a step on the scale (None: on any scale), newest first."""
    return first_column(
        connection,
        """SELECT DISTINCT month FROM month_verdict
           WHERE state IS NOT NULL AND (%(scale)s::text IS NULL OR scale_id = %(scale)s) ORDER BY 1 DESC""",
        {"scale": scale_id},
    )


def held_months(connection: psycopg.Connection) -> list[tuple[str, str]]:
    """Months and scales that are held because a gate failed, newest first."""
    return connection.execute(
        "SELECT month, scale_id FROM month_verdict WHERE state = 'held' ORDER BY month DESC, scale_id"
    ).fetchall()


def done_months(connection: psycopg.Connection) -> set[str]:
    """Months whose publication step is done on at least one scale."""
    return {month for (month,) in connection.execute("SELECT DISTINCT month FROM month_verdict WHERE state = 'done'")}


def last_done_month(connection: psycopg.Connection, scale_id: str) -> str | None:
    """The newest month of a scale whose publication step is done, or None."""
    return one_value(
        connection, "SELECT max(month) FROM month_verdict WHERE scale_id = %s AND state = 'done'", (scale_id,)
    )


def unannounced_steps(connection: psycopg.Connection, since: datetime, runs: str) -> dict[tuple[str, str], bool]:
    """Steps done after `since` that have not been announced, by month and scale; the value is whether the month has
    steps on other scales.

    An announcement no longer counts if the month was held after it and the step was done after it, or if an alert on a
    run of the month, whose key begins with `runs`, was opened after it. (A month can be held on another scale only.)
    """
    rows = connection.execute(
        """SELECT s.month, s.scale_id,
                  (SELECT count(*) FROM month_verdict o WHERE o.month = s.month AND o.state IS NOT NULL) > 1
           FROM month_verdict s
           WHERE s.state = 'done' AND s.stepped_at > %(since)s AND NOT EXISTS (
             SELECT FROM alert announced
             WHERE announced.key = 'ready ' || s.month || ' ' || s.scale_id AND NOT EXISTS (
               SELECT FROM alert red
               WHERE red.partition = s.month AND red.opened_at > announced.opened_at
                 AND ((red.key = 'held ' || s.month AND s.stepped_at > announced.opened_at)
                      OR starts_with(red.key, %(runs)s))))
           ORDER BY 1, 2""",
        {"since": since, "runs": runs},
    )
    return {(month, scale_id): is_one_of_several for month, scale_id, is_one_of_several in rows}


def write_step(connection: psycopg.Connection, step: Step, run_id: str | None) -> None:
    """Write a month's step in place of its earlier one."""
    connection.execute(
        """INSERT INTO month_verdict
             (month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why, settled_at, run_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (month, scale_id) DO UPDATE SET
             fit_id = excluded.fit_id, state = excluded.state, n_published = excluded.n_published,
             n_proposed = excluded.n_proposed, n_held = excluded.n_held, held = excluded.held, why = excluded.why,
             settled_at = excluded.settled_at, run_id = excluded.run_id, stepped_at = now()""",
        (step.month, step.scale_id, step.fit_id, step.state, step.n_published, step.n_proposed, step.n_held)
        + (json.dumps(step.held), step.why, step.settled_at, run_id),
    )


def months_stepped_since(connection: psycopg.Connection, at: datetime) -> list[str]:
    """List the months of which a run, also a repeated one, wrote a step after `at`, oldest first."""
    return first_column(connection, "SELECT DISTINCT month FROM month_verdict WHERE stepped_at > %s ORDER BY 1", (at,))
