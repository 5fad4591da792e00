"""The charts of the drift report, each from its facts: as SVG, with a sentence for those who do not see it."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from markupsafe import Markup

from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.core.models import Floats
from irt_assets.reports.charts import BLACK, BLUE, GREY, ORANGE, Chart, ends_of
from irt_assets.reports.drift_facts import Facts, Item
from irt_assets.reports.drift_rows import DifRow, InformationRow, Linked

Drawn: TypeAlias = tuple[Markup, str]
MOST_NAMES = 14


def changes(facts: Facts) -> Drawn:
    """Δb of every compared item with its 95 % interval, from easier to harder; flagged ones are triangles, named."""
    rows = [item.drift for item in facts.items.values() if item.drift and item.drift.delta_b is not None]
    rows.sort(key=lambda row: row.delta_b or 0.0)
    deltas = np.array([row.delta_b for row in rows], dtype=float)
    low, high = (
        np.array([row.details.get("delta_b_95") or (np.nan, np.nan) for row in rows], dtype=float).reshape(-1, 2).T
    )
    flagged = np.array([row.severity != "none" for row in rows], dtype=bool)
    rank = np.arange(1, len(rows) + 1)
    chart = Chart(
        (0, len(rows) + 1),
        ends_of(deltas, low[flagged], high[flagged], [0.0]),
        "items, from easier to harder than published",
        "Δb",
        f"Change of difficulty of {len(rows)} items; {flagged.sum()} are flagged",
        width=690,
        height=250,
    ).level(0)
    titles = [f"{row.item_id}: Δb {row.delta_b:+.2f}, wABC {row.wabc:.3f}, {row.severity}" for row in rows]
    for some, colour, shape in ((~flagged, BLUE, "circle"), (flagged, ORANGE, "triangle")):
        of = [titles[k] for k in np.flatnonzero(some)]
        chart.intervals(rank[some], low[some], high[some], colour)
        chart.points(rank[some], deltas[some], colour, shape, of, 2.0 if shape == "circle" else 3.2)  # type: ignore[arg-type]
    named = np.flatnonzero(flagged)[:MOST_NAMES]
    chart.names(rank[named], deltas[named], [rows[k].item_id for k in named])
    return chart.svg(), chart.described


def response_curves(item: Item, facts: Facts) -> Drawn:
    """The published curve (dashed), the month's (solid), both with intervals, and the observed proportions."""
    theta = _abilities(facts)
    chart = _curves_chart(theta, f"Response curves of item {item.item_id}")
    for curve, colour, dashed in ((item.published, BLUE, True), (item.now, ORANGE, False)):
        if curve is None:
            continue
        if interval := curve.interval(theta):
            chart.band(theta, *interval, colour)
        chart.line(theta, curve.curve(theta), colour, dashed=dashed)
    if item.observed is not None:
        o = item.observed
        chart.intervals(o.theta, *o.interval(), BLACK)
        titles = [f"{p:.2f} of {n} answers correct" for p, n in zip(o.proportion, o.n, strict=True)]
        chart.points(o.theta, o.proportion, BLACK, "circle", titles)
    return chart.svg(), chart.described


def history(item: Item) -> Drawn:
    """Δb of an item against what was published when each month began, with 95 % intervals."""
    rows = [row for row in item.history if row.delta_b is not None]
    at = np.arange(len(rows))
    deltas = np.array([row.delta_b for row in rows], dtype=float)
    low, high = (
        np.array([row.details.get("delta_b_95") or (np.nan, np.nan) for row in rows], dtype=float).reshape(-1, 2).T
    )
    flagged = np.array([row.severity != "none" for row in rows], dtype=bool)
    chart = Chart(
        (-0.5, max(len(rows), 3) - 0.5),
        ends_of(low, high, [0.0]),
        "month",
        "Δb",
        f"Change of difficulty of item {item.item_id} over months",
        height=190,
        x_names=[row.month[2:] for row in rows],
    ).level(0)
    for some, colour, shape in ((~flagged, BLUE, "circle"), (flagged, ORANGE, "triangle")):
        titles = [f"{rows[k].month}: Δb {deltas[k]:+.2f}, {rows[k].severity}" for k in np.flatnonzero(some)]
        chart.intervals(at[some], low[some], high[some], colour)
        chart.points(at[some], deltas[some], colour, shape, titles, 3.0)  # type: ignore[arg-type]
    return chart.svg(), chart.described


def linking(linkings: tuple[Linked, ...], name: str) -> Drawn:
    """`slope` or `intercept` of the last months with 95 % intervals."""
    value, se = np.array([linked.constants.value(name) for linked in linkings], dtype=float).reshape(-1, 2).T
    same = 1.0 if name == "slope" else 0.0
    at = np.arange(len(linkings))
    chart = Chart(
        (-0.5, max(len(linkings), 3) - 0.5),
        ends_of(value - Z95 * se, value + Z95 * se, [same]),
        "month",
        name,
        f"The {name} of the linking by month",
        height=150,
        x_names=[linked.month[2:] for linked in linkings],
    ).level(same)
    chart.intervals(at, value - Z95 * se, value + Z95 * se, BLUE)
    titles = [f"{m.month}: {v:.3f}" for m, v in zip(linkings, value, strict=True)]
    chart.points(at, value, BLUE, "circle", titles, 3.0)
    return chart.svg(), chart.described


def anchors(facts: Facts) -> Drawn:
    """Difficulty of the anchors as published against the month's with 95 % intervals, named where there is room;
    dropped and moved ones are triangles."""
    assert facts.fit is not None
    off = facts.fit.constants.anchors_dropped.keys() | facts.fit.constants.suspects.keys()
    found = [i for i in facts.items.values() if i.is_anchor and i.published and i.now]
    both = [(i.item_id, i.published.b, i.now.b, i.now.b_se or 0.0) for i in found if i.published and i.now]
    both.sort(key=lambda row: row[0] not in off)  # what is named first has room
    ends = ends_of([x for _, x, _, _ in both], [y for _, _, y, _ in both])
    chart = Chart(ends, ends, "b, published", "b, this month", "", width=690, height=330)
    chart.line(ends, ends, GREY, width=0.8)
    for some, colour, shape in (
        ([row for row in both if row[0] not in off], BLUE, "circle"),
        ([row for row in both if row[0] in off], ORANGE, "triangle"),
    ):
        _, xs, ys, errors = zip(*some, strict=True) if some else ((), (), (), ())
        titles = [f"{name}: published {x:.2f}, now {y:.2f} ± {se:.2f}" for name, x, y, se in some]
        half = [Z95 * se for se in errors]
        low, high = ([y + sign * h for y, h in zip(ys, half, strict=True)] for sign in (-1, 1))
        chart.intervals(xs, low, high, colour).points(xs, ys, colour, shape, titles, 3.0)  # type: ignore[arg-type]
    if both:
        named, xs, ys, _ = zip(*both, strict=True)
        chart.names(xs, ys, named)
    moved = ", ".join(name for name, *_ in both if name in off) or "none"
    chart.described = f"Difficulties of {len(both)} anchors, published and this month; left out or moved: {moved}"
    return chart.svg(), chart.described


def groups(row: DifRow, item: Item, facts: Facts) -> Drawn:
    """The curves of two groups: the month's curve moved apart by Δa and Δb, each by the other's share of answers."""
    assert item.now is not None
    wald, n = row.details["wald"], row.details["n"]
    share = n["focal"] / (n["focal"] + n["reference"])
    theta = _abilities(facts)
    chart = _curves_chart(
        theta, f"Response curves of item {item.item_id} for {row.focal_group} and {row.reference_group}"
    )
    for weight, colour, dashed in ((-share, BLUE, True), (1 - share, ORANGE, False)):
        a = max(item.now.a + weight * (wald.get("delta_a") or 0.0), 0.05)
        moved = replace(item.now, a=a, b=item.now.b + weight * wald["delta_b"])
        chart.line(theta, moved.curve(theta), colour, dashed=dashed)
    return chart.svg(), chart.described


def information(test: InformationRow, name: str) -> Drawn:
    """`information` or `se` of the test over θ: of the published values (dashed), of the month's (solid), and of all
    items in force without the flagged ones (dotted grey, where there are any)."""
    prefix, label = ("", "information") if name == "information" else ("se_", "standard error of θ")
    theta = np.array(test.curve["theta"], dtype=float)
    published, now = _curve(test, f"{prefix}published"), _curve(test, f"{prefix}now")
    top = ends_of(*(c for c in (published, now) if c is not None))[1]
    if name == "se":
        top = min(top, 1.5)
    chart = Chart((theta[0], theta[-1]), (0.0, top), "ability θ", label, f"Test {label} over ability", height=230)
    if published is not None:
        chart.line(theta, published, BLUE, dashed=True)
    if now is not None:
        chart.line(theta, now, ORANGE)
    return chart.svg(), chart.described


def _curve(row: InformationRow, key: str) -> Floats | None:
    values = row.curve.get(key)
    return None if values is None else np.array(values, dtype=float)


def _curves_chart(theta: Floats, title: str) -> Chart:
    return Chart((theta[0], theta[-1]), (0, 1), "ability θ", "probability correct", title, height=190)


def _abilities(facts: Facts) -> Floats:
    return np.linspace(facts.scale.mu - 3.5 * facts.scale.sigma, facts.scale.mu + 3.5 * facts.scale.sigma, 43)
