"""KPIs of all learners of the organisation, week by week: median and quartiles."""

from collections.abc import Sequence
from datetime import date, timedelta

import psycopg
from htmltools import tags

from irt_assets.blocks import Figure, Paragraph, Section, Span, number, percent, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import sentence, with_capital
from irt_assets.kpis.kpi_definitions import MEANINGS, RANGES, TITLES
from irt_assets.kpis.stored import Quartiles, last_weeks, quartiles, version_of
from irt_psychometrics.plots import Chart
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest

WEEKS_SHOWN = 8
AXIS_MARGIN = timedelta(days=4)
"""Margin of the time axis before the first week and after the last."""


def page(request: ViewRequest) -> Page:
    with request.reader.connect() as connection:
        weekly = [
            kpi for week in last_weeks(connection, WEEKS_SHOWN) for kpi in _week_quartiles(request, connection, week)
        ]
    return Page(
        "KPIs of all learners",
        render_blocks(
            Paragraph(_answer(weekly), "lead"),
            tags.div(
                *(render_blocks(_kpi(name, [kpi for kpi in weekly if kpi.name == name])) for name in RANGES if weekly),
                class_="two",
            ),
            Paragraph(("Single learners: ", page_link("find one by id", "learners"), ".")),
        ),
    )


def _week_quartiles(request: ViewRequest, connection: psycopg.Connection, week: date) -> list[Quartiles]:
    """The quartiles of a week, cached: sorting 100,000 learners takes most of a second, and few weeks change daily."""
    key = ("quartiles", f"{week}", *map(str, version_of(connection, week)))
    return request.reader.read_cached(key, lambda: quartiles(connection, week))


def _answer(weekly: Sequence[Quartiles]) -> str:
    """Median engagement and churn risk in the newest week, and the change since the week before, in a sentence."""
    of_week = {(kpi.week_start, kpi.name): kpi for kpi in weekly}
    if not weekly:
        return "No weekly KPIs have been computed yet: the job weekly_kpi computes them, every week and every day."
    weeks = sorted({kpi.week_start for kpi in weekly})
    newest = of_week[weeks[-1], "A_t"]
    before = of_week[weeks[-2], "A_t"] if len(weeks) > 1 else None
    change = "" if before is None else f", after {number(before.median)} the week before"
    risk = of_week[weeks[-1], "S"]
    return (
        f"In the week from {newest.week_start}, of {newest.of:,} learners, the median's engagement is "
        f"{number(newest.median)}{change}; its churn risk is {number(risk.median)}."
    )


def _kpi(name: str, weeks: Sequence[Quartiles]) -> Section:
    """The section of a KPI. `weeks`: newest first."""
    newest = weeks[0]
    low, high = RANGES[name]
    at = [week.week_start for week in weeks]
    chart = Chart(
        (at[-1] - AXIS_MARGIN, at[0] + AXIS_MARGIN),
        (low - 0.05, high + 0.05),
        "week from",
        TITLES[name],
        f"{TITLES[name]} over {len(weeks)} weeks: the median of the newest is {number(newest.median)}, its quartiles "
        f"{number(newest.low)} and {number(newest.high)}.",
        dated=True,
    )
    series: Sequence[tuple[str, str, list[float | None]]] = (
        ("upper quartile", "dot", [week.high for week in weeks]),
        ("median", "solid", [week.median for week in weeks]),
        ("lower quartile", "dash", [week.low for week in weeks]),
    )
    for label, dash, values in series:
        chart.line(at, values, name=label, dash=dash).points(at, values)
    formats = {"median": ".2f", "quartiles": "", "learners who have it": ",", "of all": ""}
    rows = [
        (f"{week.week_start}", week.median, f"{number(week.low)} … {number(week.high)}", week.n)
        + (percent(week.n / week.of if week.of else None),)
        for week in weeks
    ]
    by_week = table(("week from", *formats), rows, numbers=formats, caption=f"{TITLES[name]} by week, newest first")
    meaning = Paragraph((sentence(MEANINGS[name].partition(": ")[2]), " ", Span(name, "quiet")))
    return Section(with_capital(TITLES[name]), (meaning, Figure(chart, numbers=by_week)))
