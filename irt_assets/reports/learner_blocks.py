"""Blocks about a learner, for analysts: θ on each scale and over time, weekly KPIs, and activity."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta

from irt_assets.abilities.online import Learner, Theta, default_scale, latest_by_scale
from irt_assets.blocks import (
    Block,
    Cell,
    Figure,
    Figures,
    Moment,
    Pairs,
    Paragraph,
    Section,
    Table,
    Text,
    notice,
    number,
    pairs,
    prose,
    table,
)
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.intervals import Z95
from irt_assets.common.wording import quantity, with_capital
from irt_assets.features.stored import ActiveDay
from irt_assets.kpis.kpi_definitions import MEANINGS, RANGES, TITLES
from irt_assets.kpis.stored import Week
from irt_psychometrics.plots import Chart

NEXT_STEP: Text = (
    "θ is measured every night for those who answered items with published parameters. See whether any are on the ",
    page_link("page of the months", "months"),
    ", and below whether the learner answered at all.",
)
KINDS = {"monthly": "with the month", "nightly": "in the night", "online": "on request"}
"""Words for the `kind` of a θ: when it was measured."""
SYMBOLS = {"monthly": "circle", "nightly": "diamond", "online": "square"}
DAYS_IN_FIGURE = 56
AXIS_MARGIN = timedelta(days=4)
"""Margin before the first point and after the last."""
IDLE = timedelta(days=7)
YEAR = timedelta(days=365)


def page_blocks(
    learner: Learner,
    *,
    thetas: Sequence[Theta],
    weeks: Sequence[Week],
    days: Sequence[ActiveDay],
    last: datetime | None,
    now: datetime,
    zone: str,
) -> tuple[Block, ...]:
    """Return the blocks about a learner.

    Args:
        learner: the learner.
        thetas: measurements of θ, newest first.
        weeks: weekly KPIs, newest first.
        days: active days of the last year, oldest first.
        last: time of the last live answer, or None without one.
        now: the current time.
        zone: time zone of the times shown.
    """
    found = latest_by_scale(thetas)
    lacking = [] if learner.is_test or found else [notice(NEXT_STEP, "info")]
    note = Paragraph(
        "Each θ as of its last answer, with the interval that contained the true θ at that time with a "
        "probability of 95 %."
    )
    over_time = theta_over_time(thetas, zone) if thetas else Paragraph("There is no θ yet.")
    no_kpis = Paragraph(
        "No KPIs have been computed yet. Each night computes the KPIs of the running week, for learners who answered "
        "within a year of its end."
    )
    return (
        Paragraph(learner_in_short(learner, found, zone), "lead"),
        *lacking,
        identity(learner, last, now, zone),
        thetas_table([found[scale] for scale in sorted(found)], zone, "The θ of the latest answers on each scale"),
        Section("θ over time", (note, over_time)),
        Section("Weekly KPIs", kpis(weeks, zone) if weeks else (no_kpis,)),
        Section("Activity", activity(days, last, now)),
    )


def learner_in_short(learner: Learner, found: Mapping[str, Theta], zone: str) -> Text:
    """The learner's level and goal, in sentences. `found` is the latest θ by scale."""
    if learner.is_test:
        return "This is a test account: its answers are never scored, and it has no θ."
    wanted = default_scale(learner, found)
    theta = found.get(wanted or "")
    if theta is None:
        on_scale = f" on scale {wanted}, the learner's target" if wanted else ""
        return f"Not known yet: there is no θ{on_scale}."
    summary = f"θ = {number(theta.theta)} ± {number(theta.se)} on scale {theta.scale_id}"
    goal = ""
    if theta.scale_id == learner.target_scale_id:
        summary += ", the learner's target"
        target = learner.target_theta
        if target is not None:
            reached = f", {number(target - theta.theta)} above" if target > theta.theta else ", and is reached"
            goal = f" The goal is θ = {number(target)}{reached}."
    summary += f", from {quantity(theta.n_items, 'answer')} as of "
    return summary, Moment(as_of(theta), zone), f" (measured {KINDS.get(theta.kind, theta.kind)}).{goal}"


def as_of(theta: Theta) -> datetime:
    """Time of the last answer used; for rows from before this time was stored, the end of the window."""
    return theta.as_of or theta.window_end


def identity(learner: Learner, last: datetime | None, now: datetime, zone: str) -> Pairs:
    """Return the learner's id, goal and last live answer. `last` is the time of that answer, or None without one."""
    return pairs(
        {
            "id": learner.user_id,
            "target scale": learner.target_scale_id or "none",
            "target θ": number(learner.target_theta),
            "last live answer": (Moment(last, zone), f" ({ago(last, now)})") if last else "none",
        }
    )


def ago(last: datetime, now: datetime) -> str:
    days = (now - last).days
    return "within a day" if days < 1 else f"{days:,} day{'' if days == 1 else 's'} ago"


def thetas_table(thetas: Sequence[Theta], zone: str, caption: str) -> Table:
    formats = {
        "θ": ".2f",
        "standard error": ".2f",
        "95 % interval": "",
        "with errors of the items": ".2f",
        "answers": ",",
    }
    rows = [
        (
            theta.scale_id,
            theta.theta,
            theta.se,
            f"{number(theta.theta - Z95 * theta.se)} … {number(theta.theta + Z95 * theta.se)}",
            theta.se_total,
            theta.n_items,
            Moment(as_of(theta), zone),
            KINDS.get(theta.kind, theta.kind),
            f"v{theta.scale_version}",
        )
        for theta in thetas
    ]
    columns = ("scale", *formats, "as of", "measured", "version of the anchors")
    return table(columns, rows, numbers=formats, caption=caption, small=True)


def theta_over_time(thetas: Sequence[Theta], zone: str) -> Figure:
    """Draw each θ (at least one, newest first) at the time of its last answer, one series per scale and kind."""
    series: dict[tuple[str, str], list[Theta]] = defaultdict(list)
    for theta in reversed(thetas):
        series[theta.scale_id, theta.kind].append(theta)
    first, last = thetas[-1], thetas[0]
    at = [as_of(theta) for theta in thetas]
    chart = Chart(
        (min(at) - AXIS_MARGIN, max(at) + AXIS_MARGIN),
        Chart.ends_of(*((theta.theta - Z95 * theta.se, theta.theta + Z95 * theta.se) for theta in thetas)),
        "as of",
        "θ with its 95 % interval",
        f"θ over time, {len(thetas)} values: from {number(first.theta)} on scale {first.scale_id} in "
        f"{as_of(first):%Y-%m} to {number(last.theta)} on scale {last.scale_id} in {as_of(last):%Y-%m}.",
        dated=True,
    )
    for k, ((scale, kind), found) in enumerate(sorted(series.items())):
        chart.points(
            [as_of(theta) for theta in found],
            [theta.theta for theta in found],
            Chart.SERIES[k % len(Chart.SERIES)],
            f"{scale}, {KINDS.get(kind, kind)}",
            [theta.theta - Z95 * theta.se for theta in found],
            [theta.theta + Z95 * theta.se for theta in found],
            shape=SYMBOLS.get(kind, "circle"),
            joined=True,
        )
    return Figure(chart, numbers=thetas_table(thetas, zone, "Every θ, newest first"))


def kpis(weeks: Sequence[Week], zone: str) -> tuple[Block, ...]:
    """Return the KPIs of the newest week, and the KPIs of all `weeks` (at least one, newest first) over time."""
    newest = weeks[0]
    rows = [
        (
            with_capital(TITLES[name]),
            newest.kpis.get(name),
            f"{number(low, 0)}\u00a0…\u00a0{number(high, 0)}",
            MEANINGS[name].partition(": ")[2],
            _why(newest, name),
        )
        for name, (low, high) in RANGES.items()
    ]
    latest_week = table(
        ("KPI", "value", "range", "meaning", "reason if missing"),
        rows,
        numbers={"value": ".2f"},
        caption=f"The newest week, from {newest.week_start}",
    )
    starts = [week.week_start for week in weeks]
    chart = Chart(
        (starts[-1] - AXIS_MARGIN, starts[0] + AXIS_MARGIN),
        (-1.05, 1.05),
        "week from",
        "KPI",
        f"Six weekly KPIs over {len(weeks)} weeks, from {weeks[-1].week_start} to {weeks[0].week_start}; gaps where "
        "a KPI is not known.",
        dated=True,
    )
    titles = {name: with_capital(TITLES[name]) for name in RANGES}
    for colour, (name, title) in zip(Chart.SERIES, titles.items(), strict=False):
        chart.points(starts, [week.kpis.get(name) for week in weeks], colour, title, joined=True)
    formats = dict.fromkeys(titles.values(), ".2f")
    reasons = ["; ".join(f"{TITLES[k]}: {_why(week, k)}" for k in RANGES if _why(week, k)) for week in weeks]
    of_weeks = [
        (f"{week.week_start}", *map(week.kpis.get, RANGES), why) for week, why in zip(weeks, reasons, strict=True)
    ]
    numbers = table(
        ("week from", *formats, "reasons if missing"), of_weeks, numbers=formats, caption="KPIs by week, newest first"
    )
    return latest_week, Paragraph(("Computed ", Moment(newest.updated_at, zone), ".")), Figure(chart, numbers=numbers)


def _why(week: Week, name: str) -> str:
    """Why the week has no value of this KPI; "" if it has one."""
    return (week.kpis.get("why") or {}).get(name, "") if week.kpis.get(name) is None else ""


def activity(days: Sequence[ActiveDay], last: datetime | None, now: datetime) -> tuple[Block, ...]:
    """Return answers by week over all `days` (oldest first), and by day over the last eight weeks."""
    state = "Active" if last and now - last < IDLE else "Inactive"
    summary = (
        f"{state}: the last live answer was {ago(last, now)}." if last else "The learner never answered in live mode."
    )
    if not days:
        uncounted = "The features of those days have not been computed yet: run a backfill of `features_topic_daily`."
        is_recent = last is not None and now - last < YEAR
        return Paragraph(summary), Paragraph(prose(uncounted) if is_recent else "No live answer in the last 365 days.")
    by_week: dict[date, Counter[str]] = defaultdict(Counter)
    for day in days:
        by_week[day.date - timedelta(days=day.date.weekday())].update(_answer_counts(day) | {"active days": 1})
    n = sum(day.attempts for day in days)
    weekly = _answers_figure(
        f"Live answers by week: {n:,} in {len(by_week)} weeks of the last year", "week from", by_week, timedelta(days=5)
    )
    since = now.date() - timedelta(days=DAYS_IN_FIGURE)
    lately = {day.date: _answer_counts(day) for day in days if day.date > since}
    if not lately:
        return Paragraph(summary), weekly, Paragraph(f"No live answer in the last {DAYS_IN_FIGURE} days.")
    n = sum(answers["answers"] for answers in lately.values())
    by_day = f"Live answers by day: {n:,} in the last {DAYS_IN_FIGURE} days"
    daily = _answers_figure(by_day, "day", lately, timedelta(days=0.8), (since, now.date() + timedelta(days=1)))
    return Paragraph(summary), Figures((weekly, daily))


def _answer_counts(day: ActiveDay) -> dict[str, int]:
    return {"answers": day.attempts, "of them correct": day.correct}


def _answers_figure(
    description: str,
    unit: str,
    answers: Mapping[date, Mapping[str, int]],
    wide: timedelta,
    shown: tuple[date, date] | None = None,
) -> Figure:
    """Draw bars of `answers`: counts by first day, oldest first. `wide` is the width of a bar."""
    starts = [datetime.combine(day, time(), UTC) - wide / 2 for day in answers]
    ends = [start + wide for start in starts]
    both, correct = ([n[name] for n in answers.values()] for name in ("answers", "of them correct"))
    limits = shown or (min(starts) - AXIS_MARGIN, max(ends) + AXIS_MARGIN)
    chart = Chart(limits, (0.0, 1.08 * max(both)), unit, "live answers", f"{description}.", dated=True)
    chart.boxes(starts, [0] * len(starts), ends, correct, name="correct")
    chart.boxes(starts, correct, ends, both, "orange", "wrong", hatched=True)
    formats = dict.fromkeys(next(iter(answers.values())), ",")
    rows: list[tuple[Cell, ...]] = [(f"{day}", *answers[day].values()) for day in sorted(answers, reverse=True)]
    return Figure(chart, numbers=table((unit, *formats), rows, numbers=formats, caption=f"{description}, newest first"))
