"""The commands of `irt invariants`.

Exit codes: 0 every invariant holds, or `fresh` found a recent evaluation; 1 an invariant is violated (with --strict
also a warning, or something could not be tested), or the evaluation is too old; 2 an invariant could not be evaluated,
or the request is wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from irt_assets.blocks import Pairs, table
from irt_assets.cli.console import AsJson, MaxAge, duration, exit_with_failure, out, print_blocks, print_json, say
from irt_assets.cli.installation import current_database, current_instance, current_store
from irt_assets.intake.silence import alert_on_silence
from irt_assets.invariants.open_violations import last_evaluated
from resources.alerts.notifier import deliver

if TYPE_CHECKING:
    from irt_assets.invariants.history import Report

app = typer.Typer(no_args_is_help=True)
MAX_ROWS = 10


@app.command(epilog="Example: irt invariants run --strict")
def run(
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also on warnings, and if something could not be tested.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate every invariant, store the results, and alert on new violations."""
    # imported here because the invariants take seconds to load, and monitors call `fresh` often
    from irt_assets.invariants.history import make_report

    database = current_database()
    name = f"cli {datetime.now(UTC):%Y-%m-%dT%H:%M:%S} {uuid4().hex[:6]}"
    with current_instance(database) as instance:
        report = make_report(
            database, current_store(database), instance, first_month=database.settings.irt_first_month, run=name
        )
    database.call(alert_on_silence, database.settings)
    deliver(database)
    if as_json:
        print_json(as_dict(report, name))
    else:
        _print(report)
    if report.crashed_results:
        raise typer.Exit(2)
    too_strict = strict and (report.violated_invariants("warning") or report.incomplete)
    exit_with_failure(report.violated_invariants("error") or too_strict)


@app.command(epilog="Example: irt invariants fresh --max-age 26h")
def fresh(max_age: MaxAge = "25h", as_json: AsJson = False) -> None:
    """Check that the invariants were evaluated recently, whatever the result. For monitors."""
    limit = duration(max_age)
    last = current_database().call(last_evaluated)
    age = None if last is None else datetime.now(UTC) - last
    is_fresh = age is not None and age <= limit
    if as_json:
        print_json({"fresh": is_fresh, "evaluated_at": last, "max_age_seconds": limit.total_seconds()})
    elif age is None:
        say("the invariants have never been evaluated: run `irt job invariants`")
    else:
        age_text = f"the invariants were evaluated {age.total_seconds() / 3600:.1f} hours ago"
        say(age_text if is_fresh else f"{age_text}, not within {max_age}: run `irt job invariants`")
    exit_with_failure(not is_fresh)


@app.command("list", epilog="Example: irt invariants list")
def list_(as_json: AsJson = False) -> None:
    """List every invariant with what it protects and how to fix a violation."""
    from irt_assets.invariants.registry import INVARIANTS  # as in `run`

    if as_json:
        print_json([{"name": i.name, "severity": i.severity, "protects": i.protects, "fix": i.fix} for i in INVARIANTS])
        return
    for invariant in INVARIANTS:
        out.print(f"[bold]{invariant.name}[/bold] ({invariant.severity})")
        say(f"  {invariant.protects}")
        say(f"  To fix it: {invariant.fix}")


def as_dict(report: Report, run_name: str) -> dict[str, Any]:
    """Convert a report to JSON values. Invariants that could not be tested come first."""
    return {
        "incomplete": [{"invariant": name, "why": why} for name, why in report.incomplete],
        "run": run_name,
        "evaluated_at": report.evaluated_at.isoformat(),
        "summary": report.sentence,
        "invariants": [
            {
                "name": v.invariant.name,
                "severity": v.invariant.severity,
                "passed": v.passed,
                "violations": [
                    {"partition": x.partition, "subject": x.subject, "observed": x.observed, "expected": x.expected}
                    for x in v.violations
                ],
                "fix": v.invariant.fix if v.violations else None,
            }
            for v in report.verdicts
        ],
    }


def _print(report: Report) -> None:
    if report.incomplete:
        out.print("[yellow]not tested[/yellow]")
        print_blocks(Pairs(tuple(report.incomplete)))
    marks = {"error": "[red]violated[/red]", "warning": "[yellow]warning[/yellow]"}
    for severity, mark in marks.items():
        for verdict in report.violated_invariants(severity):
            out.print(f"{mark} [bold]{verdict.invariant.name}[/bold]")
            rows = [(v.partition, v.subject, v.observed, v.expected) for v in verdict.violations]
            print_blocks(table(("partition", "subject", "seen", "expected"), rows[:MAX_ROWS]))
            if len(rows) > MAX_ROWS:
                say(f"  … and {len(rows) - MAX_ROWS} more (--json shows all)")
            say(f"  → {verdict.invariant.fix}")
    say(report.sentence)
