"""One learner's figures: θ, weekly KPIs and activity over time. What does not belong here: reading them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from string import ascii_lowercase

from htmltools import TagChild, TagList, tags

from irt_assets.abilities.online import Theta
from irt_assets.charts.chart import SERIES, Boxes, Chart, Points, Shape, ends_of
from irt_assets.charts.chart import days as days_of
from irt_assets.features.stored import ActiveDay
from irt_assets.kpis.meaning import RANGES, TITLES
from irt_assets.kpis.stored import Week
from irt_assets.psychometrics.core.confidence import Z95
from services.dashboard.elements import DASH, moment, number, table
from services.dashboard.figures import figure, stack

DAYS_IN_FIGURE = 56
BESIDE = 4
"""Days before the first point and after the last."""
SYMBOLS: dict[str, Shape] = {"monthly": "circle", "nightly": "diamond", "online": "square"}


def theta_over_time(thetas: Sequence[Theta], kinds: Mapping[str, str], zone: str) -> TagList:
    """Newest first, as they are read; drawn as a series for each scale and kind."""
    series: dict[tuple[str, str], list[Theta]] = defaultdict(list)
    for one in reversed(thetas):
        series[one.scale_id, one.kind].append(one)
    first, last = thetas[-1], thetas[0]
    ends = [(one.theta - Z95 * one.se, one.theta + Z95 * one.se) for one in thetas]
    chart = Chart(
        (days_of(first.window_end) - BESIDE, days_of(last.window_end) + BESIDE),
        ends_of(*ends),
        "answers until",
        "θ with its 95 % interval",
        f"θ over time, {len(thetas)} values: from {number(first.theta)} on scale {first.scale_id} in "
        f"{first.window_end:%Y-%m} to {number(last.theta)} on scale {last.scale_id} in {last.window_end:%Y-%m}.",
        dated=True,
    )
    for k, ((scale, kind), found) in enumerate(sorted(series.items())):
        chart.add(
            Points(
                [days_of(one.window_end) for one in found],
                [one.theta for one in found],
                SERIES[k % len(SERIES)],
                f"{scale}, {kinds.get(kind, kind)}",
                [one.theta - Z95 * one.se for one in found],
                [one.theta + Z95 * one.se for one in found],
                shape=SYMBOLS.get(kind, "circle"),
                joined=True,
            )
        )
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
    return figure(
        chart,
        table(
            "Every θ, newest first",
            ("answers until", "scale", "θ", "standard error", "95 % interval", "answers", "measured"),
            rows,
            numbers="ttnntnt",
        ),
    )


def kpis_over_time(weeks: Sequence[Week]) -> TagList:
    """Newest first, as they are read; a null is a gap, and in the table a letter of its reason."""
    starts = [days_of(week.week_start) for week in weeks]
    chart = Chart(
        (starts[-1] - BESIDE, starts[0] + BESIDE),
        (-1.05, 1.05),
        "week from",
        "KPI",
        f"Six weekly KPIs over {len(weeks)} weeks, from {weeks[-1].week_start} to {weeks[0].week_start}; gaps where "
        "a KPI is not known.",
        dated=True,
    )
    for colour, name in zip(SERIES, RANGES, strict=False):
        values = [week.kpis.get(name) for week in weeks]
        chart.add(Points(starts, values, colour, f"{name} {TITLES[name]}", joined=True))
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
        chart,
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
        _bars(
            f"Live answers by week: {sum(one.attempts for one in days):,} in {len(weeks)} weeks of the last year.",
            "week from",
            {week: (by_week[week][0], by_week[week][1]) for week in weeks},
            5,
        ),
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
            f"Live answers by day: {sum(one.attempts for one in lately):,} in the last {DAYS_IN_FIGURE} days.",
            "day",
            {one.date: (one.attempts, one.correct) for one in lately},
            0.8,
            (days_of(today) - DAYS_IN_FIGURE, days_of(today) + 1),
        ),
        table(
            f"Activity by day in the last {DAYS_IN_FIGURE} days, newest first",
            ("day", "answers", "of them correct"),
            [(f"{one.date}", f"{one.attempts:,}", f"{one.correct:,}") for one in reversed(lately)],
            numbers="tnn",
        ),
    )
    return stack(weekly, daily)


def _bars(
    described: str,
    what: str,
    answers: Mapping[date, tuple[int, int]],
    wide: float,
    shown: tuple[float, float] | None = None,
) -> Chart:
    """answers: from a day on, all and the correct ones. wide: of a bar, in days."""
    left = [days_of(day) - wide / 2 for day in answers]
    right = [start + wide for start in left]
    both, correct = zip(*answers.values(), strict=True)
    ends = shown or (min(left) - BESIDE, max(right) + BESIDE)
    chart = Chart(ends, (0.0, 1.08 * max(both)), what, "live answers", described, dated=True)
    return chart.add(
        Boxes(left, [0] * len(left), name="correct", right=right, top=correct),
        Boxes(left, correct, "orange", "wrong", right=right, top=both, hatched=True),
    )
