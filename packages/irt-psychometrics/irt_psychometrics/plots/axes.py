"""What a chart is made of, as data: axes, and the parts on them in the order in which they are drawn.

Nothing here draws (see `svg` and `plotly`) or knows what an item is.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, TypeAlias

Numbers: TypeAlias = Any
"""An iterable of numbers, dates or aware times; None: a value that is not known."""
Labels: TypeAlias = Any
"""A mapping of places to labels, or an iterable of labels at 0, 1, 2 …"""
CHOICES = {
    "colour": ("blue", "orange", "green", "purple", "sky", "yellow", "black", "grey"),
    "dash": ("solid", "dash", "dot", "dashdot"),
    "shape": ("circle", "diamond", "square", "triangle", "cross"),
}
_PLACES = {"xs", "ys", "low", "high", "left", "right", "top"}


@dataclass(frozen=True)
class Part:
    """Places, in the units of the axes, and their colour; `name`: in the legend. Numbers are kept as a list of float,
    NaN where one is not known.

    low, high: the ends of the interval of each y, where they are given.
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
    """With a band from `low` to `high`. `steps`: each value holds until the next."""

    dash: str = "solid"
    width: float = 1.8
    steps: bool = False


@dataclass(frozen=True)
class Points(Part):
    """Points; `left` and `right`: the ends of the interval of each x.

    `titles`: the text of each point for the pointer that rests on it. `size`: half of a mark's width. `joined`: by a
    thin line.
    """

    shape: str = "circle"
    titles: Sequence[str] = ()
    size: float = 2.6
    left: Numbers = ()
    right: Numbers = ()
    joined: bool = False


@dataclass(frozen=True)
class Boxes(Part):
    """Bars of a histogram, cells of a table, a stretch of the axis: each from (x, y) to (`right`, `top`). `fills`: a
    colour (#rrggbb) for each box in place of `colour`; `texts`: written into them; `pale`: behind the other parts."""

    right: Numbers = ()
    top: Numbers = ()
    fills: Sequence[str] = ()
    texts: Sequence[str] = ()
    hatched: bool = False
    pale: bool = False


@dataclass(frozen=True)
class Names(Part):
    """Names next to points, except those that would overlap an earlier one."""

    names: Sequence[str] = ()


@dataclass
class Axes:
    """The data of a chart, which `Chart` explains."""

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
    """A name that fits and that can be drawn: any text is a valid id."""
    drawable = "".join(ch if ch.isprintable() else "□" for ch in name[: length + 1])
    return drawable if len(drawable) <= length else drawable[: length - 1] + "…"


def _number(value: Any) -> float:
    """NaN for None, and the days since 1970-01-01 UTC for a date or an aware time."""
    if value is None:
        return math.nan
    if isinstance(value, datetime):
        return value.timestamp() / 86_400
    return float((value - date(1970, 1, 1)).days) if isinstance(value, date) else float(value)


def _labels(names: Labels) -> Mapping[float, str]:
    if isinstance(names, Mapping):
        return {_number(place): name for place, name in names.items()}
    return {float(k): name for k, name in enumerate(names)}
