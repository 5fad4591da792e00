"""Files of item parameters: tables that `core.item_tables` reads, and the JSON of `fit --out`."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from irt_psychometrics.cells.reading import MaxScores, is_blank
from irt_psychometrics.commands.answers import SCORE_NAMES
from irt_psychometrics.commands.tables import Table, faults
from irt_psychometrics.core.anchors import AnchorSet
from irt_psychometrics.core.arrays import Mask
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_tables import ItemFaultsError, is_read, item_column, read_items, to_number
from irt_psychometrics.core.items import ItemParameters, from_values
from irt_psychometrics.core.options import MAX_SCORE
from irt_psychometrics.core.program_forms import STEPS_OR_GRADED
from irt_psychometrics.core.wording import some_of

REMEDY = "Correct these rows or delete them (a slope that is not positive is most often a wrong key)"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ParameterTable(ItemParameters):
    """K items with parameters in the metric D = 1, in the order of the file: a > 0, 0 ≤ c < 1.

    Attributes:
        path: the file.
        may_be_graded: items that may follow a graded response model, because the table does not name the model.
        without: items of the table without parameters, such as items that a fit could not estimate.
        mean, sd: mean and SD of θ in the fitted population, on the table's scale; 0 and 1 if the file does not contain
            them.
        has_population: whether the file contains them.
    """

    path: Path
    may_be_graded: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0
    has_population: bool = False

    @property
    def warnings(self) -> list[str]:
        """Sentences about possible misreadings of the table."""
        items = self.may_be_graded
        return [f"{self.path}: {STEPS_OR_GRADED}: {some_of(items)}"] if items else []

    @property
    def has_errors(self) -> bool:
        """Whether any item has errors of a and of b."""
        return bool(self.errors_known.any())

    @property
    def errors_known(self) -> Mask:
        """Mask of the items with errors of a and of b, shape (K,). An item that was held in a fit has the error 0."""
        return np.isfinite(self.a_se) & np.isfinite(self.b_se) & (self.b_se > 0)

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
        """Select items, with the errors of the table if `known`, or with the errors of a calibration of 500 persons."""
        some = replace(self.select(item_ids), further_cov=None)
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

    `core.item_tables` reads the columns. `metric_d` is the D of P = c + (1 − c)/(1 + exp(−D·a(θ − b))) for items
    without a value in a column D.

    Raises PsychometricsError, which names line and item, for a ≤ 0 and for all that `read_items` refuses.
    """
    if not (metric_d > 0 and math.isfinite(metric_d)):
        raise PsychometricsError(f"--metric-d must be a positive number, such as 1 or 1.7, not {metric_d}")
    fit = _fit_json(path)
    latent = {"mean": 0.0, "sd": 1.0}
    if fit is None:
        table = open_table(path)
        table.require_unique_columns()
        named = item_column(table.columns)
        columns = ["item" if name == named else name for name in table.columns]
        located = [
            (f"line {line}", _filled(row | {"item": row.get(named, "")} | _further(path, line, row)))
            for line, row in table.rows()
        ]
    else:
        latent = _latent(path, fit["latent"])
        if not isinstance(fit["items"], list):
            raise _unreadable_fit(path, "items is not a list")
        located = [(f"items[{k}]", _filled(_cells(path, k, row))) for k, row in enumerate(fit["items"])]
        columns = ["item", "a", "b", *(name for _, row in located for name in row)]
    rows = [(where, row.pop("item", ""), row) for where, row in located]
    try:
        values = read_items(columns, rows, metric_d)
    except ItemFaultsError as error:
        raise faults(path, error.messages, REMEDY) from error
    except PsychometricsError as error:
        raise PsychometricsError(f"{path}: {error}") from error
    items = from_values(values)
    place = {item: where for where, item, _ in rows}
    with np.errstate(invalid="ignore"):
        wrong = zip(items.item_ids, items.a, items.a <= 0, strict=True)
        if negative := [f"{place[item]}, item {item}: a = {a:g} is not above 0" for item, a, is_so in wrong if is_so]:
            raise faults(path, negative, REMEDY)
    known = dict(zip(items.item_ids, items.curves.known.tolist(), strict=True))
    return ParameterTable(
        **vars(items.select([item for item in items.item_ids if known[item]])),
        path=path,
        may_be_graded=values.may_be_graded,
        without=tuple(item for item in items.item_ids if not known[item]),
        mean=latent["mean"],
        sd=latent["sd"],
        has_population=fit is not None,
    )


def are_parameters(path: Path, open_table: Callable[[Path], Table]) -> bool:
    """Check whether a file contains parameters of items: a fit.json, or a table with a row per item."""
    if _fit_json(path) is not None:
        return True
    table = open_table(path)
    is_list = table.first_of(SCORE_NAMES) is not None
    return table.item is not None and not is_list and any(map(is_read, table.columns))


def _filled(row: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in row.items() if not is_blank(text)}


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
    mean, sd = (to_number(name, given.get(name)) for name in ("mean", "sd"))
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


def _cells(path: Path, index: int, row: Any) -> dict[str, str]:
    read = ("item", "model")
    cells = {x: row[x] for x in row if x in read or is_read(x)} if isinstance(row, dict) else {"": row}
    if any(isinstance(value, dict | list | bool) for value in cells.values()) or "" in cells:
        raise _unreadable_fit(path, f"items[{index}] is not an item with its parameters")
    return {name: "" if value is None else str(value) for name, value in cells.items()}


def _unreadable_fit(path: Path, why: str) -> PsychometricsError:
    return PsychometricsError(
        f"{path} is not a fit.json of `irt fit --out`: {why}. Fit again, or give a table item,a,b,c."
    )
