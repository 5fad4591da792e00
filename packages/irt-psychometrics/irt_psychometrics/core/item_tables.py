"""Read and write tables of item parameters: the only reader of frames, files and fits, and the only writer.

A table has a row for each item. Its columns are the item's name, `a`, `b` and `c` in the metric D = 1 (or of the column
`D`), for scored items `max_score` and `t0`, `t1`, … (also `s0`, `s1`, … of nominal items; `w0`, `w1`, … of graded
items), standard errors such as `a_se` and `t1_se`, and covariances within an item such as `cov_ab`, `cov_ac` and
`cov_t1t2`. A column `model` has the model of an item that a, b and c do not determine; parameters that only this model
has are columns under their own names. `program_forms` has the columns of other programs. Parameters and errors are on
the scale on which people read them: c, not logit c.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from irt_psychometrics.core import covariances
from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import ITEM_MODELS, OtherItems, item_model
from irt_psychometrics.core.nominal_model import NOMINAL
from irt_psychometrics.core.options import MAX_SCORE
from irt_psychometrics.core.program_forms import (
    COLUMNS,
    DESCRIPTIONS,
    ITEM_NAMES,
    OF_OTHER_MODELS,
    WINSTEPS_FACTS,
    form_of,
    in_metric,
    is_graded,
    is_nominal,
    may_be_graded,
    parameters_of,
    require_known_model,
)

MAX_PARAMETER = 1e6  # bound of a parameter, beyond which arithmetic with doubles has no meaningful digits
T = tuple(f"{prefix}{k}" for prefixes in ("st", "w") for k in range(MAX_SCORE + 1) for prefix in prefixes)
"""Parameters of scores, in the order of `ItemModel.parameter_names`."""
T_COLUMNS = (*T, *(f"{t}_se" for t in T))
"""Columns of a scored item besides a, b and max_score, as in `ItemModel.stored_values`."""
_NUMBERS = frozenset(("a", "b", "c", "a_se", "b_se", "c_se", "max_score", "D", *T_COLUMNS, *COLUMNS, *OF_OTHER_MODELS))
_COVARIANCE = re.compile(r"cov_(a|b|c|[stw]\d+)(b|c|[stw]\d+)")
_UNREAD = re.compile(r"b\d+_se|d\d+")
"""Errors of steps and log odds, which `a`, `b` and `t` determine."""
_RASCH_SYNONYMS = ("disc", "slope", "alpha")


@dataclass(frozen=True)
class ItemValues:
    """J items as they were read.

    Attributes:
        item_ids: names of the items, in the order of the rows.
        a, b, c: shape (J,), NaN for items without parameters.
        cov: shape (J, 2, 2), covariance of (a, b); a covariance that is not stated is NaN.
        further_cov: as in `ItemParameters`; also 0 if the errors of further parameters are unknown.
        others: the scored items.
        may_be_graded: items that may follow a graded response model, because the table does not name the model.
    """

    item_ids: tuple[str, ...]
    a: Floats
    b: Floats
    c: Floats
    cov: Floats
    further_cov: Floats | None
    others: tuple[OtherItems, ...]
    may_be_graded: tuple[str, ...]


class ItemFaultsError(PsychometricsError):
    """Rows that cannot be read; `messages` has a sentence for each."""

    def __init__(self, messages: Sequence[str]) -> None:
        self.messages = tuple(messages)
        shown = "; ".join(self.messages[:5])
        super().__init__(f"{shown}{f'; and {len(messages) - 5} more' if len(messages) > 5 else ''}")


@dataclass
class _Item:
    """One item as it was read."""

    name: str
    values: dict[str, float] = field(default_factory=dict)
    model: str = ""

    def get(self, name: str) -> float:
        return self.values.get(name, math.nan)

    @property
    def t(self) -> dict[str, float]:
        return {name: self.values[name] for name in T if name in self.values}

    @property
    def further(self) -> dict[str, bool]:
        """The further parameters, as in `_further`."""
        return _further(self.t, self.values.get("c", 0.0), self.model)

    @property
    def further_cov(self) -> Floats:
        """Covariances of the further parameters with a, b and each other, (M, 2 + M); 0 if they are not known."""
        names, held = [*self.further], _held(self.t)
        every = ["a", "b", *names]
        out = np.zeros((max(len(names), 1), 2 + max(len(names), 1)))
        for row, one in enumerate(names):
            for column, other in enumerate(every):
                first, second = sorted((one, other), key=every.index)
                if not held & {one, other}:
                    value = self.values.get(f"{one}_se" if one == other else f"cov_{first}{second}", 0.0)
                    out[row, column] = value**2 if one == other else value
        return out / _by_logit(self.further, every, self.values) if names else out


def _own_parameters(model: str) -> dict[str, bool]:
    """Return the result of `ItemModel.stored_names` for a model of two categories that needs more than a, b and c."""
    of = ITEM_MODELS.get(model)
    return {} if of is None or of.path != "general" or of.highest_score > 1 else of.stored_names(2)


def _further(t: Collection[str], c: float, model: str) -> dict[str, bool]:
    """Return an item's further parameters: name → whether its logit is estimated.

    They are t0, t1, … up to the highest score, or the parameters of the model, or c if it is above 0.
    """
    highest, prefixes = max((int(name[1:]) for name in t), default=-1), {name[0] for name in t}
    if prefixes:
        return {name: False for name in T if name[0] in prefixes and int(name[1:]) <= highest}
    return _own_parameters(model) or ({"c": True} if c > 0 else {})


def _held(t: Iterable[str]) -> set[str]:
    """Return the parameters of scores that are 0 by definition, or that an item does not have."""
    has = [*t]
    each = len({name[0] for name in has})
    return set(T) - {*has[each:-each]} if has else set()


def _by_logit(further: Mapping[str, bool], every: Sequence[str], values: Mapping[str, float]) -> Floats:
    """Return the factors by which covariances on the scale of c exceed the covariances of logit c, shape (M, 2 + M)."""
    factor = {name: values[name] * (1 - values[name]) for name, is_share in further.items() if is_share}
    rows, columns = ([factor.get(name, 1.0) for name in some] for some in (further, every))
    return np.outer(rows, columns)


@cache
def _columns_of_models(models: tuple[str, ...]) -> frozenset[str]:
    """Return the columns with the parameters of `_own_parameters`, their errors and covariances."""
    names = {name for model in models for name in _own_parameters(model)}
    pairs = (f"cov_{one}{other}" for one in ("a", "b", *names) for other in names)
    return frozenset({*names, *(f"{name}_se" for name in names), *pairs})


# -- reading -------------------------------------------------------------------------------------------------------


def item_column(columns: Sequence[str]) -> str:
    """Return the column with the items' names; "item" by default."""
    return next((name for name in ITEM_NAMES if name in columns), "item")


def require_known_columns(columns: Iterable[str]) -> None:
    """Raise PsychometricsError, which lists the columns that are known, if the meaning of a column is unknown."""
    known = (*_NUMBERS, *ITEM_NAMES, *DESCRIPTIONS)
    strange = [x for x in columns if x not in known and not is_read(x) and not _UNREAD.fullmatch(x)]
    if strange:
        raise PsychometricsError(
            f"the meaning of {'column' if len(strange) == 1 else 'the columns'} {', '.join(map(repr, strange))} in a"
            " table of items is unknown; leave it out. Known are item, model, a, b, c, max_score, t0, t1, …, their"
            " errors (a_se, …) and covariances (cov_ab, cov_at1, …), D, the columns of other programs, and the"
            f" descriptions {', '.join(DESCRIPTIONS)}"
        )


def read_items(
    columns: Sequence[str], rows: Iterable[tuple[str, str, Mapping[str, Any]]], metric_d: float = 1.0
) -> ItemValues:
    """Read items from the columns of a table and its rows: place in the source, item, and filled cells by column.

    The items' names are in the column "item". Cells are numbers or texts. A table with b and without discriminations
    under any name is one of a Rasch model. `metric_d` is the D of rows without a value in a column D.

    Raises PsychometricsError if the table lacks a column or has an unknown one, and ItemFaultsError, with a sentence
    for each fault of a row.
    """
    rasch = "b" in columns and "a" not in columns and form_of(columns) is None
    rasch &= not any(name.lower().startswith(_RASCH_SYNONYMS) for name in columns)
    lacking = [name for name in ("item", "a", "b") if name not in columns]
    if "item" in lacking or (lacking and not rasch and form_of(columns) is None):
        raise PsychometricsError(
            f"a table of item parameters has the columns item,a,b,c[,a_se,b_se]; {', '.join(lacking)} is not among"
            f" {', '.join(columns)}"
        )
    if form_of(columns) != "winsteps":  # the columns of an IFILE vary by its field selection
        require_known_columns(columns)
    faults: list[str] = []
    first: dict[str, str] = {}
    items: list[_Item] = []
    ascending: list[str] = []
    disordered = False
    for where, name, row in rows:
        at = f"{where}, item {name}"
        if not name:
            faults.append(f"{where}: a row without an item")
            continue
        if name in first:
            faults.append(f"{at} occurs twice, first in {first[name]}")
        first.setdefault(name, where)
        cells = {column: cell for column, cell in row.items() if is_read(column)}
        if "MEASURE" in cells:
            cells |= {column: row[column] for column in WINSTEPS_FACTS if column in row}
        if rasch and "b" in cells:
            cells |= {"a": 1.0, "a_se": 0.0}
        numbers = {column: to_number(column, cell) for column, cell in cells.items()}
        if strange := [column for column, x in numbers.items() if x is None]:
            faults += [f"{at}: {x} = {cells[x]!r} is not a number below {MAX_PARAMETER:,.0f}" for x in strange]
            continue
        sound = {column: x for column, x in numbers.items() if x is not None}
        model = str(row.get("model", "")).strip().lower()
        try:
            form = None if set(T) & sound.keys() else form_of(sound)
            own_model = "grm" if is_graded(sound, model) else "nominal" if is_nominal(sound, model) else model
            item = _Item(name, _converted(sound, own_model, form is not None, metric_d), own_model)
            _require_valid(item)
        except PsychometricsError as error:
            faults.append(f"{at}: {error}")
            continue
        items.append(item)
        if form is not None and not own_model and item.get("max_score") > 1:
            ascends = may_be_graded(sound)
            disordered |= form in ("steps", "parscale") and not ascends
            ascending += [name] * ascends
    if faults:
        raise ItemFaultsError(faults)
    return _values(items, () if disordered else tuple(ascending))


def is_read(column: str) -> bool:
    """Check whether a column has a parameter, an error or a covariance, and not a description of the items."""
    known = column in _NUMBERS or column in _columns_of_models(tuple(ITEM_MODELS))
    return known or _COVARIANCE.fullmatch(column) is not None


def to_number(column: str, cell: Any) -> float | None:
    """Return the number in a cell of this column, or None if it is not a number. Only errors may be infinite."""
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    is_error = column.endswith("_se") or column.startswith("cov_")
    return value if is_error or abs(value) < MAX_PARAMETER else None


def _converted(sound: Mapping[str, float], model: str, in_form: bool, metric_d: float) -> dict[str, float]:
    """Return an item's parameters, errors and covariances under our names with D = 1; empty if it has no parameters."""
    if not in_form and not {"a", "b"} & sound.keys():
        return {}
    own = _own_parameters(model)
    require_known_model({name: x for name, x in sound.items() if name != "D" and name not in own}, model)
    values = dict(sound)
    if in_form:
        of_program = parameters_of(sound, model)
        if not of_program:
            return {}
        values |= of_program
    elif "g" in sound and not sound.get("c"):
        values["c"] = sound["g"]
    most = max(values.get("max_score", 1.0), sound.get("max_score", 1.0))
    has = [name for name in T if name in values]
    if most > 1 and not has:
        raise PsychometricsError(f"with max_score {most:g} it needs t of each score, or the columns of a program")
    if most > 1 or (has and model in ITEM_MODELS and item_model(model).highest_score > 1):
        values["max_score"] = most
    else:
        values = {name: x for name, x in values.items() if name not in ("max_score", *T_COLUMNS)}
    return in_metric(values, values.pop("D", metric_d))


def _require_valid(item: _Item) -> None:
    """Raise PsychometricsError, which names the parameter, for values that no item has."""
    if item.model and item.model not in ITEM_MODELS:
        raise PsychometricsError(f"the model {item.model} is unknown; the models are {', '.join(ITEM_MODELS)}")
    if not item.values:
        return
    scored = "max_score" in item.values
    if scored and item.model and item_model(item.model).highest_score == 1:
        raise PsychometricsError(
            f"the model {item.model} is for scores of 0 and 1, got max_score {item.get('max_score'):g}"
        )
    own = _own_parameters(item.model)
    if lacking := [name for name in ("a", "b", *own) if name not in item.values]:
        raise PsychometricsError(f"{lacking[0]} is missing")
    if beyond := [name for name, is_share in own.items() if is_share and not 0 <= item.values[name] <= 1]:
        raise PsychometricsError(f"{beyond[0]} = {item.values[beyond[0]]:g} is not in [0, 1]")
    c, b_se = item.values.get("c", 0.0), item.get("b_se")
    if not 0 <= c < 1:
        raise PsychometricsError(f"c = {c:g} is not in [0, 1)")
    if below := next((x for x in item.values if x.endswith("_se") and item.values[x] < 0), None):
        raise PsychometricsError(f"{below} = {item.values[below]:g} is below 0")
    if b_se == 0 and item.get("a_se") != 0:
        raise PsychometricsError("b_se = 0 is not above 0")
    points, t = ({int(name[1:]) for name in item.t if name[0] == prefix} for prefix in "st")
    if points != t and (points or item.model == NOMINAL.name):
        raise PsychometricsError("a nominal item needs s and t of each score that it has, or mirt's a1, ak0, d0, …")
    if scored and any(int(name[1:]) > item.get("max_score") for name in item.t):
        raise PsychometricsError(f"it has t of scores above its max_score {item.get('max_score'):g}")


def _values(items: Sequence[_Item], may_be_graded: tuple[str, ...]) -> ItemValues:
    a, b, a_se, b_se, cov_ab = (
        np.array([item.get(name) for item in items], dtype=float) for name in ("a", "b", "a_se", "b_se", "cov_ab")
    )
    c = np.array([item.values.get("c", 0.0) if item.values else math.nan for item in items], dtype=float)
    cov_ab = np.where(np.isnan(cov_ab) & ((a_se == 0) | (b_se == 0)), 0.0, cov_ab)
    scored = {j: item for j, item in enumerate(items) if "max_score" in item.values}
    stored = {j: {"max_score": item.get("max_score"), **item.t} for j, item in scored.items()}
    added = {j: _own_parameters(item.model) for j, item in enumerate(items) if item.values}
    stored |= {j: {name: items[j].get(name) for name in names} for j, names in added.items() if names}
    others = OtherItems.from_parameters(stored, {j: items[j].model for j in stored})
    size = max([1, *(len(some.further) for some in others)])
    further_cov = None
    if any(f"{name}_se" in item.values for item in items for name in item.further):
        own = [covariances.padded(item.further_cov[None], 1, size)[0] for item in items]
        further_cov = np.array(own).reshape(len(items), size, 2 + size)
    return ItemValues(
        tuple(item.name for item in items),
        a,
        b,
        c,
        covariances.from_errors(a_se, b_se, cov_ab),
        further_cov,
        others,
        may_be_graded,
    )


# -- writing -------------------------------------------------------------------------------------------------------


def write_items(
    a: Floats,
    b: Floats,
    c: Floats,
    cov: Floats,
    further_cov: Floats | None,
    others: Sequence[OtherItems],
    without_cov_ab: Collection[int],
) -> dict[str, Any]:
    """Return the columns that `read_items` reads back, besides the items' names.

    Parameters are as in `ItemValues`. The items at the places `without_cov_ab` get no covariances. Columns that are
    blank in all rows are left out.
    """
    rows = [
        {"a": a[j], "b": b[j]} | ({"c": c[j]} if c[j] != 0 else {}) | _errors(cov[j], j not in without_cov_ab)
        for j in range(len(a))
    ]
    models = [""] * len(a)
    for some in others:
        for place, j in enumerate(some.at.tolist()):
            models[j], own = some.model.name, some.further[:, place]
            rows[j] |= some.model.stored_values(own, np.full(own.shape, np.nan), int(some.categories[place]))
    if further_cov is not None:
        for j, row in enumerate(rows):
            row |= _further_errors(row, models[j], further_cov[j], j not in without_cov_ab)
    blank = [name for name in _column_order(rows) if all(np.isnan(row.get(name, np.nan)) for row in rows)]
    names = [name for name in _column_order(rows) if name in ("a", "b") or name not in blank]
    found: dict[str, Any] = {"model": models} if others else {}
    return found | {name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name in names}


def _errors(cov: Floats, with_cov: bool) -> dict[str, float]:
    with np.errstate(invalid="ignore"):
        a_se, b_se = np.sqrt(cov[0, 0]), np.sqrt(cov[1, 1])
    found = {"a_se": float(a_se), "b_se": float(b_se)}
    return found | ({"cov_ab": float(cov[0, 1])} if with_cov else {})


def _further_errors(row: Mapping[str, float], model: str, further: Floats, with_cov: bool) -> dict[str, float]:
    """Return the errors of an item's further parameters, and the covariances that are not 0."""
    t = [name for name in T if name in row]
    names = [*(own_further := _further(t, row.get("c", 0.0), model))]
    if not names or np.isnan(further[: len(names), : 2 + len(names)]).any():
        return {}
    every, held = ["a", "b", *names], _held(t)
    own = further[: len(names), : len(every)] * _by_logit(own_further, every, row)
    found = {f"{x}_se": float(np.sqrt(own[k, 2 + k])) for k, x in enumerate(names) if x not in held}
    if with_cov:
        for k, name in enumerate(names):
            found |= {f"cov_{x}{name}": float(own[k, p]) for p, x in enumerate(every[: 2 + k]) if own[k, p] != 0}
    return found


def _column_order(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Return all columns: a, b, c and t with their errors, then the covariances."""
    names = {name for row in rows for name in row}
    ordered = ["a", "a_se", "b", "b_se", "c", "c_se", "max_score", *(x for t in T for x in (t, f"{t}_se"))]
    pairs = ["a", "b", "c", *T]
    ordered += [f"cov_{one}{other}" for k, one in enumerate(pairs) for other in pairs[k + 1 :]]
    return [*(name for name in ordered if name in names), *sorted(names - {*ordered})]
