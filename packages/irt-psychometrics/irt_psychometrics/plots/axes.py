"""Charts as data: axes, and the parts on them in the order in which they are drawn.

This module draws nothing (see `svg` and `plotly`), and does not depend on items.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeAlias

Numbers: TypeAlias = Any
"""Iterable of numbers, dates or aware datetimes; None for an unknown value."""
Labels: TypeAlias = Any
"""Mapping from positions to labels, or iterable of labels at 0, 1, 2 …"""
CHOICES = {
    "colour": ("blue", "orange", "green", "purple", "sky", "yellow", "black", "grey"),
    "dash": ("solid", "dash", "dot", "dashdot"),
    "shape": ("circle", "diamond", "square", "triangle", "cross"),
}
_PLACES = {"xs", "ys", "low", "high", "left", "right", "top"}


@dataclass(frozen=True)
class Part:
    """Positions in the units of the axes, and their style. Numbers are stored as lists of float, NaN if unknown.

    Attributes
    ----------
    xs, ys
        Positions, shape (N,).
    colour
        One of `CHOICES["colour"]`; other choices are checked in the same way.
    name
        Name in the legend; "" if the legend leaves the part out.
    low, high
        Ends of the interval of each y, shape (N,); empty if y have no intervals.

    Raises
    ------
    ValueError
        For an unknown colour, dash or shape.
    """

    xs: Numbers
    ys: Numbers
    colour: str = "blue"
    name: str = ""
    low: Numbers = ()
    high: Numbers = ()

    def __post_init__(self) -> None:
        for key in vars(self).keys() & _PLACES:
            vars(self)[key] = [_number(value) for value in vars(self)[key]]
        for key in vars(self).keys() & CHOICES.keys():
            if vars(self)[key] not in CHOICES[key]:
                raise ValueError(f"{key} must be one of {', '.join(CHOICES[key])}; got {vars(self)[key]!r}")


@dataclass(frozen=True)
class Line(Part):
    """A line with a band from `low` to `high`. If `steps` is true, each value holds until the next x."""

    dash: str = "solid"
    width: float = 1.8
    steps: bool = False


@dataclass(frozen=True)
class Points(Part):
    """Points.

    Attributes
    ----------
    shape
        One of `CHOICES["shape"]`.
    titles
        Text of each point, shown when the pointer is on it.
    size
        Half of a mark's width.
    left, right
        Ends of the interval of each x; empty if x have no intervals.
    joined
        Whether a thin line joins the points.
    """

    shape: str = "circle"
    titles: Sequence[str] = ()
    size: float = 2.6
    left: Numbers = ()
    right: Numbers = ()
    joined: bool = False


@dataclass(frozen=True)
class Boxes(Part):
    """Bars of a histogram, cells of a table, or ranges of an axis, each from (x, y) to (`right`, `top`).

    Attributes
    ----------
    fills
        Colour (#rrggbb) of each box instead of `colour`.
    texts
        Text inside each box.
    hatched
        Whether boxes are lighter, and hatched in Plotly.
    pale
        Whether boxes are drawn behind the other parts.
    """

    right: Numbers = ()
    top: Numbers = ()
    fills: Sequence[str] = ()
    texts: Sequence[str] = ()
    hatched: bool = False
    pale: bool = False


@dataclass(frozen=True)
class Names(Part):
    """Names next to points. A name that would overlap an earlier one is moved by a line or not drawn."""

    names: Sequence[str] = ()


@dataclass
class Axes:
    """The data of a chart; see `Chart`."""

    x: tuple[Any, Any]
    y: tuple[float, float]
    x_label: str
    y_label: str
    described: str
    width: int = 330
    height: int = 210
    x_names: Labels = field(default_factory=dict)
    y_names: Labels = field(default_factory=dict)
    dated: bool = False
    heading: str = ""
    notes: Sequence[str] = ()
    parts: list[Part] = field(default_factory=list)

    def __post_init__(self) -> None:
        first, last = (_number(end) if isinstance(end, date) else end for end in self.x)
        self.x = first, last
        self.x_names, self.y_names = _labels(self.x_names), _labels(self.y_names)


def shortened(name: str, length: int) -> str:
    """Shorten a name to `length` characters, and replace characters that cannot be printed.

    Parameters
    ----------
    name
        The name.
    length
        Maximum number of characters.

    Returns
    -------
    str
        The name, with "…" at the end if it was too long.
    """
    drawable = "".join(ch if ch.isprintable() else "□" for ch in name[: length + 1])
    return drawable if len(drawable) <= length else drawable[: length - 1] + "…"


def _number(value: Any) -> float:
    """Convert a value to float: None to NaN, and a date or an aware datetime to days since 1970-01-01 UTC."""
    if value is None:
        return math.nan
    if isinstance(value, datetime):
        return value.timestamp() / 86_400
    return float((value - date(1970, 1, 1)).days) if isinstance(value, date) else float(value)


def _labels(names: Labels) -> Mapping[float, str]:
    if isinstance(names, Mapping):
        return {_number(position): name for position, name in names.items()}
    return {float(k): name for k, name in enumerate(names)}
