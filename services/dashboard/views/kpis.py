"""KPIs of all learners of the organisation, week by week: median and quartiles."""

from collections.abc import Sequence
from datetime import date, timedelta

import psycopg

from irt_assets.blocks import Figure, Paragraph, Section, number, percent, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import sentence
from irt_assets.kpis.kpi_definitions import MEANINGS, RANGES, TITLES
from irt_assets.kpis.stored import Quartiles, last_weeks, quartiles, version_of
from irt_psychometrics.plots import Chart
from services.dashboard.figures import shown
from services.dashboard.page import Page, ViewRequest

WEEKS_SHOWN = 8
AXIS_MARGIN = timedelta(days=4)
"""Margin of the time axis before the first week and after the last."""


def page(asked: ViewRequest) -> Page:
    with asked.reader.connect() as connection:
        found = [one for week in last_weeks(connection, WEEKS_SHOWN) for one in _of_week(asked, connection, week)]
    return Page(
        "KPIs of all learners",
        shown(
            Paragraph(_answer(found), "lead"),
            *(_kpi(name, [one for one in found if one.name == name]) for name in RANGES if found),
            Paragraph(("Single learners: ", page_link("find one by id", "learners"), ".")),
        ),
    )


def _of_week(asked: ViewRequest, connection: psycopg.Connection, week: date) -> list[Quartiles]:
    """The quartiles of a week, cached: sorting 100,000 learners takes most of a second, and few weeks change daily."""
    key = ("quartiles", f"{week}", *map(str, version_of(connection, week)))
    return asked.reader.remembered(key, lambda: quartiles(connection, week))


def _answer(found: Sequence[Quartiles]) -> str:
    """Median engagement and churn risk in the newest week, and the change since the week before, in a sentence."""
    of_week = {(one.week_start, one.name): one for one in found}
    if not found:
        return "No weekly KPIs were computed yet: the job weekly_kpi makes them, every week and every day."
    weeks = sorted({one.week_start for one in found})
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
    at = [one.week_start for one in weeks]
    chart = Chart(
        (at[-1] - AXIS_MARGIN, at[0] + AXIS_MARGIN),
        (low - 0.05, high + 0.05),
        "week from",
        name,
        f"{TITLES[name]} over {len(weeks)} weeks: the median of the newest is {number(newest.median)}, its quartiles "
        f"{number(newest.low)} and {number(newest.high)}.",
        dated=True,
    )
    series: Sequence[tuple[str, str, list[float | None]]] = (
        ("upper quartile", "dot", [one.high for one in weeks]),
        ("median", "solid", [one.median for one in weeks]),
        ("lower quartile", "dash", [one.low for one in weeks]),
    )
    for what, dash, values in series:
        chart.line(at, values, name=what, dash=dash).points(at, values)
    formats = {"median": ".2f", "quartiles": "", "learners who have it": ",", "of all": ""}
    rows = [
        (f"{one.week_start}", one.median, f"{number(one.low)} … {number(one.high)}", one.n)
        + (percent(one.n / one.of if one.of else None),)
        for one in weeks
    ]
    by_week = table(("week from", *formats), rows, numbers=formats, caption=f"{TITLES[name]} by week, newest first")
    meaning = Paragraph(sentence(MEANINGS[name]))
    return Section(f"{name} {TITLES[name]}", (meaning, Figure(chart, numbers=by_week)))
