"""The program `analyse|fit|score|score-table|…`: call the library and print the result.

Other programs mount these commands with a name and a reader of files of their own.

Results go to standard output and warnings to standard error, so `--json` prints only JSON. Exit codes: 0 done; 1 the
fit did not converge, or some items are poorly determined by the answers; 2 the request or its input is wrong.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from irt_psychometrics import commands
from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.files import Files
from irt_psychometrics.commands.output import FileResult, check_folder
from irt_psychometrics.commands.parameters import ParameterTable
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import (
    DEFAULT_MODEL,
    MODELS,
    Adjustment,
    DrawnModel,
    EquatingMethod,
    ItemMethod,
    LatentRule,
    Method,
)

PROGRAM = "python -m irt_psychometrics"


def main(
    words: Sequence[str] | None = None, *, program: str = PROGRAM, files: Files | None = None, see_also: str = ""
) -> int:
    """Run a command line.

    Parameters
    ----------
    words
        The command with its arguments; None: as the process was started.
    program
        Name of the program, for help and messages. It lets a program offer a command as its own.
    files
        Reader and writer of the files; None: reads CSV, TSV and Parquet, and writes CSV and HTML.
    see_also
        Sentences at the end of the command's help, for example about other commands of `program`.

    Returns
    -------
    int
        The exit code: 0 done; 1 the result is not sound; 2 the input is wrong.
    """
    known, unknown = parser(program, see_also).parse_known_args(words)
    options = vars(known)
    command: Callable[..., int] = options.pop("command")
    own: argparse.ArgumentParser = options.pop("parser")
    if unknown:
        own.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        return command(files or Files(), **options)
    except PsychometricsError as error:
        _tell(f"error: {error}")
        return 2


def fit(
    files: Files,
    file: Path,
    model: Any,
    anchors: Path | None,
    latent: LatentRule,
    out: Path | None,
    as_json: bool,
    **cells: Any,
) -> int:
    """Estimate item parameters from answers. No threshold drops an item; items without an estimate are flagged."""
    answers = _answers(files, file, out, **cells)
    done = commands.fit(
        answers,
        model=model,
        anchors=_parameters(files, anchors) if anchors is not None else None,
        groups=answers.groups,
        latent=latent,
    )
    _deliver(done, as_json, out)
    if done.reason:
        _tell(f"not converged: {done.reason}")
    _warn(*done.warnings)
    return int(bool(done.warnings or not done.calibration.convergence.converged))


def analyse(files: Files, file: Path, out: Path | None, as_json: bool, **cells: Any) -> int:
    """Analyse items and options by classical test theory: p, item-rest correlation, α, options of each item."""
    return _deliver(commands.analyse(_answers(files, file, out, classical=True, **cells)), as_json, out)


def score(
    files: Files,
    file: Path,
    params: Path,
    method: Any,
    partial: bool,
    out: Path | None,
    as_json: bool,
    **cells: Any,
) -> int:
    """Estimate abilities of persons from their answers and known item parameters."""
    known = _parameters(files, params)
    answers = _answers(files, file, out, known.max_scores, **cells)
    done = commands.score(answers, known, method=method, partial=partial)
    _warn(*done.warnings)
    return _deliver(done, as_json, out)


def score_table(
    files: Files,
    params: Path,
    mean: float | None,
    sd: float | None,
    slope: float,
    intercept: float,
    step: float,
    cut: float | None,
    counts: Path | None,
    to: Path | None,
    as_json: bool,
) -> int:
    """Make the score table of a form from its items: raw score → θ, SE, scaled score, percentile, result."""
    files.check_ending(to)
    norm = files.open_table(counts) if counts is not None else None
    known = _parameters(files, params)
    scale = {"slope": slope, "intercept": intercept, "step": step}
    done = commands.form_tables.score_table(known, **scale, mean=mean, sd=sd, cut=cut, counts=norm)
    return _deliver_table(files, done, to, as_json)


def equate(
    files: Files,
    new: Path,
    old: Path,
    method: Any,
    adjustment: Any,
    to: Path | None,
    as_json: bool,
    **cells: Any,
) -> int:
    """Find the old form's equivalent of each raw score of a new form, from answers or item parameters of both."""
    files.check_ending(to)
    if files.are_parameters(new):
        tables = _parameters(files, new), _parameters(files, old)
        done = commands.form_tables.equate_parameters(*tables, method or "true-score")
    else:
        forms = [_answers(files, form, **cells) for form in (new, old)]
        done = commands.form_tables.equate_answers(forms[0], forms[1], method or "equipercentile", adjustment)
    return _deliver_table(files, done, to, as_json)


def classify(
    files: Files,
    file: Path,
    cut: list[float],
    mean: float | None,
    sd: float | None,
    to: Path | None,
    as_json: bool,
) -> int:
    """Compute how often a form decides as the true scores would, and how often two forms would decide alike."""
    files.check_ending(to)
    if files.are_parameters(file):
        done = commands.form_tables.classify(_parameters(files, file), cut, mean=mean, sd=sd)
    else:
        done = commands.form_tables.classify_abilities(files.open_table(file), cut)
    return _deliver_table(files, done, to, as_json)


def dif(
    files: Files,
    file: Path,
    reference: str | None,
    to: Path | None,
    as_json: bool,
    **cells: Any,
) -> int:
    """Find items that function differently for groups of persons (DIF), by Mantel-Haenszel and Wald tests."""
    files.check_ending(to)
    done = commands.dif.dif(_answers(files, file, **cells), reference=reference)
    return _deliver_table(files, done, to, as_json)


def link(
    files: Files,
    new: Path,
    old: Path,
    method: Method,
    symmetric: bool,
    metric_d: list[float],
    purify: bool,
    as_json: bool,
) -> int:
    """Put a table of item parameters on the scale of another table through their common items."""
    done = commands.link(
        _parameters(files, new, metric_d[0]),
        _parameters(files, old, metric_d[-1]),
        method=method,
        symmetric=symmetric,
        purify=purify,
    )
    _warn(*done.warnings)
    return _deliver(done, as_json)


def simulate_responses(files: Files, folder: Path, params: Path | None, as_json: bool, **options: Any) -> int:
    """Simulate answers that follow the model exactly, and write the true values next to them."""
    check_folder(folder)
    done = commands.simulate_responses(params=_parameters(files, params) if params is not None else None, **options)
    done.write(folder)
    _print(done.as_dict(), done.report(folder), as_json)
    return 0


def warm_up(files: Files, as_json: bool) -> int:  # noqa: ARG001
    """Compile all kernels now, so that no analysis waits for compilation: for images and continuous integration."""
    from irt_psychometrics.commands.warming_up import warm_up as compile_kernels

    return _deliver(compile_kernels(), as_json)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers such as 12 or 12,18, got {text!r}") from None


def _metrics(text: str) -> list[float]:
    values = _numbers(text)
    if len(values) not in (1, 2):
        raise argparse.ArgumentTypeError(
            f"must be one D for both tables or NEW,OLD, such as 1.7 or 1,1.7, got {text!r}"
        )
    return values


ANSWERS: dict[str, dict[str, Any]] = {
    "file": {"type": Path, "help": "Matrix of scores, or a list person,item,score: CSV, TSV, Parquet; .gz, too."},
    "--key": {"type": Path, "help": "Table item,key or item,option,score, if the cells are choices."},
    "--missing": {"action": "append", "help": "Cells without an answer: TEXT, or COLUMN=TEXT. May be repeated."},
    "--omitted": {"action": "append", "help": "Cells of omitted answers, which are wrong: TEXT, or COLUMN=TEXT."},
    "--denominator": {"type": int, "default": 1, "help": "Factor that makes scores whole numbers."},
    "--marks-off": {"type": float, "default": 0, "help": "Mark taken off for a wrong answer, such as 0.25."},
    "--out": {"type": Path, "help": "Folder for the results, created if it is missing."},
}
MAX_SCORE = {
    "--max-score": {
        "help": "Maximum score: `M`, `ITEM=M` for an item or a pattern, or a table item,max_score. Default: 1."
    }
}
POPULATION = {
    "--mean": {"type": float, "help": "Mean of θ in the population. Default: the mean in the fit.json."},
    "--sd": {"type": float, "help": "SD of θ in the population. Default: the SD in the fit.json."},
}
TO = {"--to": {"type": Path, "help": "File for the table: .csv or .html; `irt` also writes .pdf and .xlsx."}}
_CELLS: dict[str, dict[str, Any]] = {
    **{name: ANSWERS[name] for name in ("--key", "--missing", "--omitted", "--denominator")},
    **MAX_SCORE,
}
FORMS_TO_EQUATE: dict[str, dict[str, Any]] = {
    "new": {"type": Path, "help": "Answers to the new form, or its items (table item,a,b,c, or fit.json)."},
    "old": {"type": Path, "help": "The same of the old form. Items of the same name are common items."},
    "--method": {
        "choices": (*get_args(EquatingMethod), *get_args(ItemMethod)),
        "help": "Default: equipercentile for answers, true-score for items.",
    },
    "--adjustment": {
        "choices": get_args(Adjustment),
        "help": "Adjustment for groups of different ability, with common items. Default: chained.",
    },
}
COMMANDS: dict[Callable[..., int], dict[str, dict[str, Any]]] = {
    analyse: ANSWERS | MAX_SCORE,
    fit: ANSWERS
    | MAX_SCORE
    | {
        "--model": {"choices": MODELS, "default": DEFAULT_MODEL, "help": "Item response model."},
        "--anchors": {"type": Path, "help": "Table item,a,b,c of items that keep these parameters."},
        "--groups": {"help": "Column of FILE, or table person,group: groups with their own mean and SD."},
        "--latent": {
            "choices": get_args(LatentRule),
            "default": "normal",
            "help": "Distribution of θ; auto: a histogram if the answers need one.",
        },
    },
    score: ANSWERS
    | {
        "--params": {
            "type": Path,
            "required": True,
            "help": "Table item,a,b,c, or the fit.json that fit --out writes.",
        },
        "--method": {"choices": ("eap", "map", "wle", "ml"), "default": "eap", "help": "Estimator of ability."},
        "--partial": {
            "action": "store_true",
            "help": "Accept answers to less than half of the table's items.",
        },
    },
    score_table: {"params": {"type": Path, "help": "Table item,a,b,c, or the fit.json that fit --out writes."}}
    | POPULATION
    | {
        "--slope": {"type": float, "default": 10.0, "help": "Scaled score = slope·θ + intercept."},
        "--intercept": {"type": float, "default": 50.0, "help": "Scaled score of θ = 0."},
        "--step": {"type": float, "default": 1.0, "help": "Scaled scores are multiples of it; halves are rounded up."},
        "--cut": {"type": float, "help": "Lowest scaled score, before rounding, that passes."},
        "--counts": {"type": Path, "help": "Table raw,n of the norm group, for percentiles."},
    }
    | TO,
    equate: FORMS_TO_EQUATE | _CELLS | TO,
    classify: {
        "file": {"type": Path, "help": "Items of a form (table item,a,b,c, or fit.json), or a table theta,se."},
        "--cut": {
            "type": _numbers,
            "required": True,
            "help": "Cuts, such as 12 or --cut=-1,1: raw scores for items, θ for a table theta,se.",
        },
    }
    | POPULATION
    | TO,
    dif: {
        "file": ANSWERS["file"],
        "--groups": {"required": True, "help": "Column of FILE, or table person,group."},
        "--reference": {"help": "Group with which the others are compared. Default: the largest."},
    }
    | _CELLS
    | TO,
    link: {
        "new": {"type": Path, "help": "Table item,a,b,c[,a_se,b_se], or a fit.json: parameters to transform."},
        "old": {"type": Path, "help": "Table or fit.json whose scale they are put on."},
        "--method": {
            "choices": get_args(Method),
            "default": "stocking-lord",
            "help": "Criterion for the linking constants.",
        },
        "--symmetric": {"action": "store_true", "help": "Compare curves on both scales (stocking-lord, haebara)."},
        "--metric-d": {
            "type": _metrics,
            "default": "1",
            "help": "D of the tables, 1 or 1.7; NEW,OLD if they differ, e.g. 1,1.7.",
        },
        "--purify": {
            "action": argparse.BooleanOptionalAction,
            "default": True,
            "help": "Exclude common items that moved.",
        },
    },
    simulate_responses: {
        "folder": {"type": Path, "help": "Folder for responses.csv, items.csv and persons.csv."},
        "--persons": {"type": int, "default": 1000, "help": "Number of persons."},
        "--items": {"type": int, "default": 20, "help": "Number of items to draw, if there are no --params."},
        "--model": {
            "choices": get_args(DrawnModel),
            "default": DEFAULT_MODEL,
            "help": "Item response model of the items to draw.",
        },
        "--params": {"type": Path, "help": "Table item,a,b,c of the items to answer."},
        "--mean": {"type": float, "default": 0.0, "help": "Mean of θ."},
        "--sd": {"type": float, "default": 1.0, "help": "Standard deviation of θ."},
        "--each": {"type": int, "help": "Number of items that each person sees, at random. Default: all."},
        "--max-score": {"type": int, "help": "Maximum score of items under pcm, rsm or gpcm. Default: 3."},
        "--seed": {"type": int, "default": 1, "help": "Seed of all random draws."},
    },
    warm_up: {},
}
"""Command → its arguments and options, with the settings of each for `argparse`. Its docstring is its help."""


ALSO = {simulate_responses: ("simulate",)}
"""Command → further names."""


def parser(program: str = PROGRAM, see_also: str = "") -> argparse.ArgumentParser:
    """Build the parser of all commands of a program with this name. `see_also` ends the help of each command."""
    whole = argparse.ArgumentParser(prog=program, description="Item response theory on files: CSV, TSV and Parquet.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for function, arguments in COMMANDS.items():
        command = commands.add_parser(
            function.__name__.replace("_", "-"),
            aliases=ALSO.get(function, ()),
            help=function.__doc__,
            description=function.__doc__,
            epilog=see_also,
            allow_abbrev=False,
        )
        command.set_defaults(command=function, parser=command)
        for name, settings in arguments.items():
            default = " Default: %(default)s." if "default" in settings and "action" not in settings else ""
            command.add_argument(name, **settings | {"help": settings["help"] + default})
        command.add_argument("--json", dest="as_json", action="store_true", help="Print the result as JSON.")
    return whole


def _answers(files: Files, file: Path, out: Path | None = None, max_score: Any = None, **cells: Any) -> Answers:
    """Read the answers of a file, and print the notes. `cells`: further options, as in `Files.answers_by_options`."""
    answers = files.answers_by_options(file, max_scores=max_score, folder=out, **cells)
    _tell(*(f"note: {note}" for note in answers.notes))
    return answers


def _parameters(files: Files, path: Path, metric_d: float = 1.0) -> ParameterTable:
    found = files.parameters(path, metric_d)
    _warn(*found.warnings)
    return found


def _deliver_table(files: Files, done: FileResult, to: Path | None, as_json: bool) -> int:
    """Write the table to the file `to`, and print it."""
    if to is not None:
        files.write(done, to)
    return _deliver(done, as_json)


def _deliver(done: Any, as_json: bool, out: Path | None = None) -> int:
    """Write the result into the folder `out`, with notes on files that cannot be written, and print the result."""
    notes = None if out is None else done.write(out)
    _tell(*(f"note: {note}" for note in notes or ()))
    _print(done.as_dict(), done.report(), as_json)
    return 0


def _print(content: Any, report: Iterable[Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(content, ensure_ascii=False, indent=2))
        return
    for part in report:
        print(_visible(str(part)))


def _warn(*warnings: str) -> None:
    _tell(*(f"warning: {warning}" for warning in warnings))


def _tell(*lines: str) -> None:
    for line in lines:
        print(_visible(line), file=sys.stderr)


def _visible(text: str) -> str:
    """Replace control characters of files by escape sequences, because a terminal would obey them."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
