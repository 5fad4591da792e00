"""One learner's figures: θ, weekly KPIs and activity over time. What does not belong here: reading them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from string import ascii_lowercase

import plotly.graph_objects as go
from htmltools import TagChild, TagList, tags

from irt_assets.abilities.online import Theta
from irt_assets.features.stored import ActiveDay
from irt_assets.kpis.meaning import RANGES, TITLES
from irt_assets.kpis.stored import Week
from irt_assets.psychometrics.core.confidence import Z95
from services.dashboard.elements import DASH, moment, number, table
from services.dashboard.figures import empty, figure, stack

DAYS_IN_FIGURE = 56
BESIDE = timedelta(days=4)
"""Margin before the first θ and after the last."""
SYMBOLS = {"monthly": "circle", "nightly": "diamond", "online": "square"}


def theta_over_time(thetas: Sequence[Theta], kinds: Mapping[str, str], zone: str) -> TagList:
    """Newest first, as they are read; drawn as a series for each scale and kind."""
    series: dict[tuple[str, str], list[Theta]] = defaultdict(list)
    for one in reversed(thetas):
        series[one.scale_id, one.kind].append(one)
    drawn = empty("answers until", "θ with its 95 % interval")
    for (scale, kind), found in sorted(series.items()):
        drawn.add_trace(
            go.Scatter(
                x=[one.window_end for one in found],
                y=[one.theta for one in found],
                error_y={"type": "data", "array": [Z95 * one.se for one in found], "thickness": 1},
                mode="lines+markers",
                marker={"symbol": SYMBOLS.get(kind, "circle"), "size": 8},
                name=f"{scale}, {kinds.get(kind, kind)}",
            )
        )
    drawn.update_layout(showlegend=True)
    drawn.update_xaxes(range=[thetas[-1].window_end - BESIDE, thetas[0].window_end + BESIDE])
    rows = [
        (
            moment(one.window_end, zone),
            one.scale_id,
            number(one.theta),
            number(one.se),
            f"{number(one.theta - Z95 * one.se)} … {number(one.theta + Z95 * one.se)}",
            f"{one.n_items:,}",
            kinds.get(one.kind, one.kind),
        )
        for one in thetas
    ]
    first, last = thetas[-1], thetas[0]
    return figure(
        drawn,
        f"θ over time, {len(thetas)} values: from {number(first.theta)} on scale {first.scale_id} in "
        f"{first.window_end:%Y-%m} to {number(last.theta)} on scale {last.scale_id} in {last.window_end:%Y-%m}.",
        table(
            "Every θ, newest first",
            ("answers until", "scale", "θ", "standard error", "95 % interval", "answers", "measured"),
            rows,
            numbers="ttnntnt",
        ),
    )


def kpis_over_time(weeks: Sequence[Week]) -> TagList:
    """Newest first, as they are read; a null is a gap, and in the table a letter of its reason."""
    drawn = empty("week from", "KPI")
    for name in RANGES:
        drawn.add_trace(
            go.Scatter(
                x=[week.week_start for week in reversed(weeks)],
                y=[week.kpis.get(name) for week in reversed(weeks)],
                mode="lines+markers",
                name=f"{name} {TITLES[name]}",
            )
        )
    drawn.update_layout(yaxis_range=[-1.05, 1.05])
    reasons = sorted({why for week in weeks for why in (week.kpis.get("why") or {}).values()})
    letters = dict(zip(reasons, ascii_lowercase, strict=False))

    def shown(week: Week, name: str) -> str:
        value = week.kpis.get(name)
        if value is not None:
            return number(value)
        letter = letters.get((week.kpis.get("why") or {}).get(name, ""))
        return f"{DASH} ({letter})" if letter else DASH

    rows = [(f"{week.week_start}", *(shown(week, name) for name in RANGES)) for week in weeks]
    return figure(
        drawn,
        f"Six weekly KPIs over {len(weeks)} weeks, from {weeks[-1].week_start} to {weeks[0].week_start}; gaps where "
        "a KPI is not known.",
        TagList(
            table(
                "KPIs by week, newest first",
                ("week from", *(f"{name} {TITLES[name]}" for name in RANGES)),
                rows,
                numbers="t" + "n" * len(RANGES),
            ),
            tags.ul(*(tags.li(f"({letter}) {why}") for why, letter in letters.items()), class_="list-unstyled"),
        ),
    )


def activity_over_time(days: Sequence[ActiveDay], today: date) -> TagChild:
    """Answers by week over all of `days`, which are oldest first, and by day over the last eight weeks."""
    by_week: dict[date, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in days:
        found = by_week[one.date - timedelta(days=one.date.weekday())]
        for k, n in enumerate((one.attempts, one.correct, 1)):
            found[k] += n
    weeks = sorted(by_week)
    lately = [one for one in days if one.date > today - timedelta(days=DAYS_IN_FIGURE)]
    weekly = figure(
        _bars("week from", weeks, [by_week[week][0] for week in weeks], [by_week[week][1] for week in weeks]),
        f"Live answers by week: {sum(one.attempts for one in days):,} in {len(weeks)} weeks of the last year.",
        table(
            "Activity by week, newest first",
            ("week from", "answers", "of them correct", "active days"),
            [(f"{week}", *(f"{n:,}" for n in by_week[week])) for week in reversed(weeks)],
            numbers="tnnn",
        ),
    )
    if not lately:
        return TagList(weekly, tags.p(f"No live answer in the last {DAYS_IN_FIGURE} days."))
    daily = figure(
        _bars(
            "day",
            [one.date for one in lately],
            [one.attempts for one in lately],
            [one.correct for one in lately],
            (today - timedelta(days=DAYS_IN_FIGURE), today),
        ),
        f"Live answers by day: {sum(one.attempts for one in lately):,} in the last {DAYS_IN_FIGURE} days.",
        table(
            f"Activity by day in the last {DAYS_IN_FIGURE} days, newest first",
            ("day", "answers", "of them correct"),
            [(f"{one.date}", f"{one.attempts:,}", f"{one.correct:,}") for one in reversed(lately)],
            numbers="tnn",
        ),
    )
    return stack(weekly, daily)


def _bars(
    what: str, x: Sequence[date], answers: Sequence[int], correct: Sequence[int], shown: tuple[date, date] | None = None
) -> go.Figure:
    drawn = empty(what, "live answers")
    wrong = [n - right for n, right in zip(answers, correct, strict=True)]
    drawn.add_trace(go.Bar(x=list(x), y=list(correct), name="correct"))
    drawn.add_trace(go.Bar(x=list(x), y=wrong, name="wrong", marker={"pattern": {"shape": "/"}}))
    drawn.update_layout(barmode="stack")
    drawn.update_xaxes(type="date", range=list(shown) if shown else None)
    return drawn
