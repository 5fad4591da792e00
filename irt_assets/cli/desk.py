"""Commands that need no database: fit, score, link, simulate-responses.

Results go to standard output, warnings and notes to standard error, so that `--json` prints only JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from irt_assets.blocks import table
from irt_assets.cli.console import (
    AsJson,
    err,
    escape,
    exit_with_failure,
    machine_stdout,
    print_blocks,
    print_json,
    progress_bar,
    say,
)
from irt_assets.cli.import_ import Missing, Suggest, print_suggestion
from irt_assets.cli.installation import current_settings
from irt_assets.engines import registry
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.file_commands.fit import calibrate_by
from irt_assets.intake.library_files import FILES, open_rows
from irt_assets.intake.mapped_files import MappedFiles
from irt_assets.scales.rules import LatentRule
from irt_psychometrics import PsychometricsError
from irt_psychometrics.commands import (
    Files,
    LayoutError,
    fit as fit_answers,
    main,
    score as score_answers,
)
from irt_psychometrics.items import Model

if TYPE_CHECKING:
    Engine = str
else:
    Engine = Literal[registry.names()]
    """Names of the engines, as choices for Typer."""

app = typer.Typer()

Scoring = Literal["eap", "map", "wle", "ml"]
Responses = Annotated[
    Path, typer.Argument(help="Matrix of scores, or a list person,item,score: CSV, TSV or Parquet, also .gz.")
]
Key = Annotated[
    Path | None, typer.Option("--key", help="Table item,key or item,option,score, if the cells are choices.")
]
Omitted = Annotated[
    list[str] | None,
    typer.Option("--omitted", help="Cells of omitted answers, which are wrong: `TEXT`, or `COLUMN=TEXT`."),
]
Mapping = Annotated[
    str | None, typer.Option(help="Preset or YAML file by which `irt import attempts` reads such a file.")
]
MarksOff = Annotated[float, typer.Option(help="Mark taken off for a wrong answer, such as 0.25.")]
MaxScore = Annotated[
    str | None,
    typer.Option(
        "--max-score",
        help="Maximum score: `M`, `ITEM=M` for an item or a pattern, or a table item,max_score. Default: 1.",
    ),
]
Denominator = Annotated[
    int, typer.Option(min=1, help="Factor that makes scores whole numbers, such as 2 for half points.")
]
MOUNTED = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
"""Settings of a command whose arguments a command of the library parses."""
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder for the results, created if it is missing.")]


@app.command(epilog="Example: irt fit answers.csv --model 3pl --out fit")
def fit(
    file: Responses,
    model: Annotated[Model, typer.Option(help="Item response model.")] = DEFAULT_MODEL,
    engine: Annotated[Engine, typer.Option(help="Engine that estimates the parameters.")] = registry.DEFAULT,
    anchors: Annotated[Path | None, typer.Option(help="Table item,a,b,c of items that keep these parameters.")] = None,
    mapping: Mapping = None,
    key: Key = None,
    max_score: MaxScore = None,
    missing: Missing = None,
    omitted: Omitted = None,
    denominator: Denominator = 1,
    marks_off: MarksOff = 0,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Column of FILE, or table person,group. Groups have their own mean and SD of θ; DIF in --out."
        ),
    ] = None,
    latent: Annotated[
        LatentRule, typer.Option(help="Distribution of θ; auto: a histogram if the answers need one.")
    ] = "normal",
    folder: OutFolder = None,
    as_json: AsJson = False,
    suggest: Suggest = False,
) -> None:
    """Estimate item parameters from a file of answers.

    There are no thresholds: parameters that cannot be estimated are flagged.
    """
    if suggest:
        print_suggestion([file], key=key, command="fit")
        return
    answers = read_answers(
        file,
        key,
        max_score,
        missing,
        folder,
        mapping,
        omitted=omitted,
        denominator=denominator,
        marks_off=marks_off,
        groups=groups,
    )
    external = None if engine == registry.DEFAULT else registry.build(engine, current_settings())
    known = _parameters(anchors) if anchors is not None else None
    grouped = groups is not None
    done = fit_answers(
        answers,
        model=model,
        calibrate=None if external is None else calibrate_by(external, groups=grouped, latent=latent),
        anchors=known,
        groups=answers.groups,
        latent=latent,
    )
    print_result(done, as_json, folder)
    if done.reason:
        err.print(f"[yellow]not converged:[/yellow] {escape(done.reason)}")
    _warn(*done.warnings)
    exit_with_failure(done.warnings or not done.calibration.convergence.converged)


@app.command(epilog="Example: irt score answers.csv --params fit/fit.json")
def score(
    file: Responses,
    params: Annotated[Path, typer.Option(help="Table item,a,b,c, or the fit.json of `irt fit --out`.")],
    method: Annotated[Scoring, typer.Option(help="Estimator of ability.")] = "eap",
    mapping: Mapping = None,
    key: Key = None,
    missing: Missing = None,
    omitted: Omitted = None,
    denominator: Denominator = 1,
    marks_off: MarksOff = 0,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept answers to less than half of the table's items.")
    ] = False,
    folder: OutFolder = None,
    as_json: AsJson = False,
    suggest: Suggest = False,
) -> None:
    """Estimate abilities from a file of answers and known item parameters."""
    if suggest:
        print_suggestion([file], key=key, command="score")
        return
    known = _parameters(params)
    answers = read_answers(
        file,
        key,
        known.max_scores,
        missing,
        folder,
        mapping,
        omitted=omitted,
        denominator=denominator,
        marks_off=marks_off,
    )
    done = score_answers(answers, known, method=method, partial=partial)
    _warn(*done.warnings)
    print_result(done, as_json, folder)


@app.command(context_settings=MOUNTED, epilog="Example: irt link new.csv old.csv --method haebara")
def link(context: typer.Context) -> None:
    """Put one table of item parameters on the scale of another through common items."""
    run_library(context)


@app.command(
    "simulate-responses",
    context_settings=MOUNTED,
    epilog="Example: irt simulate-responses simulated --persons 2000 --items 40",
)
def simulate_responses(context: typer.Context) -> None:
    """Simulate answers that follow a model exactly, and write the true values next to them."""
    run_library(context)


def run_library(context: typer.Context, files: Files = FILES) -> None:
    """Run the library's command of this name, which parses the arguments and prints the help.

    The help ends with the paragraphs after the first of the command's own help.
    """
    see_also = (context.command.help or "").partition("\n\n")[2]
    with redirect_stdout(machine_stdout()) as stdout:
        code = main([str(context.info_name), *context.args], program="irt", files=files, see_also=see_also)
        stdout.flush()
    raise typer.Exit(code)


def read_answers(
    file: Path,
    key: Path | None,
    max_scores: Any,
    missing: list[str] | None,
    folder: Path | None,
    mapping: str | None,
    **options: Any,
) -> Any:
    """Read the answers of a file, and print the notes about the file.

    Raises PsychometricsError if results cannot be written to `folder`.
    """
    with progress_bar("rows", quiet=False) as advance:
        files = replace(FILES, read=partial(open_rows, progress=advance))
        if mapping is not None:
            files = MappedFiles(mapping=mapping, progress=advance, read=open_rows)
        try:
            answers = files.answers_by_options(file, key, max_scores, missing, folder, **options)
        except LayoutError as error:
            raise PsychometricsError(f"{error}. --suggest proposes a mapping by which the file can be read") from error
    _note(answers.notes)
    return answers


def _parameters(path: Path) -> Any:
    """Read a table of parameters, and print its warnings."""
    found = FILES.parameters(path)
    _warn(*found.warnings)
    return found


def print_result(done: Any, as_json: bool, folder: Path | None = None) -> None:
    """Write a result into a folder, if one is given, and print the result as JSON or as a report."""
    if folder is not None:
        _note(done.write(folder) or ())
    if as_json:
        print_json(done.as_dict())
        return
    for part in done.report():
        if isinstance(part, str):
            say(part)
        else:
            print_blocks(table(part.headings, part.rows, numbers=part.formats))


def _warn(*warnings: str) -> None:
    for warning in warnings:
        err.print(f"[yellow]warning:[/yellow] {escape(warning)}")


def _note(notes: Iterable[str]) -> None:
    for sentence in notes:
        err.print(escape(f"note: {sentence}"))
