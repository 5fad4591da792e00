"""Parts of a chart by kind, for tests of figures."""

from __future__ import annotations

from typing import TypeVar

from irt_psychometrics.plots import Chart
from irt_psychometrics.plots.axes import Boxes, Line, Names, Part, Points

Kind = TypeVar("Kind", bound=Part)


def lines(chart: Chart) -> list[Line]:
    return _parts(chart, Line)


def points(chart: Chart) -> list[Points]:
    return _parts(chart, Points)


def boxes(chart: Chart) -> list[Boxes]:
    return _parts(chart, Boxes)


def names(chart: Chart) -> list[str]:
    """Return the names next to points, in the order in which they are drawn."""
    return [name for part in _parts(chart, Names) for name in part.names]


def _parts(chart: Chart, kind: type[Kind]) -> list[Kind]:
    return [part for part in chart.parts if isinstance(part, kind)]
