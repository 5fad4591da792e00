"""Convert item parameters, including those of scored items, to and from the columns of other programs.

In each form the scores of an item have log odds against the lowest score, d_k + k·aθ (see `PartialCreditModel`):

- mirt: `a1` and, for the scores in ascending order, `ak0`, `d0`, `ak1`, `d1`, …: score ak has ak·a1·θ + d. A 0/1 item
  has `a1`, `d` and perhaps `g`.
- steps (mirt's IRTpars, Xcalibre): `a`, `b1`, `b2`, …: score v has a·(θ − b_v) against v − 1.
- parscale: `slope`, `location`, `category1`, …: like steps, with b_v = location − category_v.
- conquest: `delta`, `tau1`, …: score v has a·θ − (δ + τ_v) against v − 1; `a` is 1 unless it is given, and `tau1` of a
  0/1 item is 0.
- tam: `B.Cat1.Dim1`, `AXsi_.Cat1`, …: score k has B·θ − AXsi_.
- fasttest (FastTest's item export, 0/1 items): `IRT a`, `IRT b` and perhaps `IRT c`.
- winsteps (an IFILE of 0/1 items): `MEASURE`, the difficulty in a Rasch model, with the standard error `MODLSE` or
  `ERROR`. An IFILE has no steps, and its measures are rescaled if UMEAN or USCALE is set.
- flexMIRT's -prm file has no header and is read by position (`flexmirt_rows`): 1 for an item, name, group, number of
  factors, model, number of scores, and for the model 1 (3PL) logit c, intercept and slope, for the model 2 (2PL,
  graded) the intercepts and the slope.

A nominal item (`NominalModel`) has mirt's columns, with ak that are not whole numbers or "nominal" in a column `model`.

A graded item (`GradedModel`) has a column `model` with "graded" or "grm" and its thresholds in the columns of steps or
of parscale, or mirt's `a1`, `d1`, `d2`, … without `ak`: a score of at least k has the log odds d_k + a1·θ.

Programs with D = 1.7 multiply all of this by D (`in_metric`).

Items of unsupported models are refused by name (`require_known_model`): slopes of a second dimension, an upper
asymptote, graded rating scales.
"""

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.options import MAX_SCORE

ProgramForm = Literal["mirt", "steps", "parscale", "conquest", "tam", "fasttest", "winsteps"]
FORMS: tuple[ProgramForm, ...] = get_args(ProgramForm)
Program = Literal["mirt", "tam", "conquest", "parscale", "xcalibre", "fasttest", "winsteps", "flexmirt"]
PROGRAMS: tuple[Program, ...] = get_args(Program)
WRITTEN: dict[Program, ProgramForm] = {
    "mirt": "mirt",
    "tam": "tam",
    "conquest": "conquest",
    "parscale": "parscale",
    "xcalibre": "steps",
    "fasttest": "fasttest",
    "winsteps": "winsteps",
}
"""The form in which a program's table is written, for programs whose columns have names."""
CHOICE_OF_D = ("parscale", "xcalibre", "fasttest")
"""Programs whose users choose the metric, D = 1 or 1.7."""
WINSTEPS_FACTS = ("STATUS", "COUNT", "SCORE")
_MARKS: dict[ProgramForm, str] = {
    "winsteps": "MEASURE",
    "fasttest": "IRT a",
    "mirt": "a1",
    "tam": "AXsi_.Cat{}",
    "parscale": "location",
    "conquest": "tau{}",
    "steps": "b{}",
}
"""The columns by which a form is recognised if an item has one of them."""
_BY_SCORE = ("ak{}", "d{}", "b{}", "category{}", "tau{}", "B.Cat{}.Dim1", "AXsi_.Cat{}")
COLUMNS = (
    *("a", "a1", "d", "g", "slope", "location", "delta"),
    *("IRT a", "IRT b", "IRT c", "MEASURE", "MODLSE", "ERROR"),
    *(name.format(k) for name in _BY_SCORE for k in range(MAX_SCORE + 1)),
)
"""All columns that any form can have."""
_DIMENSIONS = range(2, 10)
OF_OTHER_MODELS = (
    *(f"a{dimension}" for dimension in _DIMENSIONS),
    *(f"B.Cat{k}.Dim{dimension}" for k in range(1, MAX_SCORE + 1) for dimension in _DIMENSIONS),
    "u",
)
"""Columns of unsupported models. An item of a supported model has 0 in them, or 1 as upper asymptote `u`."""
ITEM_NAMES = ("item", "item_id", "question", "question_id")
"""Names of the column with the items' names."""
DESCRIPTIONS = (
    *("model", "n", "facility", "p_value", "infit", "outfit", "rmsd", "flags", "status"),
    *("scale_id", "topic_id", "testlet_id", "tags", "key", "block", "text", "further"),
    *("effective_from", "rule", "month", "decided_by", "reason", "fit_id", "withdrawn_from", "withdrawn_because"),
    *("N", "M", "xsi.item"),
)
"""Columns of a table of items that describe the items, in our own tables and in TAM's. They are not parameters."""
GRADED = ("graded", "grm")
STEPS_OR_GRADED = (
    "the steps of these items are read as those of a partial credit model. A graded response model, mirt's default, has"
    " the same columns and other curves: a column model with gpcm, pcm, rsm or graded names the model"
)
_PARAMETER = r"(a|b|c|[stw]\d+)"
_ERROR, _COVARIANCE = re.compile(rf"{_PARAMETER}_se"), re.compile(rf"cov_{_PARAMETER}{_PARAMETER}")


def form_of(columns: Container[str]) -> ProgramForm | None:
    """The form of these filled columns. Returns None if they match no form."""
    return next((form for form, mark in _MARKS.items() if _numbers(mark, columns)), None)


def in_metric(parameters: Mapping[str, float], by: float) -> dict[str, float]:
    """Convert parameters (under our names) of a program with D = `by` to D = 1: multiply slopes, t and their errors.

    A covariance is multiplied by D for each of both parameters that is. The logarithms w of widths grow by ln D.
    """
    found = {name: x * by ** _power_of_d(name) for name, x in parameters.items()}
    return found | {f"w{k}": found[f"w{k}"] + math.log(by) for k in _numbers("w{}", found)[1:-1]}


def _power_of_d(name: str) -> int:
    """Return the power of D to which a parameter, standard error or covariance is proportional."""
    if of_two := _COVARIANCE.fullmatch(name):
        return sum(_power_of_d(one) for one in of_two.groups())
    parameter = of_one[1] if (of_one := _ERROR.fullmatch(name)) else name
    return int(parameter == "a" or re.fullmatch(r"t\d+", parameter) is not None)


def require_known_model(columns: Mapping[str, float], model: str = "") -> None:
    """Raise PsychometricsError if an item's filled columns, or the name of its model, belong to an unsupported model.

    In a table with a and b, `d` is the upper asymptote of a 4PL unless it equals the intercept −ab.
    """
    if model.lower() == "grsm":
        raise PsychometricsError(f"the model {model} (a graded rating scale) is not supported: fit the items as grm")
    if more := next((name for name in OF_OTHER_MODELS if name != "u" and columns.get(name)), None):
        raise PsychometricsError(
            f"{more} = {columns[more]:g} is a slope of another dimension: only one ability is supported"
        )
    intercept = -columns["a"] * columns["b"] if {"a", "b"} <= columns.keys() else None
    for name in ("u",) if "a1" in columns or intercept is None else ("u", "d"):
        upper = columns.get(name, 1.0)
        if upper != 1 and not (name == "d" and abs(upper - (intercept or 0.0)) <= 1e-3 * max(1.0, abs(upper))):
            raise PsychometricsError(
                f"{name} = {upper:g} is an upper asymptote below 1 (a 4PL), which is not supported: fit as 3pl"
            )


def is_graded(columns: Container[str], model: str = "") -> bool:
    """Whether an item follows a graded response model, by its filled columns and the name of its model."""
    return model.lower() in GRADED or ("a1" in columns and "d2" in columns and not _numbers("ak{}", columns))


def is_nominal(columns: Mapping[str, float], model: str = "") -> bool:
    """Whether an item follows a nominal model, by its filled columns and the name of its model."""
    return model.lower() == "nominal" or any(columns[f"ak{k}"] % 1 != 0 for k in _numbers("ak{}", columns))


def require_columns_of(program: Program, columns: Container[str]) -> None:
    """Raise PsychometricsError if these are not columns of the program's tables."""
    form = form_of(columns)
    plain = form is None and "a" in columns and "b" in columns and program in ("mirt", "xcalibre")
    if not plain and form != WRITTEN[program] and not (program == "mirt" and form == "steps"):
        mark = _MARKS[WRITTEN[program]].format(1)
        raise PsychometricsError(f"these are not columns of {program}: there is no column {mark}")


def flexmirt_rows(rows: Iterable[Sequence[Any]]) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the name and mirt's columns of each item of a flexMIRT -prm file, from its cells by position.

    Raises PsychometricsError, which names the item, for several groups or factors, and for scored items.
    """
    group = None
    for kind, name, of_group, factors, model, scores, *cells in rows:
        if float(kind) != 1:
            continue
        group = of_group if group is None else group
        if of_group != group:
            raise PsychometricsError(f"item {name}: the file has several groups; keep the rows of one of them")
        if float(factors) != 1:
            raise PsychometricsError(f"item {name}: it has {factors} factors, and only one ability is supported")
        numbers = [float(cell) for cell in cells if cell is not None and cell != ""]
        if float(model) == 1:
            logit_c, d, a = numbers[:3]
            yield str(name), {"a1": a, "d": d, "g": 1 / (1 + math.exp(-logit_c))}
        elif float(model) == 2 and float(scores) == 2:
            yield str(name), {"a1": numbers[1], "d": numbers[0]}
        elif float(model) == 2:
            *intercepts, slope = numbers[: int(float(scores))]
            yield str(name), {"a1": slope} | {f"d{k}": d for k, d in enumerate(intercepts, start=1)}
        else:
            raise PsychometricsError(f"item {name}: nominal items (model {model}) of flexMIRT are not supported")


def flexmirt_cells(name: str, columns: Mapping[str, float]) -> list[Any]:
    """Return an item's cells of a flexMIRT -prm file, from mirt's columns of a 0/1 item."""
    start: list[Any] = [1, name, 1, 1]
    if "ak0" in columns:
        raise PsychometricsError(f"item {name}: items of a partial credit model are not written for flexMIRT")
    if intercepts := [columns[f"d{k}"] for k in _numbers("d{}", columns)]:
        return [*start, 2, 1 + len(intercepts), *intercepts, columns["a1"]]
    if c := columns.get("g"):
        return [*start, 1, 2, math.log(c / (1 - c)), columns["d"], columns["a1"]]
    return [*start, 2, 2, columns["d"], columns["a1"], math.nan]


def may_be_graded(columns: Mapping[str, float]) -> bool:
    """Whether an item's columns may also be those of a graded response model.

    Its thresholds are in the same columns as steps, and ascend.
    """
    form = form_of(columns)
    if form not in ("steps", "parscale"):
        return False
    pattern, sign = ("b{}", 1.0) if form == "steps" else ("category{}", -1.0)
    thresholds = [sign * columns[pattern.format(k)] for k in _numbers(pattern, columns)]
    return len(thresholds) > 1 and bool((np.diff(thresholds) > 0).all())


def parameters_of(columns: Mapping[str, float], model: str = "") -> dict[str, float] | None:
    """An item's a, b and further parameters under our names, from its filled columns.

    For a scored item these are its `max_score` and t of each score (w of a graded item, s and t of a nominal one), for
    a 0/1 item c if it is not 0. Returns None if the columns match no form, and {} for an item that Winsteps could not
    estimate. Raises PsychometricsError if a column of the form is missing, or if the values are not valid parameters.
    """
    form = form_of(columns)
    if form is None:
        return None
    try:
        if is_graded(columns, model):
            return _of_graded(*_thresholds(form, columns))
        if form == "mirt" and is_nominal(columns, model):
            return _of_nominal(columns)
        if form == "winsteps":
            if columns.get("STATUS", 1.0) < 1:  # not estimated, or an item that all or no persons solved
                return {}
            if columns.get("SCORE", 0.0) > columns.get("COUNT", math.inf):
                raise PsychometricsError("it has scores above 1, and an IFILE of Winsteps has no steps")
            error = columns.get("MODLSE", columns.get("ERROR"))
            return {"a": 1.0, "a_se": 0.0, "b": columns["MEASURE"]} | ({} if error is None else {"b_se": error})
        if form == "fasttest":
            own = {"a": columns["IRT a"], "b": columns["IRT b"]}
            return own | ({"c": columns["IRT c"]} if columns.get("IRT c") else {})
        a, log_odds = _log_odds(form, columns)
    except KeyError as error:
        raise PsychometricsError(f"parameters in the form of {form} need {error.args[0]}") from None
    low, high = min(log_odds), max(log_odds)
    if a == 0 or low < 0 or low == high or high > MAX_SCORE:
        raise PsychometricsError(f"a = {a:g} and scores {', '.join(map(str, sorted(log_odds)))} do not make an item")
    d = (log_odds[high] - log_odds[low]) / (high - low)
    found = {"a": a, "b": -d / a}
    if high == 1:
        return found | ({"c": columns["g"]} if columns.get("g") else {})
    t = {f"t{k}": odds - log_odds[low] - (k - low) * d for k, odds in sorted(log_odds.items())}
    return found | {"max_score": float(high)} | t | {f"t{low}": 0.0, f"t{high}": 0.0}


def _of_nominal(columns: Mapping[str, float]) -> dict[str, float]:
    """Return the parameters of a nominal item from mirt's columns.

    Raises PsychometricsError if the lowest and the highest score have the same slope, and KeyError, which names the
    column, if a column is missing.
    """
    points, odds = ([columns[f"{name}{k}"] for k in range(1 + _numbers("d{}", columns)[-1])] for name in ("ak", "d"))
    most, gained = len(points) - 1, points[-1] - points[0]
    a = columns["a1"] * gained / max(most, 1)
    if a == 0:
        raise PsychometricsError("the lowest and the highest score of a nominal item must differ in ak·a1")
    d = (odds[-1] - odds[0]) / most
    found = {"a": a, "b": -d / a}
    if most == 1:
        return found
    found["max_score"] = float(most)
    for k in range(most + 1):
        s = most * (points[k] - points[0]) / gained
        found |= {f"s{k}": s, f"t{k}": odds[k] - odds[0] - s * d}
    return found | {f"t{most}": 0.0}


def _columns_of_nominal(form: ProgramForm, parameters: Mapping[str, float]) -> dict[str, float]:
    """Invert `_of_nominal`. Raises PsychometricsError if the form has no nominal items, or the item lacks scores."""
    a, b, most = parameters["a"], parameters["b"], int(parameters["max_score"])
    if form != "mirt" or len(_numbers("s{}", parameters)) <= most:
        raise PsychometricsError(f"a nominal item scored 0 … {most} cannot be written in the form of {form}")
    points = [parameters[f"s{k}"] for k in range(most + 1)]
    odds = [parameters[f"t{k}"] - s * a * b for k, s in enumerate(points)]
    return {"a1": a} | {f"ak{k}": s for k, s in enumerate(points)} | {f"d{k}": x for k, x in enumerate(odds)}


def _thresholds(form: ProgramForm, columns: Mapping[str, float]) -> tuple[float, list[float]]:
    """Read the slope of a graded item, and the log odds at θ = 0 of a score of at least 1, 2, …

    Raises KeyError, which names the column, if a column is missing.
    """
    if form == "mirt":
        return columns["a1"], [columns[f"d{k}"] for k in _steps("d{}", columns)]
    if form == "parscale":
        a, of_scores = columns["slope"], [columns[f"category{v}"] for v in _steps("category{}", columns)]
        return a, [a * (shift - columns["location"]) for shift in of_scores]
    return columns["a"], [-columns["a"] * columns[f"b{v}"] for v in _steps("b{}", columns)]


def _of_graded(a: float, log_odds: Sequence[float]) -> dict[str, float]:
    """Return the parameters of a graded item. Raises PsychometricsError if thresholds cross."""
    width = -np.diff(log_odds)
    if a == 0 or not log_odds or not (width > 0).all():
        raise PsychometricsError(
            f"thresholds of a graded item must ascend, got {', '.join(f'{-x / a if a else x:g}' for x in log_odds)} "
            f"with a = {a:g}"
        )
    found, most = {"a": a, "b": float(-np.mean(log_odds) / a)}, len(log_odds)
    if most == 1:
        return found
    w = {f"w{k}": float(x) for k, x in enumerate(np.log(width), start=1)}
    return found | {"max_score": float(most), "w0": 0.0} | w | {f"w{most}": 0.0}


def _columns_of_graded(form: ProgramForm, parameters: Mapping[str, float]) -> dict[str, float]:
    """Invert `_thresholds`. Raises PsychometricsError if the form has no graded items, or the item lacks scores."""
    a, most = parameters["a"], int(parameters["max_score"])
    if form not in ("mirt", "steps", "parscale") or len(_numbers("w{}", parameters)) <= most:
        raise PsychometricsError(f"a graded item scored 0 … {most} cannot be written in the form of {form}")
    place = np.cumsum([0.0, *np.exp([parameters[f"w{k}"] for k in range(1, most)])])
    log_odds = -a * parameters["b"] - place + place.mean()
    if form == "mirt":
        return {"a1": a} | {f"d{k}": float(x) for k, x in enumerate(log_odds, start=1)}
    if form == "steps":
        return {"a": a} | {f"b{k}": float(-x / a) for k, x in enumerate(log_odds, start=1)}
    categories = {f"category{k}": float(parameters["b"] + x / a) for k, x in enumerate(log_odds, start=1)}
    return {"slope": a, "location": parameters["b"]} | categories


def columns_of(form: ProgramForm, parameters: Mapping[str, float]) -> dict[str, float]:
    """The inverse of `parameters_of`.

    Raises PsychometricsError if the form cannot hold the item: only mirt and FastTest have c, forms with steps need all
    scores of an item, FastTest and Winsteps have 0/1 items only, and Winsteps has no slopes.
    """
    if _numbers("w{}", parameters):
        return _columns_of_graded(form, parameters)
    if _numbers("s{}", parameters):
        return _columns_of_nominal(form, parameters)
    a, c, log_odds = parameters["a"], parameters.get("c") or 0.0, log_odds_of(parameters)
    low, high = min(log_odds), int(parameters.get("max_score", 1))
    if form in ("fasttest", "winsteps") and high > 1:
        raise PsychometricsError(f"an item scored 0 … {high} cannot be written in the form of {form}")
    if form == "fasttest":
        return {"IRT a": a, "IRT b": parameters["b"], "IRT c": c}
    if form == "winsteps" and abs(a - 1) > 1e-9:
        raise PsychometricsError(f"an item with a = {a:g} cannot be written in the form of winsteps, where a is 1")
    if form == "mirt":
        if high == 1:
            return {"a1": a, "d": log_odds[1]} | ({"g": c} if c else {})
        scores = {f"ak{place}": float(k) for place, k in enumerate(log_odds)}
        return {"a1": a} | scores | {f"d{place}": odds for place, odds in enumerate(log_odds.values())}
    if c:
        raise PsychometricsError(f"an item with c = {c:g} cannot be written in the form of {form}")
    if form == "winsteps":
        return {"MEASURE": parameters["b"]}
    if form == "tam" and low == 0:
        slopes = {f"B.Cat{k}.Dim1": k * a for k in log_odds if k}
        return slopes | {f"AXsi_.Cat{k}": -odds for k, odds in log_odds.items() if k}
    if len(log_odds) <= high:
        absent = ", ".join(str(k) for k in range(high + 1) if k not in log_odds)
        raise PsychometricsError(f"an item without score {absent} cannot be written in the form of {form}: use mirt's")
    costs = -np.diff([*log_odds.values()])
    if form == "conquest":
        tau = costs - costs.mean()
        return {"a": a, "delta": float(costs.mean())} | {f"tau{v}": float(x) for v, x in enumerate(tau, start=1)}
    steps = costs / a
    if form == "steps":
        return {"a": a} | {f"b{v}": float(x) for v, x in enumerate(steps, start=1)}
    location = steps.mean()
    categories = {f"category{v}": float(location - x) for v, x in enumerate(steps, start=1)}
    return {"slope": a, "location": float(location)} | categories


def log_odds_of(parameters: Mapping[str, float]) -> dict[int, float]:
    """Log odds at θ = 0 of each score that an item has, against its lowest score; 0 for the lowest score."""
    d, highest = -parameters["a"] * parameters["b"], int(parameters.get("max_score", 1))
    t = {k: parameters[f"t{k}"] for k in range(highest + 1) if f"t{k}" in parameters} or {0: 0.0, 1: 0.0}
    low = min(t)
    return {k: (k - low) * d + value for k, value in t.items()}


def _log_odds(form: ProgramForm, columns: Mapping[str, float]) -> tuple[float, dict[int, float]]:
    """The slope of one point, and the log odds of each score at θ = 0.

    Raises KeyError, which names the column, if a column is missing.
    """
    if form == "mirt":
        places = _numbers("d{}", columns)
        if not places:
            return columns["a1"], {0: 0.0, 1: columns["d"]}
        scores = {place: columns[f"ak{place}"] for place in places}
        return columns["a1"], {round(scores[place]): columns[f"d{place}"] for place in places}
    if form == "tam":
        scores_of_tam = [k for k in _numbers("AXsi_.Cat{}", columns) if k]  # score 0 has log odds 0 and no columns
        highest = max(scores_of_tam)
        a = columns[f"B.Cat{highest}.Dim1"] / highest
        uneven = [k for k in scores_of_tam if abs(columns[f"B.Cat{k}.Dim1"] - k * a) > 1e-4 * abs(k * a)]
        if uneven:
            raise PsychometricsError(f"B of score {uneven[0]} is not {uneven[0]} times that of one point")
        return a, {0: 0.0} | {k: -columns[f"AXsi_.Cat{k}"] for k in scores_of_tam}
    if form == "conquest":
        a = columns.get("a", 1.0)
        costs = [columns["delta"] + columns[f"tau{v}"] for v in _steps("tau{}", columns)]
    elif form == "parscale":
        a = columns["slope"]
        shifts = [columns[f"category{v}"] for v in _steps("category{}", columns)] or [0.0]
        costs = [a * (columns["location"] - shift) for shift in shifts]
    else:
        a = columns["a"]
        costs = [a * columns[f"b{v}"] for v in _steps("b{}", columns)]
    return a, dict(enumerate([0.0, *(-np.cumsum(costs)).tolist()]))


def _steps(pattern: str, columns: Mapping[str, float]) -> range:
    """The numbers from 1 to the highest step that has a column."""
    return range(1, max(_numbers(pattern, columns), default=0) + 1)


def _numbers(pattern: str, columns: Container[str]) -> list[int]:
    return [k for k in range(MAX_SCORE + 1) if pattern.format(k) in columns]
