"""The `irt` command: parses, calls, prints. No logic of its own.

Exit codes: 0 done; 1 it ran and the answer is no (a month is not green, something is misconfigured);
2 the request or its input is wrong, with the way out in the message.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from irt_assets.cli_alerts import app as alerts_app
from irt_assets.cli_backup import app as backup_app
from irt_assets.cli_database import app as db_app
from irt_assets.cli_desk import app as desk_app
from irt_assets.cli_export import app as export_app
from irt_assets.cli_import import Dichotomise, Mapping, ScoringKey
from irt_assets.cli_import import app as import_app
from irt_assets.cli_invariants import app as invariants_app
from irt_assets.cli_items import app as items_app
from irt_assets.cli_learner import app as learner_app
from irt_assets.cli_operations import app as operations_app
from irt_assets.cli_release import app as release_app
from irt_assets.cli_reports import app as reports_app
from irt_assets.cli_runs import app as runs_app
from irt_assets.cli_scale import ScaleId, confirm_and_change_rules, settings_of
from irt_assets.cli_scale import app as scale_app
from irt_assets.cli_servers import app as servers_app
from irt_assets.console import (
    AsJson,
    Panel,
    colour,
    out,
    print_error,
    print_json,
    print_lineage,
    print_states,
    print_table,
    say,
    stdout_reserved_for_json,
)
from irt_assets.installation import current_database, current_settings, current_store, database_as_it_is
from resources.failures import PermanentFailure, TransientFailure, explain

if TYPE_CHECKING:
    from irt_assets.stack import Stack
    from resources.database import Database
    from resources.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps an item bank calibrated, and can prove it.",
)
app.add_typer(import_app, name="import", rich_help_panel=Panel.MONTH)
app.add_typer(scale_app, name="scale", rich_help_panel=Panel.START)
app.add_typer(release_app, name="release", rich_help_panel=Panel.MONTH)
app.add_typer(items_app, name="items", rich_help_panel=Panel.MONTH)
app.add_typer(reports_app, name="report", rich_help_panel=Panel.MONTH)
app.add_typer(invariants_app, name="invariants", rich_help_panel=Panel.PROOF)
app.add_typer(alerts_app, name="alerts", rich_help_panel=Panel.OPERATION)
app.add_typer(db_app, name="db", rich_help_panel=Panel.OPERATION)
app.add_typer(learner_app, name="learner", rich_help_panel=Panel.OPERATION)
app.add_typer(operations_app)
app.add_typer(backup_app)
app.add_typer(export_app)
app.add_typer(runs_app)
app.add_typer(desk_app)
app.add_typer(servers_app)

Month = Annotated[str | None, typer.Option("--month", help="Calendar month, e.g. 2026-09. Default: the last one.")]


def main() -> None:
    """Entry point: every explained error becomes one message and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a character that the terminal cannot show must not end the command
    # A shell starts what it runs in the background with SIGINT ignored, and Dagster gives SIGTERM the same handler: the
    # processes that copy a run's output would then outlive it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "--help" in sys.argv:
        app()
    from resources import logs

    logs.configure()
    try:
        with stdout_reserved_for_json() if "--json" in sys.argv else nullcontext():
            app()
    except Exception as error:  # noqa: BLE001 - the last place where a secret can be kept from the screen
        from irt_assets.psychometrics.errors import PsychometricsError

        told = isinstance(error, PermanentFailure | PsychometricsError | TransientFailure)
        explanation = str(error) if told else explain(error)
        if explanation is None:
            print_error("", logs.hide(traceback.format_exc()))
            sys.exit(1)
        print_error("error: ", logs.hide(explanation))
        sys.exit(2)


def _print_version(asked: bool) -> None:
    if asked:
        from resources.version import code_version

        say(f"irt-assets {code_version()}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options that come before the command."""


@app.command(rich_help_panel=Panel.START)
def doctor(as_json: AsJson = False) -> None:
    """What is installed, reachable and misconfigured."""
    from irt_assets.engines.diagnosis import engine_findings
    from resources.doctor import diagnose

    settings = current_settings()
    findings = diagnose(settings, engine_findings(settings))
    if as_json:
        print_json([{"subject": f.subject, "state": f.state, "detail": f.detail, "fix": f.fix} for f in findings])
    else:
        marks = {"ok": "[green]ok[/green]", "warn": "[yellow]warn[/yellow]", "error": "[red]error[/red]", "absent": "–"}
        rows = [
            (marks[f.state], f.subject, escape(f.detail) + (f"\n→ {escape(f.fix)}" if f.fix else "")) for f in findings
        ]
        print_table(("", "what", "detail"), rows)
    if any(f.state == "error" for f in findings):
        raise typer.Exit(1)


@app.command(rich_help_panel=Panel.START)
def simulate(
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    seed: Annotated[int, typer.Option(help="Of every draw.")] = 1,
    adaptive: Annotated[bool, typer.Option("--adaptive", help="Assign items by earlier ability.")] = False,
    learners: Annotated[int, typer.Option(min=1, help="New learners a month.")] = 1500,
) -> None:
    """Simulate a log with planted faults: import files, and truth.json beside them."""
    from dataclasses import replace

    from irt_assets.psychometrics import simulate as simulation
    from irt_assets.psychometrics.scenario import demo_scenario
    from irt_assets.responses.simulated import write

    scenario = replace(
        demo_scenario(datetime.now(UTC), seed),
        learners_per_month=learners,
        assignment="adaptive" if adaptive else "linear",
    )
    log, truth = simulation.simulate(scenario)
    files = write(log, truth, folder)
    out.print(
        f"{log.n_attempts:,} answers of {len(log.user_ids):,} learners in {folder}; the truth is in {files.truth}"
    )


@app.command(rich_help_panel=Panel.MONTH)
def calibrate(
    month: Month = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Engine to fit besides the scale's own, instead of those in IRT_ENGINES. `em`: none."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Change a rule of the scale first, for all months and for good, e.g. min_responses=300."
        ),
    ] = None,
    scale: ScaleId = "default",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --set changes the scale.")] = False,
) -> None:
    """Materialise one month here and now: responses, fit, linking, publication, abilities.

    In a pod the daemon materialises it, and this waits.
    """
    from irt_assets.partitions import last_complete_month

    settings = current_settings() if engine is None else _with_engine(current_settings(), engine)
    database = current_database()
    month = month or last_complete_month(datetime.now(UTC))
    if setting:
        confirm_and_change_rules(database, scale, month, settings_of(setting), yes)
    if not _run_months(settings, database, [month]):
        raise typer.Exit(1)


@app.command(rich_help_panel=Panel.MONTH)
def backfill(
    first: Annotated[str, typer.Option("--from", help="First month.")],
    last: Annotated[str, typer.Option("--to", help="Last month.")],
) -> None:
    """Materialise every month from one to another, oldest first, as `irt calibrate` does."""
    from irt_assets.partitions import months_between

    settings = current_settings()
    months = list(months_between(first, last))
    if not months:
        raise PermanentFailure(f"--from {first} lies after --to {last}")
    if not _run_months(settings, current_database(), months):
        raise typer.Exit(1)


@app.command(rich_help_panel=Panel.PROOF)
def lineage(item: Annotated[str, typer.Argument(help="Item id.")], as_json: AsJson = False) -> None:
    """Where an item's published numbers come from, and what was decided on it."""
    from irt_assets.calibration.lineage import decisions_on
    from irt_assets.calibration.lineage import lineage as trace
    from irt_assets.responses.item_status import item_status

    with current_database().connect() as connection:
        publications, decisions = trace(connection, item), decisions_on(connection, item)
        status = item_status(connection).get(item)
    if as_json:
        print_json({"publications": publications, "decisions": decisions, "status": vars(status) if status else None})
    else:
        print_lineage(item, publications, decisions, current_settings())
        if status:
            say(f"{item} is {status.sentence}")


@app.command(rich_help_panel=Panel.START)
def serve(
    read_only: Annotated[bool, typer.Option("--read-only", help="Show everything, change nothing.")] = False,
) -> None:
    """Start the Dagster UI, its daemon and code server, until interrupted."""
    from irt_assets.stack import Stack
    from resources.schema import upgrade

    settings = current_settings()
    database = database_as_it_is()
    with _server_of_our_own(settings):
        upgrade(database)
        _serve(Stack(settings, database, read_only=read_only))


@app.command(rich_help_panel=Panel.START)
def demo(
    data: Annotated[Path | None, typer.Option(help="Your own log instead of the simulation.")] = None,
    mapping: Mapping = "auto",
    zone: Annotated[str | None, typer.Option(help="Time zone of times that name none.")] = None,
    at: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of a log without times.")] = None,
    dichotomise: Dichotomise = None,
    key: ScoringKey = None,
    serve_ui: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the UI at the end.")] = True,
) -> None:
    """Four months with planted faults, or your own log: calibrated, published, compared, served."""
    from irt_assets import demo as demonstration
    from irt_assets import demo_services
    from irt_assets.stack import Stack, dagster_instance
    from resources import logs
    from resources.database import Database

    with logs.prose(), _server_of_our_own(current_settings()):
        if data is not None:
            settings = demonstration.own_log(
                current_settings(),
                data,
                say,
                dagster_instance,
                mapping=mapping,
                zone=zone,
                at=at.date() if at else None,
                dichotomise=dichotomise,
                key=key,
            )
            as_expected = True
        else:
            settings, states, findings = demonstration.simulated(current_settings(), say, dagster_instance)
            print_states(states)
            marks = {True: "[green]as expected[/green]", False: "[red]NOT as expected[/red]"}
            print_table(
                ("planted", "where", "found", ""),
                [(f.fault, escape(f.planted), escape(f.found), marks[f.as_expected]) for f in findings],
            )
            as_expected = all(f.as_expected for f in findings)
        if serve_ui:
            settings, services = demo_services.services(settings)
            _serve(Stack(settings, Database(settings), services=services))
    if not as_expected:
        raise typer.Exit(1)


def _run_months(settings: Settings, database: Database, months: list[str]) -> bool:
    from irt_assets.calibration.green import State, month_states
    from irt_assets.job_names import MONTHLY_JOB
    from irt_assets.jobs_in_pods import make_partition
    from irt_assets.runs import run_month
    from irt_assets.stack import dagster_instance
    from resources import logs
    from resources.settings import in_a_pod

    current_store(database)
    with logs.prose(), dagster_instance(settings, database) as instance:
        for month in months:
            outcome = (
                make_partition(instance, settings, database, MONTHLY_JOB, month)
                if in_a_pod()
                else run_month(instance, settings, month)
            )
            if outcome.held:
                out.print(f"[red]{escape(outcome.error or '')}[/red]")
                continue
            if not outcome.success:
                out.print(f"{month}: [red]failed[/red] – {escape(outcome.error or '')}")
            for state in month_states(database, instance, [month]):
                out.print(f"{month} {state.scale_id}: {colour(state.state)} – {escape(state.why)}")
        states = month_states(database, instance, months)
    return all(s.state is State.GREEN for s in states)


def _with_engine(settings: Settings, engine: str) -> Settings:
    """The settings with this as the only engine besides the scales' own; `em`, which always runs, adds none."""
    from irt_assets.engines.registry import DEFAULT, beside_names, installed
    from resources.settings import in_a_pod

    if in_a_pod():
        raise PermanentFailure(
            "--engine is for a run in this process, and a pod executes none: set IRT_ENGINES for the daemon "
            "(in the ConfigMap irt-config), then type this without --engine"
        )
    if engine not in (DEFAULT, *beside_names()):
        raise PermanentFailure(f"--engine wants {DEFAULT}, {' or '.join(beside_names())}, got {engine!r}")
    if absence := installed(engine, settings):
        raise PermanentFailure(absence)
    return settings.model_copy(update={"irt_engines": "" if engine == DEFAULT else engine})


def _serve(stack: Stack) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with stack:
        out.print(f"The Dagster UI is at {stack.address} (Ctrl-C stops it)")
        for service in stack.services:
            _print_service(service.package, stack)
        try:
            stack.wait()
        except KeyboardInterrupt:
            out.print("stopping …")


def _print_service(package: str, stack: Stack) -> None:
    from irt_assets.demo_services import example_request

    address = stack.address_of(package)
    if package == "dashboard":
        out.print(f"The dashboard is at {address}: months, items, decisions, learners")
    else:
        out.print(f"The θ API is at {address}, for example:")
        say(f"  {example_request(stack.settings, address)}")


@contextmanager
def _server_of_our_own(settings: Settings) -> Iterator[None]:
    """Stop the embedded server at the end, unless it ran before or is not in use."""
    from resources.database import embedded_postgres

    server = None if settings.database_url is not None else embedded_postgres(settings)
    ours = server is not None and server.status().state != "running"
    try:
        yield
    finally:
        if server is not None and ours:
            server.stop()


if __name__ == "__main__":
    main()
