"""Where one learner stands: θ on each scale and over time, weekly KPIs, activity, reports.

What does not belong here: how any of it is computed; weeks and activity as figures (see `learner_figures`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from htmltools import TagChild, TagList, tags

from irt_assets.abilities.online import Learner, Theta, find_learner, latest, read_thetas, scale_to_answer_by
from irt_assets.common.wording import counted
from irt_assets.features.stored import active_days
from irt_assets.kpis.meaning import MEANINGS, RANGES
from irt_assets.kpis.stored import Week, weeks_of
from irt_assets.reports.artifacts import Recorded, of_learner
from irt_assets.responses.one_learner import last_live_answer
from services.dashboard.elements import facts, link, moment, notice, number, section, shortened, table
from services.dashboard.page import Asked, NotFound, Page
from services.dashboard.report_files import no_learner_reports, report_files
from services.dashboard.views.learner_figures import activity_over_time, kpis_over_time, theta_over_time
from services.dashboard.views.learners import cannot_be_an_id, refuse_below_analyst

MOST_THETAS = 1000
WEEKS_SHOWN = 104
DAYS_SHOWN = timedelta(days=365)
KINDS = {"monthly": "month", "nightly": "night", "online": "on request"}
"""When a θ was measured, as its row says it."""


def page(asked: Asked) -> Page:
    refuse_below_analyst(asked)
    user = asked.fields.get("user", "")
    now, zone = asked.reader.now(), asked.reader.settings.irt_time_zone
    if not user or cannot_be_an_id(user):
        raise NotFound("The address names no learner: search for one on the page Learners.")
    with asked.reader.connect() as connection:
        learner = find_learner(connection, user)
        if learner is None:
            raise NotFound(
                f"No learner has the id {shortened(user)!r}, and no answer in the log: ids are case-sensitive; search "
                "on the page Learners."
            )
        thetas = read_thetas(connection, user, MOST_THETAS)
        weeks = weeks_of(connection, user, WEEKS_SHOWN)
        days = active_days(connection, user, (now - DAYS_SHOWN).date())
        last = last_live_answer(connection, user)
        reports = of_learner(connection, user)
    found = latest(thetas)
    return Page(
        f"Where does {shortened(user)} stand?",
        TagList(
            tags.p(_answer(learner, found, zone), class_="lead text-break"),
            _next_step(learner, found),
            _thetas(learner, found, last, now, zone),
            section(
                "θ over time",
                tags.p("Each θ with the interval that contains the true one with a probability of 95 %."),
                theta_over_time(thetas, KINDS, zone) if thetas else tags.p("There is none yet."),
                tags.p(f"Older than the latest {MOST_THETAS:,} are not shown.") if len(thetas) == MOST_THETAS else None,
            ),
            _kpis(weeks, zone),
            section(
                "Activity",
                tags.p(_inactivity(last, now)),
                activity_over_time(days, now.date()) if days else tags.p("No live answer in the last 365 days."),
            ),
            _reports(asked, reports, user),
            tags.p(link("Other learners", "learners"), " · ", link("the KPIs of all", "kpis")),
        ),
    )


def _answer(learner: Learner, found: Mapping[str, Theta], zone: str) -> TagChild:
    """Where the learner stands, in a sentence."""
    if learner.is_test:
        return "This is a test account: its answers are never scored, and it has no θ."
    wanted = scale_to_answer_by(learner, found)
    one = found.get(wanted or "")
    if one is None:
        where = f" on scale {wanted}, the learner's target" if wanted else ""
        return f"Not known yet: there is no θ{where}."
    return TagList(
        f"θ = {number(one.theta)} ± {number(one.se)} on scale {one.scale_id}",
        ", the learner's target" if one.scale_id == learner.target_scale_id else "",
        f", from {counted(one.n_items, 'answer')} until ",
        moment(one.window_end, zone),
        f" (measured {_measured(one.kind)}).{_distance(learner, one)}",
    )


def _measured(kind: str) -> str:
    return {"monthly": "with the month", "nightly": "in the night"}.get(kind, "on request")


def _distance(learner: Learner, one: Theta) -> str:
    if learner.target_theta is None or one.scale_id != learner.target_scale_id:
        return ""
    lacks = learner.target_theta - one.theta
    goal = f" The goal is θ = {number(learner.target_theta)}"
    return f"{goal}, {number(lacks)} above." if lacks > 0 else f"{goal}, and is reached."


def _next_step(learner: Learner, found: Mapping[str, Theta]) -> TagChild:
    if learner.is_test or found:
        return None
    return notice(
        "θ is measured every night for those who answered items with published parameters. See whether any are, on the "
        "page ",
        link("Months", "months"),
        ", and below whether the learner answered at all.",
    )


def _thetas(learner: Learner, found: Mapping[str, Theta], last: datetime | None, now: datetime, zone: str) -> TagChild:
    rows = [
        (
            scale,
            number(one.theta),
            number(one.se),
            f"{one.n_items:,}",
            moment(one.window_end, zone),
            KINDS.get(one.kind, one.kind),
            f"v{one.scale_version}",
        )
        for scale, one in sorted(found.items())
    ]
    return TagList(
        facts(
            [
                ("id", tags.span(learner.user_id, class_="text-break")),
                ("target scale", learner.target_scale_id or "none"),
                ("target θ", number(learner.target_theta)),
                ("last live answer", TagList(moment(last, zone), f" ({_ago(last, now)})" if last else "")),
            ]
        ),
        table(
            "The θ of the latest answers on each scale",
            ("scale", "θ", "standard error", "answers", "answers until", "measured", "version of the anchors"),
            rows,
            numbers="tnnnttt",
        ),
    )


def _ago(last: datetime, now: datetime) -> str:
    days = (now - last).days
    return "within a day" if days < 1 else f"{days:,} day{'' if days == 1 else 's'} ago"


def _inactivity(last: datetime | None, now: datetime) -> str:
    if last is None:
        return "The learner never answered in live mode."
    idle = (now - last).days
    if idle < 7:
        return f"Active: the last live answer was {_ago(last, now)}."
    return f"Inactive: the last live answer was {_ago(last, now)}."


def _kpis(weeks: list[Week], zone: str) -> TagChild:
    if not weeks:
        return section(
            "Weekly KPIs", tags.p("None were computed: KPIs are for learners who answered within a year of the week.")
        )
    newest = weeks[0]
    why = newest.kpis.get("why") or {}
    rows = [
        (
            name,
            number(newest.kpis.get(name)),
            tags.span(f"{number(low, 0)} … {number(high, 0)}", class_="text-nowrap"),
            MEANINGS[name],
            why.get(name, "") if newest.kpis.get(name) is None else "",
        )
        for name, (low, high) in RANGES.items()
    ]
    return section(
        "Weekly KPIs",
        table(
            f"The newest week, from {newest.week_start}",
            ("KPI", "value", "range", "what it means", "why there is none"),
            rows,
            numbers="tnttt",
        ),
        tags.p("Computed ", moment(newest.updated_at, zone), "."),
        kpis_over_time(weeks),
    )


def _reports(asked: Asked, found: list[Recorded], user: str) -> TagChild:
    refused = no_learner_reports(asked)
    if refused:
        return section("Reports", tags.p(refused))
    zone = asked.reader.settings.irt_time_zone
    by_week: dict[str, list[Recorded]] = {}
    for one in found:
        by_week.setdefault(f"{one.week_start}", []).append(one)
    rows = [
        (
            f"week from {week}",
            moment(max(one.generated_at for one in made), zone),
            report_files(f"the report of {shortened(user)}, week from {week}", made),
        )
        for week, made in by_week.items()
    ]
    return section(
        "Reports",
        table("The learner's reports by week", ("week", "made", "files"), rows),
        None
        if rows
        else tags.p(
            "Everybody's reports of a week are made by  ",
            tags.code("irt report learner"),
            ", for everyone who answered in the eight weeks that end with it.",
        ),
    )
