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

    Attributes
    ----------
    x, y
        Ends of each axis, as numbers or (x only) dates. The first end may be the larger one.
    x_label, y_label
        Label of each axis, with its unit.
    described
        Description of the chart for readers who cannot see it.
    width, height
        Size in units of 1.25 pixels; a page may scale it.
    x_names, y_names
        Labels instead of numbers: a mapping from positions, or a sequence of labels at 0, 1, 2 …
    dated
        Whether x is in days since 1970-01-01, so that its labels are dates.
    heading
        Text above the chart.
    notes
        Lines of text in the upper left corner.
    parts
        The parts, the last one on top.

    Examples
    --------
    >>> from irt_psychometrics.plots import Chart
    >>> chart = Chart((0, 4), (0, 1), "score", "share", "shares by score")
    >>> chart.line([0, 2, 4], [0.1, 0.5, 0.9], name="model").points([1, 3], [0.2, 0.8], "orange", "observed")
    <Chart: shares by score>
    >>> chart.to_svg().startswith("<svg")
    True
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
        """Add a line, over a band from `low` to `high` if they are given.

        Parameters
        ----------
        xs, ys
            Shape (N,), positions in the units of the axes. Numbers, dates or aware datetimes.
            None marks an unknown value.
        colour
            One of `Chart.SERIES`.
        name
            Name in the legend; "" if the legend leaves the line out.
        low, high
            Shape (N,), ends of the band.
        dash
            "solid", "dash", "dot" or "dashdot".
        width
            Width of the line, in the unit of the chart's size.
        steps
            Whether each value holds until the next x.

        Returns
        -------
        Chart
            This chart, so that calls can be chained.

        Raises
        ------
        ValueError
            For an unknown colour or dash.
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
        """Add points, with intervals of y from `low` to `high` and of x from `left` to `right`.

        Parameters
        ----------
        xs, ys
            Shape (N,), positions in the units of the axes. Numbers, dates or aware datetimes.
            None marks an unknown value.
        colour, name
            As in `line`.
        low, high
            Shape (N,), ends of the interval of each y.
        left, right
            Shape (N,), ends of the interval of each x.
        shape
            "circle", "diamond", "square", "triangle" or "cross".
        titles
            Text of each point, shown when the pointer is on it.
        size
            Half of a mark's width, in the unit of the chart's size.
        joined
            Whether a thin line joins the points.

        Returns
        -------
        Chart
            This chart, so that calls can be chained.

        Raises
        ------
        ValueError
            For an unknown colour or shape.
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
        """Add boxes: bars of a histogram, cells of a table, or ranges of an axis.

        Parameters
        ----------
        left, bottom, right, top
            Shape (N,), edges in the units of the axes.
        colour, name
            As in `line`.
        fills
            Colour (#rrggbb) of each box instead of `colour`.
        texts
            Text inside each box.
        hatched
            Whether they are lighter, and hatched in Plotly.
        pale
            Whether they are drawn behind the other parts.

        Returns
        -------
        Chart
            This chart, so that calls can be chained.

        Raises
        ------
        ValueError
            For an unknown colour.
        """
        return self._add(Boxes(left, bottom, colour, name, (), (), right, top, fills, texts, hatched, pale))

    def names(self, xs: Numbers, ys: Numbers, names: Iterable[str]) -> Self:
        """Add names next to points. A name that would overlap an earlier name is moved by a line, or left out.

        Parameters
        ----------
        xs, ys
            Shape (N,), positions in the units of the axes. Numbers, dates or aware datetimes.
            None marks an unknown value.
        names
            N names.

        Returns
        -------
        Chart
            This chart, so that calls can be chained.
        """
        return self._add(Names(xs, ys, names=list(names)))

    def stretch(self, left: float, right: float) -> Self:
        """Shade a range of the x axis in grey.

        Parameters
        ----------
        left, right
            Ends of the range.

        Returns
        -------
        Chart
            This chart, so that calls can be chained.
        """
        return self.boxes([left], [self.y[0]], [right], [self.y[1]], "grey", pale=True)

    def level(self, y: float) -> Self:
        """Add a thin horizontal line.

        Parameters
        ----------
        y
            Height of the line.

        Returns
        -------
        Chart
            This chart, so that calls can be chained.
        """
        return self.line(self.x, (y, y), "grey", width=0.8)

    def _add(self, part: Part) -> Self:
        if part.xs:
            self.parts.append(part)
        return self

    @staticmethod
    def ends_of(*values: Iterable[float | None]) -> tuple[float, float]:
        """Compute the ends of an axis that contains all finite values, with a margin of 8 %.

        Parameters
        ----------
        values
            Iterables of numbers. None marks an unknown value.

        Returns
        -------
        tuple
            Lower and upper end; (−1, 1) if no value is finite.

        Examples
        --------
        >>> from irt_psychometrics.plots import Chart
        >>> Chart.ends_of([0.0, 10.0], [None])
        (-0.8, 10.8)
        """
        found = [float(v) for some in values for v in some if v is not None and math.isfinite(v)]
        if not found:
            return -1.0, 1.0
        room = 0.08 * max(max(found) - min(found), 0.1)
        return min(found) - room, max(found) + room

    def to_svg(self, *, bare: bool = False) -> str:
        """Render the chart as SVG on a white background, below a legend of the parts that have names.

        Parameters
        ----------
        bare
            Whether to leave background and legend out, to place the chart in a page.

        Returns
        -------
        str
            SVG. All texts are escaped.
        """
        return svg.bare(self) if bare else svg.render_framed(self)

    def to_plotly(self) -> dict[str, Any]:
        """Render the chart for Plotly.

        Returns
        -------
        dict
            `data` and `layout`, plain numbers and text, which `plotly.graph_objects.Figure` accepts.
        """
        return plotly.figure(self)

    def to_markdown(self, alt: str = "") -> str:
        """Render the chart as an image inside Markdown.

        Parameters
        ----------
        alt
            Alternative text; "" for `described`.

        Returns
        -------
        str
            Markdown with the whole SVG inside.
        """
        return Picture("", [self]).to_markdown(alt or self.described)

    def to_matplotlib(self, ax: MatplotlibAxes | None = None) -> MatplotlibAxes:
        """Draw the chart on matplotlib's axes, to combine it with other axes or to change its style.

        Parameters
        ----------
        ax
            Axes, for example from `plt.subplots(1, 2)`. None: the axes of a new figure with the chart's size.

        Returns
        -------
        matplotlib.axes.Axes
            The axes.

        Raises
        ------
        PsychometricsError
            If matplotlib is not installed.
        """
        return matplotlib.new_axes(self) if ax is None else matplotlib.draw(self, ax)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the chart to an SVG, PNG or PDF file, chosen by the end of the file's name.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        ValueError
            If the name ends differently.
        PsychometricsError
            If matplotlib, which PNG and PDF need, is not installed.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from irt_psychometrics.plots import Chart
        >>> chart = Chart((0, 4), (0, 1), "score", "share", "shares by score")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     chart.save(Path(folder, "chart.svg"))
        """
        _save(self, path)

    def _repr_svg_(self) -> str:
        return self.to_svg()

    def __repr__(self) -> str:
        return f"<Chart: {self.described or f'{self.y_label} by {self.x_label}'}>"


@dataclass(frozen=True, repr=False)
class Picture:
    """Charts in rows of `columns` under a title. Each chart keeps its height.

    Attributes
    ----------
    title
        Text above the charts.
    charts
        The charts; without charts the picture is only the title.
    columns
        Number of charts in a row.

    Examples
    --------
    >>> from irt_psychometrics.plots import Chart, Picture
    >>> charts = [Chart((0, 1), (0, 1), "x", label, label) for label in ("a", "b")]
    >>> Picture("Two charts", charts, columns=2)
    <Picture of 2 charts: Two charts>
    """

    title: str
    charts: Sequence[Chart] = ()
    columns: int = 1

    def to_svg(self) -> str:
        """Render the charts as one SVG on white, with a legend of the parts that have names.

        Returns
        -------
        str
            SVG. All texts are escaped.
        """
        return svg.image(self.title, self.charts, self.columns)

    def to_markdown(self, alt: str = "") -> str:
        """Render the picture as an image inside Markdown.

        Parameters
        ----------
        alt
            Alternative text; "" for the title.

        Returns
        -------
        str
            Markdown with the whole SVG inside.
        """
        drawn = base64.b64encode(self.to_svg().encode()).decode()
        return f"![{(alt or self.title).replace('[', '(').replace(']', ')')}](data:image/svg+xml;base64,{drawn})"

    def to_matplotlib(self) -> Figure:
        """Draw the charts as a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            The figure.

        Raises
        ------
        PsychometricsError
            If matplotlib is not installed.
        """
        return matplotlib.new_figure(self.title, self.charts, self.columns)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the picture to an SVG, PNG or PDF file, chosen by the end of the file's name.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        ValueError
            If the name ends differently.
        PsychometricsError
            If matplotlib, which PNG and PDF need, is not installed.
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
