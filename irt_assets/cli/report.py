"""The commands of `irt report`.

Exit codes: 0 written, whatever the verdict; 1 no PDF or Word file could be made, or some learners have no report; 2 the
request is wrong, or no report can be made.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from irt_assets.cli.console import AsJson, Here, ScaleId, print_json, say
from irt_assets.cli.documents import write_document
from irt_assets.cli.installation import current_database, current_instance, current_store
from irt_assets.common.job_names import LEARNER_REPORT_JOB
from irt_assets.common.partitions import WEEKS, parse_week
from irt_assets.reports import drift_month, form_blocks, item_sheet, learner_copies
from irt_assets.reports.form_facts import form_facts
from irt_assets.runs.start import start
from irt_assets.scales.scale import named_scale, read_scales
from resources.failures import PermanentFailure
from resources.postgres.database import Database

app = typer.Typer(no_args_is_help=True)
DocumentFile = Annotated[Path, typer.Option("--to", help="File to write: NAME.pdf, NAME.docx or NAME.html.")]
AnyForm = Annotated[str, typer.Argument(help="Form. Default: all answers of the month.")]
AnalysedMonth = Annotated[str | None, typer.Option("--month", help="Month, YYYY-MM. Default: the newest analysed one.")]


@app.command(epilog="Example: irt report drift --month 2026-09 --out reports")
def drift(
    month: Annotated[str | None, typer.Option(help="Month, YYYY-MM. Default: the newest calibrated one.")] = None,
    last: Annotated[
        int | None, typer.Option(min=1, help="Number of newest months to report on, instead of one month.")
    ] = None,
    scale: Annotated[str | None, typer.Option(help="Only this scale. Default: all scales.")] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder. Default: REPORT_OUTPUT_DIR or, if unset, reports in IRT_HOME.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the drift reports of a month, or of several, as HTML, PDF and Word files. Red months have reports."""
    database = current_database()
    store = current_store(database)
    if month is not None and last is not None:
        raise PermanentFailure("--month and --last ask for different months: give one of them")
    windows = drift_month.windows(database)
    if not windows:
        raise PermanentFailure("no month has been calibrated yet: `irt calibrate --month MONTH`")
    if month is not None and month not in windows:
        raise PermanentFailure(f"{month} is not a month that was calibrated; there are: {', '.join(sorted(windows))}")
    chosen = [month] if month is not None else windows[: last or 1]
    written = []
    with current_instance(database) as instance:
        for chosen_month in chosen:
            for report in drift_month.make_reports(database, store, instance, chosen_month, scale):
                folder = out_dir or database.settings.report_output_dir or database.settings.irt_home / "reports"
                paths = drift_month.write_files(report, folder, windows.index(chosen_month) + 1)
                written.append(
                    {
                        "month": chosen_month,
                        "scale": report.scale_id,
                        "window": windows.index(chosen_month) + 1,
                        "safe_to_release": report.verdict.mark,
                        "sentence": report.verdict.in_short,
                        "files": [str(path) for path in paths],
                        "problem": report.problem,
                    }
                )
                if not as_json:
                    say(report.verdict.in_short)
                    if report.problem:
                        say(f"  no PDF and no Word file: {report.problem}")
                    for path in paths:
                        say(f"  {path} ({path.stat().st_size / 1024:.0f} KiB)")
    if as_json:
        print_json(written)
    elif len(chosen) < (last or 1):
        say(f"there are only {len(chosen)} months to report on")
    if any(report["problem"] for report in written):
        raise typer.Exit(1)


@app.command("form", epilog="Example: irt report form booklet-a --month 2026-09 --to booklet-a.pdf")
def form_report(to: DocumentFile, form: AnyForm = "", month: AnalysedMonth = None, scale: ScaleId = "default") -> None:
    """Write a form's scores, reliability, keys, items and precision for a committee."""
    with current_database().connect() as connection:
        facts = form_facts(connection, named_scale(read_scales(connection), scale), form, month)
    write_document(form_blocks.document(facts, datetime.now(UTC)), to)


@app.command("items", epilog="Example: irt report items booklet-a --month 2026-09 --to items.pdf")
def items_report(to: DocumentFile, form: AnyForm = "", month: AnalysedMonth = None, scale: ScaleId = "default") -> None:
    """Write the choices and curves of all items of a form, six items a page, flagged items first."""
    with current_database().connect() as connection:
        facts = form_facts(connection, named_scale(read_scales(connection), scale), form, month)
        estimates = item_sheet.read_estimates(connection, facts)
    write_document(item_sheet.document(facts, estimates, datetime.now(UTC)), to)


@app.command(epilog="Example: irt report learner --week 2026-W46 --user u17")
def learner(
    week: Annotated[
        str | None, typer.Option(help="Week, e.g. 2026-W46, or a day in it (UTC), e.g. 2026-11-09. Default: last week.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Print links to this learner's reports. The links expire.")] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="Folder: make the files now and write them here. Nothing is stored or recorded."),
    ] = None,
    here: Here = False,
    as_json: AsJson = False,
) -> None:
    """Make a week's reports of all learners, find those of one learner, or write them to a folder."""
    database = current_database()
    store = current_store(database)
    monday = _monday(week)
    if out_dir is not None:
        copies = learner_copies.write_copies(
            database,
            monday,
            out_dir,
            users=None if user is None else [user],
            zone=database.settings.irt_time_zone,
            n_processes=database.settings.irt_threads,
        )
        files, missing = [str(path) for path in copies.files], copies.failed
    elif user is not None:
        files, missing = learner_copies.links(database, store, monday, user), {}
    else:
        _make_week(database, monday, as_json, here=here)
        return
    if as_json:
        print_json({"week": monday, "files": files, "without": missing})
    else:
        for line in files if user is not None else [f"{len(files):,} files in {out_dir}"]:
            say(line)
        for learner_id, reason in missing.items():
            say(f"no report for {learner_id}: {reason}")
    if missing:
        raise typer.Exit(1)


def _monday(week: str | None) -> str:
    if week is None:
        return WEEKS.last_keys(datetime.now(UTC), 1)[0]
    try:
        return parse_week(week)
    except ValueError as error:
        raise PermanentFailure(f"{week!r} is not a week: write 2026-W46, or a day of it such as 2026-11-09") from error


def _make_week(database: Database, monday: str, as_json: bool, *, here: bool) -> None:
    """Run the job, so that the Dagster UI and the schedule show the run."""
    with current_instance(database) as instance:
        outcome, *_ = start(instance, database.settings, database, LEARNER_REPORT_JOB, [monday], here=here, quiet=True)
    if not outcome.success:
        raise PermanentFailure(outcome.why)
    with database.connect() as connection:
        [(learners, files)] = connection.execute(
            "SELECT count(DISTINCT user_id), count(*) FROM report_file WHERE week_start = %s", (monday,)
        ).fetchall()
    if as_json:
        print_json({"week": monday, "learners": learners, "files": files, "warnings": outcome.warnings})
    else:
        say(f"{monday}: {learners:,} learners have a report, {files:,} files")
        for warning in outcome.warnings:
            say(warning)
    if outcome.warnings:
        raise typer.Exit(1)
