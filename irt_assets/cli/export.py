"""The commands of `irt export`.

Exit codes: 0 written; 2 the request is wrong, or the file cannot be written.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from irt_assets.cli.console import AsJson, print_json, say
from irt_assets.cli.installation import current_database, current_store
from irt_assets.common.wording import did_you_mean
from irt_assets.decisions.exports import Kind, Subject, read_export, update_statement, write_export
from irt_assets.decisions.month_export import write_month
from irt_psychometrics.items import ProgramForm
from resources.failures import PermanentFailure

app = typer.Typer(no_args_is_help=True)

AsOf = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="Day, YYYY-MM-DD: values as of its beginning (UTC). Default: now."),
]
To = Annotated[
    str,
    typer.Option(metavar="FORMAT", help="csv, xlsx or parquet; or a file with one of these endings, such as b.csv."),
]
OutFile = Annotated[Path | None, typer.Option("--out", help="File to write. Default: WHAT_DATE.FORMAT in this folder.")]


@app.command(epilog="Example: irt export parameters --since 2026-10-01 --to xlsx")
def parameters(
    as_of: AsOf = None,
    to: To = "csv",
    form: Annotated[
        ProgramForm | None,
        typer.Option(help="Parameters in the columns of another program; steps: a, b1, b2, … of each item."),
    ] = None,
    metric_d: Annotated[float, typer.Option(help="D of that program, 1 or 1.7. Slopes are divided by it.")] = 1.0,
    since: Annotated[
        datetime | None,
        typer.Option(help="Time (UTC): only values that have been published or have come into force after it."),
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option(
            metavar="TABLE",
            help="Instead of a file, print the SQL with which an administrator writes the values into your own table "
            "of items. Nothing is run.",
        ),
    ] = None,
    out_file: OutFile = None,
    as_json: AsJson = False,
) -> None:
    """Write the published parameters, as of a day."""
    if metric_d != 1.0 and (form is None or metric_d <= 0):
        raise PermanentFailure("--metric-d is the D of a program, above 0, and needs --form")
    since = since and since.replace(tzinfo=UTC)
    if sql is None:
        _export("parameters", as_of, to, out_file, as_json, form, metric_d, since)
        return
    if form or out_file:
        raise PermanentFailure("--sql prints a, b and c for a table of items: omit --form and --out")
    at = as_of.replace(tzinfo=UTC) if as_of else datetime.now(UTC)
    with current_database().connect() as connection:
        print(update_statement(connection, sql, at, since))  # noqa: T201 - for psql, untouched by any formatting


@app.command(epilog="Example: irt export abilities --as-of 2026-10-01 --to parquet")
def abilities(as_of: AsOf = None, to: To = "csv", out_file: OutFile = None, as_json: AsJson = False) -> None:
    """Write the newest ability of each learner, as of a day."""
    _export("abilities", as_of, to, out_file, as_json)


@app.command(epilog="Example: irt export flags --to xlsx")
def flags(as_of: AsOf = None, to: To = "csv", out_file: OutFile = None, as_json: AsJson = False) -> None:
    """Write the items that are flagged in the newest month, as of a day."""
    _export("flags", as_of, to, out_file, as_json)


@app.command(epilog="Example: irt export month 2026-09 --out september")
def month(
    name: Annotated[str, typer.Argument(metavar="MONTH", help="Month, YYYY-MM.")],
    folder: Annotated[Path, typer.Option("--out", "--to", help="Folder for the files, created if it is missing.")],
    scale: Annotated[str, typer.Option(help="Scale (items that measure one ability).")] = "default",
    as_json: AsJson = False,
) -> None:
    """Write the answers and parameters of a month's fit, with scripts in Python and R that repeat it.

    The answers have learner keys instead of learners' ids.
    """
    database = current_database()
    with database.connect() as connection:
        files = write_month(connection, current_store(database), scale, name, folder)
    say(*(f"  {path}" for path in files))
    if as_json:
        print_json({"files": files})


def _export(
    what: Subject,
    as_of: datetime | None,
    to: str,
    out_file: Path | None,
    as_json: bool,
    form: ProgramForm | None = None,
    metric_d: float = 1.0,
    since: datetime | None = None,
) -> None:
    at = as_of.replace(tzinfo=UTC) if as_of else datetime.now(UTC)
    kind: Any = Path(to).suffix.removeprefix(".") or to
    if kind not in get_args(Kind):
        kinds = ", ".join(get_args(Kind))
        remedy = did_you_mean(kind, get_args(Kind))
        raise PermanentFailure(
            f"--to must be {kinds} or a file with one of these endings, got {to}; {remedy}".rstrip("; ")
        )
    if kind != to and out_file:
        raise PermanentFailure(f"--to must be {kind} if --out names the file, got {to}")
    path = out_file or Path(to if kind != to else f"{what}_{at:%Y-%m-%d}.{kind}")
    with current_database().connect() as connection:
        frame = read_export(connection, what, at, form, metric_d, since)
    write_export(frame, kind, path, f"{what}, as of {at:%Y-%m-%d}")
    why = f"have changed since {since:%Y-%m-%d %H:%M}" if since else f"existed at {at:%Y-%m-%d %H:%M}"
    say(f"{len(frame):,} rows in {path}" + ("" if len(frame) else f": no {what} {why} UTC"))
    if as_json:
        print_json({"file": path, "rows": len(frame)})
