"""The command `irt export`.

Exit codes: 0 written; 2 the request is wrong, or the file cannot be written.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from irt_assets.cli.console import say
from irt_assets.cli.installation import current_database
from irt_assets.decisions.exports import read_export, write_export
from irt_psychometrics.items import ProgramForm
from resources.failures import PermanentFailure

app = typer.Typer()


@app.command(epilog="Example: irt export parameters --as-of 2026-10-01 --to xlsx")
def export(
    what: Annotated[
        Literal["parameters", "abilities", "flags"],
        typer.Argument(help="Published parameters, learners' abilities, or items flagged in the newest month."),
    ],
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Day, YYYY-MM-DD: values as of its beginning (UTC). Default: now."),
    ] = None,
    to: Annotated[Literal["csv", "xlsx", "parquet"], typer.Option(help="File format.")] = "csv",
    form: Annotated[
        ProgramForm | None,
        typer.Option(help="Parameters in the columns of another program; steps: a, b1, b2, … of each item."),
    ] = None,
    metric_d: Annotated[float, typer.Option(help="D of that program, 1 or 1.7. Slopes are divided by it.")] = 1.0,
    out_file: Annotated[
        Path | None, typer.Option("--out", help="File to write. Default: WHAT_DATE.FORMAT in this folder.")
    ] = None,
) -> None:
    """Write published parameters, abilities or flagged items to a file, as of a day."""
    if form is not None and what != "parameters":
        raise PermanentFailure(f"--form is for parameters, not for {what}")
    if metric_d != 1.0 and (form is None or metric_d <= 0):
        raise PermanentFailure("--metric-d is the D of a program, above 0, and needs --form")
    at = as_of.replace(tzinfo=UTC) if as_of else datetime.now(UTC)
    path = out_file or Path(f"{what}_{at:%Y-%m-%d}.{to}")
    with current_database().connect() as connection:
        frame = read_export(connection, what, at, form, metric_d)
    write_export(frame, to, path, f"{what}, as of {at:%Y-%m-%d}")
    say(f"{len(frame):,} rows in {path}" + ("" if len(frame) else f": no {what} existed at {at:%Y-%m-%d %H:%M} UTC"))
