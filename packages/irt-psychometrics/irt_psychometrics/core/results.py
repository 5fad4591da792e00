"""The forms of every result: a short repr, HTML for notebooks, a data frame of the caller's kind, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import chain
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, overload

import numpy as np

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.frames import make
from irt_psychometrics.core.named_values import NameWithMeaning

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

FORMAT, VERSION = "irt-psychometrics", 1
MAX_ROWS = 60
"""Rows of an HTML table; a longer one shows its first and last rows."""
_CORE = "irt_psychometrics.core.models"
_KEPT = {
    "AdaptiveTest": "irt_psychometrics.adaptive.declaration",
    "AnchorSet": "irt_psychometrics.core.anchors",
    "Calibration": _CORE,
    "Choices": "irt_psychometrics.core.choices",
    "ConstantErrors": "irt_psychometrics.links",
    "Compared": "irt_psychometrics.estimation.latent_shape",
    "Convergence": _CORE,
    "DimensionsCalibration": "irt_psychometrics.dimensions.calibration",
    "ItemLimit": "irt_psychometrics.adaptive.declaration",
    "FitPopulation": "irt_psychometrics.drift.errors",
    "FormFits": "irt_psychometrics.itemfit.m2",
    "Linking": "irt_psychometrics.linking.placement",
    "LogLinear": "irt_psychometrics.equating.score_counts",
    "OtherItems": "irt_psychometrics.core.item_models",
    "Normality": "irt_psychometrics.estimation.normality_test",
    "ParameterPlaces": "irt_psychometrics.dimensions.calibration",
    "PlacementErrors": "irt_psychometrics.drift.errors",
    "Population": _CORE,
    "ResidualCorrelations": "irt_psychometrics.itemfit.dependence",
    "Shape": "irt_psychometrics.estimation.latent_shape",
}
"""Classes of records that the JSON of a result may contain, and their modules."""
_OF_FRAME = ("frame_kind", "frame_index")
"""Fields about the data frame of a result, which are not compared."""
_NUMBERS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}
_STYLE = """<style>
.irt-result{color:inherit;font-size:.9em;line-height:1.35;overflow-x:auto}
.irt-result table{border-collapse:collapse;margin:.4em 0;border:0;color:inherit;font-size:1em}
.irt-result caption{caption-side:top;text-align:left;font-weight:600;color:inherit;padding:.2em 0}
.irt-result th,.irt-result td{padding:.15em .7em;text-align:right;border:0;white-space:nowrap;color:inherit;
background:transparent;font-variant-numeric:tabular-nums}
.irt-result thead th{border-bottom:1px solid currentColor;font-weight:600}
.irt-result tbody tr{background:transparent}
.irt-result tbody tr:nth-child(even){background:rgba(128,128,128,.12)}
.irt-result .irt-text{text-align:left}
.irt-result dl{display:flex;flex-wrap:wrap;gap:.1em 1.6em;margin:.3em 0;padding:0}
.irt-result dl div{display:flex;gap:.5em}
.irt-result dt,.irt-result dd{margin:0;padding:0;font-weight:400;font-variant-numeric:tabular-nums}
.irt-result dt{opacity:.75}
.irt-result dd{font-weight:600}
.irt-result ul{margin:.3em 0;padding-left:.8em;list-style:none;border-left:.25em solid #d98200;max-width:60em}
</style>"""


class Result:
    """A frozen result. Results with the same content are equal, also after a round trip to JSON.

    A subclass defines `_title`, `_facts`, `_columns` and `_notes`, and has a field `frame_kind`, the kind of its data
    frame. Comparisons ignore the kind, because it concerns the form of a result and not its content.

    Examples
    --------
    >>> import irt_psychometrics as irt
    >>> from irt_psychometrics.equating import ScoreCounts
    >>> counts = ScoreCounts([1, 2, 1])
    >>> ScoreCounts.from_json(counts.to_json()) == counts
    True
    """

    frame_kind: str | None
    _classes: ClassVar[dict[str, type[Result]]] = {}

    def __init_subclass__(cls) -> None:
        Result._classes[cls.__name__] = cls

    def _title(self) -> str:
        raise NotImplementedError

    def _facts(self) -> Mapping[str, str]:
        """Return numbers about the whole result, as text."""
        return {}

    def _columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the table, by column."""
        raise NotImplementedError

    def _html_columns(self) -> Mapping[str, Sequence[Any]]:
        """Return the columns of the HTML form."""
        return self._columns()

    def _index(self) -> Any:
        """Return the index of the rows of a pandas frame, or None if rows only have numbers."""
        return None

    def _notes(self) -> Sequence[str]:
        """Return sentences that the reader of the result must know."""
        return ()

    @overload
    def to_frame(self, kind: Literal["pandas"]) -> pd.DataFrame: ...

    @overload
    def to_frame(self, kind: Literal["polars"]) -> pl.DataFrame: ...

    @overload
    def to_frame(self, kind: Literal["pyarrow"]) -> pa.Table: ...

    @overload
    def to_frame(self, kind: None = None) -> Any: ...

    def to_frame(self, kind: Literal["pandas", "polars", "pyarrow"] | None = None) -> Any:
        """The table as a data frame.

        Parameters
        ----------
        kind
            "pandas", "polars" or "pyarrow". None: the kind of frame from which the responses were made, or otherwise
            the first of these that is installed.

        Returns
        -------
        data frame
            The rows of the result.

        Raises
        ------
        PsychometricsError
            If no data frame of this kind can be made.
        """
        return make(self._columns(), kind or self.frame_kind, self._index())

    def to_json(self) -> str:
        """Write the result as JSON.

        Returns
        -------
        str
            JSON from which `from_json` makes an equal result.
        """
        return json.dumps({"format": FORMAT, "version": VERSION, "result": _encode(self)}, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the result that `to_json` wrote.

        Parameters
        ----------
        text
            The JSON.

        Returns
        -------
        Result
            A result equal to the one that was written.

        Raises
        ------
        PsychometricsError
            If the text is not JSON of a result of this class.
        """
        try:
            stored = json.loads(text)
            if not (isinstance(stored, dict) and stored.get("format") == FORMAT):
                raise PsychometricsError(f"this JSON has no format {FORMAT!r}; read the text that to_json() returned")
            if stored["version"] != VERSION:
                raise PsychometricsError(
                    f"this JSON has version {stored['version']} and this release reads {VERSION}; write it again"
                )
            found = _decode(stored["result"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, PsychometricsError):
                raise
            raise PsychometricsError(
                f"this is not JSON of a result ({error}); read the text that to_json() returned"
            ) from error
        if not isinstance(found, cls):
            raise PsychometricsError(f"this JSON holds a {type(found).__name__}; read it with {type(found).__name__}")
        return found

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _content(self) == _content(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        facts = ", ".join(f"{name} {value}" for name, value in self._facts().items())
        return f"<{type(self).__name__}: {self._title()}{': ' if facts else ''}{facts}>"

    def _repr_html_(self) -> str:
        return html_page(self._title(), [html_table(self._html_columns(), self._title())], self._facts(), self._notes())


def format_value(value: Any, digits: int = 3) -> str:
    """Format a number or a text for display: rounded, 0 without a sign, and empty for None and NaN."""
    if value is None:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return ""
        if np.isinf(value):
            return "∞" if value > 0 else "−∞"
        return f"{round(float(value), digits) + 0.0:,.{digits}f}".replace("-", "−")
    return str(value)


def format_p(p: float) -> str:
    """Format a p value for display; empty for NaN."""
    return "" if np.isnan(p) else "< .001" if p < 0.001 else f"{p:.3f}"


class PrintedTable(NamedTuple):
    """Columns as text for people.

    Attributes
    ----------
    names
        The C names of the columns.
    are_texts
        Whether each column contains texts, which are aligned to the left.
    rows
        Tuples of C cells. If a long table is shortened, None replaces the hidden rows.
    n_hidden
        Number of hidden rows.
    """

    names: tuple[str, ...]
    are_texts: tuple[bool, ...]
    rows: tuple[tuple[str, ...] | None, ...]
    n_hidden: int

    @classmethod
    def from_columns(
        cls, columns: Mapping[str, Sequence[Any]], *, decimals: int = 3, max_rows: int | None = MAX_ROWS
    ) -> PrintedTable:
        """Round and format the cells of columns.

        Parameters
        ----------
        columns
            Cells by the column's name.
        decimals
            Digits after the decimal point.
        max_rows
            Maximum number of rows; rows in the middle of a longer table are hidden. None: all rows are shown.

        Returns
        -------
        PrintedTable
            The cells as text.
        """
        cells = [own.tolist() if isinstance(own, np.ndarray) else list(own) for own in columns.values()]
        n = max(map(len, cells), default=0)
        hidden = 0 if max_rows is None else max(n - max_rows, 0)
        places: list[int | None] = [*range(n)]
        if max_rows is not None and hidden:
            places = [*range(max_rows // 2), None, *range(n - max_rows // 2, n)]
        named = [*zip(columns, cells, strict=True)]
        return cls(
            tuple(columns),
            tuple(any(isinstance(cell, str) for cell in own) for own in cells),
            tuple(k if k is None else tuple(_cell(name, own[k], decimals) for name, own in named) for k in places),
            hidden,
        )


def html_table(
    columns: Mapping[str, Sequence[Any]], title: str, *, decimals: int = 3, max_rows: int | None = MAX_ROWS
) -> str:
    """Render columns as an HTML table below a title. All texts are escaped."""
    from html import escape

    table = PrintedTable.from_columns(columns, decimals=decimals, max_rows=max_rows)
    kinds = [' class="irt-text"' if is_text else "" for is_text in table.are_texts]
    head = "".join(f'<th scope="col"{own}>{escape(name)}</th>' for name, own in zip(table.names, kinds, strict=True))
    body = []
    for row in table.rows:
        if row is None:
            hidden = f"… {table.n_hidden:,} more rows; to_frame() has all of them"
            body.append(f'<tr><td class="irt-text" colspan="{len(kinds)}">{hidden}</td></tr>')
            continue
        cells = "".join(f"<td{own}>{escape(cell)}</td>" for cell, own in zip(row, kinds, strict=True))
        body.append(f"<tr>{cells}</tr>")
    caption = f"<caption>{escape(title)}</caption>"
    inside = f"{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'<table class="irt-table">{inside}</table>'


def html_page(title: str, tables: Sequence[str], facts: Mapping[str, str], notes: Sequence[str]) -> str:
    """Render a result for a notebook: its tables, then its facts and notes. Texts other than tables are escaped."""
    from html import escape  # responses are made without HTML

    terms = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    sentences = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'{_STYLE}<div class="irt-result" tabindex="0" role="group" aria-label="{escape(title)}">{"".join(tables)}'
        f"{f'<dl>{terms}</dl>' if terms else ''}{f'<ul>{sentences}</ul>' if sentences else ''}</div>"
    )


def _cell(column: str, value: Any, decimals: int) -> str:
    """Format a cell; columns named p, q or …_p contain p values."""
    is_p = isinstance(value, float) and (column in ("p", "q") or column.endswith("_p"))
    return format_p(value) if is_p else format_value(value, decimals)


def _content(result: Any) -> dict[str, Any]:
    """Return the fields that are compared, in the form of the JSON."""
    values = {field.name: getattr(result, field.name) for field in fields(result) if field.name not in _OF_FRAME}
    return {name: _comparable(x) for name, x in values.items()}


def _comparable(value: Any) -> Any:
    """Convert a value to the form in which it is compared, with the content of results inside tuples."""
    if isinstance(value, tuple):
        return [_comparable(x) for x in value]
    return _content(value) if isinstance(value, Result) else _encode(value)


def _encode(value: Any) -> Any:
    """Convert a value to the form of the JSON. A type that JSON lacks becomes a mapping whose name begins with $."""
    from irt_psychometrics.core.model_families import ItemModel  # loads SciPy

    if isinstance(value, NameWithMeaning):
        return {"$flag": str(value.value)}
    if isinstance(value, ItemModel):
        return {"$model": value.name}
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, np.generic):
        return _encode(value.item())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else {"$number": str(value)}
    if isinstance(value, np.ndarray):
        flat = value.ravel().tolist()
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            flat = [x if np.isfinite(x) else str(x) for x in flat]
        return {"$array": value.dtype.str, "shape": list(value.shape), "values": flat}
    if isinstance(value, tuple):
        return {"$tuple": [_encode(x) for x in value]}
    if isinstance(value, list):
        return [_encode(x) for x in value]
    if isinstance(value, frozenset):
        return {"$set": sorted(_encode(x) for x in value)}
    if isinstance(value, Mapping):
        return {str(name): _encode(x) for name, x in value.items()}
    name = type(value).__name__
    if is_dataclass(value) and (name in _KEPT or name in Result._classes):
        own = {one.name: _encode(getattr(value, one.name)) for one in fields(value) if one.name != "frame_index"}
        return {"$record": name, "fields": own}
    raise TypeError(f"{name} has no form in JSON")


def _decode(value: Any) -> Any:
    from irt_psychometrics.core.item_models import item_model

    if isinstance(value, list):
        return [_decode(x) for x in value]
    if not isinstance(value, dict):
        return value
    if "$flag" in value:
        return next(flag for flag in resolve_name(f"{_CORE}:Flag") if flag.value == value["$flag"])
    if "$model" in value:
        return item_model(value["$model"])
    if "$number" in value:
        return _NUMBERS[value["$number"]]
    if "$array" in value:
        flat = [_NUMBERS[x] if isinstance(x, str) else x for x in value["values"]]
        return np.array(flat, dtype=np.dtype(value["$array"])).reshape(value["shape"])
    if "$tuple" in value:
        return tuple(_decode(x) for x in value["$tuple"])
    if "$set" in value:
        return frozenset(_decode(x) for x in value["$set"])
    if "$record" in value:
        name = value["$record"]
        found = Result._classes.get(name) or resolve_name(f"{_KEPT[name]}:{name}")
        return found(**{field: _decode(x) for field, x in value["fields"].items()})
    return {name: _decode(x) for name, x in value.items()}


def columns_of_rows(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return columns of numbers from rows; numbers that a row lacks are NaN."""
    names = dict.fromkeys(chain.from_iterable(rows))
    return {name: np.array([row.get(name, np.nan) for row in rows], dtype=float) for name in names}
