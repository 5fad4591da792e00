"""Convert charts to Plotly figures: JSON that Plotly's script draws in the browser, on light and dark pages.

The Python package plotly is not imported.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from irt_psychometrics.plots.axes import Axes, Boxes, Line, Names, Points

COLOURS = {
    "blue": "#3B8FD4", "orange": "#D9730D", "grey": "#808080", "black": "#808080", "green": "#2E9E7A",
    "purple": "#B86BA0", "sky": "#4FB3E8", "yellow": "#A89A00",
}  # fmt: skip
"""Colours that can be distinguished on light and dark pages; dashes and shapes distinguish them too."""
SHAPES = {"triangle": "triangle-up", "cross": "x"}
MS_A_DAY = 86_400_000
HEIGHT = 360
"""Minimum height of a figure in pixels."""


def figure(chart: Axes) -> dict[str, Any]:
    """Return `data` and `layout` as plain numbers and text."""
    draw: dict[type, Any] = {Line: _line, Points: _points, Boxes: _boxes, Names: partial(_names, chart)}
    traces = [trace for part in chart.parts for trace in draw[type(part)](part, chart.dated)]
    for trace in traces:
        trace["showlegend"] = bool(trace.get("name"))
    return {
        "data": traces,
        "layout": {
            "xaxis": _axis(chart.x_label, chart.x, chart.x_names, dated=chart.dated),
            "yaxis": _axis(chart.y_label, chart.y, chart.y_names) | {"automargin": True},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02},
            "showlegend": sum(trace["showlegend"] for trace in traces) > 1,
            "barmode": "overlay",
            "margin": {"l": 55, "r": 15, "t": 25, "b": 45},
            "height": max(HEIGHT, chart.height),
        },
    }


def _axis(label: str, ends: Sequence[float], names: Any, *, dated: bool = False) -> dict[str, Any]:
    axis: dict[str, Any] = {"title": {"text": label}, "range": _values(ends, dated=dated)}
    if names:
        axis |= {"tickvals": list(names), "ticktext": list(names.values())}
    months = {"dtickrange": ["M1", "M6"], "value": "%y-%m"}  # short, because Plotly turns labels that are too wide
    return axis | ({"type": "date", "tickformatstops": [months]} if dated else {})


def _line(line: Line, dated: bool) -> Iterator[dict[str, Any]]:
    if line.low:
        yield {
            "type": "scatter",
            "mode": "lines",
            "x": _values([*line.xs, *reversed(line.xs)], dated=dated),
            "y": _values([*line.low, *reversed(line.high)]),
            "name": f"95 % band of {line.name}" if line.name else "",
            "fill": "toself",
            "fillcolor": f"{COLOURS[line.colour]}40",
            "line": {"width": 0},
            "hoverinfo": "skip",
        }
    style = {"color": COLOURS[line.colour], "dash": line.dash, "width": line.width}
    yield {
        "type": "scatter",
        "mode": "lines",
        "x": _values(line.xs, dated=dated),
        "y": _values(line.ys),
        "name": line.name,
        "line": style | ({"shape": "hv"} if line.steps else {}),
    }


def _points(points: Points, dated: bool) -> Iterator[dict[str, Any]]:
    colour = COLOURS[points.colour]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers" if points.joined else "markers",
        "cliponaxis": False,  # whole marks at the ends of the axis
        "x": _values(points.xs, dated=dated),
        "y": _values(points.ys),
        "name": points.name,
        "marker": {"color": colour, "symbol": SHAPES.get(points.shape, points.shape), "size": 8},
        "line": {"color": colour, "width": 1},
    }
    for axis, values, low, high in (
        ("y", points.ys, points.low, points.high),
        ("x", points.xs, points.left, points.right),
    ):
        if low:
            above = [end - value for end, value in zip(high, values, strict=True)]
            below = [value - end for end, value in zip(low, values, strict=True)]
            trace[f"error_{axis}"] = {
                "type": "data", "symmetric": False, "array": _values(above), "arrayminus": _values(below),
                "thickness": 1, "color": colour,
            }  # fmt: skip
    if points.titles:
        trace |= {"text": list(points.titles), "hovertemplate": "%{text}<extra></extra>"}
    yield trace


def _names(chart: Axes, names: Names, dated: bool) -> Iterator[dict[str, Any]]:
    """Names beside their points, at the left if the right has no room in a plot of the usual size.

    Names that would overlap an earlier name are omitted.
    """
    shown: list[int] = []
    x_pixel, y_pixel = (abs(end - start) / size for (start, end), size in ((chart.x, 440), (chart.y, 280)))
    for k, name in enumerate(names.names):
        if all(
            abs(names.xs[k] - names.xs[other]) > x_pixel * 3.5 * (len(name) + len(names.names[other]) + 1)
            or abs(names.ys[k] - names.ys[other]) > y_pixel * 14
            for other in shown
        ):
            shown.append(k)
    ends = [(max(chart.x) - names.xs[k]) / x_pixel < 7 * len(names.names[k]) for k in shown]
    yield {
        "type": "scatter",
        "mode": "text",
        "cliponaxis": False,
        "x": _values([names.xs[k] for k in shown], dated=dated),
        "y": _values([names.ys[k] for k in shown]),
        "text": [f" {names.names[k]} " for k in shown],  # distance from the mark
        "textposition": [f"middle {'left' if end else 'right'}" for end in ends],
        "hoverinfo": "skip",
    }


def _boxes(boxes: Boxes, dated: bool) -> Iterator[dict[str, Any]]:
    ends = list(zip(boxes.xs, boxes.right, strict=True))
    yield {
        "type": "bar",
        "x": _values([(left + right) / 2 for left, right in ends], dated=dated),
        "width": _values([right - left for left, right in ends], dated=dated),
        "base": _values(boxes.ys),
        "y": _values([top - bottom for top, bottom in zip(boxes.top, boxes.ys, strict=True)]),
        "text": list(boxes.texts) or None,
        "name": boxes.name,
        "marker": {
            "color": list(boxes.fills) or COLOURS[boxes.colour],
            "opacity": 0.15 if boxes.pale else 1,
            "pattern": {"shape": "/" if boxes.hatched else ""},
        },
    }


def _values(values: Sequence[float], *, dated: bool = False) -> list[float | None]:
    """Values for JSON: NaN becomes None, numbers are rounded to six digits, and days become milliseconds."""
    return [
        None if not math.isfinite(value) else round(value * MS_A_DAY) if dated else float(f"{value:.6g}")
        for value in values
    ]
