"""Tables of item parameters: `item,a,b,c[,a_se,b_se]`, tables of other programs, or the JSON of `fit --out`.

`core.program_forms` interprets the columns of other programs.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irt_psychometrics.cells.reading import MaxScores, is_blank
from irt_psychometrics.commands.tables import ITEM_NAMES, Table, faults
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.items import ItemParameters, ItemRow
from irt_psychometrics.core.options import DEFAULT_MODEL, MAX_SCORE
from irt_psychometrics.core.program_forms import (
    COLUMNS,
    OF_OTHER_MODELS,
    STEPS_OR_GRADED,
    form_of,
    in_metric,
    may_be_graded,
    parameters_of,
    require_known_model,
)
from irt_psychometrics.core.wording import some_of

MAX_PARAMETER = 1e6  # bound of a parameter, beyond which arithmetic with doubles has no meaningful digits
NUMBERS = ("a", "b", "c", "a_se", "b_se")
OF_SCORES = tuple(f"t{k}{se}" for k in range(MAX_SCORE + 1) for se in ("", "_se"))
"""Columns of a scored item besides a, b and max_score, as in `ItemModel.stored_values`."""
READ = frozenset((*NUMBERS, "max_score", *OF_SCORES, *COLUMNS, *OF_OTHER_MODELS, "D"))


@dataclass(frozen=True, kw_only=True)
class ParameterTable(ItemParameters):
    """K items with parameters in the metric D = 1, in the order of the file: a > 0, 0 ≤ c < 1, independent errors.

    Attributes:
        path: the file.
        may_be_graded: items whose parameters may be those of a graded response model, because the table does not name
            the model.
        without: items of the table without parameters, such as items that a fit could not estimate.
        mean, sd: mean and SD of θ in the fitted population, on the table's scale; 0 and 1 if the file does not contain
            them.
    """

    path: Path
    may_be_graded: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0

    @property
    def warnings(self) -> list[str]:
        """Sentences about possible misreadings of the table."""
        items = self.may_be_graded
        return [f"{self.path}: {STEPS_OR_GRADED}: {some_of(items)}"] if items else []

    @property
    def has_errors(self) -> bool:
        """Whether any item has errors of a and of b."""
        return bool((np.isfinite(self.a_se) & np.isfinite(self.b_se)).any())

    @property
    def max_scores(self) -> MaxScores:
        """Maximum scores of the items.

        Answers to other items do not count. If the table has scored items, these answers may have any score.
        """
        of = dict.fromkeys(self.item_ids, 1)
        for some in self.others:
            of |= {self.item_ids[j]: int(n) - 1 for j, n in zip(some.at, some.categories, strict=True)}
        return MaxScores(of, {"*": MAX_SCORE} if self.others else {})

    def with_errors(self, item_ids: Sequence[str], *, known: bool) -> ItemParameters:
        """The named items, with the table's errors if `known`, or with the errors of a calibration with 500 persons."""
        some = self.select(item_ids)
        if known:
            return some
        with np.errstate(divide="ignore", invalid="ignore"):  # an item far from all nodes has no information
            return some.with_assumed_errors()

    def anchors(self, item_ids: Sequence[str], *, with_errors: bool) -> AnchorSet:
        """The named items as anchors, with the table's errors if `with_errors`, or with assumed errors."""
        return AnchorSet(
            **vars(self.with_errors(item_ids, known=with_errors)),
            scale_id=self.path.name,
            version="",
            topics=(None,) * len(item_ids),
            errors_assumed=np.full(len(item_ids), not with_errors),
        )


def read_parameters(path: Path, metric_d: float, open_table: Callable[[Path], Table]) -> ParameterTable:
    """Read item parameters from a table, or from the JSON of a fit, which also contains the mean and SD of θ.

    A table without a column a contains the items of a Rasch model. `metric_d` is the D of
    P = c + (1 − c)/(1 + exp(−D·a(θ − b))) for items without a value in a column D; see `in_metric` for the parameters
    that are multiplied by it.

    Raises PsychometricsError, which names line and item, for a ≤ 0, c outside [0, 1), items that occur twice, values
    that are not numbers, and missing parameters of a form.
    """
    if not (metric_d > 0 and math.isfinite(metric_d)):
        raise PsychometricsError(f"--metric-d must be a positive number, such as 1 or 1.7, not {metric_d}")
    fit = _fit_json(path)
    latent = {"mean": 0.0, "sd": 1.0}
    if fit is None:
        table = open_table(path)
        table.require_unique_columns()
        rows, named = table.rows(), table.first_of(ITEM_NAMES) or "item"
        columns = ["item" if name == named else name for name in table.columns]
        located = [
            (f"line {line}", row | {"item": row.get(named, "")} | _further(path, line, row)) for line, row in rows
        ]
    else:
        latent = _latent(path, fit["latent"])
        for name in str(fit.get("model", DEFAULT_MODEL)).split("+"):
            if (model := item_model(name)).two_categories:
                model.require_logistic(f"every result from {path}")
        if not isinstance(fit["items"], list):
            raise _unreadable_fit(path, "items is not a list")
        columns = ["item", *NUMBERS, "max_score", *OF_SCORES]
        located = [(f"items[{k}]", _cells(path, k, row, columns)) for k, row in enumerate(fit["items"])]
    if fit is None and _is_rasch(columns):
        columns.append("a")
        located = [(where, row | {"a": "1", "a_se": "0"}) for where, row in located]
    lacking = [name for name in ("item", "a", "b") if name not in columns]
    if lacking and ("item" in lacking or form_of(columns) is None):
        raise PsychometricsError(
            f"{path}: a table of item parameters has the columns item,a,b,c[,a_se,b_se]; {', '.join(lacking)} is not"
            f" among {', '.join(columns)}"
        )
    return _parse_rows(path, located, metric_d, latent)


def _is_rasch(columns: Sequence[str]) -> bool:
    """Whether the table has a column of difficulties, but no discriminations under any name."""
    named = {"item", "b"} <= {*columns} and "a" not in columns and form_of(columns) is None
    return named and not any(name.lower().startswith(("disc", "slope", "alpha")) for name in columns)


def _parse_rows(
    path: Path, rows: list[tuple[str, dict[str, str]]], metric_d: float, latent: Mapping[str, float]
) -> ParameterTable:
    wrong: list[str] = []
    first: dict[str, str] = {}
    kept: dict[str, ItemRow] = {}
    without: list[str] = []
    ascending: list[str] = []
    disordered = False
    for where, row in rows:
        item, at = row["item"], f"{where}, item {row['item']}"
        if not item:
            wrong.append(f"{where}: a row without an item")
            continue
        if item in first:
            wrong.append(f"{at} occurs twice, first in {first[item]}")
        first.setdefault(item, where)
        filled = [name for name, text in row.items() if name in READ and not is_blank(text)]
        form = None if set(OF_SCORES) & set(filled) else form_of(filled)
        if form is None and not {"a", "b"} & set(filled):
            without.append(item)
            continue
        named = dict.fromkeys(filled if form else [*NUMBERS, *filled])
        numbers = {name: _number(row.get(name, ""), name) for name in named}
        if strange := [name for name, x in numbers.items() if x is None]:
            wrong += [f"{at}: {name} = {row[name]!r} is not a number below {MAX_PARAMETER:,.0f}" for name in strange]
            continue
        sound = {name: x for name, x in numbers.items() if x is not None}
        if form is None and "g" in filled and not sound["c"]:
            sound["c"] = sound["g"]
        model = row.get("model", "")
        try:
            require_known_model({name: sound[name] for name in filled}, model)
            metric = sound.pop("D", metric_d)
            converted = in_metric(sound | (parameters_of(sound) or {}) if form else sound, metric)
        except PsychometricsError as error:
            wrong.append(f"{at}: {error}")
            continue
        if form is not None and not model and converted.get("max_score", 1.0) > 1:
            ascends = may_be_graded({name: sound[name] for name in filled if name in sound})
            disordered |= form in ("steps", "parscale") and not ascends
            ascending += [item] * ascends
        further = {name: converted[name] for name in OF_SCORES if name in converted}
        if (most := max(converted.get("max_score", 1.0), sound.get("max_score", 1.0))) > 1:
            if not further:
                wrong.append(f"{at}: with max_score {most:g} it needs t of each score, or the columns of a program")
            further |= {"max_score": most}
        a, b, c, a_se, b_se = (converted.get(name, 0.0 if name == "c" else math.nan) for name in NUMBERS)
        wrong += [f"{at}: {problem}" for problem in _outside(a, b, c, a_se, b_se)]
        kept[item] = ItemRow(a, b, c, a_se, b_se, 0.0, further=further)
    if wrong:
        raise faults(
            path, wrong, "Correct these rows or delete them (a slope that is not positive is most often a wrong key)"
        )
    items = ItemParameters.from_rows(tuple(kept), kept.values())
    return ParameterTable(
        **vars(items),
        path=path,
        may_be_graded=() if disordered else tuple(ascending),
        without=tuple(without),
        mean=latent["mean"],
        sd=latent["sd"],
    )


def _number(text: str, name: str) -> float | None:
    """The number in a cell: NaN for a blank error, 0 for a blank c, None if it is not a number."""
    if is_blank(text) and name in ("c", "a_se", "b_se"):
        return 0.0 if name == "c" else math.nan
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < MAX_PARAMETER else None


def _outside(a: float, _b: float, c: float, a_se: float, b_se: float) -> list[str]:
    """Descriptions of values that are out of range; an error that is NaN is not known and is accepted."""
    rules = (
        (a > 0, f"a = {a:g} is not above 0"),
        (0 <= c < 1, f"c = {c:g} is not in [0, 1)"),
        (not a_se < 0, f"a_se = {a_se:g} is below 0"),
        (not b_se <= 0, f"b_se = {b_se:g} is not above 0"),
    )
    return [broken for holds, broken in rules if not holds]


def _fit_json(path: Path) -> dict[str, Any] | None:
    """The JSON of `irt fit`. Returns None if the file is not such a JSON."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise PsychometricsError(f"{path} cannot be read: {error}") from error
    except UnicodeError:
        return None
    if not text.lstrip().startswith("{"):
        return None
    try:
        content = parse_json(text)
    except ValueError as error:
        if '"latent"' in text:
            raise _unreadable_fit(path, str(error)) from error
        return None
    return content if {"items", "latent"} <= content.keys() else None


class UnstorableJson(ValueError):
    """A text that is not JSON, or JSON that would not be stored as it is written. The message gives the reason."""


def parse_json(text: str, parse_float: Callable[[str], float] = float) -> Any:
    """Parse JSON. Raises UnstorableJson, also for keys that occur twice, NaN and half of a surrogate pair."""

    def refuse(constant: str) -> float:
        raise UnstorableJson(f"{constant} is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document = dict(pairs)
        if len(document) < len(pairs):
            twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
            raise UnstorableJson(f"the key {twice!r} occurs twice")
        return document

    try:
        parsed = json.loads(text, parse_float=parse_float, parse_constant=refuse, object_pairs_hook=unique)
        if "\\u" in text:
            json.dumps(parsed, ensure_ascii=False).encode()
    except UnstorableJson:
        raise
    except RecursionError:
        raise UnstorableJson("nested too deeply") from None
    except UnicodeEncodeError:
        raise UnstorableJson("half of a surrogate pair is not a character") from None
    except ValueError:
        raise UnstorableJson("not JSON") from None
    return parsed


def _latent(path: Path, latent: Any) -> dict[str, float]:
    given = latent if isinstance(latent, dict) else {}
    numbers = {name: _number(str(given.get(name)), "latent") for name in ("mean", "sd")}
    mean, sd = numbers["mean"], numbers["sd"]
    if mean is None or sd is None or not sd > 0:
        raise _unreadable_fit(path, "latent has no mean and SD that are numbers")
    return {"mean": mean, "sd": sd}


def _further(path: Path, line: int, row: Mapping[str, str]) -> dict[str, str]:
    """The parameters of a scored item besides a and b, which `irt export parameters` writes in one cell, `further`."""
    try:
        found = parse_json(row.get("further") or "{}")
    except ValueError as error:
        raise PsychometricsError(
            f"{path}: line {line}: further is not in the form that `irt export` writes: {error}"
        ) from error
    return {name: "" if value is None else str(value) for name, value in found.items()}


def _cells(path: Path, index: int, row: Any, columns: Sequence[str]) -> dict[str, str]:
    cells = {name: row.get(name) for name in columns} if isinstance(row, dict) else {"": row}
    if any(isinstance(value, dict | list | bool) for value in cells.values()) or "" in cells:
        raise _unreadable_fit(path, f"items[{index}] is not an item with its parameters")
    return {name: "" if value is None else str(value) for name, value in cells.items()}


def _unreadable_fit(path: Path, why: str) -> PsychometricsError:
    return PsychometricsError(
        f"{path} is not a fit.json of `irt fit --out`: {why}. Fit again, or give a table item,a,b,c."
    )
