"""The stored results of the invariants, read from `invariant_result`, in the shape of `irt invariants run --json`."""

from typing import Any

import psycopg

from irt_assets.invariants.open_violations import SEVERITY
from resources.postgres.database import named_rows

MAX_RUNS, MAX_VIOLATIONS = 60, 500


def latest_invariants(connection: psycopg.Connection) -> dict[str, Any] | None:
    """The last report, or None."""
    runs = runs_of_invariants(connection, 1)
    if not runs:
        return None
    run, evaluated_at = runs[0]["run"], runs[0]["evaluated_at"]
    verdicts = connection.execute(
        "SELECT invariant, passed, not_tested FROM invariant_result WHERE run = %s AND subject = '' ORDER BY 1", (run,)
    ).fetchall()
    violations = _violations(connection, "resolved_at IS NULL")
    return {
        "incomplete": [{"invariant": name, "why": why} for name, _, why in verdicts if why],
        "run": run,
        "evaluated_at": evaluated_at,
        "invariants": [
            {
                "name": name,
                "severity": SEVERITY.get(name),
                "passed": passed,
                "violations": [violation for violation in violations if violation["invariant"] == name],
            }
            for name, passed, _ in verdicts
        ],
    }


def history_of_invariants(connection: psycopg.Connection) -> dict[str, Any]:
    """The last reports, newest first, and the last violations, open ones first."""
    return {"runs": runs_of_invariants(connection, MAX_RUNS), "violations": _violations(connection, "true")}


def runs_of_invariants(connection: psycopg.Connection, most: int) -> list[dict[str, Any]]:
    """The last reports, newest first: time, number of invariants that held, and number of all invariants."""
    rows = connection.execute(
        """SELECT run, max(evaluated_at), count(*) FILTER (WHERE passed), count(*)
           FROM invariant_result WHERE subject = '' GROUP BY run ORDER BY 2 DESC LIMIT %s""",
        (most,),
    ).fetchall()
    return [{"run": run, "evaluated_at": at.isoformat(), "held": held, "of": of} for run, at, held, of in rows]


def history_of_invariant(connection: psycopg.Connection, name: str) -> dict[str, Any]:
    """The results of one invariant in the last reports, and its violations, open ones first."""
    rows = connection.execute(
        """SELECT evaluated_at, passed, not_tested, observed FROM invariant_result
           WHERE subject = '' AND invariant = %s ORDER BY evaluated_at DESC LIMIT %s""",
        (name, MAX_RUNS),
    ).fetchall()
    results = [
        {"evaluated_at": at.isoformat(), "passed": passed, "not_tested": untested, "observed": observed}
        for at, passed, untested, observed in rows
    ]
    return {"looks": results, "violations": _violations(connection, "invariant = %(name)s", name=name)}


def _violations(connection: psycopg.Connection, condition: str, **values: str) -> list[dict[str, Any]]:
    rows = named_rows(
        connection,
        f"""SELECT invariant, partition, subject, observed, expected, fix, evaluated_at AS opened_at, resolved_at
            FROM invariant_result WHERE subject <> '' AND NOT passed AND {condition}
            ORDER BY resolved_at IS NOT NULL, resolved_at DESC, evaluated_at DESC, invariant, subject
            LIMIT %(most)s""",
        {"most": MAX_VIOLATIONS, **values},
    )
    times = ("opened_at", "resolved_at")
    return [row | {name: at.isoformat() if (at := row[name]) else None for name in times} for row in rows]
