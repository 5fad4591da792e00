"""The first page at a glance: a square for each month of each scale, plots of a scale, and what waits for a person.

The plots and cards are read once for each overview (`Reader.read_cached`).
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

import numpy as np
import psycopg
from htmltools import Tag, TagList, svg, tags

from irt_assets.blocks import DASH, Figure, number
from irt_assets.blocks.html import BOOTSTRAP
from irt_assets.calibration.linking_history import linked_months, read_history
from irt_assets.charts import histogram, month_chart, robust_limits
from irt_assets.common.dashboard_pages import address
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import quantity, shorten
from irt_assets.decisions.bank import BankItem, bank_items
from irt_assets.decisions.proposals import Proposal, waiting_proposals
from irt_assets.gates.month_classification import State
from irt_assets.ledger.fitted_items import months_of_item
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.verdict_states import answers_by_day
from irt_psychometrics.items import ItemRow
from irt_psychometrics.plots import Chart
from jobs.watching.overview import Overview
from services.dashboard.address_fields import months_of, scales_of, state_of
from services.dashboard.figures import render_blocks
from services.dashboard.page import ViewRequest
from services.dashboard.views.bank import FLAGS
from services.dashboard.views.decisions import find_moved_anchors

MONTHS_SHOWN, DAYS_SHOWN, CARDS_SHOWN = 24, 120, 6
SIGNS: Mapping[State, str] = {
    State.GREEN: "✓",
    State.RED: "✕",
    State.STALE: "↻",
    State.PENDING: "…",
    State.RUNNING: "▸",
    State.MISSING: "?",
    State.EMPTY: "·",
    State.ORIGIN: "○",
}
"""Signs of the states, as colours alone do not distinguish them."""


def strip(overview: Overview) -> Tag:
    """A square for each of the last months of each scale, oldest first, with its state and a link to its page."""
    months = months_of(overview)[:MONTHS_SHOWN][::-1]
    rows = (_squares(overview, scale_id, months) for scale_id in scales_of(overview))
    return tags.div(*rows, class_="strip", role="group", aria_label="Months by scale, oldest first")


def _squares(overview: Overview, scale_id: str, months: Sequence[str]) -> Tag:
    squares = []
    for month in months:
        state = state_of(overview, month, scale_id).state
        colour = f"text-bg-{BOOTSTRAP[state.badge.tone]}"
        squares.append(
            tags.a(
                tags.span(SIGNS[state], class_=f"square {colour}", aria_hidden="true"),
                tags.small(month[2:]),
                href=address("month", month=month, scale=scale_id),
                title=f"{month}: {state}",
                aria_label=f"{month} of {scale_id}: {state}",
            )
        )
    name = tags.a(shorten(scale_id), href=address("months", scale=scale_id), class_="scale")
    return tags.div(name, *squares)


def plots(request: ViewRequest, overview: Overview, scale_id: str) -> TagList:
    """Three small plots of a scale: its linking by month, its items by flag, and the answers by day."""

    def draw() -> TagList:
        with request.reader.connect() as connection:
            scale = read_scales(connection)[scale_id]
            items = bank_items(connection, scale, overview.now)
            charts = [
                _linking(connection, scale, months_of(overview)[0]) or _difficulties(items),
                _flags(items),
                _days(connection) or _answers(items),
            ]
        return TagList(tags.div(*(render_blocks(Figure(c, c.heading)) for c in charts if c), class_="glance"))

    return request.reader.read_cached(("plots", scale_id, f"{overview.now}"), draw)


def _linking(connection: psycopg.Connection, scale: Scale, month: str) -> Chart | None:
    """Slope and intercept by month with 95 % intervals, or None if no month is linked."""
    linked = linked_months(read_history(connection, scale, month))
    if not linked:
        return None
    found = {
        name: np.array([constants.value(name) for constants in linked.values()]).T for name in ("slope", "intercept")
    }
    value, se = found["intercept"]
    described = f"Slope and intercept of {quantity(len(linked), 'month')} with 95 % intervals"
    chart = month_chart(list(linked), "", described, value, Z95 * se, 0.0, plain="intercept")
    slope, slope_se = found["slope"]
    low, high = slope - Z95 * slope_se, slope + Z95 * slope_se
    chart.y = Chart.ends_of(value - Z95 * se, high, low, [0.0, 1.0])
    chart.level(1.0).points(np.arange(len(linked)) + 0.1, slope, "orange", "slope", low, high, shape="diamond")
    chart.heading = "Spread (slope) and mean (intercept) by month"
    return chart


def _difficulties(items: Sequence[BankItem]) -> Chart | None:
    b = np.array([item.values.b for item in items if item.values and item.values.b is not None], dtype=float)
    if not b.size:
        return None
    low, high = robust_limits(b)
    described = f"Difficulty of {quantity(b.size, 'published item')}"
    chart = histogram(b, np.linspace(low, high, 16), "difficulty b (θ)", "items", described)
    chart.heading = "Published items by difficulty"
    return chart


def _flags(items: Sequence[BankItem]) -> Chart:
    """The number of items with each flag; an item can have several."""
    counts = {text: sum(map(has, items)) for name, (text, has) in FLAGS.items() if name not in ("any", "none")}
    described = ", ".join(f"{name}: {n}" for name, n in counts.items())
    ends = (0, max(*counts.values(), 1) * 1.1)
    names = [f"{name}: {n}" for name, n in counts.items()]
    chart = Chart(ends, (len(names) - 0.5, -0.5), "items", "", described, y_names=names)
    at = np.arange(len(names))
    chart.boxes(np.zeros(len(at)), at - 0.35, [*counts.values()], at + 0.35)
    n = sum(map(FLAGS["any"][1], items))
    chart.heading = f"{n:,} of {quantity(len(items), 'item')} with a flag"
    return chart


def _days(connection: psycopg.Connection) -> Chart | None:
    """The number of answers in the log by day, or None if they are all of one day."""
    days = answers_by_day(connection, DAYS_SHOWN)
    if len(days) < 2:
        return None
    described = f"Answers by day from {min(days)} to {max(days)}, at most {max(days.values()):,} on a day"
    ends = (min(days), max(days) + timedelta(days=1))
    chart = Chart(ends, (0, 1.08 * max(days.values())), "", "answers", described, dated=True)
    after = [day + timedelta(days=1) for day in days]
    chart.boxes([*days], np.zeros(len(days)), after, [*days.values()], "sky")
    chart.heading = "Answers by day, all scales"
    return chart


def _answers(items: Sequence[BankItem]) -> Chart | None:
    n = np.array([item.n for item in items if item.n], dtype=float)
    if not n.size:
        return None
    described = f"Answers of {quantity(n.size, 'item')}, from {n.min():,.0f} to {n.max():,.0f}"
    chart = histogram(n, np.linspace(0, n.max() * 1.05, 16), "answers of an item", "items", described)
    chart.heading = "Items by number of answers"
    return chart


def cards(request: ViewRequest, overview: Overview) -> TagList:
    """A card for each of the largest changes that wait for a decision, and for each month whose anchors moved."""

    def draw() -> Tag | None:
        with request.reader.connect() as connection:
            found = sorted(waiting_proposals(connection), key=lambda p: -(2.0 if p.wabc is None else p.wabc))
            scales = read_scales(connection)
            made = [*_anchor_cards(connection), *(_card(connection, p, scales) for p in found[:CARDS_SHOWN])]
        if not made:
            return None
        more = len(found) - CARDS_SHOWN
        link = tags.p(tags.a(f"{quantity(more, 'more proposal')} …", href=address("decisions"))) if more > 0 else None
        return tags.section(tags.h2("Waits for a decision", class_="h5 mt-4"), tags.div(*made, class_="tiles"), link)

    return request.reader.read_cached(("cards", f"{overview.now}"), lambda: TagList(draw()))


def _anchor_cards(connection: psycopg.Connection) -> Iterator[Tag]:
    for (month, scale_id), moved in find_moved_anchors(connection).items():
        changes = sorted(suspect.delta_b for suspect in moved.values() if suspect.delta_b is not None)
        yield tags.a(
            tags.b(f"{quantity(len(moved), 'anchor')} moved in {month}"),
            _sparkline(changes, 0.0),
            tags.small("Changes in b, from easier to harder. Drop the anchors that really changed."),
            href=address("decisions", month=month, scale=scale_id),
        )


def _card(connection: psycopg.Connection, p: Proposal, scales: Mapping[str, Scale]) -> Tag:
    months = months_of_item(connection, scales[p.scale_id], p.item_id) if p.scale_id in scales else []
    estimated = [values.b for values in (ItemRow.if_known(row["params"]) for row in months) if values]
    drift = f"{p.severity} drift" + (f", {p.kind}" if p.kind else "") if p.severity in ("medium", "high") else p.why
    old = p.old.b if p.old else None
    return tags.a(
        tags.b(shorten(p.item_id)),
        f" b {number(old) if p.old else DASH} → {number(p.new.b)}",
        _sparkline(estimated, old),
        tags.small(f"{p.window}: {shorten(drift, 80)}"),
        href=address("proposal", proposal=str(p.reference)),
    )


def _sparkline(values: Sequence[float], level: float | None) -> Tag | None:
    """Values from left to right, with a dashed line at `level`."""
    if not values:
        return None
    low, high = Chart.ends_of(values, [level])
    xs = np.linspace(6, 154, len(values)) if len(values) > 1 else [80.0]
    points = [(x, 38 - 36 * (value - low) / (high - low)) for x, value in zip(xs, values, strict=True)]
    y = None if level is None else 38 - 36 * (level - low) / (high - low)
    return svg.svg(
        svg.line(x1=0, x2=160, y1=y, y2=y, class_="level") if y is not None else None,
        svg.polyline(points=" ".join(f"{x:.1f},{at:.1f}" for x, at in points)),
        *(svg.circle(cx=f"{x:.1f}", cy=f"{at:.1f}", r=2.5) for x, at in points),
        viewBox="0 0 160 40",
        aria_hidden="true",
        class_="sparkline",
    )
