"""Charts as data, and what draws them: SVG for reports, PDFs and Dagster, Plotly for the dashboard."""

from typing import TYPE_CHECKING

from irt_psychometrics._lazy import names_when_used

if TYPE_CHECKING:
    from irt_psychometrics.plots.chart import (
        SERIES,
        Boxes,
        Chart,
        Dash,
        Line,
        Names,
        Picture,
        Points,
        Shape,
        days,
        ends_of,
        names_at,
        shortened,
    )
    from irt_psychometrics.plots.pictures import (
        MOST_NAMES,
        NOW,
        PUBLISHED,
        against,
        bulk,
        by_month,
        by_rank,
        credit,
        histogram,
        mark,
        over_ability,
        response_curves,
    )
    from irt_psychometrics.plots.svg import as_markdown, drawing

__all__ = [
    "MOST_NAMES",
    "NOW",
    "PUBLISHED",
    "SERIES",
    "Boxes",
    "Chart",
    "Dash",
    "Line",
    "Names",
    "Picture",
    "Points",
    "Shape",
    "against",
    "as_markdown",
    "bulk",
    "by_month",
    "by_rank",
    "credit",
    "days",
    "drawing",
    "ends_of",
    "histogram",
    "mark",
    "names_at",
    "over_ability",
    "response_curves",
    "shortened",
]

__getattr__ = names_when_used(__name__)
