"""The commands of `irt import`: answers, questions, learners and forms from files."""

from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from irt_assets.cli.console import AsJson, choose, err, escape, print_json, progress_bar, say
from irt_assets.cli.installation import current_database, current_settings, unchecked_database
from irt_assets.common.wording import quantity
from irt_assets.intake.bank import LEARNERS, QUESTIONS, Kind, import_bank_file
from irt_assets.intake.ingest import keys_of, proposed_prefix
from irt_assets.intake.load import import_attempts
from irt_assets.intake.report import ImportReport, csv_of_refused
from irt_assets.intake.suggest import NO_FORM, NO_TIMES, NO_ZONE, suggest as suggest_mapping
from irt_assets.intake.suggestion import make_choices, preview
from irt_assets.item_analysis.forms import import_forms
from irt_assets.scales.item_keys import Key
from irt_psychometrics.cells import codes_by_column
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)

Mapping = Annotated[str, typer.Option("--mapping", help="Preset or YAML file; `auto` chooses by the header.")]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="Encoding of the files if not UTF-8, e.g. cp949 or latin-1.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Reject unknown items and learners instead of adding them.")]
Dichotomise = Annotated[
    str | None, typer.Option(help="Right answers among points: `full` (an item's maximum) or `at=K` (K or more).")
]
ScoringKey = Annotated[Path | None, typer.Option("--key", help="Table item,key, to score a matrix of choices.")]
MaxScores = Annotated[
    list[str] | None,
    typer.Option(
        "--max-score",
        help="Maximum score missing in the bank: `M`, `ITEM=M` for an item or a pattern, or a table. May be repeated.",
    ),
]
Missing = Annotated[
    list[str] | None,
    typer.Option("--missing", help="Cells without an answer: `TEXT`, or `COLUMN=TEXT` for a column or a pattern."),
]
Frequency = Annotated[
    str | None, typer.Option(help="Column with the number of persons who gave a row's pattern of answers.")
]
Prefix = Annotated[
    str, typer.Option(help="Text before the ids of the items, if another test has the same names, e.g. quiz2-.")
]
Suggest = Annotated[bool, typer.Option("--suggest", help="Store nothing; print a mapping file for the first file.")]
Csv = Annotated[
    Path | None, typer.Option("--csv", help="Write the rejected rows to this file, also in a dry run.", dir_okay=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, and store nothing.")]


@app.command(epilog="Example: irt import attempts answers.xlsx --suggest > own.yaml")
def attempts(
    files: Annotated[list[Path], typer.Argument(help="CSV, TSV, Parquet, JSON lines, Excel, SPSS or Stata.")],
    mapping: Mapping = "auto",
    zone: Annotated[str | None, typer.Option(help="Time zone of times without one, e.g. Asia/Seoul.")] = None,
    at: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Day of a log without times, YYYY-MM-DD.")
    ] = None,
    dichotomise: Dichotomise = None,
    key: ScoringKey = None,
    max_score: MaxScores = None,
    missing: Missing = None,
    strict: Strict = False,
    encoding: Encoding = None,
    frequency: Frequency = None,
    prefix: Prefix = "",
    dry_run: DryRun = False,
    csv: Csv = None,
    as_json: AsJson = False,
    suggest: Suggest = False,
) -> None:
    """Import answers.

    Importing a file again changes nothing. An interrupted import stores nothing.
    """
    if suggest:
        print_suggestion(files, zone, at.date() if at else None, key, frequency, prefix)
        return
    make_choices(mapping, choose)
    settings = current_settings()
    with progress_bar("importing", as_json) as progress, csv_of_refused(csv) as reject:
        report = import_attempts(
            current_database(),
            files,
            mapping=mapping,
            zone=zone,
            at=at.date() if at else None,
            dichotomise=dichotomise,
            key=key,
            max_scores=max_score or (),
            missing=codes_by_column(missing),
            strict=strict,
            encoding=encoding,
            frequency=frequency,
            prefix=prefix,
            dry_run=dry_run,
            first_month=settings.irt_first_month,
            reject=reject,
            progress=progress,
        )
    _print_import(report, csv, dry_run=dry_run, as_json=as_json)


def _add_bank_command(name: str, kind: Kind, summary: str) -> None:
    @app.command(name, help=summary, epilog=f"Example: irt import {name} {name}.csv")
    def import_kind(
        file: Annotated[Path, typer.Argument(help="CSV, TSV, Parquet, JSON lines, Excel, SPSS or Stata.")],
        mapping: Mapping = "auto",
        encoding: Encoding = None,
        dry_run: DryRun = False,
        csv: Csv = None,
        as_json: AsJson = False,
    ) -> None:
        make_choices(mapping, choose)
        with csv_of_refused(csv) as reject:
            report = import_bank_file(
                current_database(), kind, file, mapping=mapping, encoding=encoding, dry_run=dry_run, reject=reject
            )
        _print_import(report, csv, dry_run=dry_run, as_json=as_json)


_add_bank_command("questions", QUESTIONS, "Import the item bank: scales, topics, tags, keys, parameters.")
_add_bank_command("learners", LEARNERS, "Import learners: attributes, test accounts, goals.")


@app.command(epilog="Example: irt import forms forms.csv --dry-run")
def forms(
    file: Annotated[Path, typer.Argument(help="Table form_id,item_id,position; also max_score and scored.")],
    encoding: Encoding = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Import forms: the items of each form and their places.

    A form in the file replaces the stored one. A row without item_id is a place
    that seed draws fill. If a row is at fault, nothing is stored.
    """
    found = import_forms(current_database(), file, encoding=encoding, dry_run=dry_run)
    sizes = Counter(found["form_id"][found["item_id"] != ""])
    if as_json:
        print_json(sizes)
    else:
        checked = "checked" if dry_run else "stored"
        places = len(found) - sum(sizes.values())
        seeds = f", {quantity(places, 'seed place')}" if places else ""
        say(f"{quantity(len(sizes), 'form')} {checked}, {quantity(sum(sizes.values()), 'item')}{seeds}")


def print_suggestion(
    files: list[Path],
    zone: str | None = None,
    at: date | None = None,
    key: Path | None = None,
    frequency: str | None = None,
    prefix: str = "",
    command: str = "",
) -> None:
    """Print a mapping file, with the first answers and the next command as comments.

    `command`: a command that reads one file and stores nothing; it shows no answers, and needs no times.
    """
    found = suggest_mapping(files[0], keyed=key is not None, zone=zone, frequency=frequency)
    keys = found.content.get("keys", {})
    stored = {} if prefix or command else _stored_keys(list(keys))
    if prefix or any(stored[item] != keys[item] for item in stored):
        found.content["prefix"] = prefix or proposed_prefix(files[0].name)
    found.make_choices(choose)
    options = f" --at {at}" if at else ""
    options += f" --key {key}" if key else ""
    if command:
        found.notes = [note for note in found.notes if note not in (NO_FORM, NO_TIMES, NO_ZONE)]
        shown, command = [], f"irt {command} {files[0]} --mapping FILE.yaml{options}"
    else:
        shown = preview(files[0], found, at=at, key=key, zone=zone)
        command = f"irt import {found.kind} {' '.join(map(str, files))} --mapping FILE.yaml{options} --dry-run"
    for line in found.as_yaml().splitlines():
        say(line)
    for line in [*shown, "Save this as FILE.yaml, correct it, and try it:", f"  {command}"]:
        say(f"# {line}")


def _stored_keys(items: list[str]) -> dict[str, Key]:
    """Read the keys of items in the bank; empty if there is no database yet, or if it cannot be read."""
    settings = current_settings()
    if not (items and (settings.database_url or (settings.irt_home / "postgres").is_dir())):
        return {}
    try:
        return unchecked_database().call(keys_of, items)
    except (psycopg.Error, PermanentFailure):
        return {}


def _print_import(report: ImportReport, csv: Path | None, *, dry_run: bool, as_json: bool) -> None:
    """Print an import's counts.

    Exits with 1 if no row was accepted, or if more than half were rejected for one reason.
    """
    if as_json:
        print_json(report.as_dict())
    else:
        for note in report.notes:
            say(note)
        say(report.counts)
        if report.new_items or report.new_learners:
            say(f"  not known before: {report.new_items:,} items, {report.new_learners:,} learners")
        for reason, n in sorted(report.rejected.items()):
            say(f"  {n:,} × {reason}")
        if report.rejected:
            see = csv or ("--csv FILE writes them" if dry_run else "irt intake rejects --csv FILE writes them")
            say(f"  the rejected rows, with line and reason: {see}")
    if report.complaint:
        err.print(f"[yellow]{escape(report.complaint)}[/yellow]")
        raise typer.Exit(1)
