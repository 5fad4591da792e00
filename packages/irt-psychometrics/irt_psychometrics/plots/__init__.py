"""Figures of calibrations, scores and comparisons, as charts.

A result that has a figure draws it by its method `plot`. The functions draw figures of several results. Figures are
rendered as SVG for notebooks, reports and paper, as Plotly's JSON for web pages, and by matplotlib.
"""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.plots.chart import Chart, Picture
    from irt_psychometrics.plots.figures import (
        dif_curves,
        dif_effects,
        drift,
        item_curves,
        item_fit,
        item_information,
        linking,
        score_distribution,
        test_information,
        wright_map,
    )
else:
    __getattr__ = names_when_used(__name__)

__all__ = [
    "Chart",
    "Picture",
    "dif_curves",
    "dif_effects",
    "drift",
    "item_curves",
    "item_fit",
    "item_information",
    "linking",
    "score_distribution",
    "test_information",
    "wright_map",
]
