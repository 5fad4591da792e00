"""`score-table`, `equate` and `classify`: raw scores of forms, from files of item parameters, answers or abilities."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.fitting import models_of
from irt_psychometrics.commands.linking import link as link_tables
from irt_psychometrics.commands.output import FileResult
from irt_psychometrics.commands.parameters import ParameterTable
from irt_psychometrics.commands.tables import Table, faults
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_tables import to_number
from irt_psychometrics.core.options import DEFAULT_MODEL, Adjustment, EquatingMethod, ItemMethod
from irt_psychometrics.core.results import Result
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.equating.irt_equating import equate_by_items
from irt_psychometrics.equating.score_equating import Equating, equate
from irt_psychometrics.fitting import Fit, fit
from irt_psychometrics.links import link
from irt_psychometrics.scoring.classification import Classification
from irt_psychometrics.scoring.form_scores import max_scores
from irt_psychometrics.scoring.score_table import ScoreScale, ScoreTable

RAW_NAMES, COUNT_NAMES = ("raw", "score"), ("n", "count", "persons")
SCORE_FORMATS = (
    {"raw": ".0f", "percentile": ".1f"}
    | dict.fromkeys(("theta", "se"), ".3f")
    | {"unrounded": ".2f", "scaled_se": ".2f"}
)
NO_ERRORS = "Standard errors need the answers to both forms: give two files of answers, and this --method."


def score_table(
    params: ParameterTable,
    *,
    slope: float,
    intercept: float,
    step: float = 1.0,
    mean: float | None = None,
    sd: float | None = None,
    cut: float | None = None,
    counts: Table | None = None,
) -> FileResult:
    """Make the score table of a form: raw score → θ (EAP), SE, scaled score and percentile.

    Parameters
    ----------
    params
        The items of the form.
    slope, intercept, step
        The scale of reported scores, slope·θ + intercept, rounded to multiples of the step.
    mean, sd
        The population. None: the population of the fit, if `params` contains one.
    cut
        The lowest unrounded scaled score that passes.
    counts
        A table raw,n: number of persons of the norm group by raw score, for percentiles.

    Returns
    -------
    FileResult
        A row per raw score.

    Raises
    ------
    PsychometricsError
        If there is no population, or counts are not numbers of persons by raw score.
    """
    mean, sd = _population(params, mean, sd)
    norm = None if counts is None else _counts(counts, int(max_scores(params).sum()))
    scale = ScoreScale(slope, intercept, step)
    done = ScoreTable.from_items(params, scale, mean=mean, sd=sd, norm_counts=norm, mark=cut)
    formats = SCORE_FORMATS | {"scaled": f".{_decimals(step)}f"}
    return _of_result(done, formats, params, without=() if cut is not None else ("passes",))


def classify(params: ParameterTable, cuts: Sequence[float], *, mean: float | None, sd: float | None) -> FileResult:
    """Compute the accuracy and consistency of decisions by raw scores of a form (Lee 2010).

    `cuts` are raw scores; the population is as in `score_table`.
    """
    mean, sd = _population(params, mean, sd)
    return _of_result(Classification.from_items(params, cuts, mean=mean, sd=sd), _decision_formats(), params)


def classify_abilities(abilities: Table, cuts: Sequence[float]) -> FileResult:
    """Compute the accuracy and consistency of decisions by θ (Rudner 2005) from a table with the columns theta and se.

    `cuts` are values of θ. Persons without θ are left out, with a note.
    """
    rows = [(line, row["theta"], row["se"]) for line, row in abilities.rows()]
    pairs = [(line, to_number("theta", theta), to_number("theta", se)) for line, theta, se in rows if theta and se]
    if wrong := [f"line {line}" for line, theta, se in pairs if theta is None or se is None]:
        raise faults(abilities.path, wrong, "theta and se must be finite numbers")
    theta, se = np.array([pair[1:] for pair in pairs], dtype=float).reshape(-1, 2).T
    done = _of_result(Classification.from_abilities(theta, se, cuts), _decision_formats())
    left_out = len(rows) - len(pairs)
    return done.with_notes(f"{left_out:,} of {len(rows):,} persons have no θ and are left out.") if left_out else done


def equate_answers(
    new: Answers, old: Answers, method: EquatingMethod | ItemMethod, adjustment: Adjustment | None
) -> FileResult:
    """Equate two forms by the answers to them.

    Items of the same name are common items; otherwise the groups count as random samples of one population. The methods
    "true-score" and "observed-score" fit both forms and link the fits through common items.
    """
    match method:
        case "true-score" | "observed-score":
            if adjustment is not None:
                raise PsychometricsError(f"--adjustment must be left out for --method {method}, which links both forms")
            fits = _fitted(new), _fitted(old)
            return _of_equating(equate_by_items(*fits, method=method, link=link(*fits)))
        case _:
            return _of_equating(equate(new.responses, old.responses, method=method, adjustment=adjustment))


def equate_parameters(new: ParameterTable, old: ParameterTable, method: EquatingMethod | ItemMethod) -> FileResult:
    """Equate two forms by their items, whose scales are linked through common items.

    "observed-score" needs the populations of both fits.
    """
    if method not in ("true-score", "observed-score"):
        raise PsychometricsError(
            f"--method {method} needs answers; of parameters it must be true-score or observed-score"
        )
    lacking = [str(form.path) for form in (new, old) if not form.has_population]
    if method == "observed-score" and lacking:
        raise PsychometricsError(f"observed-score needs a fit.json, which contains the population, not {lacking[0]}")
    found = link_tables(new, old)
    # θ in SDs of each form's own population, so that one mean and SD describe both
    forms = [form.select(form.item_ids).rescaled(1 / form.sd, -form.mean / form.sd) for form in (new, old)]
    slope = found.slope * new.sd / old.sd
    intercept = (found.intercept + found.slope * new.mean - old.mean) / old.sd
    done = equate_by_items(*forms, method=method, slope=slope, intercept=intercept, mean=0.0, sd=1.0)
    linked = f"{len(found.anchors_used)} common items link the scales."
    return replace(_of_equating(done), notes=(linked, *found.warnings, NO_ERRORS))


def _fitted(answers: Answers) -> Fit:
    models = models_of(answers.responses, DEFAULT_MODEL)
    named = models if isinstance(models, str) else dict(zip(answers.responses.item_ids, models, strict=True))
    return fit(answers.responses, named)


def _of_equating(done: Equating) -> FileResult:
    return _of_result(done, {"score": ".0f", "equated": ".3f", "se": ".3f"})


def _of_result(
    done: Result, formats: dict[str, str], params: ParameterTable | None = None, without: Sequence[str] = ()
) -> FileResult:
    columns = {name: cells for name, cells in done._columns().items() if name not in without}
    found = FileResult(f"{done._title()[0].upper()}{done._title()[1:]}", columns, formats, done._facts(), done._notes())
    if params is None or not params.without:
        return found
    return found.with_notes(
        f"{len(params.without)} items of {params.path.name} have no parameters and do not count in raw scores:"
        f" {some_of(params.without)}."
    )


def _decision_formats() -> dict[str, str]:
    names = ("accuracy", "accuracy_se", "false_pass", "false_fail", "consistency", "kappa")
    return {"cut": "g"} | dict.fromkeys(names, ".3f")


def _decimals(step: float) -> int:
    """Digits after the decimal point of multiples of `step`."""
    return len(f"{step:.6f}".rstrip("0").partition(".")[2])


def _population(params: ParameterTable, mean: float | None, sd: float | None) -> tuple[float, float]:
    """Return mean and SD of θ as given, or of the fit. Raises PsychometricsError if there is neither."""
    if mean is None and sd is None and params.has_population:
        return params.mean, params.sd
    if mean is None or sd is None:
        raise PsychometricsError(
            f"{params.path} contains no population of θ: --mean and --sd must be given, or the fit.json of `fit --out`"
        )
    return mean, sd


def _counts(table: Table, highest: int) -> list[float]:
    """Read the number of persons with each raw score 0 … `highest`."""
    raw, n = table.first_of(RAW_NAMES), table.first_of(COUNT_NAMES)
    if raw is None or n is None:
        raise PsychometricsError(f"{table.path}: counts must be a table raw,n; got {', '.join(table.columns)}")
    counts = [0.0] * (highest + 1)
    wrong = []
    for line, row in table.rows():
        if row[raw].isdecimal() and row[n].isdecimal() and int(row[raw]) <= highest:
            counts[int(row[raw])] += int(row[n])
        else:
            wrong.append(f"line {line}: {raw} {row[raw]!r}, {n} {row[n]!r}")
    if wrong:
        raise faults(table.path, wrong, f"Raw scores must be 0 … {highest}, and counts whole numbers")
    return counts
