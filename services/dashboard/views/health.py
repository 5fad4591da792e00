"""The health of the platform: invariants, alerts, schedules, the daemon and the runs under way.

With `invariant=NAME` in the address, the page shows one invariant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from htmltools import tags

from irt_assets.blocks import (
    DASH,
    Badge,
    Block,
    Cell,
    Details,
    List,
    Moment,
    Paragraph,
    Section,
    Span,
    Table,
    Text,
    Tone,
    notice,
    pairs,
    prose,
    table,
)
from irt_assets.common.dashboard_pages import address, page_link
from irt_assets.common.wording import in_words, is_or_are, join_names, quantity, shorten, with_capital, with_stop
from irt_assets.invariants.invariant import Invariant
from irt_assets.invariants.open_violations import OpenViolation, open_violations
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.invariants.results import history_of_invariant, latest_invariants, runs_of_invariants
from jobs.watching.overview import Overview
from resources.alerts.outbox import RecordedAlert, recent_alerts
from resources.settings import Settings
from services.dashboard.elements import markup
from services.dashboard.figures import shown
from services.dashboard.page import NotFound, Page, ViewRequest

BY_NAME = {one.name: one for one in INVARIANTS}
LOOKS_SHOWN, ALERTS_SHOWN, LONGEST = 14, 50, 240
PERSONAL = ("learners", "report files")
"""Kinds of subjects that name learners."""
HIDDEN = "learners, shown to analysts and higher roles"
MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)
TONES: Mapping[str, Tone] = {"error": "bad", "warning": "warning", "info": "info"}
Latest = Mapping[str, Any]


def page(asked: ViewRequest) -> Page:
    name = asked.field("invariant")
    if name:
        return _one_invariant(asked, name)
    overview, zone = asked.reader.overview(), asked.reader.settings.irt_time_zone
    with asked.reader.connect() as connection:
        latest = latest_invariants(connection)
        counts = {one.invariant: one for one in open_violations(connection)}
        looks = runs_of_invariants(connection, LOOKS_SHOWN)
        messages = recent_alerts(connection, ALERTS_SHOWN)
    return Page(
        "Checks and alerts",
        shown(
            Paragraph(_answer(latest, counts, overview, zone), "lead"),
            *(notice(("Next: ", step), tone) for step, tone in _next_steps(latest, counts, overview)),
            Section("Invariants", tuple(_invariants(asked, latest, counts, looks, zone))),
            Section("Alerts", tuple(_alerts(asked, messages))),
            Section("Schedules", (_daemon(overview, zone), _schedules(overview, zone))),
            Section("Runs under way", (_runs(overview, asked.reader.settings),)),
        ),
        as_of=overview.now,
    )


def _answer(latest: Latest | None, counts: Mapping[str, OpenViolation], overview: Overview, zone: str) -> Text:
    """The state of the invariants and the schedules, in a sentence."""
    late = [one.job for one in overview.schedules if one.late]
    pace = f"{join_names(late)} {is_or_are(len(late))} late" if late else "nothing is late"
    if not overview.daemon_alive:
        pace = "the daemon is not running, so that no schedule ticks"
    if latest is None:
        return f"Not known yet: the invariants were never evaluated; {pace}."
    untested = {one["invariant"] for one in latest["incomplete"]}
    of = len(latest["invariants"])
    held = sum(one["passed"] and one["name"] not in untested for one in latest["invariants"])
    at = _moment(latest["evaluated_at"], zone)
    if held == of:
        return f"All {of} invariants hold as of ", at, f"; {pace}."
    violated = Counter(one.severity for one in counts.values())
    parts = [
        f"{in_words(violated['error'])} violated" if violated["error"] else "",
        f"{in_words(violated['warning'])} with a warning" if violated["warning"] else "",
        f"{in_words(len(untested))} not tested in full" if untested else "",
    ]
    return f"{held} of {of} invariants hold as of ", at, f", {join_names(filter(None, parts))}; {pace}."


def _next_steps(
    latest: Latest | None, counts: Mapping[str, OpenViolation], overview: Overview
) -> Iterator[tuple[Text, Tone]]:
    """The next steps, in order. The daemon comes first: without it nothing else improves."""
    if not overview.daemon_alive:
        yield prose("start the daemon, `irt serve`, or see why it ended."), "warning"
    if latest is None:
        yield prose("check everything now, `irt invariants run`."), "warning"
    worst = min(counts.values(), key=lambda one: one.severity, default=None)
    if worst is not None and worst.invariant in BY_NAME:
        one = BY_NAME[worst.invariant]
        yield ("this invariant is violated: ", _link(one), ". To fix it: ", *prose(one.fix)), TONES[one.severity]
    for schedule in overview.schedules:
        if schedule.late:
            yield f"{schedule.late}.", "warning"


def _invariants(
    asked: ViewRequest, latest: Latest | None, counts: Mapping[str, OpenViolation], looks: Sequence[Latest], zone: str
) -> Iterator[Block]:
    if latest is None:
        yield Paragraph(prose("They were never evaluated: `irt invariants run`."))
        return
    untested = {one["invariant"]: one["why"] for one in latest["incomplete"]}
    verdicts = {one["name"]: one for one in latest["invariants"]}
    at = _moment(latest["evaluated_at"], zone)
    yield Paragraph(("What must be true of everything stored. Each was last evaluated ", at, "."))
    yield table(
        ("invariant", "severity", "state", "open", "since", "example, or what was not tested"),
        [_row(asked, one, verdicts.get(one.name), untested.get(one.name, ""), counts, zone) for one in INVARIANTS],
        numbers={"open": ","},
        caption="Every invariant: whether it holds, and where it does not",
    )
    evaluated = table(
        ("evaluated", "held", "of"),
        [(_moment(one["evaluated_at"], zone), one["held"], one["of"]) for one in looks],
        numbers=("held", "of"),
        caption="When the invariants were evaluated, newest first",
    )
    yield Details(f"The last {len(looks)} evaluations", (evaluated,))


def _row(
    asked: ViewRequest,
    one: Invariant,
    verdict: Latest | None,
    untested: str,
    counts: Mapping[str, OpenViolation],
    zone: str,
) -> tuple[Cell, ...]:
    found = counts.get(one.name)
    since = min((violation["opened_at"] for violation in verdict["violations"]), default=None) if verdict else None
    hidden = one.kind in PERSONAL and not asked.identity.has_role("analyst")
    if found:
        state = Badge("violated", TONES[one.severity])
    elif verdict is None or untested:
        state = Badge("not tested in full" if verdict else "not evaluated")
    else:
        state = Badge("holds", "good") if verdict["passed"] else Badge("could not be evaluated", "bad")
    example = (HIDDEN if hidden else found.example) if found else untested
    return (
        _link(one),
        one.severity,
        state,
        found.subjects if found else 0,
        _moment(since, zone),
        shorten(example, 160),
    )


def _link(one: Invariant) -> Span:
    return Span(one.truth, link=address("health", invariant=one.name))


def _moment(at: str | datetime | None, zone: str) -> Text:
    time = datetime.fromisoformat(at) if isinstance(at, str) else at
    return Moment(time, zone) if time else DASH


def _one_invariant(asked: ViewRequest, name: str) -> Page:
    one = BY_NAME.get(name)
    if one is None:
        raise NotFound(f"There is no invariant {shorten(name)!r}: take one from the page Checks and alerts.")
    zone = asked.reader.settings.irt_time_zone
    with asked.reader.connect() as connection:
        found = history_of_invariant(connection, name)
    may_see = asked.identity.has_role("analyst") or one.kind not in PERSONAL
    still = sum(violation["resolved_at"] is None for violation in found["violations"])
    looks = found["looks"]
    violations = table(
        ("partition", one.kind, "seen", "expected", "since", "over"),
        [_violation(violation, zone) for violation in found["violations"]],
        caption="Open ones first, then those that are over; at most 500",
    )
    hidden = Paragraph(f"{still:,} are open. They name {HIDDEN}.")
    evaluations = table(
        ("evaluated", "result", "seen, or what was not tested"),
        [
            (_moment(look["evaluated_at"], zone), _word(look))
            + (" ".join(filter(None, [look["observed"], look["not_tested"]])),)
            for look in looks
        ],
        caption="The last evaluations, newest first",
    )
    known: dict[str, Text] = {
        "what it protects": one.protects,
        "severity": one.severity,
        "how to fix it": prose(one.fix),
        "what is judged": one.note,
        "its name": Span(one.name, "code"),
    }
    return Page(
        with_capital(one.truth),
        shown(
            Paragraph(_verdict(looks, still, zone), "lead"),
            notice(("To fix it: ", *prose(one.fix)), TONES[one.severity]) if still else None,
            pairs(known),
            Section("Violations", (violations if may_see else hidden,)),
            Section("History", (evaluations,)),
            Paragraph(page_link("All checks and alerts", "health")),
        ),
    )


def _word(look: Latest) -> str:
    if not look["passed"]:
        return "violated"
    return "holds, as far as it was tested" if look["not_tested"] else "holds"


def _verdict(looks: Sequence[Latest], still: int, zone: str) -> Text:
    if not looks:
        return "Not known yet: it was never evaluated."
    summary = f"It does not hold: {quantity(still, 'violation')} open" if still else f"It {_word(looks[0])}"
    return f"{summary}, as of ", _moment(looks[0]["evaluated_at"], zone), "."


def _violation(one: Latest, zone: str) -> tuple[Cell, ...]:
    words = (shorten(one[name] or "", LONGEST) for name in ("subject", "observed", "expected"))
    over = _moment(one["resolved_at"], zone) if one["resolved_at"] else "open"
    return _of_partition(one["partition"]), *words, _moment(one["opened_at"], zone), over


def _of_partition(key: str) -> Text | None:
    """A link to the month's page if the key is a month, otherwise the key. Returns None if the key is empty."""
    return page_link(key, "month", month=key) if MONTH.fullmatch(key) else key or None


def _alerts(asked: ViewRequest, found: Sequence[RecordedAlert]) -> Iterator[Block]:
    """A table of the open alerts, and a table of the recent alerts that are over."""
    zone = asked.reader.settings.irt_time_zone

    def listed_as(caption: str, of: Sequence[RecordedAlert]) -> Table:
        rows = [
            (Badge(one.severity, TONES[one.severity]), _of_partition(one.partition), _moment(one.opened_at, zone))
            + (_deliveries(one), _what(asked, one))
            for one in of
        ]
        return table(("severity", "of", "opened", "sent to", "what, and what to do"), rows, caption=caption)

    yield listed_as("Open alerts, errors first", [one for one in found if one.resolved_at is None])
    over = [one for one in found if one.resolved_at is not None]
    ended = listed_as(f"The newest first; with the open ones at most {ALERTS_SHOWN}", over)
    times = [_moment(one.resolved_at, zone) for one in over]
    yield Details("Alerts that are over", (ended.with_column("over", times),))


def _what(asked: ViewRequest, one: RecordedAlert) -> Text:
    if one.kind in PERSONAL and not asked.identity.has_role("analyst"):
        return f"{one.key.partition('|')[0].strip()}: it names {HIDDEN}"
    where = f"{asked.reader.settings.ui_url}{one.link}"
    label = f"Open in Dagster: {shorten(one.key)}"
    opened = (" ", markup(tags.a("Open in Dagster", href=where, aria_label=label))) if one.link.startswith("/") else ()
    return f"{shorten(with_stop(one.what), LONGEST)} ", *prose(one.fix), *opened


def _deliveries(one: RecordedAlert) -> Text | List:
    if not one.deliveries:
        return "nobody: no channel is configured, or it has not been sent yet"
    return List(
        tuple(
            f"{delivery['channel']} of its {'end' if delivery['event'] == 'resolved' else 'beginning'}"
            + ("" if delivery["arrived"] else f": not yet ({shorten(delivery['why'] or 'not tried', 80)})")
            for delivery in one.deliveries
        )
    )


def _daemon(overview: Overview, zone: str) -> Paragraph:
    """Whether the daemon runs, in a sentence."""
    seen = _moment(overview.daemon_seen, zone)
    if overview.daemon_alive:
        return Paragraph((Badge("alive", "good"), " The daemon runs; last heard of ", seen, "."))
    since: Text = ("; last heard of ", seen) if overview.daemon_seen else " and never was"
    return Paragraph((Badge("not running", "bad"), " The daemon is not running", since, *prose(": `irt serve`.")))


def _schedules(overview: Overview, zone: str) -> Table:
    return table(
        ("schedule", "state", "last tick", "its runs", "next tick", "newest partition", "what is late"),
        [
            (one.job, one.badge, _moment(one.last_tick, zone), one.result or None, _moment(one.next_tick, zone))
            + (one.newest or None, one.late)
            for one in overview.schedules
        ],
        caption="Every schedule, as of the reading of this page",
    )


def _runs(overview: Overview, settings: Settings) -> Table:
    rows = [
        (Span(one.run_id[:8], link=f"{settings.ui_url}/runs/{one.run_id}"), one.name, one.partition or None)
        + (Badge(one.status, "info"), Moment(one.since, settings.irt_time_zone), one.by or None)
        for one in overview.runs
    ]
    headers = ("run", "of", "partition", "state", "since", "by")
    return table(headers, rows, caption="Runs that have not ended")
