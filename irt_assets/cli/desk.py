"""The commands of `irt` that need no database: fit, score, link, simulate-responses. Parses, calls, prints.

Results go to standard output, warnings and reasons to standard error, so that `--json` prints nothing but JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from irt_assets.blocks import table
from irt_assets.cli.console import AsJson, err, escape, out, print_blocks, print_json
from irt_assets.cli.installation import current_settings
from irt_assets.common.wording import some_of
from irt_assets.engines import registry
from irt_assets.file_commands import Scoring, files, tables
from irt_assets.file_commands import fit as fitting
from irt_assets.file_commands import link as linking
from irt_assets.file_commands import score as scoring
from irt_assets.file_commands import simulate as simulation
from irt_assets.intake.scoring import read_key
from irt_psychometrics.estimation import Flag, LatentRule
from irt_psychometrics.items import DEFAULT_MODEL, STEPS_OR_GRADED, WHOLE_SLOPE, Model, model_of
from irt_psychometrics.linking import Method
from resources.failures import PermanentFailure

if TYPE_CHECKING:
    Engine = str
else:
    Engine = Literal[registry.names()]
    """The engines there are, for typer to choose from."""

app = typer.Typer()

SHOWN = 20  # persons in a table for people; files and JSON have all
DOUBTFUL = 0.01
"""p value below which a test of the model is reported."""
GUESSED = ", or items are guessed"

Responses = Annotated[
    Path, typer.Argument(help="Matrix of scores, or a list person,item,score: CSV, TSV, Parquet; .gz too.")
]
Key = Annotated[
    Path | None, typer.Option("--key", help="Table item,key of the right options, where cells are choices.")
]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder for the results, created if it is missing.")]


@app.command()
def fit(
    file: Responses,
    model: Annotated[Model, typer.Option(help="Item response model.")] = DEFAULT_MODEL,
    engine: Annotated[Engine, typer.Option(help="What estimates it.")] = registry.DEFAULT,
    anchors: Annotated[Path | None, typer.Option(help="Table item,a,b,c of items that keep these parameters.")] = None,
    key: Key = None,
    max_score: Annotated[
        str | None, typer.Option("--max-score", help="Of scored items: a number, or a table item,max_score; else 1.")
    ] = None,
    groups: Annotated[Path | None, typer.Option(help="Table person,group: groups with their own mean and SD.")] = None,
    latent: Annotated[
        LatentRule, typer.Option(help="Distribution of θ; auto: a histogram where the answers need one.")
    ] = "normal",
    folder: OutFolder = None,
    as_json: AsJson = False,
) -> None:
    """Estimate item parameters from answers. There are no thresholds: what cannot be estimated is flagged."""
    if folder is not None:
        files.check_folder(folder)
    most = files.read_max_scores(max_score) if max_score is not None else None
    answers = files.read_answers(file, read_key(key) if key is not None else None, most)
    _note(answers)
    done = fitting.fit(
        answers,
        model=model,
        engine=None if engine == registry.DEFAULT else registry.build(engine, current_settings()),
        anchors=_parameters(anchors) if anchors is not None else None,
        groups=files.read_groups(groups, answers) if groups is not None else None,
        latent=latent,
    )
    if folder is not None:
        done.write(folder)
    result = done.as_dict()
    if as_json:
        print_json(result)
    else:
        _print_fit(result)
    if not result["converged"]:
        err.print(f"[yellow]not converged:[/yellow] {escape(done.reason)}")
    if done.loose_items:
        _warn(
            f"the answers hardly determine {len(done.loose_items)} of {result['n_items']} items, which a month would "
            "hold back for |b| or SE(b), and other slopes may be as far off. It is so where learners were given items "
            "near their ability: take more answers, or --model 1pl",
            done.loose_items,
        )
    if done.loose_items or not result["converged"]:
        raise typer.Exit(1)


@app.command()
def score(
    file: Responses,
    params: Annotated[Path, typer.Option(help="Table item,a,b,c, or the fit.json of `irt fit --out`.")],
    method: Annotated[Scoring, typer.Option(help="Estimator of ability.")] = "eap",
    key: Key = None,
    partial: Annotated[
        bool, typer.Option("--partial", help="Also if less than half of the table's items have answers.")
    ] = False,
    folder: OutFolder = None,
    as_json: AsJson = False,
) -> None:
    """Abilities of persons from their answers and known item parameters."""
    if folder is not None:
        files.check_folder(folder)
    known = _parameters(params)
    answers = files.read_answers(file, read_key(key) if key is not None else None, known.max_scores)
    _note(answers)
    done = scoring.score(answers, known, method=method, partial=partial)
    if folder is not None:
        done.write(folder)
    if done.ignored:
        _warn(f"{params} has no parameters for {len(done.ignored)} items, whose answers do not count", done.ignored)
    if done.unanswered:
        _warn(f"{len(done.unanswered)} of the {len(known.item_ids)} items of {params} have no answers", done.unanswered)
    rows = done.as_dict()
    if as_json:
        print_json(rows)
    else:
        found = [(row["person"], row["theta"], row["se"]) for row in rows[:SHOWN]]
        print_blocks(table(("person", "theta", "se"), found, numbers={"theta": ".3f", "se": ".3f"}))
        if len(rows) > SHOWN:
            out.print(f"… and {len(rows) - SHOWN:,} more: --json prints all, --out FOLDER writes them")


@app.command()
def link(
    new: Annotated[Path, typer.Argument(help="Table item,a,b,c[,a_se,b_se], or a fit.json: what is put …")],
    old: Annotated[Path, typer.Argument(help="… on the scale of this one.")],
    method: Annotated[Method, typer.Option(help="Criterion of the constants.")] = "stocking-lord",
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="Compare curves on both scales (stocking-lord, haebara).")
    ] = False,
    metric_d: Annotated[
        str, typer.Option(help="D of the tables, 1 or 1.7; NEW,OLD where they differ, e.g. 1,1.7.")
    ] = "1",
    purify: Annotated[bool, typer.Option("--purify/--no-purify", help="Drop common items that moved.")] = True,
    as_json: AsJson = False,
) -> None:
    """Put one table of item parameters on another's scale through their common items."""
    d_new, d_old = _metrics(metric_d)
    done = linking.link(
        _parameters(new, d_new),
        _parameters(old, d_old),
        method=method,
        symmetric=symmetric,
        purify=purify,
    )
    for warning in done.warnings:
        _warn(warning)
    result = done.as_dict()
    if as_json:
        print_json(result)
        return
    criterion = f"{result['method']}, symmetric" if result["symmetric"] else result["method"]
    out.print(f"θ_old = {result['slope']:.5f}·θ_new + {result['intercept']:.5f}   ({criterion})")
    out.print(f"  {len(result['anchors_used'])} common items used; their curves differ by {result['rmse']:.4f} (RMSE)")
    for item, why in result["anchors_dropped"].items():
        out.print(f"  dropped: {escape(item)}: {escape(why)}")


@app.command("simulate-responses")
def simulate_responses(
    folder: Annotated[Path, typer.Argument(help="Where responses.csv, items.csv and persons.csv go.")],
    persons: Annotated[int, typer.Option(help="How many.")] = 1000,
    items: Annotated[int, typer.Option(help="Number of items to draw if no --params are given.")] = 20,
    model: Annotated[Model, typer.Option(help="Model of the items that are drawn.")] = DEFAULT_MODEL,
    params: Annotated[Path | None, typer.Option(help="Table item,a,b,c of the items to answer.")] = None,
    mean: Annotated[float, typer.Option(help="Of θ.")] = 0.0,
    sd: Annotated[float, typer.Option(help="Of θ.")] = 1.0,
    each: Annotated[int | None, typer.Option(help="Items that a person sees, at random; all by default.")] = None,
    max_score: Annotated[int | None, typer.Option(help="Of items of a pcm, rsm or gpcm; 3 by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random draws.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Answers that follow the model exactly, with the true values next to them."""
    files.check_folder(folder)
    known = _parameters(params) if params is not None else None
    done = simulation.simulate_responses(
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
    summary = done.as_dict()
    if as_json:
        print_json(summary)
    else:
        out.print(
            f"{summary['n_responses']:,} answers of {summary['n_persons']:,} persons to {summary['n_items']:,} items in"
            f" {folder}; the true values are in items.csv and persons.csv next to them"
        )


def _parameters(path: Path, metric_d: float = 1.0) -> tables.ParameterTable:
    """A table of parameters, with a warning if the table may mean a model that is not here."""
    found = tables.read_parameters(path, metric_d)
    if found.may_be_graded:
        _warn(f"{path}: {STEPS_OR_GRADED}", found.may_be_graded)
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


def _print_fit(result: dict[str, Any]) -> None:
    columns = [("a", "a"), ("SE", "a_se"), ("b", "b"), ("SE", "b_se")]
    if any("max_score" in row for row in result["items"]):
        columns.insert(2, (WHOLE_SLOPE, WHOLE_SLOPE))
    if any(row["c"] for row in result["items"]):
        columns += [("c", "c"), ("SE", "c_se")]
    columns += _further(result["items"])
    columns += [("p", "p_value"), ("infit", "infit"), ("outfit", "outfit"), ("RMSD", "rmsd")]
    rows = [
        (row["item"], row["n"], *(row.get(name) for _, name in columns), ", ".join(row["flags"]))
        for row in map(_with_whole_slope, result["items"])
    ]
    headings = [heading for heading, _ in columns]
    formats = {"n": ","} | dict.fromkeys(headings, ".3f") | {"max_score": ".0f"}
    print_blocks(table(("item", "n", *headings, ""), rows, numbers=formats))
    for flag in dict.fromkeys(flag for row in result["items"] for flag in row["flags"]):
        out.print(f"{flag}: {Flag(flag).explanation}")
    latent = result["latent"]
    out.print(
        f"{result['model']} by {result['engine']} {result['engine_version']}: {result['n_persons']:,} persons,"
        f" {result['n_items']:,} items, {result['n_responses']:,} responses; {result['iterations']} iterations,"
        f" {result['seconds']:.2f} s"
    )
    for group in result.get("groups", ()):
        out.print(
            f"group {escape(group['group'])}: {group['n_persons']:,} persons, θ mean {_number(group['mean'])} (SE"
            f" {_number(group['mean_se'])}), SD {_number(group['sd'])} (SE {_number(group['sd_se'])})"
        )
    normality, shape = result["normality"], result["shape"]
    histogram = shape is not None and shape["latent"] == "histogram"
    of_theta = ("θ with mean {}, SD {}" if histogram else "θ ~ N({}, {}²)").format(
        _number(latent["mean"]), _number(latent["sd"])
    )
    out.print(
        f"log-likelihood {_number(result['loglik'])}, AIC {_number(result['aic'])}, BIC {_number(result['bic'])};"
        f" {of_theta}, reliability {_number(result['reliability'])}"
    )
    if shape is not None:
        out.print(shape["why"])
        if shape["compared"]:
            formats = {"log-likelihood": ".3f", "parameters": "", "AIC": ".3f", "BIC": ".3f"}
            names = ("model", "latent", "loglik", "n_parameters", "aic", "bic")
            compared = sorted(shape["compared"], key=lambda one: one["bic"])
            rows = [tuple(one[name] for name in names) for one in compared]
            print_blocks(table(("model", "θ", *formats), rows, numbers=formats))
    elif normality is not None and normality["p"] < DOUBTFUL:
        guessed = "" if model_of(result["model"]).guesses else GUESSED
        out.print(
            f"θ is not normal under this model (score test: χ²(2) = {normality['statistic']:.1f}, p ="
            f" {normality['p']:.1g}): {_shape(normality)}{guessed}. Parameters are"
            " biased where this is so: --latent auto compares models and takes a histogram of θ where one is needed"
        )


def _with_whole_slope(row: dict[str, Any]) -> dict[str, Any]:
    return row | {WHOLE_SLOPE: None if row["a"] is None else row["a"] * row.get("max_score", 1)}


def _further(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Headings and columns of what a model adds to a, b and c, to show: of scored items steps with their errors and log
    odds, which say the same as t."""
    of_scores = list(dict.fromkeys(name for row in rows for name in fitting.steps_and_log_odds(row)))
    further = fitting.columns_of(rows)[len(fitting.ITEM_COLUMNS) :]
    errors = {name: f"{name}_se" for name in of_scores if f"{name}_se" in further}
    hidden = {*tables.OF_SCORES, *of_scores, *errors.values()}
    found = [(name, name) for name in further if name not in hidden]
    for name in sorted(of_scores, key=lambda name: (name[0], int(name[1:]))):
        found += [(name, name)] + ([("SE", errors[name])] if name in errors else [])
    return found


def _shape(normality: dict[str, float]) -> str:
    skewness, kurtosis = normality["skewness_z"], normality["kurtosis_z"]
    if abs(skewness) >= abs(kurtosis):
        return f"abilities are skewed to the {'right' if skewness > 0 else 'left'}"
    return f"abilities have {'heavier' if kurtosis > 0 else 'lighter'} tails"


def _warn(what: str, names: Sequence[str] = ()) -> None:
    named = f": {some_of(names, 5)}" if names else ""
    err.print(f"[yellow]warning:[/yellow] {escape(what + named)}")


def _note(answers: files.Answers) -> None:
    for note in answers.notes:
        err.print(escape(f"note: {note}"))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
