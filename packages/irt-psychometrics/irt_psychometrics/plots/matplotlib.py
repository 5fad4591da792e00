"""Draw charts on matplotlib's axes, to combine them with other axes and to write PNG and PDF files.

matplotlib is an optional package (the extra `plots`), so it is imported only when a chart is drawn.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import compress
from typing import TYPE_CHECKING, Any

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.plots.axes import Axes, Boxes, Line, Names, Points
from irt_psychometrics.plots.svg import COLOURS, WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes as MatplotlibAxes
    from matplotlib.figure import Figure

POINT = 0.9375
"""Points (1/72 inch) in a unit of the chart's size, which is 1.25 pixels of 1/96 inch."""
DPI = 192
TITLE = 30
"""Height of a picture's title, in units of the charts."""
LETTERS = 120
"""Number of letters in a line of a picture's title."""
LEGEND_ROWS = 8
MAX_TICKS = 10
"""Maximum number of names of ticks on the x axis."""
_DASHES = {"solid": "solid", "dash": "dashed", "dot": "dotted", "dashdot": "dashdot"}
_MARKERS = {"circle": "o", "diamond": "D", "square": "s", "triangle": "^", "cross": "x"}
CARETUP, CARETDOWN = 6, 7
"""Arrows of matplotlib."""
_FONT, _SMALL = 9 * POINT, 8 * POINT
_GREY = "#E4E4E4"


def new_axes(chart: Axes) -> MatplotlibAxes:
    """Return the axes of a new figure of pyplot, of the size of the chart, with the chart on them."""
    _require()
    from matplotlib import pyplot

    return draw(chart, pyplot.figure(figsize=_inches(chart.width, chart.height), layout="constrained").add_subplot())


def new_figure(title: str, charts: Sequence[Axes], columns: int) -> Figure:
    """Return a new figure of pyplot with charts in rows of `columns` under a title."""
    _require()
    from matplotlib import pyplot

    return _arrange(pyplot.figure(layout="constrained"), title, charts, columns)


def write(path: str, title: str, charts: Sequence[Axes], columns: int) -> None:
    """Write charts under a title ("" for none) to a file of the kind that its name ends with, PNG or PDF."""
    _require()
    from matplotlib.figure import Figure

    _arrange(Figure(layout="constrained"), title, charts, columns).savefig(path, dpi=DPI, facecolor="white")


def draw(chart: Axes, axes: MatplotlibAxes) -> MatplotlibAxes:
    """Draw a chart on axes, and set their ends, ticks, labels, legend and texts. Returns the axes."""
    axes.set_xlim(*chart.x)
    axes.set_ylim(*chart.y)
    axes.set_xlabel(_plain(chart.x_label), fontsize=_FONT)
    axes.set_ylabel(_plain(chart.y_label), fontsize=_FONT)
    axes.tick_params(labelsize=_FONT)
    if chart.dated:
        axes.xaxis_date("UTC")  # both count days since 1970
    for axis, names, most in ((axes.xaxis, chart.x_names, MAX_TICKS), (axes.yaxis, chart.y_names, len(chart.y_names))):
        if names:
            shown = [*names.items()][:: -math.ceil(len(names) / most)]
            axis.set_ticks([at for at, _ in shown], [_plain(name) for _, name in shown])
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=_GREY, linewidth=0.7 * POINT)
    axes.spines[["top", "right"]].set_visible(False)
    if chart.heading:
        axes.set_title(_plain(chart.heading), fontsize=_FONT, fontweight="bold", loc="left")
    for k, note in enumerate(chart.notes):
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "top"}
        axes.annotate(_plain(note), (0, 1), (5 * POINT, -(2 + 10 * k) * POINT), fontsize=_SMALL, **place)
    handles = {}
    for part in chart.parts:
        drawers: dict[type, Any] = {Line: _line, Points: _points, Boxes: _boxes, Names: _names}
        drawn = drawers[type(part)](chart, part, axes)
        if part.name:
            handles[_plain(part.name)] = drawn
    if handles:
        columns = math.ceil(len(handles) / LEGEND_ROWS)
        legend = axes.legend([*handles.values()], [*handles], fontsize=_SMALL, frameon=False, ncols=columns)
        legend.set_in_layout(False)  # a wide legend would squeeze the axes of a picture
    return axes


def _arrange(figure: Figure, title: str, charts: Sequence[Axes], columns: int) -> Figure:
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    heights = [max(chart.height for chart in row) for row in rows]
    width = charts[0].width if len(charts) == 1 else WIDTH
    figure.set_size_inches(*_inches(width, sum(heights) + (TITLE if title else 0) or TITLE))
    if title:
        figure.suptitle(_plain("\n".join(textwrap.wrap(title, LETTERS))), fontsize=10 * POINT)
    if rows:
        grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
        for k, chart in enumerate(charts):
            draw(chart, figure.add_subplot(grid[k // columns, k % columns]))
    return figure


def _line(chart: Axes, line: Line, axes: MatplotlibAxes) -> Any:  # noqa: ARG001
    colour, steps = COLOURS[line.colour], {"drawstyle": "steps-post"} if line.steps else {}
    if line.low:
        band: dict[str, Any] = {"step": "post"} if line.steps else {}
        axes.fill_between(line.xs, line.low, line.high, color=colour, alpha=0.18, linewidth=0, **band)
    style: dict[str, Any] = {"linestyle": _DASHES[line.dash], "linewidth": line.width * POINT, **steps}
    return axes.plot(line.xs, line.ys, color=colour, **style)[0]


def _points(chart: Axes, points: Points, axes: MatplotlibAxes) -> Any:
    """Draw points; values beyond the y axis are arrows at the edge."""
    colour, (low, high) = COLOURS[points.colour], sorted(chart.y)
    for bars, first, last in ((axes.vlines, points.low, points.high), (axes.hlines, points.left, points.right)):
        if first:
            at = points.xs if bars == axes.vlines else points.ys
            known = [math.isfinite(y) for y in points.ys]
            places, starts, ends = ([*compress(values, known)] for values in (at, first, last))
            bars(places, starts, ends, colors=colour, linewidth=1.1 * POINT, alpha=0.7)
    if points.joined:
        axes.plot(points.xs, points.ys, color=colour, linewidth=0.7 * POINT)
    style: dict[str, Any] = {"color": colour, "markersize": 2 * points.size * POINT, "linestyle": "none"}
    for marker, edge, some in (
        (CARETUP, high, [y > high for y in points.ys]),
        (CARETDOWN, low, [y < low for y in points.ys]),
    ):
        if any(some):
            (arrows,) = axes.plot(
                [*compress(points.xs, some)], [edge] * sum(some), marker=marker, clip_on=False, **style
            )
            arrows.set_in_layout(False)
    inside = [low <= y <= high for y in points.ys]
    xs, ys = ([*compress(values, inside)] for values in (points.xs, points.ys))
    return axes.plot(xs, ys, marker=_MARKERS[points.shape], **style)[0]


def _boxes(chart: Axes, boxes: Boxes, axes: MatplotlibAxes) -> Any:  # noqa: ARG001
    width = [right - left for left, right in zip(boxes.xs, boxes.right, strict=True)]
    height = [top - bottom for bottom, top in zip(boxes.ys, boxes.top, strict=True)]
    style: dict[str, Any] = {"alpha": 0.13 if boxes.pale else 0.35 if boxes.hatched else 1.0}
    style |= {"color": list(boxes.fills) or COLOURS[boxes.colour], "zorder": 0 if boxes.pale else 2}
    for k, text in enumerate(boxes.texts):
        middle = boxes.xs[k] + width[k] / 2, boxes.ys[k] + height[k] / 2
        axes.text(*middle, _plain(text), ha="center", va="center", fontsize=_SMALL)
    return axes.bar(boxes.xs, height, width, boxes.ys, align="edge", **style)


def _names(chart: Axes, names: Names, axes: MatplotlibAxes) -> None:
    """Write names next to their points, towards the middle of the axis, without names that overlap an earlier one."""
    middle, taken = sum(chart.x) / 2, list[tuple[float, float]]()
    for x, y, name in zip(names.xs, names.ys, names.names, strict=True):
        if not (math.isfinite(x) and math.isfinite(y)):
            continue
        at, inch = axes.transData.transform((x, y)), axes.figure.dpi
        if any(abs(at[0] - px) < 0.8 * inch and abs(at[1] - py) < 0.14 * inch for px, py in taken):
            continue
        taken.append((at[0], at[1]))
        right = (x <= middle) == (chart.x[0] <= chart.x[1])
        place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "ha": "left" if right else "right"}
        axes.annotate(_plain(name), (x, y), (5 if right else -5, 0), fontsize=_SMALL, **place)


def _plain(text: str) -> str:
    """Protect dollar signs, between which matplotlib would read formulas."""
    return text.replace("$", r"\$")


def _inches(width: float, height: float) -> tuple[float, float]:
    return width * POINT / 72, height * POINT / 72


def _require() -> None:
    """Raise PsychometricsError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise PsychometricsError(
            "PNG, PDF and matplotlib's axes need matplotlib: pip install irt-psychometrics[plots]; SVG needs no package"
        ) from error
