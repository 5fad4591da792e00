"""Charts as data that draw themselves: SVG for notebooks, reports and paper, Plotly's JSON for pages."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.plots.chart import Chart, Picture

__all__ = ["Chart", "Picture"]

__getattr__ = names_when_used(__name__)
