"""`score-table`, `equate` and `classify`: raw scores of forms, from files of item parameters, answers or abilities."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from irt_psychometrics.commands.answers import Answers
from irt_psychometrics.commands.linking import link as link_tables
from irt_psychometrics.commands.output import FileResult
from irt_psychometrics.commands.parameters import ParameterTable
from irt_psychometrics.commands.tables import Table
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_tables import to_number
from irt_psychometrics.core.options import Adjustment, EquatingMethod, ItemMethod
from irt_psychometrics.core.results import Result
from irt_psychometrics.core.wording import some_of
from irt_psychometrics.equating.irt_equating import equate_by_items
from irt_psychometrics.equating.score_equating import equate
from irt_psychometrics.fitting import fit
from irt_psychometrics.links import link
from irt_psychometrics.scoring.classification import Classification
from irt_psychometrics.scoring.form_scores import max_scores
from irt_psychometrics.scoring.score_table import ScoreScale, ScoreTable

SCORE_FORMATS = {
    "raw": ".0f",
    "theta": ".3f",
    "se": ".3f",
    "unrounded": ".2f",
    "scaled": "g",
    "scaled_se": ".2f",
    "percentile": ".1f",
}
DECISION_FORMATS = {"cut": "g"} | dict.fromkeys(
    ("accuracy", "accuracy_se", "false_pass", "false_fail", "consistency", "kappa"), ".3f"
)
EQUATING_FORMATS = {"score": ".0f", "equated": ".3f", "se": ".3f"}
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
    return _of_result(done, SCORE_FORMATS, params, without=() if cut is not None else ("passes",))


def classify(params: ParameterTable, cuts: Sequence[float], *, mean: float | None, sd: float | None) -> FileResult:
    """Compute the accuracy and consistency of decisions by raw scores of a form (Lee 2010).

    `cuts` are raw scores; the population is as in `score_table`.
    """
    mean, sd = _population(params, mean, sd)
    return _of_result(Classification.from_items(params, cuts, mean=mean, sd=sd), DECISION_FORMATS, params)


def classify_abilities(abilities: Table, cuts: Sequence[float]) -> FileResult:
    """Compute the accuracy and consistency of decisions by θ (Rudner 2005) from a table with the columns theta and se.

    `cuts` are values of θ. Persons without θ are left out, with a note.
    """
    rows = abilities.rows()
    pairs = [[to_number(name, row[name]) for name in ("theta", "se")] for _, row in rows if row["theta"] and row["se"]]
    if any(None in pair for pair in pairs):
        raise PsychometricsError(f"{abilities.path}: theta and se must be finite numbers")
    theta, se = np.array(pairs, dtype=float).reshape(-1, 2).T
    done = _of_result(Classification.from_abilities(theta, se, cuts), DECISION_FORMATS)
    note = f"{len(rows) - len(pairs):,} of {len(rows):,} persons have no θ and are left out."
    return replace(done, notes=(note,)) if len(pairs) < len(rows) else done


def equate_answers(
    new: Answers, old: Answers, method: EquatingMethod | ItemMethod, adjustment: Adjustment | None
) -> FileResult:
    """Equate two forms by the answers to them.

    Items of the same name are common items; otherwise the groups count as random samples of one population. The methods
    "true-score" and "observed-score" fit both forms and link the fits through common items.
    """
    forms = (new.responses, old.responses)
    match method:
        case "true-score" | "observed-score":
            if adjustment is not None:
                raise PsychometricsError(f"--adjustment must be left out for --method {method}, which links both forms")
            fits = [fit(x, "2pl" if x.categories is None else "gpcm") for x in forms]
            done = equate_by_items(*fits, method=method, link=link(*fits))
        case _:
            done = equate(*forms, method=method, adjustment=adjustment)
    return _of_result(done, EQUATING_FORMATS)


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
    return replace(_of_result(done, EQUATING_FORMATS), notes=(linked, *found.warnings, NO_ERRORS))


def _of_result(
    done: Result, formats: dict[str, str], params: ParameterTable | None = None, without: Sequence[str] = ()
) -> FileResult:
    columns = {name: cells for name, cells in done._columns().items() if name not in without}
    notes, title = [*done._notes()], done._title()
    if params is not None and (lost := params.without):
        notes.append(f"{len(lost)} items of {params.path.name} have no parameters and do not count: {some_of(lost)}.")
    return FileResult(f"{title[0].upper()}{title[1:]}", columns, formats, done._facts(), notes)


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
    raw, n = table.first_of(("raw", "score")), table.first_of(("n", "count"))
    if raw is None or n is None:
        raise PsychometricsError(f"{table.path}: counts must be a table raw,n; got {', '.join(table.columns)}")
    numbers = {row[raw].removesuffix(".0"): to_number("n", row[n]) for _, row in table.rows()}
    counts = [numbers.pop(str(k), 0.0) for k in range(highest + 1)]
    if numbers or None in counts:
        raise PsychometricsError(f"{table.path}: raw must be 0 … {highest} and n a number in each row")
    return [x or 0.0 for x in counts]
