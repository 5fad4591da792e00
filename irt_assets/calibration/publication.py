"""The ledger of published parameters, written in month order.

`publish_ready_months` walks a scale's months in order and publishes every one that passes its set gates and before
which no month is running, queued or still to come. So the first backfill of a year leaves the same
ledger in whatever order its runs finish. What does not belong here: a person's decisions.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, LiteralString

import psycopg
from psycopg.rows import class_row, dict_row

from irt_assets.calibration import gates
from irt_assets.calibration.evidence import Evidence, MonthFile, load_evidence
from irt_assets.calibration.fits import LinkedFit
from irt_assets.calibration.testlets import InTestlets, effects_in_force, publish
from irt_assets.partitions import month_bounds
from irt_assets.responses.item_status import Withdrawals, read_withdrawals
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.wording import counted
from resources.database import advisory_lock
from resources.version import code_version

StepState = Literal["done", "pending", "held"]
Measure = Callable[[psycopg.Connection, Scale, str, LinkedFit], LinkedFit]
"""A function like `month_impact.with_impact`, which reads what this module writes."""


@dataclass(frozen=True)
class Step:
    """How far publication has come with a month of a scale; a row of `publication_step`."""

    month: str
    scale_id: str
    fit_id: str | None
    state: StepState
    n_published: int
    n_proposed: int
    n_held: int
    held: dict[str, list[str]]
    why: str
    settled_at: datetime | None
    stepped_at: datetime | None = None


@dataclass(frozen=True)
class PublishedSet:
    """The parameters in force on a scale at a time: item id → (a, b, c); which answers to them do not count; and what
    answers in one testlet have in common, None where that is not known."""

    items: dict[str, tuple[float, float, float]]
    set_hash: str
    withdrawn: Withdrawals = field(default_factory=Withdrawals)
    testlets: InTestlets | None = None


def in_force(connection: psycopg.Connection, scale_id: str, at: datetime) -> PublishedSet:
    """The published set in force at `at`: of each item the last publication with effective_from ≤ at.

    Where no SD of testlet effects is in force the hash is of the parameters alone.
    """
    content = [
        (row["item_id"], row["a"], row["b"], row["c"]) for row in publications_in_force(connection, scale_id, at)
    ]
    items = {item: (a, b, c) for item, a, b, c in content}
    testlets = effects_in_force(connection, scale_id, at, items)
    hashed: Any = content if testlets is None else [content, testlets.sd, testlets.of]
    digest = hashlib.sha256(json.dumps(hashed).encode()).hexdigest()
    return PublishedSet(items, digest, read_withdrawals(connection), testlets)


def publications_in_force(connection: psycopg.Connection, scale_id: str, at: datetime) -> list[dict[str, Any]]:
    """The last publication of each item with effective_from ≤ at, in order: values, errors, where from, since when."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(
            """SELECT DISTINCT ON (item_id) item_id, a, b, c, a_se, b_se, cov_ab, fit_id, effective_from
               FROM item_parameter_publication WHERE scale_id = %s AND effective_from <= %s
               ORDER BY item_id, effective_from DESC, publication_id DESC""",
            (scale_id, at),
        ).fetchall()


def steps(connection: psycopg.Connection, scale_id: str) -> dict[str, Step]:
    """Every month's step of a scale."""
    return {step.month: step for step in _read_steps(connection, "scale_id = %s", (scale_id,))}


def step_of(connection: psycopg.Connection, scale_id: str, month: str) -> Step | None:
    """A month's step of a scale."""
    found = _read_steps(connection, "scale_id = %s AND month = %s", (scale_id, month))
    return found[0] if found else None


def stepped_months(connection: psycopg.Connection, scale_id: str | None = None) -> list[str]:
    """Every month that has a step, of the scale or (None) of any, newest first."""
    rows = connection.execute(
        """SELECT DISTINCT month FROM publication_step WHERE %(scale)s::text IS NULL OR scale_id = %(scale)s
           ORDER BY 1 DESC""",
        {"scale": scale_id},
    ).fetchall()
    return [month for (month,) in rows]


def pending_steps(connection: psycopg.Connection) -> list[Step]:
    """Months, of any scale, that wait for an earlier one."""
    return _read_steps(connection, "state = 'pending'", ())


def _read_steps(connection: psycopg.Connection, condition: LiteralString, values: tuple[str, ...]) -> list[Step]:
    with connection.cursor(row_factory=class_row(Step)) as cursor:
        return cursor.execute(
            """SELECT month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why, settled_at, stepped_at
               FROM publication_step WHERE """
            + condition
            + " ORDER BY month, scale_id",
            values,
        ).fetchall()


def publish_ready_months(
    connection: psycopg.Connection,
    stored_file: Callable[[str], MonthFile],
    scale: Scale,
    month: str,
    unsettled: Collection[str],
    run_id: str | None,
    measure: Measure | None = None,
) -> dict[str, Step]:
    """Take `month` to the ledger, and every month that waits and whose way is clear, in the caller's transaction.

    Each month is judged by the model and the anchors of its own window, as they are once the ledger is locked.
    A month whose own run did not come as far as this step is not taken: its gates may not have been evaluated.
    `unsettled` are the months that are running, queued or still to come in a requested backfill, `month`
    itself left out. `stored_file` gives a month's verified snapshot. `measure` computes again what a month does to θ,
    where the months before it were published since it was linked. Returns the steps that were taken, by month.
    """
    advisory_lock(connection, "ledger", scale.scale_id)
    known = steps(connection, scale.scale_id)
    taken: dict[str, Step] = {}
    waiting = {m for m, step in known.items() if step.state == "pending" and m not in unsettled}
    for candidate in sorted(waiting | {month}):
        before = known.get(candidate)
        of_month = read_scales(connection, month_bounds(candidate)[0])[scale.scale_id]
        evidence = load_evidence(connection, stored_file(candidate), candidate, of_month)
        fit_id = evidence.linked.fit_id if evidence.linked else None
        if candidate != month and before and before.fit_id != fit_id:
            continue  # fitted again by a run that did not come as far as here: its gates were not evaluated
        blocking = sorted(m for m in unsettled if m < candidate)
        settled = before is not None and before.state == "done" and before.fit_id == fit_id
        if measure and evidence.linked and "impact" in evidence.linked.model_spec and not settled:
            evidence = replace(evidence, linked=measure(connection, of_month, candidate, evidence.linked))
        problems = gates.failures(evidence)
        if problems:
            step = _held(evidence, problems, before)
        elif before and settled:
            step = before
        elif blocking:
            why = f"waits for {', '.join(blocking[:3])}{' and more' if len(blocking) > 3 else ''}, not settled yet"
            settled_at = before.settled_at if before else None
            step = Step(candidate, scale.scale_id, fit_id, "pending", 0, 0, 0, {}, why, settled_at)
        else:
            later = [m for m, s in (known | taken).items() if m > candidate and s.settled_at is not None]
            step = _publish(connection, evidence, before, later, run_id)
        _write(connection, step, run_id)
        taken[candidate] = step
    return taken


def _held(evidence: Evidence, problems: dict[str, str], before: Step | None) -> Step:
    why = f"{gates.held_because(problems)}; decide: {gates.way_out(problems)}"
    settled_at = before.settled_at if before else None
    fit_id = evidence.linked.fit_id if evidence.linked else None
    return Step(evidence.month, evidence.scale.scale_id, fit_id, "held", 0, 0, 0, {}, why, settled_at)


def anchor_items(connection: psycopg.Connection, scale: Scale) -> set[str]:
    """The anchors in the version of the set that holds for `scale`."""
    rows = connection.execute(
        "SELECT item_id FROM anchor_set WHERE scale_id = %s AND version = %s", (scale.scale_id, scale.anchor_version)
    )
    return {item for (item,) in rows}


def _publish(
    connection: psycopg.Connection, evidence: Evidence, before: Step | None, later: list[str], run_id: str | None
) -> Step:
    """Publish what was never published and passes its item gates; propose the rest that passes."""
    linked, scale, month = evidence.linked, evidence.scale, evidence.month
    assert linked is not None
    end = month_bounds(month)[1]
    ever = {
        row[0]
        for row in connection.execute(
            "SELECT DISTINCT item_id FROM item_parameter_publication WHERE scale_id = %s", (scale.scale_id,)
        )
    }
    anchors = anchor_items(connection, scale)
    settled = _known_numbers(connection, scale.scale_id, month)
    held, published, proposed = {}, [], []
    for item, params in linked.items.items():
        problems = gates.item_problems(params, scale.rules)
        values = (scale.scale_id, item) + tuple(params[k] for k in ("a", "b", "c", "a_se", "b_se", "cov_ab"))
        if problems:
            held[item] = problems
        elif any(_same(values[2:5], numbers) for numbers in settled.get(item, ())):
            continue  # what the month says of it was published or decided on before
        elif item in anchors:
            proposed.append((*values, "it is an anchor: the anchor set is frozen"))
        elif item in ever:
            proposed.append((*values, "it is published already: a person decides on a change"))
        elif before is not None and before.settled_at is not None:
            proposed.append((*values, f"{month} was settled before: a later run of it only proposes"))
        elif later:
            proposed.append((*values, f"{min(later)} was settled before {month}: an earlier month then only proposes"))
        else:
            published.append(values)
    with connection.cursor() as cursor:
        cursor.executemany(
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, a, b, c, a_se, b_se, cov_ab, effective_from, month, fit_id, rule, reason,
                  data_hash, anchor_hash, code_version, run_id)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'first', %s, %s, %s, %s, %s)""",
            [
                (*values, end, month, linked.fit_id, f"first published by the green month {month}")
                + (linked.data_hash, linked.anchor_hash, code_version(), run_id)
                for values in published
            ],
        )
        cursor.executemany(
            """INSERT INTO item_parameter_proposal
                 (scale_id, item_id, a, b, c, a_se, b_se, cov_ab, why, month, fit_id)
               VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING""",
            [(*row, month, linked.fit_id) for row in proposed],
        )
    if not later and (before is None or before.settled_at is None):
        publish(connection, scale.scale_id, linked.model_spec.get("testlets"), end, month, linked.fit_id)
    why = f"{counted(len(published), 'item')} first published, {len(proposed)} proposed, {len(held)} held back"
    settled_at = before.settled_at if before and before.settled_at else _now(connection)
    return Step(
        month, scale.scale_id, linked.fit_id, "done", len(published), len(proposed), len(held), held, why, settled_at
    )


def _known_numbers(connection: psycopg.Connection, scale_id: str, month: str) -> dict[str, list[tuple[float, ...]]]:
    """(a, b, c) of every item that the month first published, or that a person has decided on as proposed by it."""
    known: dict[str, list[tuple[float, ...]]] = {}
    for item, *numbers in connection.execute(
        """SELECT item_id, a, b, c FROM item_parameter_publication
           WHERE (scale_id, month, rule) = (%(scale)s, %(month)s, 'first')
           UNION
           SELECT item_id, a, b, c FROM item_parameter_proposal p
           JOIN standing_decision d USING (month, scale_id, item_id, fit_id)
           WHERE (p.scale_id, p.month) = (%(scale)s, %(month)s)""",
        {"scale": scale_id, "month": month},
    ):
        known.setdefault(item, []).append(tuple(numbers))
    return known


def _same(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two sets of values are equal up to rounding: threads sum in any order."""
    return all(math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-12) for x, y in zip(one, other, strict=True))


def _now(connection: psycopg.Connection) -> datetime:
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    return row[0]


def _write(connection: psycopg.Connection, step: Step, run_id: str | None) -> None:
    connection.execute(
        """INSERT INTO publication_step
             (month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why, settled_at, run_id)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (month, scale_id) DO UPDATE SET
             fit_id = excluded.fit_id, state = excluded.state, n_published = excluded.n_published,
             n_proposed = excluded.n_proposed, n_held = excluded.n_held, held = excluded.held, why = excluded.why,
             settled_at = excluded.settled_at, run_id = excluded.run_id, stepped_at = now()""",
        (step.month, step.scale_id, step.fit_id, step.state, step.n_published, step.n_proposed, step.n_held)
        + (json.dumps(step.held), step.why, step.settled_at, run_id),
    )
