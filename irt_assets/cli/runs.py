"""The commands `irt job`, `irt nightly` and `irt runs`, for timers, CronJobs and people.

Exit codes: 0 done; 1 it ran and failed; 2 the request is wrong; 3 an invariant is violated (IRT_INVARIANTS_STRICT).
"""

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from irt_assets.blocks import Moment, table
from irt_assets.cli.console import AsJson, Here, escape, exit_with_failure, out, print_blocks, print_json, say
from irt_assets.cli.installation import current_database, current_instance, current_settings, current_store
from irt_assets.common.job_names import INVARIANT_REPORT, NIGHTLY_JOB
from irt_assets.common.partitions import DAYS
from irt_assets.invariants.open_violations import open_violations
from irt_assets.runs.in_process_runs import SENSORS, RunOutcome, evaluate_sensor
from irt_assets.runs.start import call_with_daemon, start
from jobs.plans import find_plan
from jobs.watching.daemons import daemon_alive
from jobs.watching.stuck_runs import ID_LENGTH, cancel_run, fail_lost_runs, stuck_runs
from resources.alerts.unit_failure import VIOLATION_STATUS
from resources.postgres.database import Database
from resources.settings import Settings, in_a_pod

app = typer.Typer()
runs_app = typer.Typer(name="runs", no_args_is_help=True)
app.add_typer(runs_app)


@app.command(epilog="Example: irt nightly --day 2026-09-14")
def nightly(
    day: Annotated[str | None, typer.Option(help="Day (UTC), YYYY-MM-DD. Default: yesterday.")] = None,
    here: Here = False,
) -> None:
    """Fit and link the 30 days that end with a day, and measure all learners, even if this was done before."""
    day = day or DAYS.last_keys(datetime.now(UTC), 1)[0]
    settings, database = current_settings(), current_database()
    current_store(database)
    with current_instance(database) as instance:
        outcome, *_ = start(instance, settings, database, NIGHTLY_JOB, [day], here=here)
    for warning in outcome.warnings:
        out.print(f"{day}: [yellow]look at[/yellow] {escape(warning)}")
    if not outcome.success:
        out.print(f"{day}: [red]failed[/red] – {escape(outcome.why)}")
        raise typer.Exit(1)
    out.print(f"{day}: done")


@app.command(epilog="Example: irt job compute_weekly_kpis --partition 2026-09-14")
def job(
    name: Annotated[
        str,
        typer.Argument(help="Job with a schedule, e.g. compute_weekly_kpis, or a sensor: intake, pull, theta_sweep."),
    ],
    partition: Annotated[
        str | None, typer.Option(help="This day, week or month, even if it was materialised before.")
    ] = None,
    here: Here = False,
    if_missing: Annotated[
        bool, typer.Option("--if-missing", help="Only missing partitions, even if a person started the unit or Job.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a job for the partitions that its schedule's next tick would request, and wait for it.

    These are the missing partitions within the schedule's look-back. If a person
    started the systemd unit or the Kubernetes Job, the last complete day, week or
    month is materialised again.

    If the daemon is running, the runs go through its queue, and the command also
    waits for runs in progress. If it is not running, or stops before they start,
    they run in this process, followed by the runs that sensors and automation
    would have launched: drift, reports, late answers, the delivery of alerts. In
    a pod no run is executed: the command waits ten minutes for a daemon.
    """
    settings, database = current_settings(), current_database()
    current_store(database)
    if name in SENSORS and partition is None:
        _tick(settings, database, name, as_json)
        return
    plan, partitions = find_plan(name), None if partition is None else [partition]
    with current_instance(database) as instance:
        outcomes = _print_outcomes(
            start(instance, settings, database, name, partitions, here=here, if_missing=if_missing), as_json
        )
    if all(outcome.job != plan.job for outcome in outcomes):
        say(f"{plan.job}: nothing is missing. {plan.description}")
    exit_with_failure(any(not outcome.success for outcome in outcomes))
    if plan.asset == INVARIANT_REPORT and settings.irt_invariants_strict:
        with database.connect() as connection:
            violated = [
                violation.invariant for violation in open_violations(connection) if violation.severity == "error"
            ]
        if violated:
            say(f"violated: {', '.join(violated)}")
            raise typer.Exit(VIOLATION_STATUS)


def _tick(settings: Settings, database: Database, sensor: str, as_json: bool) -> None:
    """Evaluate the sensor in this process, unless the daemon is running. In a pod a daemon is required."""
    with current_instance(database) as instance:
        if in_a_pod():
            call_with_daemon(instance, lambda: None)
        if daemon_alive(instance):
            say(f"{sensor}: the daemon is running and evaluates it")
            _print_outcomes((), as_json)
            return
        outcomes = _print_outcomes(evaluate_sensor(instance, settings, sensor), as_json)
    say(f"{sensor}: done")
    exit_with_failure(any(not outcome.success for outcome in outcomes))


def _print_outcomes(outcomes: Iterable[RunOutcome], as_json: bool) -> list[RunOutcome]:
    """Print the outcome of each run when it ends; with `as_json`, all of them at the end. Return the outcomes."""
    found = []
    for outcome in outcomes:
        say(f"{outcome.name}: {'done' if outcome.success else f'failed – {outcome.why}'}")
        found.append(outcome)
    if as_json:
        print_json({"runs": [asdict(outcome) for outcome in found]})
    return found


@runs_app.command("list", epilog="Example: irt runs list")
def runs_list(as_json: AsJson = False) -> None:
    """List runs that are queued or in progress, and the rest of backfills, with the reason why they wait."""
    settings = current_settings()
    with current_instance(current_database()) as instance:
        fail_lost_runs(instance)
        found = stuck_runs(instance)
    if as_json:
        print_json([asdict(run) for run in found])
    else:
        rows = [
            (
                run.run_id[:ID_LENGTH],
                run.name,
                run.partition,
                run.status,
                Moment(run.since, settings.irt_time_zone),
                run.why,
            )
            for run in found
        ]
        columns = ("id", "job", "partition", "status", "since", "waits because")
        print_blocks(table(columns, rows, empty="no run is waiting or in progress"))


@runs_app.command("cancel", epilog="Example: irt runs cancel 3f2a91c0")
def runs_cancel(
    run_id: Annotated[str, typer.Argument(help="Id of a run or a backfill, or the beginning of the id.")],
    unseen: Annotated[
        bool,
        typer.Option(
            "--unseen", help="Cancel even if its worker was on another host, because you know that it is gone."
        ),
    ] = False,
) -> None:
    """Cancel a run that is waiting or in progress, or the rest of a backfill. Its partition stays unchanged."""
    with current_instance(current_database()) as instance:
        fail_lost_runs(instance)
        out.print(f"{escape(run_id)}: {cancel_run(instance, run_id, unseen=unseen)}")
