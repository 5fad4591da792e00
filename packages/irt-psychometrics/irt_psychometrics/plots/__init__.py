"""Figures of calibrations, scores and comparisons, as charts.

They are rendered as SVG for notebooks, reports and paper, and as Plotly's JSON for web pages.
"""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.plots.chart import Chart, Picture
    from irt_psychometrics.plots.figures import (
        FitPlots,
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
    "FitPlots",
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
