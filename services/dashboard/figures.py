"""Charts as elements of a page, drawn by Plotly's script from `static/dashboard.js` in the colours of the page.

Every figure has a sentence that says what it shows, for those who do not see it, and its numbers in a table beneath.
What does not belong here: what is drawn.
"""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path

from htmltools import Tag, TagChild, TagList, head_content, tags

from irt_assets.charts import plotly
from irt_assets.charts.chart import Chart

_PLOTLY = distribution("plotly")
PLOTLY_JS = Path(str(_PLOTLY.locate_file("plotly/package_data/plotly.min.js")))


def figure(chart: Chart, numbers: TagChild = None) -> TagList:
    """The figure, described by the chart's sentence. numbers: a folded table of its values."""
    drawn = json.dumps(plotly.figure(chart), ensure_ascii=False, separators=(",", ":"))
    return TagList(
        tags.div(data_figure=drawn, class_="figure", role="figure", aria_label=chart.described),
        head_content(tags.script(src=f"plotly.min.js?v={_PLOTLY.version}", defer="")),
        tags.details(tags.summary("The numbers"), numbers) if numbers is not None else None,
    )


def stack(*parts: Tag | TagList) -> Tag:
    """Figures side by side if the window is wide enough."""
    return tags.div(*(tags.div(part, class_="col-lg-6") for part in parts), class_="row")
