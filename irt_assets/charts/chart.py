"""A chart as data: axes, and the parts on them in the order in which they are drawn.

Nothing here draws (see `svg` and `plotly`) or knows what an item is. NumPy is not imported: processes that only write
learner reports stay small. A colour's meaning is also in a dash or a shape, so that a print in grey says the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal, TypeAlias

Numbers: TypeAlias = Iterable[float]
Colour: TypeAlias = Literal["blue", "orange", "grey", "black", "green", "purple", "sky", "yellow"]
Dash: TypeAlias = Literal["solid", "dash", "dot", "dashdot"]
Shape: TypeAlias = Literal["circle", "diamond", "square", "triangle", "cross", "caret-up", "caret-down"]
SERIES: Sequence[Colour] = ("blue", "orange", "green", "purple", "sky", "yellow", "black", "grey")
"""Colours of series that have no meaning of their own."""


@dataclass(frozen=True)
class Line:
    """`steps`: each value holds until the next."""

    xs: Sequence[float]
    ys: Sequence[float]
    colour: Colour
    name: str = ""
    dash: Dash = "solid"
    width: float = 1.8
    steps: bool = False


@dataclass(frozen=True)
class Band:
    xs: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: Colour
    name: str = ""


@dataclass(frozen=True)
class Points:
    """Points, with the ends of their intervals where `low` and `high`, or `left` and `right`, are given.

    `titles`: what is said of a point where the pointer rests on it. `size`: half of a mark's width. `joined`: by a
    thin line.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    colour: Colour
    shape: Shape = "circle"
    name: str = ""
    titles: Sequence[str] = ()
    size: float = 2.6
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    left: Sequence[float] = ()
    right: Sequence[float] = ()
    joined: bool = False


@dataclass(frozen=True)
class Boxes:
    """Bars of a histogram, cells of a table, a stretch of the axis. `fills`: a colour (#rrggbb) for each box in place
    of `colour`; `texts`: written into them; `pale`: behind the other parts."""

    left: Sequence[float]
    right: Sequence[float]
    bottom: Sequence[float]
    top: Sequence[float]
    colour: Colour = "blue"
    name: str = ""
    fills: Sequence[str] = ()
    texts: Sequence[str] = ()
    hatched: bool = False
    pale: bool = False


@dataclass(frozen=True)
class Names:
    """Names next to points, except those that would overlap an earlier one."""

    xs: Sequence[float]
    ys: Sequence[float]
    names: Sequence[str]


Part: TypeAlias = Line | Band | Points | Boxes | Names


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

    def line(self, xs: Numbers, ys: Iterable[float | None], colour: Colour, name: str = "", **how: Any) -> Chart:
        return self._with(Line(_numbers(xs), _numbers(ys), colour, name, **how))

    def band(self, xs: Numbers, low: Numbers, high: Numbers, colour: Colour, name: str = "") -> Chart:
        return self._with(Band(_numbers(xs), _numbers(low), _numbers(high), colour, name))

    def points(
        self, xs: Numbers, ys: Iterable[float | None], colour: Colour, shape: Shape = "circle", **how: Any
    ) -> Chart:
        """Nothing is added where there is no point."""
        how = {key: _numbers(value) if key in ("low", "high", "left", "right") else value for key, value in how.items()}
        found = Points(_numbers(xs), _numbers(ys), colour, shape, **how)
        return self._with(found) if found.xs else self

    def boxes(self, left: Numbers, right: Numbers, bottom: Numbers, top: Numbers, **how: Any) -> Chart:
        return self._with(Boxes(_numbers(left), _numbers(right), _numbers(bottom), _numbers(top), **how))

    def stretch(self, left: float, right: float) -> Chart:
        """A part of the x axis in grey, from the bottom to the top."""
        return self.boxes([left], [right], [self.y[0]], [self.y[1]], colour="grey", pale=True)

    def names(self, xs: Numbers, ys: Numbers, names: Sequence[str]) -> Chart:
        return self._with(Names(_numbers(xs), _numbers(ys), list(names)))

    def level(self, y: float) -> Chart:
        """A thin line across, as at 0."""
        return self.line(self.x, (y, y), "grey", width=0.8)

    def _with(self, part: Part) -> Chart:
        self.parts.append(part)
        return self


@dataclass(frozen=True)
class Picture:
    """Charts in rows of `columns` under a title, each as high as it says. Without charts the title stands alone."""

    title: str
    charts: Sequence[Chart] = ()
    columns: int = 1


def ends_of(*values: Iterable[float | None], least: float = 0.1) -> tuple[float, float]:
    """Ends of an axis that holds all of the values (those that are not finite aside), with some room."""
    found = [float(v) for some in values for v in some if v is not None and math.isfinite(v)]
    if not found:
        return -1.0, 1.0
    room = 0.08 * max(max(found) - min(found), least)
    return min(found) - room, max(found) + room


def names_at(names: Iterable[str]) -> dict[float, str]:
    """Labels at 0, 1, 2 …"""
    return {float(k): name for k, name in enumerate(names)}


def days(moment: date) -> float:
    """Days since 1970-01-01 UTC, of a date or an aware time."""
    return moment.timestamp() / 86_400 if isinstance(moment, datetime) else float((moment - date(1970, 1, 1)).days)


def date_of(day: float) -> datetime:
    return datetime.fromtimestamp(day * 86_400, UTC)


def shortened(name: str, length: int) -> str:
    """A name that fits and that can be drawn: any text is a valid id."""
    drawable = "".join(ch if ch.isprintable() else "□" for ch in name[: length + 1])
    return drawable if len(drawable) <= length else drawable[: length - 1] + "…"


def _numbers(values: Iterable[float | None]) -> list[float]:
    """Plain numbers; what is not known is not a number."""
    return [math.nan if value is None else float(value) for value in values]
