"""Blocks as elements of a page. `static/dashboard.js` draws their charts with Plotly, in the page's colours.

Every figure has a description for readers who do not see it, and its numbers in a table beneath.
"""

import json
from dataclasses import is_dataclass
from importlib.metadata import distribution
from pathlib import Path

from htmltools import HTML, TagChild, TagList, head_content, tags
from markupsafe import Markup

from irt_assets.blocks import Block, Figure, html
from irt_psychometrics.plots import Chart

_PLOTLY = distribution("plotly")
PLOTLY_JS = Path(str(_PLOTLY.locate_file("plotly/package_data/plotly.min.js")))


def render_blocks(*parts: Block | TagChild) -> TagList:
    """Convert the blocks among `parts` to elements; elements are kept."""
    return TagList(
        *(_block_element(part) if is_dataclass(part) else part for part in parts)
    )  # no element is a dataclass


def _block_element(block: Block) -> TagList:
    part = html.part(block, draw=_chart_element)
    script = tags.script(src=f"plotly.min.js?v={_PLOTLY.version}", defer="")
    return TagList(HTML(part), head_content(script) if " data-figure=" in part else None)


def _chart_element(figure: Figure) -> Markup:
    """The element in which the script draws a chart, or the figure's SVG if it has no chart for Plotly."""
    if not isinstance(figure.chart, Chart):
        return Markup(figure.svg)  # noqa: S704 - a chart escapes its texts
    chart = json.dumps(figure.chart.to_plotly(), ensure_ascii=False, separators=(",", ":"))
    element = Markup('<div data-figure="{}" class="figure" role="figure" aria-label="{}"></div>')
    return element.format(chart, figure.description)
