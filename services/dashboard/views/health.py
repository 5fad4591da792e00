"""Whether all is well: invariants, alerts, schedules, the daemon and the runs under way; `invariant=` shows one.

What does not belong here: the tables of alerts and schedules (see `health_tables`), and what is late or violated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from htmltools import TagChild, TagList, tags

from irt_assets.common.dashboard_pages import address
from irt_assets.common.wording import counted, in_words, is_or_are, listed, with_capital
from irt_assets.invariants.invariant import Invariant
from irt_assets.invariants.open_violations import OpenViolation, open_violations
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.invariants.results import history_of_invariant, latest_invariants, runs_of_invariants
from jobs.overview import Overview
from resources.alerts.outbox import recent_alerts
from services.dashboard.elements import badge, facts, link, moment, notice, prose, section, shortened, table
from services.dashboard.page import Asked, NotFound, Page
from services.dashboard.views.health_tables import PERSONAL, alerts, daemon, of_partition, runs, schedules

BY_NAME = {one.name: one for one in INVARIANTS}
LOOKS_SHOWN, ALERTS_SHOWN, LONGEST = 14, 50, 160
Latest = Mapping[str, Any]


def page(asked: Asked) -> Page:
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
        TagList(
            tags.p(_answer(latest, counts, overview, zone), class_="lead"),
            *_next_steps(latest, counts, overview),
            section("Invariants", *_invariants(asked, latest, counts, looks, zone)),
            section("Alerts", *alerts(asked, messages, ALERTS_SHOWN)),
            section("Schedules", daemon(overview, zone), schedules(overview, zone)),
            section("Runs under way", runs(overview, asked.reader.settings)),
        ),
        as_of=overview.now,
    )


def _answer(latest: Latest | None, counts: Mapping[str, OpenViolation], overview: Overview, zone: str) -> TagChild:
    """Whether all is well, in a sentence."""
    late = [one.job for one in overview.schedules if one.late]
    pace = f"{listed(late)} {is_or_are(len(late))} late" if late else "nothing is late"
    if not overview.daemon_alive:
        pace = "the daemon is not running, so that no schedule ticks"
    if latest is None:
        return f"Not known yet: the invariants were never evaluated; {pace}."
    untested = {one["invariant"] for one in latest["incomplete"]}
    of = len(latest["invariants"])
    held = sum(one["passed"] and one["name"] not in untested for one in latest["invariants"])
    at = moment(datetime.fromisoformat(latest["evaluated_at"]), zone)
    if held == of:
        return TagList(f"All {of} invariants hold as of ", at, f"; {pace}.")
    violated = Counter(one.severity for one in counts.values())
    parts = [
        f"{in_words(violated['error'])} violated" if violated["error"] else "",
        f"{in_words(violated['warning'])} with a warning" if violated["warning"] else "",
        f"{in_words(len(untested))} not tested in full" if untested else "",
    ]
    return TagList(f"{held} of {of} invariants hold as of ", at, f", {listed(filter(None, parts))}; {pace}.")


def _next_steps(latest: Latest | None, counts: Mapping[str, OpenViolation], overview: Overview) -> list[TagChild]:
    """What to do, in order: without a daemon nothing else gets better."""
    steps: list[TagChild] = []
    if not overview.daemon_alive:
        steps.append(
            notice("Next: start the daemon, ", tags.code("irt serve"), ", or see why it ended.", tone="warning")
        )
    if latest is None:
        steps.append(notice("Next: check everything now,  ", tags.code("irt invariants run"), ".", tone="warning"))
    worst = min(counts.values(), key=lambda one: one.severity, default=None)
    if worst is not None and worst.invariant in BY_NAME:
        one = BY_NAME[worst.invariant]
        truth = tags.a(one.truth, href=address("health", invariant=one.name), class_="alert-link")
        tone = "danger" if one.severity == "error" else "warning"
        steps.append(notice("Next: this invariant is violated:  ", truth, ". To fix it: ", prose(one.fix), tone=tone))
    steps += [notice(f"Next: {one.late}.", tone="warning") for one in overview.schedules if one.late]
    return steps


def _invariants(
    asked: Asked,
    latest: Latest | None,
    counts: Mapping[str, OpenViolation],
    looks: Sequence[Mapping[str, Any]],
    zone: str,
) -> list[TagChild]:
    if latest is None:
        return [tags.p("They were never evaluated: ", tags.code("irt invariants run"), ".")]
    untested = {one["invariant"]: one["why"] for one in latest["incomplete"]}
    verdicts = {one["name"]: one for one in latest["invariants"]}
    rows = [_row(asked, one, verdicts.get(one.name), untested.get(one.name, ""), counts, zone) for one in INVARIANTS]
    return [
        tags.p(
            "What must be true of everything stored. Each was last evaluated ",
            moment(datetime.fromisoformat(latest["evaluated_at"]), zone),
            ".",
        ),
        table(
            "Every invariant: whether it holds, and where it does not",
            ("invariant", "severity", "state", "open", "since", "example, or what was not tested"),
            rows,
            numbers="tttntt",
        ),
        tags.details(
            tags.summary(f"The last {len(looks)} evaluations"),
            table(
                "When the invariants were evaluated, newest first",
                ("evaluated", "held", "of"),
                [
                    (moment(datetime.fromisoformat(one["evaluated_at"]), zone), f"{one['held']}", f"{one['of']}")
                    for one in looks
                ],
                numbers="tnn",
            ),
        ),
    ]


def _row(
    asked: Asked,
    one: Invariant,
    verdict: Latest | None,
    untested: str,
    counts: Mapping[str, OpenViolation],
    zone: str,
) -> tuple[TagChild, ...]:
    violations = verdict["violations"] if verdict else []
    found = counts.get(one.name)
    since = min((violation["opened_at"] for violation in violations), default=None)
    return (
        link(one.truth, "health", invariant=one.name),
        one.severity,
        _state(one, verdict, untested, found),
        f"{found.subjects:,}" if found else "0",
        moment(datetime.fromisoformat(since) if since else None, zone),
        tags.span(_example(asked, one, found.example) if found else shortened(untested, LONGEST), class_="text-break"),
    )


def _state(one: Invariant, verdict: Latest | None, untested: str, found: OpenViolation | None) -> TagChild:
    if found:
        return badge("violated", "danger" if one.severity == "error" else "warning")
    if verdict is None or untested:
        return badge("not tested in full" if verdict else "not evaluated", "secondary")
    return badge("holds", "success") if verdict["passed"] else badge("could not be evaluated", "danger")


def _example(asked: Asked, one: Invariant, example: str) -> str:
    if one.kind in PERSONAL and not asked.identity.has_role("analyst"):
        return "learners, shown to analysts and higher roles"
    return shortened(example, LONGEST)


def _one_invariant(asked: Asked, name: str) -> Page:
    one = BY_NAME.get(name)
    if one is None:
        raise NotFound(f"There is no invariant {shortened(name)!r}: take one from the page Checks and alerts.")
    zone = asked.reader.settings.irt_time_zone
    with asked.reader.connect() as connection:
        found = history_of_invariant(connection, name)
    shown = asked.identity.has_role("analyst") or one.kind not in PERSONAL
    still = sum(violation["resolved_at"] is None for violation in found["violations"])
    looks = found["looks"]
    return Page(
        with_capital(one.truth),
        TagList(
            tags.p(_verdict(looks, still, zone), class_="lead"),
            notice("To fix it: ", prose(one.fix), tone="danger" if one.severity == "error" else "warning")
            if still
            else None,
            facts(
                [
                    ("what it protects", one.protects),
                    ("severity", one.severity),
                    ("how to fix it", prose(one.fix)),
                    *([("what is judged", one.note)] if one.note else []),
                    ("its name", tags.code(one.name, class_="text-break")),
                ]
            ),
            section(
                "Violations",
                table(
                    "Open ones first, then those that are over; at most 500",
                    ("partition", one.kind, "seen", "expected", "since", "over"),
                    [_violation(violation, zone) for violation in found["violations"]],
                )
                if shown
                else tags.p(f"{still:,} are open. They name learners, shown to analysts and higher roles."),
            ),
            section(
                "History",
                table(
                    "The last evaluations, newest first",
                    ("evaluated", "verdict", "seen, or what was not tested"),
                    [
                        (
                            moment(datetime.fromisoformat(look["evaluated_at"]), zone),
                            _word(look),
                            " ".join(filter(None, [look["observed"], look["not_tested"]])),
                        )
                        for look in looks
                    ],
                ),
            ),
            tags.p(link("All checks and alerts", "health")),
        ),
    )


def _word(look: Latest) -> str:
    if not look["passed"]:
        return "violated"
    return "holds, as far as it was tested" if look["not_tested"] else "holds"


def _verdict(looks: Sequence[Latest], still: int, zone: str) -> TagChild:
    if not looks:
        return "Not known yet: it was never evaluated."
    summary = f"It does not hold: {counted(still, 'violation')} open" if still else f"It {_word(looks[0])}"
    return TagList(f"{summary}, as of ", moment(datetime.fromisoformat(looks[0]["evaluated_at"]), zone), ".")


def _violation(one: Latest, zone: str) -> tuple[TagChild, ...]:
    over = datetime.fromisoformat(one["resolved_at"]) if one["resolved_at"] else None
    return (
        of_partition(one["partition"]),
        tags.span(shortened(one["subject"], LONGEST), class_="text-break"),
        shortened(one["observed"] or "", LONGEST),
        shortened(one["expected"] or "", LONGEST),
        moment(datetime.fromisoformat(one["opened_at"]), zone),
        moment(over, zone) if over else "open",
    )
