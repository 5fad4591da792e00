"""The commands `irt calibrate` and `irt backfill`: one month, and all months of a period.

Exit codes: 0 every month is green; 1 one is not; 2 the request is wrong.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

import typer

from irt_assets.blocks import Paragraph
from irt_assets.cli.console import (
    AsJson,
    Here,
    ScaleId,
    escape,
    exit_with_failure,
    out,
    print_blocks,
    print_json,
    progress_bar,
    say,
)
from irt_assets.cli.installation import current_database, current_settings, current_store, os_user, signature
from irt_assets.cli.scale import confirm_and_change_rules, parse_settings
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import last_complete_month, months_between
from irt_assets.decisions.rule_trial import try_rules
from irt_assets.engines.registry import DEFAULT, build, comparison_names, obstacle
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.runs.in_process_runs import RunOutcome
from irt_assets.runs.start import start
from irt_assets.servers.instance import dagster_instance
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.serving import logs
from resources.settings import Settings, in_a_pod

app = typer.Typer()
Month = Annotated[str | None, typer.Option("--month", help="Month, YYYY-MM. Default: the last complete one.")]


@app.command(epilog="Example: irt calibrate --month 2026-09")
def calibrate(
    month: Month = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Engine to fit in addition to the scale's own, instead of those in IRT_ENGINES. `em`: none."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a rule of the scale first, permanently and for all months, e.g. min_responses=300."
        ),
    ] = None,
    trial: Annotated[
        list[str] | None,
        typer.Option(
            "--try",
            help="Show the month's result under another rule of the scale, e.g. max_rmsd=0.08, and store nothing.",
        ),
    ] = None,
    scale: ScaleId = "default",
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask for confirmation before --set changes the scale.")
    ] = False,
    here: Here = False,
    as_json: AsJson = False,
) -> None:
    """Materialise a month: responses, fit, linking, publication, abilities.

    If the daemon is running, the run goes through it and the command waits.
    Otherwise, and with --engine, the month runs in this process, followed by
    drift and reports. With --try, the exit code is 0 if all set gates would pass.
    """
    settings = current_settings() if engine is None else _with_engine(current_settings(), engine)
    database = current_database()
    month = month or last_complete_month(datetime.now(UTC))
    if trial:
        if setting or engine is not None:
            raise PermanentFailure(
                "--try changes nothing and fits with the scale's own engine: leave out --set, --engine"
            )
        _try_rules(settings, database, month, scale, parse_settings(trial, "--try"), as_json)
        return
    if setting:
        by = signature(os_user())
        confirm_and_change_rules(database, scale, month, parse_settings(setting), yes, by, "irt calibrate --set")
    _run_months(settings, database, [month], here=here or engine is not None, as_json=as_json)


def _try_rules(
    settings: Settings, database: Database, month: str, scale: str, rules: dict[str, Any], as_json: bool
) -> None:
    done = try_rules(database, current_store(database), month, scale, rules, partial(build, settings=settings))
    say(*done.lines)
    if as_json:
        print_json({"month": month, "scale_id": scale, "may_publish": done.after.may_publish, "lines": done.lines})
    exit_with_failure(not done.after.may_publish)


@app.command(epilog="Example: irt backfill --from 2026-07 --to 2026-09")
def backfill(
    first: Annotated[str, typer.Option("--from", help="First month, YYYY-MM.")],
    last: Annotated[str, typer.Option("--to", help="Last month, YYYY-MM.")],
    here: Here = False,
    as_json: AsJson = False,
) -> None:
    """Materialise all months of a period, oldest first, as `irt calibrate` does."""
    months = list(months_between(first, last))
    if not months:
        raise PermanentFailure(f"--from {first} lies after --to {last}")
    _run_months(current_settings(), current_database(), months, here=here, as_json=as_json)


def _run_months(settings: Settings, database: Database, months: Sequence[str], *, here: bool, as_json: bool) -> None:
    """Make the months with a bar of their steps, and print their states. Exit with 1 if a month is not green."""
    current_store(database)
    bars: list[Callable[[int, int | None], None]] = []
    with logs.print_for_people(), dagster_instance(settings, database) as instance:
        outcomes = start(
            *(instance, settings, database, MONTHLY_JOB, months),
            here=here,
            quiet=True,
            progress=lambda ended, of: bars[-1](ended, of),
        )
        done: list[RunOutcome] = []
        while True:
            with progress_bar("steps of the run", as_json) as bar:  # ends before the outcome is printed
                bars.append(bar)
                outcome = next(outcomes, None)
            if outcome is None:
                break
            done.append(outcome)
            if outcome.held:
                out.print(f"[red]{escape(outcome.why)}[/red]")
                continue
            made = outcome.job == MONTHLY_JOB and outcome.partition
            name = made or outcome.name
            if not outcome.success:
                out.print(f"{escape(name)}: [red]failed[/red] – {escape(outcome.why)}")
            for state in month_states(database, instance, [made]) if made else ():
                print_blocks(Paragraph((f"{made} {state.scale_id}: ", state.state.badge, f" – {state.why}")))
        states = month_states(database, instance, months)
    if as_json:
        of_months = [{"month": s.month, "scale_id": s.scale_id, "state": s.state, "why": s.why} for s in states]
        print_json({"runs": [asdict(outcome) for outcome in done], "months": of_months})
    exit_with_failure(any(state.state is not State.GREEN for state in states))


def _with_engine(settings: Settings, engine: str) -> Settings:
    """Settings in which only `engine` runs besides the scales' own engines. `em` always runs, so it adds no engine."""
    if in_a_pod():
        raise PermanentFailure(
            "--engine is for a run in this process, and a pod executes none: set IRT_ENGINES for the daemon "
            "(in the ConfigMap irt-config), then type this without --engine"
        )
    if engine not in (DEFAULT, *comparison_names()):
        raise PermanentFailure(f"--engine takes {DEFAULT}, {' or '.join(comparison_names())}, not {engine!r}")
    if absence := obstacle(engine, settings):
        raise PermanentFailure(absence)
    return settings.model_copy(update={"irt_engines": "" if engine == DEFAULT else engine})
