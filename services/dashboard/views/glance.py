"""The first page at a glance: a square for each month of each scale, plots of a scale, and the decisions that wait."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta

import numpy as np
import psycopg
from htmltools import Tag, svg, tags

from irt_assets.abilities.batch import newest_thetas
from irt_assets.blocks import Figure, number
from irt_assets.blocks.html import BOOTSTRAP
from irt_assets.calibration.linking_history import linked_months, read_history
from irt_assets.charts import histogram, month_chart, robust_limits
from irt_assets.common.dashboard_pages import address
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import quantity, shorten
from irt_assets.decisions.bank import BankItem, bank_items
from irt_assets.decisions.proposals import Proposal
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.item_analysis.key_evidence import suspect_keys
from irt_assets.ledger.fitted_items import months_of_item
from irt_assets.responses.verdict_states import answers_by_day
from irt_assets.scales.scale import Scale
from irt_psychometrics.items import ItemRow
from irt_psychometrics.plots import Chart
from services.dashboard.address_fields import months_of, state_of
from services.dashboard.figures import render_blocks
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


def strip(states: Sequence[MonthState], scales: Iterable[str]) -> Tag:
    """Draw a square for each of the last months of `scales`, oldest first, with the state and a link to the month."""
    months = months_of(states)[:MONTHS_SHOWN][::-1]
    rows = (_squares(states, scale_id, months) for scale_id in scales)
    return tags.div(*rows, class_="strip", role="group", aria_label="Months by scale, oldest first")


def _squares(states: Sequence[MonthState], scale_id: str, months: Sequence[str]) -> Tag:
    of_months = ((month, state_of(states, month, scale_id).state) for month in months)
    squares = (
        tags.a(
            tags.span(SIGNS[state], class_=f"square text-bg-{BOOTSTRAP[state.badge.tone]}", aria_hidden="true"),
            tags.small(month[2:]),
            href=address("month", month=month, scale=scale_id),
            title=f"{month}: {state}",
            aria_label=f"{month} of {scale_id}: {state}",
        )
        for month, state in of_months
    )
    return tags.div(tags.a(shorten(scale_id), href=address("months", scale=scale_id), class_="scale"), *squares)


def plots(connection: psycopg.Connection, scale: Scale, last: str, at: datetime, waiting: Iterable[Proposal]) -> Tag:
    """Draw three small plots of a scale: its linking up to the month `last` or its difficulties, its items by flag, and
    the answers by day or the abilities."""
    items = bank_items(connection, scale, at, waiting)
    b = [item.values.b for item in items if item.values and item.values.b is not None]
    charts = (
        _linking(connection, scale, last)
        or _distribution(b, "difficulty b (θ)", "items", "Published items by difficulty"),
        _flags(items),
        _days(answers_by_day(connection, DAYS_SHOWN))
        or _distribution(newest_thetas(connection, scale.scale_id), "ability θ", "learners", "Learners by ability"),
    )
    return tags.div(*(render_blocks(Figure(c, c.heading)) for c in charts if c), class_="glance")


def _linking(connection: psycopg.Connection, scale: Scale, month: str) -> Chart | None:
    """Slope and intercept by month with 95 % intervals, or None if no month is linked."""
    linked = linked_months(read_history(connection, scale, month))
    if not linked:
        return None
    (slope, slope_se), (mean, se) = (
        np.array([constants.value(name) for constants in linked.values()]).T for name in ("slope", "intercept")
    )
    described = f"Slope and intercept of {quantity(len(linked), 'month')} with 95 % intervals"
    chart = month_chart([*linked], "", described, mean, Z95 * se, 0.0, plain="intercept").level(1.0)
    low, high = slope - Z95 * slope_se, slope + Z95 * slope_se
    chart.y = Chart.ends_of(mean - Z95 * se, mean + Z95 * se, low, high, [0.0, 1.0])
    chart.heading = "Spread (slope) and mean (intercept) by month"
    return chart.points(np.arange(len(linked)) + 0.1, slope, "orange", "slope", low, high, shape="diamond")


def _distribution(values: Sequence[float], x_label: str, y_label: str, heading: str) -> Chart | None:
    found = np.array(values, dtype=float)
    edges = np.linspace(*robust_limits(found), 21)
    return histogram(found, edges, x_label, y_label, heading, heading=heading) if values else None


def _flags(items: Sequence[BankItem]) -> Chart:
    """The number of items with each flag; an item can have several."""
    counts = {text: sum(map(has, items)) for name, (text, has) in FLAGS.items() if name not in ("any", "none")}
    names = [f"{name}: {n}" for name, n in counts.items()]
    heading = f"{sum(map(FLAGS['any'][1], items)):,} of {quantity(len(items), 'item')} with a flag"
    x, y = (0, 1.1 * max(*counts.values(), 1)), (len(names) - 0.5, -0.5)
    at = np.arange(len(names))
    chart = Chart(x, y, "items", "", ", ".join(names), y_names=names, heading=heading)
    return chart.boxes(np.zeros(len(at)), at - 0.35, [*counts.values()], at + 0.35)


def _days(n: Mapping[date, int]) -> Chart | None:
    """The number of answers in the log by day, or None if they are all of one day."""
    if len(n) < 2:
        return None
    ends = [day + timedelta(days=1) for day in n]
    described = f"Answers by day from {min(n)} to {max(n)}, at most {max(n.values()):,} on a day"
    x, y = (min(n), max(ends)), (0, 1.08 * max(n.values()))
    chart = Chart(x, y, "", "answers", described, dated=True, heading="Answers by day, all scales")
    return chart.boxes([*n], np.zeros(len(n)), ends, [*n.values()], "sky")


def cards(connection: psycopg.Connection, waiting: Iterable[Proposal], scales: Mapping[str, Scale]) -> Tag | None:
    """Show a card for each suspect key, each month whose anchors moved, and the largest changes that wait."""
    largest_first = sorted(waiting, key=lambda p: -(2.0 if p.wabc is None else p.wabc))
    shown = [
        *_key_cards(connection, scales),
        *_anchor_cards(connection),
        *(_card(connection, p, scales) for p in largest_first[:CARDS_SHOWN]),
    ]
    more = len(largest_first) - CARDS_SHOWN
    link = tags.p(tags.a(f"{quantity(more, 'more proposal')} …", href=address("decisions"))) if more > 0 else None
    heading = tags.h2("Waits for a decision", class_="h5 mt-4")
    return tags.section(heading, tags.div(*shown, class_="tiles"), link) if shown else None


def _key_cards(connection: psycopg.Connection, scales: Iterable[str]) -> Iterator[Tag]:
    for scale_id in scales:
        for item, why in suspect_keys(connection, scale_id).items():
            yield tags.a(
                tags.b(f"Key of {shorten(item)}"), tags.small(why), href=address("rekey", scale=scale_id, item=item)
            )


def _anchor_cards(connection: psycopg.Connection) -> Iterator[Tag]:
    for (month, scale_id), moved in find_moved_anchors(connection).items():
        yield tags.a(
            tags.b(f"{quantity(len(moved), 'anchor')} moved in {month}"),
            _sparkline(sorted(suspect.delta_b for suspect in moved.values()), 0.0),
            tags.small("Changes in b, from easier to harder. Drop the anchors that really changed."),
            href=address("decisions", month=month, scale=scale_id),
        )


def _card(connection: psycopg.Connection, p: Proposal, scales: Mapping[str, Scale]) -> Tag:
    months = months_of_item(connection, scales[p.scale_id], p.item_id) if p.scale_id in scales else []
    estimated = [values.b for values in (ItemRow.if_known(row["params"]) for row in months) if values]
    why = f"{p.severity} drift ({p.kind})" if p.severity in ("medium", "high") else p.why
    return tags.a(
        tags.b(shorten(p.item_id)),
        f" b {number(p.old.b if p.old else None)} → {number(p.new.b)}",
        _sparkline(estimated, p.old.b if p.old else None),
        tags.small(f"{p.window}: {shorten(why, 80)}"),
        href=address("proposal", proposal=str(p.reference)),
    )


def _sparkline(values: Sequence[float], level: float | None) -> Tag:
    """Values from left to right, with a dashed line at `level`."""
    low, high = Chart.ends_of(values, [level])
    ys = [f"{38 - 36 * (value - low) / (high - low):.1f}" for value in (*values, level) if value is not None]
    xs = [f"{x:.1f}" for x in np.linspace(6, 154, len(values))]
    return svg.svg(
        svg.line(x1=0, x2=160, y1=ys[-1], y2=ys[-1], class_="level") if level is not None else None,
        svg.polyline(points=" ".join(f"{x},{y}" for x, y in zip(xs, ys, strict=False))),
        *(svg.circle(cx=x, cy=y, r=2.5) for x, y in zip(xs, ys, strict=False)),
        viewBox="0 0 160 40",
        aria_hidden="true",
        class_="sparkline",
    )
