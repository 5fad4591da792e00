"""`irt job`, `irt nightly` and `irt runs`: parse, call, print. For timers, CronJobs and people.

Exit codes: 0 done; 1 it ran and failed; 2 the request is wrong.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from irt_assets.cli.console import AsJson, as_text, escape, out, print_json, print_table, say
from irt_assets.cli.installation import current_database, current_instance, current_settings, current_store
from irt_assets.common.job_names import NIGHTLY_JOB
from irt_assets.common.partitions import DAYS
from irt_assets.runs import jobs_by_hand, jobs_in_pods, without_daemon
from irt_assets.runs.in_process_runs import run_night
from irt_assets.runs.jobs_in_pods import make_partition, wait_for_the_daemon
from irt_assets.runs.without_daemon import evaluate
from jobs.daemons import daemon_alive
from jobs.stuck_runs import SHOWN_OF_AN_ID, cancel_run, fail_lost_runs, stuck_runs
from resources.settings import in_a_pod

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dagster import DagsterInstance

    from irt_assets.runs.in_process_runs import Outcome
    from jobs.plans import Plan
    from resources.postgres.database import Database
    from resources.settings import Settings

app = typer.Typer()
runs_app = typer.Typer(name="runs", no_args_is_help=True)
app.add_typer(runs_app)


@app.command()
def nightly(
    day: Annotated[str | None, typer.Option(help="Day, e.g. 2026-09-14. Default: yesterday, UTC.")] = None,
) -> None:
    """Fit and link the 30 days that end with a day, and measure everyone, here and now; in a pod by the daemon."""
    day = day or DAYS.back(datetime.now(UTC), 1)[0]
    settings, database = current_settings(), current_database()
    current_store(database)
    with current_instance(database) as instance:
        outcome = (
            make_partition(instance, settings, database, NIGHTLY_JOB, day)
            if in_a_pod()
            else run_night(instance, settings, day)
        )
    for warning in outcome.warnings:
        out.print(f"{outcome.partition}: [yellow]look at[/yellow] {escape(warning)}")
    if not outcome.success:
        out.print(f"{outcome.partition}: [red]failed[/red] – {escape(outcome.error or '')}")
        raise typer.Exit(1)
    out.print(f"{outcome.partition}: done")


@app.command()
def job(
    name: Annotated[
        str, typer.Argument(help="Job that has a schedule, e.g. compute_weekly_kpis, or a sensor: theta_sweep.")
    ],
    partition: Annotated[
        str | None, typer.Option(help="This day, week or month, even if it has been made already.")
    ] = None,
) -> None:
    """Do what the schedule's next tick would do and wait for it: make whatever its look-back is missing.

    If the daemon is running, the runs go through its queue. If it is not, or stops before they start, they run here,
    followed by what sensors and automation would have launched: drift, reports, late answers, the delivery of alerts.
    In a pod nothing runs here: it waits ten minutes for a daemon, and for runs that are under way.
    """
    settings, database = current_settings(), current_database()
    current_store(database)
    if name in without_daemon.SENSORS and partition is None:
        _tick(settings, database, name)
        return
    plan = jobs_by_hand.plan_of(name)
    with current_instance(database) as instance:
        succeeded = _say_outcomes(
            jobs_in_pods.through_the_daemon(instance, settings, database, plan, partition)
            if in_a_pod()
            else _on_this_host(instance, settings, plan, partition)
        )
    if not succeeded:
        raise typer.Exit(1)


def _on_this_host(
    instance: DagsterInstance, settings: Settings, plan: Plan, partition: str | None
) -> Iterator[Outcome]:
    """Start a run in the daemon's queue or, without a daemon, in this process, with what follows."""
    fail_lost_runs(instance)
    partitions = jobs_by_hand.partitions_to_run(instance, settings, plan, partition)
    if not partitions:
        say(f"{plan.job}: nothing is missing. {plan.description}")
    if daemon_alive(instance):
        yield from jobs_by_hand.through_the_queue(instance, settings, plan, partitions)
    else:
        yield from jobs_by_hand.run_here(instance, settings, plan, partitions)
    if not daemon_alive(instance):
        yield from without_daemon.follow_up(instance, settings)


def _tick(settings: Settings, database: Database, sensor: str) -> None:
    """Evaluate the sensor here, unless the daemon does; in a pod it has to."""
    with current_instance(database) as instance:
        if in_a_pod():
            wait_for_the_daemon(instance)
        if daemon_alive(instance):
            say(f"{sensor}: the daemon is running and evaluates it")
            return
        succeeded = _say_outcomes(evaluate(instance, settings, sensor))
    say(f"{sensor}: done")
    if not succeeded:
        raise typer.Exit(1)


def _say_outcomes(outcomes: Iterable[Outcome]) -> bool:
    """Print how each run ended, as it ends; returns whether all succeeded."""
    succeeded = True
    for outcome in outcomes:
        say(f"{outcome.name}: {'done' if outcome.success else f'failed – {outcome.why}'}")
        succeeded &= outcome.success
    return succeeded


@runs_app.command("list")
def runs_list(as_json: AsJson = False) -> None:
    """What is queued, under way, or still to come in a backfill, and what it waits for."""
    settings = current_settings()
    with current_instance(current_database()) as instance:
        fail_lost_runs(instance)
        found = stuck_runs(instance)
    if as_json:
        print_json([asdict(one) for one in found])
    elif not found:
        out.print("no run is waiting or in progress")
    else:
        rows = [
            (one.run_id[:SHOWN_OF_AN_ID], one.name, one.partition, one.status, as_text(one.since, settings), one.why)
            for one in found
        ]
        print_table(("id", "job", "partition", "status", "since", "waits because"), rows)


@runs_app.command("cancel")
def runs_cancel(
    run_id: Annotated[str, typer.Argument(help="Id of a run or a backfill, or the beginning of it.")],
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Even if its worker is on another host, and you know that it is gone.")
    ] = False,
) -> None:
    """End a waiting or running run, or what is left of a backfill; its partition stays as it was before."""
    with current_instance(current_database()) as instance:
        fail_lost_runs(instance)
        out.print(f"{escape(run_id)}: {cancel_run(instance, run_id, unseen=unseen)}")
