"""The `irt` command: parses, calls, prints. No logic of its own.

Exit codes: 0 done; 1 it ran and the answer is no (a month is not green, something is misconfigured);
2 the request or its input is wrong, with the way out in the message.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from irt_assets.cli_alerts import app as alerts_app
from irt_assets.cli_desk import app as desk_app
from irt_assets.cli_export import app as export_app
from irt_assets.cli_invariants import app as invariants_app
from irt_assets.cli_items import app as items_app
from irt_assets.cli_operations import app as operations_app
from irt_assets.cli_release import app as release_app
from irt_assets.cli_reports import app as reports_app
from irt_assets.cli_runs import app as runs_app
from irt_assets.cli_servers import app as servers_app
from irt_assets.console import (
    AsJson,
    Panel,
    colour,
    confirm,
    out,
    print_error,
    print_import,
    print_json,
    print_lineage,
    print_states,
    print_table,
    progress_bar,
    say,
    stdout_reserved_for_json,
)
from irt_assets.installation import current_database, current_settings, current_store, database_as_it_is
from resources.failures import PermanentFailure, TransientFailure, explain

if TYPE_CHECKING:
    from irt_assets.responses.importing import ImportReport
    from irt_assets.stack import Stack
    from resources.database import Database
    from resources.embedded_postgres import EmbeddedPostgres
    from resources.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Keeps an item bank calibrated, and can prove it.",
)
db_app = typer.Typer(no_args_is_help=True, help="The database in use: the embedded one, or DATABASE_URL.")
import_app = typer.Typer(no_args_is_help=True, help="Bring in answers, questions and learners from files.")
scale_app = typer.Typer(no_args_is_help=True, help="Scales, their origin and their rules.")
app.add_typer(import_app, name="import", rich_help_panel=Panel.MONTH)
app.add_typer(scale_app, name="scale", rich_help_panel=Panel.START)
app.add_typer(release_app, name="release", rich_help_panel=Panel.MONTH)
app.add_typer(items_app, name="items", rich_help_panel=Panel.MONTH)
app.add_typer(reports_app, name="report", rich_help_panel=Panel.MONTH)
app.add_typer(invariants_app, name="invariants", rich_help_panel=Panel.PROOF)
app.add_typer(alerts_app, name="alerts", rich_help_panel=Panel.OPERATION)
app.add_typer(db_app, name="db", rich_help_panel=Panel.OPERATION)
app.add_typer(operations_app)
app.add_typer(export_app)
app.add_typer(runs_app)
app.add_typer(desk_app)
app.add_typer(servers_app)

Month = Annotated[str | None, typer.Option("--month", help="Calendar month, e.g. 2026-09. Default: the last one.")]
ScaleId = Annotated[str, typer.Option("--scale", help="Scale (bank whose items measure one ability).")]
Mapping = Annotated[str, typer.Option("--mapping", help="Preset name or YAML file; `auto` looks at the header.")]
Strict = Annotated[bool, typer.Option("--strict", help="Reject unknown items and learners instead of adding them.")]
Dichotomise = Annotated[
    str | None, typer.Option(help="Of points: `full` (right is an item's highest) or `at=K` (K or more).")
]
ScoringKey = Annotated[Path | None, typer.Option("--key", help="Table item,key: scores a matrix of choices.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Do everything but keep it.")]


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
    from resources.doctor import diagnose

    findings = diagnose(current_settings())
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


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the schema to the newest version (the same as `alembic upgrade head`)."""
    from resources.schema import upgrade
    from resources.schema_version import schema_version

    database = database_as_it_is()
    upgrade(database)
    out.print(f"schema is at {schema_version(database).revision}")


@db_app.command("downgrade")
def db_downgrade(
    revision: Annotated[str, typer.Argument(help="Earlier revision, or its number, e.g. 0013.")],
    yes: Annotated[bool, typer.Option("--yes", help="There is a backup: do not ask.")] = False,
) -> None:
    """Take the schema back for older code, after a backup; refused where answers or rows of the ledger would go."""
    from resources.schema import downgrade

    say("First stop what uses the database, and make a backup of it (pg_dump).")
    confirm("Is that done?", yes)
    out.print(f"schema is at {downgrade(database_as_it_is(), revision)}")


@db_app.command("adopt-folder")
def db_adopt_folder(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Let the files of the database lie in this IRT_HOME from now on, as they were moved here or are lost elsewhere."""
    from resources.folder_claim import adopt_folder

    settings = current_settings()
    confirm(f"Do the snapshots and reports of this database lie in {settings.irt_home} from now on?", yes)
    out.print(f"the files of this database lie in {adopt_folder(settings, current_database()).root}")


@db_app.command("url")
def db_url() -> None:
    """Print the database in use, with its password; starts the embedded one."""
    print(database_as_it_is().url)  # noqa: T201 - for command substitution, untouched by any formatting


@db_app.command("start")
def db_start() -> None:
    """Start the embedded server; it runs until `irt db stop`."""
    _embedded().start()


@db_app.command("stop")
def db_stop() -> None:
    """Stop the embedded server."""
    _embedded().stop()


@import_app.command("attempts")
def import_attempts_command(
    files: Annotated[list[Path], typer.Argument(help="CSV, TSV, Parquet or JSON lines; .gz too.")],
    mapping: Mapping = "auto",
    zone: Annotated[str | None, typer.Option(help="Time zone of times that name none, e.g. Asia/Seoul.")] = None,
    at: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of a log without times.")] = None,
    dichotomise: Dichotomise = None,
    key: ScoringKey = None,
    strict: Strict = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import answers. Re-importing a file changes nothing; an interrupted import leaves nothing half in."""
    from irt_assets.responses.importing import import_attempts

    settings = current_settings()
    with progress_bar(as_json) as progress:
        report = import_attempts(
            current_database(),
            files,
            mapping=mapping,
            zone=zone,
            at=at.date() if at else None,
            dichotomise=dichotomise,
            key=key,
            strict=strict,
            dry_run=dry_run,
            first_month=settings.irt_first_month,
            reject_dir=settings.irt_home / "rejects",
            progress=progress,
        )
    print_import(report, as_json)


@import_app.command("questions")
def import_questions_command(
    file: Path, mapping: Mapping = "auto", dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Import the item bank: scales, topics, tags, keys, parameters."""
    from irt_assets.responses.importing import import_questions

    _import_rows(import_questions, file, mapping, dry_run, as_json)


@import_app.command("learners")
def import_learners_command(
    file: Path, mapping: Mapping = "auto", dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Import learners: attributes, test accounts, goals."""
    from irt_assets.responses.importing import import_learners

    _import_rows(import_learners, file, mapping, dry_run, as_json)


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


@scale_app.command("init")
def scale_init(
    scale: ScaleId = "default",
    origin: Annotated[
        str | None,
        typer.Option(help="Month whose fit becomes the origin, or FROM:TO days. Default: the bank's anchors."),
    ] = None,
    mu: Annotated[float, typer.Option(help="Mean θ of the population that is reported against.")] = 0.0,
    sigma: Annotated[float, typer.Option(min=0.01, help="Its standard deviation.")] = 1.0,
    engine: Annotated[str, typer.Option(help="Engine whose fits are published.")] = "em",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Rule of the scale, e.g. min_responses=300.")
    ] = None,
) -> None:
    """Freeze a scale's anchors and publish their values. Done once."""
    from irt_assets.calibration.origin import OriginWindow, initialise
    from irt_assets.engines import build

    settings = current_settings()
    database = current_database()
    done = initialise(
        database,
        scale,
        first_month=settings.irt_first_month,
        mu=mu,
        sigma=sigma,
        thresholds=_settings_of(setting),
        engine=engine,
        window=OriginWindow(*_window_of(origin), build(engine, threads=settings.irt_threads), current_store(database))
        if origin
        else None,
    )
    out.print(f"scale {scale}: {done.anchors} anchors frozen and published from {settings.irt_first_month} on")
    if done.errors_assumed:
        out.print(
            f"  {done.errors_assumed} of them came without errors: those of a calibration with n = 500 are assumed"
        )
    for item, why in list(done.left_out.items())[:10]:
        out.print(f"  left out: {item}: {escape(why)}")
    if len(done.left_out) > 10:
        out.print(f"  … and {len(done.left_out) - 10} more")


@scale_app.command("pass-mark")
def scale_pass_mark(
    theta: Annotated[float, typer.Argument(help="θ from which on a learner has passed.")], scale: ScaleId = "default"
) -> None:
    """Set the pass mark, so that the effect of a release decision says who crosses it."""
    from irt_assets.responses.scales import set_pass_mark

    set_pass_mark(current_database(), scale, theta)
    out.print(f"scale {scale}: passed from θ = {theta:g} on")


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
    """Materialise one month here and now: responses, fit, linking, publication, abilities."""
    from irt_assets.partitions import last_complete_month

    settings = current_settings() if engine is None else _with_engine(current_settings(), engine)
    database = current_database()
    month = month or last_complete_month(datetime.now(UTC))
    if setting:
        _change_rules(database, scale, month, _settings_of(setting), yes)
    if not _run_months(settings, database, [month]):
        raise typer.Exit(1)


@app.command(rich_help_panel=Panel.MONTH)
def backfill(
    first: Annotated[str, typer.Option("--from", help="First month.")],
    last: Annotated[str, typer.Option("--to", help="Last month.")],
) -> None:
    """Materialise every month from one to another, oldest first."""
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
    from irt_assets.runs import run_month
    from irt_assets.stack import dagster_instance
    from resources import logs

    current_store(database)
    with logs.prose(), dagster_instance(settings, database) as instance:
        for month in months:
            outcome = run_month(instance, settings, month)
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
    from irt_assets.engines import installed
    from resources.settings import OPTIONAL_ENGINES

    if engine not in ("em", *OPTIONAL_ENGINES):
        raise PermanentFailure(f"--engine wants em, {' or '.join(OPTIONAL_ENGINES)}, got {engine!r}")
    if absence := installed(engine):
        raise PermanentFailure(absence)
    return settings.model_copy(update={"irt_engines": "" if engine == "em" else engine})


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


def _import_rows(importer: Callable[..., ImportReport], file: Path, mapping: str, dry_run: bool, as_json: bool) -> None:
    settings = current_settings()
    rejects = settings.irt_home / "rejects"
    report = importer(current_database(), file, mapping=mapping, dry_run=dry_run, reject_dir=rejects)
    print_import(report, as_json)


@contextmanager
def _server_of_our_own(settings: Settings) -> Iterator[None]:
    """Stop the embedded server at the end, unless it ran before or is not in use."""
    from resources.embedded_postgres import EmbeddedPostgres

    server = None if settings.database_url is not None else EmbeddedPostgres(settings.irt_home / "postgres")
    ours = server is not None and server.status().state != "running"
    try:
        yield
    finally:
        if server is not None and ours:
            server.stop()


def _embedded() -> EmbeddedPostgres:
    from resources.embedded_postgres import EmbeddedPostgres
    from resources.settings import private_home

    settings = current_settings()
    if settings.database_url is not None:
        raise PermanentFailure("DATABASE_URL is set: the embedded server is not in use")
    return EmbeddedPostgres(private_home(settings) / "postgres")


def _settings_of(pairs: list[str] | None) -> dict[str, Any]:
    settings = {}
    for pair in pairs or []:
        name, sign, value = pair.partition("=")
        if not sign:
            raise PermanentFailure(f"--set wants NAME=VALUE, got {pair!r}")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings


def _change_rules(database: Database, scale_id: str, month: str, settings: dict[str, Any], yes: bool) -> None:
    """Say what the change makes stale, ask, and change the scale."""
    from irt_assets.responses.scales import change_rules, consider_rules
    from irt_assets.responses.snapshot import months_of_other_rules

    with database.connect() as connection:
        change = consider_rules(connection, scale_id, settings)
        stale = [other for other in months_of_other_rules(connection, change.after) if other != month]
    say(change.sentence)
    if change.before == change.after:
        return
    say(
        f"it holds for every month from now on; stale until calibrated again: {', '.join(stale)}"
        if stale
        else "it holds for every month from now on; no other month becomes stale"
    )
    confirm(f"change the rules of scale {scale_id}?", yes)
    change_rules(database, scale_id, settings)


def _window_of(origin: str) -> tuple[datetime, datetime]:
    from irt_assets.partitions import month_bounds

    try:
        if ":" not in origin:
            return month_bounds(origin)
        first, last = (date.fromisoformat(day) for day in origin.split(":"))
    except ValueError:
        raise PermanentFailure(f"--origin wants a month (2026-07) or FROM:TO days, got {origin!r}") from None
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (first, last))
    return start, end


if __name__ == "__main__":
    main()
