"""Every month of every scale as a traffic light, with the reason and the next step."""

from __future__ import annotations

from htmltools import tags

from services.dashboard.elements import badge, link, moment, table
from services.dashboard.page import Asked, Page


def page(asked: Asked) -> Page:
    overview = asked.reader.overview()
    rows = [
        (
            link(state.month, "month", month=state.month, scale=state.scale_id),
            state.scale_id,
            badge(state.state),
            state.why,
        )
        for state in reversed(overview.months)
    ]
    return Page("Months", tags.div(table("Months", ("month", "scale", "state", "why"), rows), moment(overview.now)))
