"""`python -m irt_psychometrics analyse|fit|score|link|simulate`: call the library and print the result.

Results go to standard output and warnings to standard error, so `--json` prints only JSON. Exit codes: 0 done; 1 the
fit did not converge, or some items are poorly determined by the answers; 2 the request or its input is wrong.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import DEFAULT_MODEL, MODELS, LatentRule, Method

PROGRAM = "python -m irt_psychometrics"


def main(words: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code."""
    options = vars(_parser().parse_args(words))
    command: Callable[..., int] = options.pop("command")
    try:
        return command(**options)
    except PsychometricsError as error:
        _tell(f"error: {error}")
        return 2


def fit(
    file: Path,
    model: Any,
    anchors: Path | None,
    key: Path | None,
    max_score: str | None,
    missing: list[str],
    denominator: int,
    groups: str | None,
    latent: LatentRule,
    out: Path | None,
    as_json: bool,
) -> int:
    """Estimate item parameters from answers. No threshold drops an item; items without an estimate are flagged."""
    from irt_psychometrics.commands import fit as fit_answers

    answers = _answers(file, key, max_score, missing, out, denominator=denominator, groups=groups)
    done = fit_answers(
        answers,
        model=model,
        anchors=_parameters(anchors) if anchors is not None else None,
        groups=answers.groups,
        latent=latent,
    )
    if out is not None:
        _tell(*(f"note: {note}" for note in done.write(out)))
    _print(done.as_dict(), done.report(), as_json)
    if done.reason:
        _tell(f"not converged: {done.reason}")
    if loose := done.loose_items():
        _warn(
            f"the answers hardly determine {', '.join(loose)}: |b| is above 6, or SE(b) above 1, and other slopes may"
            " be as far off. Collect more answers, or use --model 1pl"
        )
    return int(bool(loose or not done.calibration.convergence.converged))


def analyse(
    file: Path,
    key: Path | None,
    max_score: str | None,
    missing: list[str],
    omitted: list[str],
    denominator: int,
    out: Path | None,
    as_json: bool,
) -> int:
    """Analyse items and options by classical test theory: p, item-rest correlation, α, options of each item."""
    from irt_psychometrics.commands import Files, analyse as analyse_answers

    codes = Files.missing(omitted)
    done = analyse_answers(_answers(file, key, max_score, missing, out, omitted=codes, denominator=denominator))
    if out is not None:
        done.write(out)
    _print(done.as_dict(), done.report(), as_json)
    return 0


def score(
    file: Path,
    params: Path,
    method: Any,
    key: Path | None,
    missing: list[str],
    denominator: int,
    partial: bool,
    out: Path | None,
    as_json: bool,
) -> int:
    """Estimate abilities of persons from their answers and known item parameters."""
    from irt_psychometrics.commands import score as score_answers

    known = _parameters(params)
    answers = _answers(file, key, known.max_scores, missing, out, denominator=denominator)
    done = score_answers(answers, known, method=method, partial=partial)
    if out is not None:
        done.write(out)
    _warn(*done.warnings)
    _print(done.as_dict(), done.report(), as_json)
    return 0


def link(
    new: Path, old: Path, method: Method, symmetric: bool, metric_d: list[float], purify: bool, as_json: bool
) -> int:
    """Put a table of item parameters on the scale of another table through their common items."""
    from irt_psychometrics.commands import link as link_tables

    done = link_tables(
        _parameters(new, metric_d[0]),
        _parameters(old, metric_d[-1]),
        method=method,
        symmetric=symmetric,
        purify=purify,
    )
    _warn(*done.warnings)
    _print(done.as_dict(), done.report(), as_json)
    return 0


def simulate(folder: Path, params: Path | None, as_json: bool, **options: Any) -> int:
    """Simulate answers that follow the model exactly, and write the true values next to them."""
    from irt_psychometrics.commands import Files, simulate_responses

    Files.check_folder(folder)
    done = simulate_responses(params=_parameters(params) if params is not None else None, **options)
    done.write(folder)
    _print(done.as_dict(), done.report(folder), as_json)
    return 0


def _metrics(text: str) -> list[float]:
    values = [float(part) for part in text.split(",")]
    if len(values) > 2:
        raise ValueError
    return values


_metrics.__name__ = "D of both tables, or NEW,OLD"  # argparse shows this name in its message


ANSWERS: dict[str, dict[str, Any]] = {
    "file": {"type": Path, "help": "Matrix of scores, or a list person,item,score: CSV, TSV, Parquet; .gz, too."},
    "--key": {"type": Path, "help": "Table item,key of the right options, if cells are choices."},
    "--missing": {"action": "append", "help": "Cells without an answer: TEXT, or COLUMN=TEXT. May be repeated."},
    "--denominator": {"type": int, "default": 1, "help": "Factor that makes scores whole numbers."},
    "--out": {"type": Path, "help": "Folder for the results, created if it is missing."},
}
MAX_SCORE = {"--max-score": {"help": "Maximum score: a number, or a table item,max_score. Default: 1."}}
COMMANDS: dict[Callable[..., int], dict[str, dict[str, Any]]] = {
    analyse: ANSWERS
    | MAX_SCORE
    | {
        "--omitted": {
            "action": "append",
            "help": "Cells of omitted answers, which are wrong: TEXT, or COLUMN=TEXT.",
        },
    },
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
            "help": "Score even if less than half of the table's items have answers.",
        },
    },
    link: {
        "new": {"type": Path, "help": "Table item,a,b,c[,a_se,b_se], or a fit.json, to transform."},
        "old": {"type": Path, "help": "Table or fit.json with the scale to which NEW is transformed."},
        "--method": {"choices": get_args(Method), "default": "stocking-lord", "help": "Criterion of the constants."},
        "--symmetric": {"action": "store_true", "help": "Compare curves on both scales (stocking-lord, haebara)."},
        "--metric-d": {
            "type": _metrics,
            "default": "1",
            "help": "D of the tables, 1 or 1.7; NEW,OLD if they differ, e.g. 1,1.7.",
        },
        "--purify": {
            "action": argparse.BooleanOptionalAction,
            "default": True,
            "help": "Drop common items that moved.",
        },
    },
    simulate: {
        "folder": {"type": Path, "help": "Folder of responses.csv, items.csv and persons.csv."},
        "--persons": {"type": int, "default": 1000, "help": "Number of persons."},
        "--items": {"type": int, "default": 20, "help": "Number of items to draw if no --params are given."},
        "--model": {"choices": MODELS, "default": DEFAULT_MODEL, "help": "Model of the items that are drawn."},
        "--params": {"type": Path, "help": "Table item,a,b,c of the items to answer."},
        "--mean": {"type": float, "default": 0.0, "help": "Mean of θ."},
        "--sd": {"type": float, "default": 1.0, "help": "SD of θ."},
        "--each": {"type": int, "help": "Items that a person sees, at random; all by default."},
        "--max-score": {"type": int, "help": "Maximum score of items of a pcm, rsm or gpcm; 3 by default."},
        "--seed": {"type": int, "default": 1, "help": "Seed of all random draws."},
    },
}
"""Command → its arguments and options, with the settings of each for `argparse`. Its docstring is its help."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Item response theory on files: CSV, TSV and Parquet.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for function, arguments in COMMANDS.items():
        command = commands.add_parser(
            function.__name__,
            help=function.__doc__,
            description=function.__doc__,
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.set_defaults(command=function)
        command.add_argument("--json", dest="as_json", action="store_true", help="Print JSON for machines.")
        for name, settings in arguments.items():
            command.add_argument(name, **settings)
    return parser


def _answers(
    file: Path, key: Path | None, max_scores: Any, missing: list[str] | None, out: Path | None, **options: Any
) -> Any:
    """The answers of a file; prints their notes. Raises PsychometricsError if results cannot be written to `out`."""
    from irt_psychometrics.commands import Files

    answers = Files().answers_by_options(file, key, max_scores, missing, out, **options)
    _tell(*(f"note: {note}" for note in answers.notes))
    return answers


def _parameters(path: Path, metric_d: float = 1.0) -> Any:
    from irt_psychometrics.commands import Files

    found = Files().parameters(path, metric_d)
    _warn(*found.warnings)
    return found


def _print(content: Any, report: Iterable[Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(content, ensure_ascii=False, indent=2))
        return
    for part in report:
        print(part)


def _warn(*warnings: str) -> None:
    _tell(*(f"warning: {warning}" for warning in warnings))


def _tell(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
