"""The tables of the page Checks and alerts: alerts and who was notified, schedules, the daemon, runs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from htmltools import TagChild, TagList, tags

from jobs.overview import Overview, ScheduleState
from jobs.stuck_runs import UnfinishedRun
from resources.alerts.outbox import RecordedAlert
from resources.settings import Settings
from services.dashboard.elements import DASH, badge, link, moment, prose, shortened, table
from services.dashboard.page import Asked

PERSONAL = ("learners", "report files")
"""Kinds of subjects that name learners."""
LONGEST = 240
MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)
TONES = {"error": "danger", "warning": "warning", "info": "info"}


def alerts(asked: Asked, found: Sequence[RecordedAlert], most: int) -> list[TagChild]:
    """Open ones and recent ones, each in a table."""
    is_open = [one for one in found if one.resolved_at is None]
    over = [one for one in found if one.resolved_at is not None]
    zone = asked.reader.settings.irt_time_zone
    headers = ("severity", "what, and what to do", "of", "sent to", "opened")

    def rows(of: Sequence[RecordedAlert]) -> list[tuple[TagChild, ...]]:
        return [
            (
                badge(one.severity, TONES[one.severity]),
                _what(asked, one),
                of_partition(one.partition),
                _deliveries(one),
                moment(one.opened_at, zone),
                *([moment(one.resolved_at, zone)] if one.resolved_at else []),
            )
            for one in of
        ]

    return [
        table("Open alerts, errors first", headers, rows(is_open)),
        tags.details(
            tags.summary("Alerts that are over"),
            table(f"The newest first; with the open ones at most {most}", (*headers, "over"), rows(over)),
        ),
    ]


def of_partition(key: str) -> TagChild:
    """A link to the month's page, if the key is a month."""
    return tags.span(link(key, "month", month=key) if MONTH.fullmatch(key) else key or DASH, class_="text-nowrap")


def _what(asked: Asked, one: RecordedAlert) -> TagChild:
    if one.kind in PERSONAL and not asked.identity.has_role("analyst"):
        return f"{one.key.partition('|')[0].strip()}: it names learners, shown to analysts and higher roles"
    where = f"{asked.reader.settings.ui_url}{one.link}"
    return TagList(
        tags.div(shortened(one.what, LONGEST), class_="text-break"),
        tags.div(prose(one.fix), class_="small text-body-secondary"),
        tags.a("Open in Dagster", href=where, class_="small", aria_label=f"Open in Dagster: {shortened(one.key)}")
        if one.link.startswith("/")
        else None,
    )


def _deliveries(one: RecordedAlert) -> TagChild:
    if not one.deliveries:
        return "nobody: no channel is configured, or it has not been sent yet"
    deliveries = [
        f"{delivery['channel']} of its {'end' if delivery['event'] == 'resolved' else 'beginning'}"
        + ("" if delivery["arrived"] else f": not yet{_because(delivery['why'])}")
        for delivery in one.deliveries
    ]
    return TagList(*(tags.div(text) for text in deliveries))


def _because(why: str | None) -> str:
    return f" ({shortened(why, 80)})" if why else ""


def daemon(overview: Overview, zone: str) -> TagChild:
    """Whether the daemon runs, in a sentence."""
    if overview.daemon_alive:
        return tags.p(
            badge("alive", "success"), " The daemon runs; last heard of ", moment(overview.daemon_seen, zone), "."
        )
    since = (
        TagList("; last heard of ", moment(overview.daemon_seen, zone)) if overview.daemon_seen else " and never was"
    )
    return tags.p(
        badge("not running", "danger"), " The daemon is not running", since, ": ", tags.code("irt serve"), "."
    )


def schedules(overview: Overview, zone: str) -> TagChild:
    return table(
        "Every schedule, as of the reading of this page",
        ("schedule", "state", "last tick", "its runs", "next tick", "newest partition", "what is late"),
        [
            (
                one.job,
                _state(one),
                moment(one.last_tick, zone),
                one.result or DASH,
                moment(one.next_tick, zone),
                one.newest or DASH,
                one.late,
            )
            for one in overview.schedules
        ],
    )


def _state(one: ScheduleState) -> TagChild:
    if one.late:
        return badge("late", "danger")
    return badge("on", "success") if one.on else badge("off", "secondary")


def runs(overview: Overview, settings: Settings) -> TagChild:
    def row(one: UnfinishedRun) -> tuple[TagChild, ...]:
        return (
            tags.a(one.run_id[:8], href=f"{settings.ui_url}/runs/{one.run_id}"),
            one.name,
            one.partition or DASH,
            badge(one.status, "info"),
            moment(one.since, settings.irt_time_zone),
            one.by or DASH,
        )

    return table(
        "Runs that have not ended", ("run", "of", "partition", "state", "since", "by"), [*map(row, overview.runs)]
    )
