"""Charts, and pictures of several charts, which can be rendered as SVG, as Plotly's JSON and by matplotlib.

NumPy is not imported, so that processes which only render charts stay small. Series of different
colours also differ in dash or shape, so charts can be read in greyscale.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from irt_psychometrics.plots import matplotlib, plotly, svg
from irt_psychometrics.plots.axes import CHOICES, Axes, Boxes, Line, Names, Numbers, Part, Points, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes as MatplotlibAxes
    from matplotlib.figure import Figure


@dataclass(repr=False)
class Chart(Axes):
    """A chart: a pair of axes, in the units of the data, and the parts drawn on them.

    Notebooks display it. Points whose value is not finite are not drawn. A point above or below the y axis is drawn as
    an arrow at the edge.

    Attributes:
        x, y: ends of each axis, as numbers or (x only) dates. The first end may be the larger one.
        x_label, y_label: label of each axis, with its unit.
        described: description of the chart for readers who cannot see it.
        width, height: size in units of 1.25 pixels; a page may scale it.
        x_names, y_names: labels instead of numbers: a mapping from positions, or a sequence of labels at 0, 1, 2 …
        dated: whether x is in days since 1970-01-01, so that its labels are dates.
        heading: text above the chart.
        notes: lines of text in the upper left corner.
        parts: the parts, the last one on top.
    """

    SERIES: ClassVar[Sequence[str]] = CHOICES["colour"]
    """Names of colours, in the order in which series use them."""
    shortened = staticmethod(shortened)

    def line(
        self,
        xs: Numbers,
        ys: Numbers,
        colour: str = "blue",
        name: str = "",
        low: Numbers = (),
        high: Numbers = (),
        *,
        dash: str = "solid",
        width: float = 1.8,
        steps: bool = False,
    ) -> Self:
        """Add a line, over a band from `low` to `high` if they are given. Returns the chart.

        Args:
            xs, ys: shape (N,), in the units of the axes.
            colour: one of `Chart.SERIES`.
            name: name in the legend; "" for none.
            low, high: shape (N,), ends of the band.
            dash: "solid", "dash", "dot" or "dashdot".
            width: width of the line, in the unit of the chart's size.
            steps: whether each value holds until the next x.

        Raises ValueError for an unknown colour or dash.
        """
        return self._add(Line(xs, ys, colour, name, low, high, dash, width, steps))

    def points(
        self,
        xs: Numbers,
        ys: Numbers,
        colour: str = "blue",
        name: str = "",
        low: Numbers = (),
        high: Numbers = (),
        *,
        left: Numbers = (),
        right: Numbers = (),
        shape: str = "circle",
        titles: Sequence[str] = (),
        size: float = 2.6,
        joined: bool = False,
    ) -> Self:
        """Add points, with intervals of y from `low` to `high` and of x from `left` to `right`. Returns the chart.

        Args:
            xs, ys: shape (N,), in the units of the axes.
            colour, name: as in `line`.
            low, high: shape (N,), ends of the interval of each y.
            left, right: shape (N,), ends of the interval of each x.
            shape: "circle", "diamond", "square", "triangle" or "cross".
            titles: text of each point, shown when the pointer is on it.
            size: half of a mark's width, in the unit of the chart's size.
            joined: whether a thin line joins the points.

        Raises ValueError for an unknown colour or shape.
        """
        return self._add(Points(xs, ys, colour, name, low, high, shape, titles, size, left, right, joined))

    def boxes(
        self,
        left: Numbers,
        bottom: Numbers,
        right: Numbers,
        top: Numbers,
        colour: str = "blue",
        name: str = "",
        *,
        fills: Sequence[str] = (),
        texts: Sequence[str] = (),
        hatched: bool = False,
        pale: bool = False,
    ) -> Self:
        """Add boxes: bars of a histogram, cells of a table, or ranges of an axis. Returns the chart.

        Args:
            left, bottom, right, top: shape (N,), edges in the units of the axes.
            colour, name: as in `line`.
            fills: colour (#rrggbb) of each box instead of `colour`.
            texts: text inside each box.
            hatched: whether they are lighter, and hatched in Plotly.
            pale: whether they are drawn behind the other parts.

        Raises ValueError for an unknown colour.
        """
        return self._add(Boxes(left, bottom, colour, name, (), (), right, top, fills, texts, hatched, pale))

    def names(self, xs: Numbers, ys: Numbers, names: Iterable[str]) -> Self:
        """Add names next to points, without names that would overlap an earlier one. Returns the chart."""
        return self._add(Names(xs, ys, names=list(names)))

    def stretch(self, left: float, right: float) -> Self:
        """Shade the range of the x axis from `left` to `right` in grey. Returns the chart."""
        return self.boxes([left], [self.y[0]], [right], [self.y[1]], "grey", pale=True)

    def level(self, y: float) -> Self:
        """Add a thin horizontal line at `y`. Returns the chart."""
        return self.line(self.x, (y, y), "grey", width=0.8)

    def _add(self, part: Part) -> Self:
        if part.xs:
            self.parts.append(part)
        return self

    @staticmethod
    def ends_of(*values: Iterable[float | None]) -> tuple[float, float]:
        """Ends of an axis that contains all finite values, with a margin of 8 %; (−1, 1) if there are none."""
        found = [float(v) for some in values for v in some if v is not None and math.isfinite(v)]
        if not found:
            return -1.0, 1.0
        room = 0.08 * max(max(found) - min(found), 0.1)
        return min(found) - room, max(found) + room

    def to_svg(self, *, bare: bool = False) -> str:
        """Render the chart as SVG on a white background, below a legend of the parts that have names.

        If `bare`, background and legend are left out, to place the chart in a page. All texts are escaped.
        """
        return svg.bare(self) if bare else svg.render_framed(self)

    def to_plotly(self) -> dict[str, Any]:
        """Return `data` and `layout` of a Plotly figure, as plain numbers and text.

        `plotly.graph_objects.Figure(…)` accepts them.
        """
        return plotly.figure(self)

    def to_markdown(self, alt: str = "") -> str:
        """Render the chart as an image inside Markdown, with the alternative text `alt` (default: `described`)."""
        return Picture("", [self]).to_markdown(alt or self.described)

    def to_matplotlib(self, ax: MatplotlibAxes | None = None) -> MatplotlibAxes:
        """Draw the chart on matplotlib's axes, to combine it with other axes or to change its style.

        Args:
            ax: axes, for example of `plt.subplots(1, 2)`; None: the axes of a new figure of the chart's size.

        Returns the axes. Raises PsychometricsError if matplotlib is not installed.
        """
        return matplotlib.new_axes(self) if ax is None else matplotlib.draw(self, ax)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the chart to an SVG, PNG or PDF file, by the end of the name of the file.

        Raises ValueError for another name, and PsychometricsError if PNG or PDF lack matplotlib.
        """
        _save(self, path)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        return f"<Chart: {self.described or f'{self.y_label} by {self.x_label}'}>"


@dataclass(frozen=True, repr=False)
class Picture:
    """Charts in rows of `columns` under a title. Each chart keeps its height. Without charts it is only the title."""

    title: str
    charts: Sequence[Chart] = ()
    columns: int = 1

    def to_svg(self) -> str:
        """Render the charts as one SVG on white, with a legend of the parts that have names. All texts are escaped."""
        return svg.image(self.title, self.charts, self.columns)

    def to_markdown(self, alt: str = "") -> str:
        """Render the picture as an image inside Markdown, with the alternative text `alt` (default: the title)."""
        drawn = base64.b64encode(self.to_svg().encode()).decode()
        return f"![{(alt or self.title).replace('[', '(').replace(']', ')')}](data:image/svg+xml;base64,{drawn})"

    def to_matplotlib(self) -> Figure:
        """Draw the charts as a new figure of matplotlib. Raises PsychometricsError if matplotlib is not installed."""
        return matplotlib.new_figure(self.title, self.charts, self.columns)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture to an SVG, PNG or PDF file, by the end of the name of the file.

        Raises ValueError for another name, and PsychometricsError if PNG or PDF lack matplotlib.
        """
        _save(self, path)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        return f"<Picture of {len(self.charts)} charts: {self.title}>"


def _save(drawing: Chart | Picture, path: str | PathLike[str]) -> None:
    kind = Path(path).suffix.lower()
    if kind not in (".svg", ".png", ".pdf"):
        raise ValueError(f"the name of a chart's file must end with .svg, .png or .pdf, got {Path(path).name!r}")
    picture = Picture("", [drawing]) if isinstance(drawing, Chart) else drawing
    if kind == ".svg":
        Path(path).write_text(drawing.to_svg(), encoding="utf-8")
    else:
        matplotlib.write(os.fspath(path), picture.title, picture.charts, picture.columns)
