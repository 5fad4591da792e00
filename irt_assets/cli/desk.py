"""The commands that need no database: fit, score, link, simulate-responses.

Results go to standard output, warnings and notes to standard error, so that `--json` prints only JSON.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from irt_assets.blocks import table
from irt_assets.cli.console import AsJson, err, escape, exit_with_failure, print_blocks, print_json, progress_bar, say
from irt_assets.cli.import_ import Missing
from irt_assets.cli.installation import current_settings
from irt_assets.common.wording import some_of
from irt_assets.engines import registry
from irt_assets.engines.spec import DEFAULT_MODEL
from irt_assets.file_commands.fit import calibrate_by
from irt_assets.intake.library_files import FILES, open_rows
from irt_assets.scales.rules import LatentRule, PublicationRules
from irt_psychometrics.commands import (
    fit as fit_answers,
    score as score_answers,
    simulate_responses as simulate_to_files,
)
from irt_psychometrics.items import Model
from resources.failures import PermanentFailure

if TYPE_CHECKING:
    Engine = str
else:
    Engine = Literal[registry.names()]
    """Names of the engines, as choices for Typer."""

app = typer.Typer()

Scoring = Literal["eap", "map", "wle", "ml"]
Method = Literal["stocking-lord", "haebara", "mean-sigma", "mean-mean"]
Responses = Annotated[
    Path, typer.Argument(help="Matrix of scores, or a list person,item,score: CSV, TSV or Parquet, also .gz.")
]
Key = Annotated[
    Path | None, typer.Option("--key", help="Table item,key of the right options, if the cells are choices.")
]
MaxScore = Annotated[
    str | None,
    typer.Option("--max-score", help="Maximum score of scored items: a number, or a table item,max_score. Default: 1."),
]
Denominator = Annotated[
    int, typer.Option(min=1, help="Factor that makes scores whole numbers, such as 2 for half points.")
]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder for the results, created if it is missing.")]


@app.command(epilog="Example: irt fit answers.csv --model 3pl --out fit")
def fit(
    file: Responses,
    model: Annotated[Model, typer.Option(help="Item response model.")] = DEFAULT_MODEL,
    engine: Annotated[Engine, typer.Option(help="Engine that estimates the parameters.")] = registry.DEFAULT,
    anchors: Annotated[Path | None, typer.Option(help="Table item,a,b,c of items that keep these parameters.")] = None,
    key: Key = None,
    max_score: MaxScore = None,
    missing: Missing = None,
    denominator: Denominator = 1,
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
) -> None:
    """Estimate item parameters from a file of answers.

    There are no thresholds: parameters that cannot be estimated are flagged.
    """
    answers = read_answers(file, key, max_score, missing, folder, denominator=denominator, groups=groups)
    external = None if engine == registry.DEFAULT else registry.build(engine, current_settings())
    known = _parameters(anchors) if anchors is not None else None
    scored, grouped = answers.responses.categories is not None, groups is not None
    done = fit_answers(
        answers,
        model=model,
        calibrate=None if external is None else calibrate_by(external, scored=scored, groups=grouped, latent=latent),
        anchors=known,
        groups=answers.groups,
        latent=latent,
    )
    if folder is not None:
        note(done.write(folder))
    result = done.as_dict()
    print_result(done, as_json)
    if not result["converged"]:
        err.print(f"[yellow]not converged:[/yellow] {escape(done.reason)}")
    limits = PublicationRules()
    if undetermined := done.loose_items(limits.max_abs_b, limits.max_b_se):
        _warn(
            f"the answers hardly determine {len(undetermined)} of {result['n_items']} items, which a month would "
            "hold back for |b| or SE(b), and other slopes may be as far off. This happens if learners were given items "
            f"near their ability: use more answers, or --model 1pl: {some_of(undetermined, 5)}"
        )
    exit_with_failure(undetermined or not result["converged"])


@app.command(epilog="Example: irt score answers.csv --params fit/fit.json")
def score(
    file: Responses,
    params: Annotated[Path, typer.Option(help="Table item,a,b,c, or the fit.json of `irt fit --out`.")],
    method: Annotated[Scoring, typer.Option(help="Estimator of ability.")] = "eap",
    key: Key = None,
    missing: Missing = None,
    denominator: Denominator = 1,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept answers to less than half of the table's items.")
    ] = False,
    folder: OutFolder = None,
    as_json: AsJson = False,
) -> None:
    """Estimate abilities from a file of answers and known item parameters."""
    known = _parameters(params)
    answers = read_answers(file, key, known.max_scores, missing, folder, denominator=denominator)
    done = score_answers(answers, known, method=method, partial=partial)
    if folder is not None:
        done.write(folder)
    _warn(*done.warnings)
    print_result(done, as_json)


@app.command(epilog="Example: irt link new.csv old.csv --method haebara")
def link(
    new: Annotated[Path, typer.Argument(help="Table item,a,b,c[,a_se,b_se], or a fit.json: parameters to transform.")],
    old: Annotated[Path, typer.Argument(help="Table or fit.json whose scale they are put on.")],
    method: Annotated[Method, typer.Option(help="Criterion for the linking constants.")] = "stocking-lord",
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="Compare curves on both scales (stocking-lord, haebara).")
    ] = False,
    metric_d: Annotated[str, typer.Option(help="D of the tables, 1 or 1.7; NEW,OLD if they differ, e.g. 1,1.7.")] = "1",
    purify: Annotated[bool, typer.Option("--purify/--no-purify", help="Exclude common items that moved.")] = True,
    as_json: AsJson = False,
) -> None:
    """Put one table of item parameters on the scale of another through common items."""
    d_new, d_old = _metrics(metric_d)
    from irt_psychometrics.commands import link as link_parameters  # imports SciPy, which a fit does without

    done = link_parameters(
        _parameters(new, d_new),
        _parameters(old, d_old),
        method=method,
        symmetric=symmetric,
        purify=purify,
    )
    _warn(*done.warnings)
    print_result(done, as_json)


@app.command("simulate-responses", epilog="Example: irt simulate-responses simulated --persons 2000 --items 40")
def simulate_responses(
    folder: Annotated[Path, typer.Argument(help="Folder for responses.csv, items.csv and persons.csv.")],
    persons: Annotated[int, typer.Option(help="Number of persons.")] = 1000,
    items: Annotated[int, typer.Option(help="Number of items to draw, without --params.")] = 20,
    model: Annotated[Model, typer.Option(help="Item response model of the items to draw.")] = DEFAULT_MODEL,
    params: Annotated[Path | None, typer.Option(help="Table item,a,b,c of the items to answer.")] = None,
    mean: Annotated[float, typer.Option(help="Mean of θ.")] = 0.0,
    sd: Annotated[float, typer.Option(help="Standard deviation of θ.")] = 1.0,
    each: Annotated[
        int | None, typer.Option(help="Number of items that each person sees, at random. Default: all.")
    ] = None,
    max_score: Annotated[
        int | None, typer.Option(help="Maximum score of items under pcm, rsm or gpcm. Default: 3.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Simulate answers that follow a model exactly, and write the true values next to them."""
    FILES.check_folder(folder)
    known = _parameters(params) if params is not None else None
    done = simulate_to_files(
        persons=persons,
        items=items,
        model=model,
        params=known,
        mean=mean,
        sd=sd,
        each=each,
        max_score=max_score,
        seed=seed,
    )
    done.write(folder)
    print_result(done, as_json, folder)


def read_answers(
    file: Path, key: Path | None, max_scores: Any, missing: list[str] | None, folder: Path | None, **options: Any
) -> Any:
    """The answers of a file; prints their notes. Raises PsychometricsError if results cannot be written to `folder`."""
    with progress_bar("rows", quiet=False) as advance:
        files = replace(FILES, read=partial(open_rows, progress=advance))
        answers = files.answers_by_options(file, key, max_scores, missing, folder, **options)
    note(answers.notes)
    return answers


def _parameters(path: Path, metric_d: float = 1.0) -> Any:
    """Read a table of parameters, and print its warnings."""
    found = FILES.parameters(path, metric_d)
    _warn(*found.warnings)
    return found


def _metrics(text: str) -> tuple[float, float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise PermanentFailure(
            f"--metric-d takes one D for both tables or NEW,OLD, for example 1.7 or 1,1.7, not {text!r}"
        )
    return values[0], values[-1]


def print_result(done: Any, as_json: bool, *folder: Path) -> None:
    """Print a result as JSON, or the sentences and tables of its report on the files in `folder`."""
    if as_json:
        print_json(done.as_dict())
        return
    for part in done.report(*folder):
        if isinstance(part, str):
            say(part)
        else:
            print_blocks(table(part.headings, part.rows, numbers=part.formats))


def _warn(*warnings: str) -> None:
    for warning in warnings:
        err.print(f"[yellow]warning:[/yellow] {escape(warning)}")


def note(notes: Iterable[str]) -> None:
    for sentence in notes:
        err.print(escape(f"note: {sentence}"))
