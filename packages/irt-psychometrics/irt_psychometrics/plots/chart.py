"""Charts that draw themselves: SVG for notebooks, reports and paper, Plotly's JSON for pages.

NumPy is not imported: processes that only write learner reports stay small. A colour's meaning is also in a dash or a
shape, so that a print in grey says the same.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

from irt_psychometrics.plots import plotly, svg
from irt_psychometrics.plots.axes import CHOICES, Axes, Boxes, Line, Names, Numbers, Part, Points, shortened


@dataclass(repr=False)
class Chart(Axes):
    """One pair of axes, x and y in the units of the data, and what is drawn on them.

    A notebook shows it. A point whose value is not finite is not drawn, and a point beyond an axis is an arrow at its
    edge.

    Attributes:
        x, y: the ends of the axis, numbers or dates. The first may be the larger one.
        x_label, y_label: what the axis shows, with its unit.
        described: what the chart shows, for those who do not see it.
        width, height: size in units of 1.25 pixels, or as large as the page draws it.
        x_names, y_names: labels at these places instead of numbers, or labels at 0, 1, 2 …
        dated: whether x is in days, so that its labels are dates.
        heading, notes: text above the chart and in its upper left corner.
        parts: what is drawn, the last on top.
    """

    SERIES: ClassVar[Sequence[str]] = CHOICES["colour"]
    """Colours of series that have no meaning of their own."""
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
            name: of the line in the legend.
            dash: solid, dash, dot or dashdot.
            steps: each value holds until the next.

        Raises ValueError for a colour or a dash that is not one of these.
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
            shape: circle, diamond, square, triangle or cross.
            titles: the text of each point for the pointer that rests on it.
            size: half of a mark's width.
            joined: by a thin line.

        Raises ValueError for a colour or a shape that is not one of these.
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
        """Add boxes: bars of a histogram, cells of a table, stretches of an axis. Returns the chart.

        Args:
            left, bottom, right, top: shape (N,), edges in the units of the axes.
            colour, name: as in `line`.
            fills: a colour (#rrggbb) for each box in place of `colour`.
            texts: written into the boxes.
            hatched: lighter, and hatched if Plotly draws them.
            pale: behind the other parts.
        """
        return self._add(Boxes(left, bottom, colour, name, (), (), right, top, fills, texts, hatched, pale))

    def names(self, xs: Numbers, ys: Numbers, names: Iterable[str]) -> Self:
        """Add names next to points, except those that would overlap an earlier one. Returns the chart."""
        return self._add(Names(xs, ys, names=list(names)))

    def stretch(self, left: float, right: float) -> Self:
        """Add a part of the x axis in grey, from the bottom to the top. Returns the chart."""
        return self.boxes([left], [self.y[0]], [right], [self.y[1]], "grey", pale=True)

    def level(self, y: float) -> Self:
        """Add a thin line across, as at 0. Returns the chart."""
        return self.line(self.x, (y, y), "grey", width=0.8)

    def _add(self, part: Part) -> Self:
        if part.xs:
            self.parts.append(part)
        return self

    @staticmethod
    def ends_of(*values: Iterable[float | None]) -> tuple[float, float]:
        """Ends of an axis that holds all of the finite values, with some room."""
        found = [float(v) for some in values for v in some if v is not None and math.isfinite(v)]
        if not found:
            return -1.0, 1.0
        room = 0.08 * max(max(found) - min(found), 0.1)
        return min(found) - room, max(found) + room

    def to_svg(self, *, bare: bool = False) -> str:
        """The chart as SVG, in which every text is escaped, on white and below a legend of the parts that have names.

        bare: without both, to be placed in a page of one's own.
        """
        return svg.bare(self) if bare else svg.framed(self)

    def to_plotly(self) -> dict[str, Any]:
        """`data` and `layout` of a Plotly figure, of plain numbers and text: `plotly.graph_objects.Figure(…)` draws it.

        Names next to points are left to the pointer.
        """
        return plotly.figure(self)

    def to_markdown(self, alt: str = "") -> str:
        """The chart as an image inside Markdown; `alt`: its text for those who do not see it, else `described`."""
        return Picture("", [self]).to_markdown(alt or self.described)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the chart to an SVG file. Raises ValueError if the name of the file does not end with .svg."""
        _save(self.to_svg(), path)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        return f"<Chart: {self.described or f'{self.y_label} by {self.x_label}'}>"


@dataclass(frozen=True, repr=False)
class Picture:
    """Charts in rows of `columns` under a title, each as high as it says. Without charts the title stands alone."""

    title: str
    charts: Sequence[Chart] = ()
    columns: int = 1

    def to_svg(self) -> str:
        """The charts as one SVG on white, in which every text is escaped, with a legend of the parts that have
        names."""
        return svg.image(self.title, self.charts, self.columns)

    def to_markdown(self, alt: str = "") -> str:
        """The picture as an image inside Markdown; `alt`: its text for those who do not see it, else the title."""
        drawn = base64.b64encode(self.to_svg().encode()).decode()
        return f"![{(alt or self.title).replace('[', '(').replace(']', ')')}](data:image/svg+xml;base64,{drawn})"

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture to an SVG file. Raises ValueError if the name of the file does not end with .svg."""
        _save(self.to_svg(), path)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        return f"<Picture of {len(self.charts)} charts: {self.title}>"


def _save(drawn: str, path: str | PathLike[str]) -> None:
    if Path(path).suffix != ".svg":
        raise ValueError(f"a chart is saved as SVG: name a file that ends with .svg, not {Path(path).name!r}")
    Path(path).write_text(drawn, encoding="utf-8")
