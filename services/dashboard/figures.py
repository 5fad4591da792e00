"""Plotly's figures as elements of a page, drawn by `static/dashboard.js` in the colours of the page.

Every figure has a sentence that says what it shows, for those who do not see it, and its numbers in a table beneath.
What does not belong here: what is drawn.
"""

from __future__ import annotations

from pathlib import Path

import plotly
import plotly.graph_objects as go
from htmltools import Tag, TagChild, TagList, head_content, tags

PLOTLY_JS = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
HEIGHT = 360


def figure(drawn: go.Figure, sentence: str, numbers: TagChild = None, *, height: int = HEIGHT) -> TagList:
    """The figure; `sentence`: what it shows. numbers: a folded table of its values."""
    drawn.update_layout(margin={"l": 55, "r": 15, "t": 25, "b": 45}, height=height, template=None)
    return TagList(
        tags.div(data_figure=drawn.to_json(), class_="figure", role="figure", aria_label=sentence),
        head_content(tags.script(src=f"plotly.min.js?v={plotly.__version__}", defer="")),
        tags.details(tags.summary("The numbers"), numbers) if numbers is not None else None,
    )


def empty(x: str, y: str) -> go.Figure:
    """A figure with its axes named and nothing in it yet; its legend stands above and grows upwards."""
    legend = {"orientation": "h", "yanchor": "bottom", "y": 1.02}
    return go.Figure(layout={"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}, "legend": legend})


def stack(*parts: Tag | TagList) -> Tag:
    """Figures side by side if the window is wide enough."""
    return tags.div(*(tags.div(part, class_="col-lg-6") for part in parts), class_="row")
