"""A chart as data: axes, and the parts on them in the order in which they are drawn.

Nothing here draws (see `svg` and `plotly`) or knows what an item is. NumPy is not imported: processes that only write
learner reports stay small. A colour's meaning is also in a dash or a shape, so that a print in grey says the same.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, Self, TypeAlias

Numbers: TypeAlias = Any
"""An iterable of numbers, or of None where one is not known."""
Colour: TypeAlias = Literal["blue", "orange", "grey", "black", "green", "purple", "sky", "yellow"]
Dash: TypeAlias = Literal["solid", "dash", "dot", "dashdot"]
Shape: TypeAlias = Literal["circle", "diamond", "square", "triangle", "cross"]
SERIES: Sequence[Colour] = ("blue", "orange", "green", "purple", "sky", "yellow", "black", "grey")
"""Colours of series that have no meaning of their own."""


@dataclass(frozen=True)
class Part:
    """Places, in the units of the axes, and their colour; `name`: in the legend. Numbers are kept as a list of float,
    NaN where one is not known.

    low, high: the ends of the interval of each y, where they are given.
    """

    xs: Numbers
    ys: Numbers
    colour: Colour = "blue"
    name: str = ""
    low: Numbers = ()
    high: Numbers = ()

    def __post_init__(self) -> None:
        for key in vars(self).keys() & {"xs", "ys", "low", "high", "left", "right", "top"}:
            vars(self)[key] = [math.nan if value is None else float(value) for value in vars(self)[key]]


@dataclass(frozen=True)
class Line(Part):
    """With a band from `low` to `high`. `steps`: each value holds until the next."""

    dash: Dash = "solid"
    width: float = 1.8
    steps: bool = False


@dataclass(frozen=True)
class Points(Part):
    """Points; `left` and `right`: the ends of the interval of each x.

    `titles`: the text of each point for the pointer that rests on it. `size`: half of a mark's width. `joined`: by a
    thin line.
    """

    shape: Shape = "circle"
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
class Chart:
    """One pair of axes, x and y in the units of the data; a point whose value is not finite is not drawn.

    x, y: the ends of the axis; the first may be the larger one. x_names, y_names: labels at these places instead of
    numbers. `dated`: x is in days, as `days` has them. `described`: what the chart shows, for those who do not see it.
    `heading`, `notes`: above the chart and in its upper left corner.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str
    y_label: str
    described: str
    width: int = 330
    height: int = 210
    x_names: Mapping[float, str] = field(default_factory=dict)
    y_names: Mapping[float, str] = field(default_factory=dict)
    dated: bool = False
    heading: str = ""
    notes: Sequence[str] = ()
    parts: list[Part] = field(default_factory=list)

    def add(self, *parts: Part) -> Self:
        """The chart with these parts above the others; those without a place are left out."""
        self.parts += [part for part in parts if part.xs]
        return self

    def stretch(self, left: float, right: float) -> Self:
        """A part of the x axis in grey, from the bottom to the top."""
        return self.add(Boxes([left], [self.y[0]], "grey", right=[right], top=[self.y[1]], pale=True))

    def level(self, y: float) -> Self:
        """A thin line across, as at 0."""
        return self.add(Line(self.x, (y, y), "grey", width=0.8))


@dataclass(frozen=True)
class Picture:
    """Charts in rows of `columns` under a title, each as high as it says. Without charts the title stands alone."""

    title: str
    charts: Sequence[Chart] = ()
    columns: int = 1


def ends_of(*values: Iterable[float | None]) -> tuple[float, float]:
    """Ends of an axis that holds all of the values (those that are not finite aside), with some room."""
    found = [float(v) for some in values for v in some if v is not None and math.isfinite(v)]
    if not found:
        return -1.0, 1.0
    room = 0.08 * max(max(found) - min(found), 0.1)
    return min(found) - room, max(found) + room


def names_at(names: Iterable[str]) -> dict[float, str]:
    """Labels at 0, 1, 2 …"""
    return {float(k): name for k, name in enumerate(names)}


def days(moment: date) -> float:
    """Days since 1970-01-01 UTC, of a date or an aware time."""
    return moment.timestamp() / 86_400 if isinstance(moment, datetime) else float((moment - date(1970, 1, 1)).days)


def shortened(name: str, length: int) -> str:
    """A name that fits and that can be drawn: any text is a valid id."""
    drawable = "".join(ch if ch.isprintable() else "□" for ch in name[: length + 1])
    return drawable if len(drawable) <= length else drawable[: length - 1] + "…"
