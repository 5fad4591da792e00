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
from shiny import Inputs, Outputs, Session

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
from irt_assets.invariants.open_violations import (
    OpenViolation,
    changes_since_evaluation,
    last_evaluated,
    open_violations,
)
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.invariants.results import history_of_invariant, latest_invariants, runs_of_invariants
from jobs.plans import PLANS
from jobs.watching.daemons import daemon_state
from jobs.watching.lateness import read_lateness
from jobs.watching.overview import ScheduleState, read_schedules
from jobs.watching.stuck_runs import UnfinishedRun, runs_under_way
from resources.alerts.outbox import RecordedAlert, recent_alerts
from resources.settings import Settings
from services.dashboard import rematerialising
from services.dashboard.elements import markup
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest

BY_NAME = {one.name: one for one in INVARIANTS}
RUNS_SHOWN, ALERTS_SHOWN, MAX_TEXT_LENGTH = 14, 50, 240
PERSONAL = ("learners", "report files")
"""Kinds of subjects that name learners."""
HIDDEN = "learners, shown to analysts and higher roles"
MONTH = re.compile(r"\d{4}-\d{2}", re.ASCII)
TONES: Mapping[str, Tone] = {"error": "bad", "warning": "warning", "info": "info"}
Latest = Mapping[str, Any]


def page(request: ViewRequest) -> Page:
    name = request.field("invariant")
    if name:
        return _one_invariant(request, name)
    reader, settings, now = request.reader, request.reader.settings, request.reader.now()
    zone, instance = settings.irt_time_zone, reader.instance
    is_alive, seen = daemon_state(instance)
    with request.reader.connect() as connection:
        latest = latest_invariants(connection)
        counts = {violations.invariant: violations for violations in open_violations(connection)}
        runs = runs_of_invariants(connection, RUNS_SHOWN)
        messages = recent_alerts(connection, ALERTS_SHOWN)
        since = changes_since_evaluation(connection, last_evaluated(connection))
        late_plans = read_lateness(connection, PLANS, settings.irt_first_month, now)
    schedules = list(read_schedules(instance, settings, now, late_plans))
    return Page(
        "Checks and alerts",
        render_blocks(
            Paragraph(_answer(latest, counts, schedules, zone, is_alive=is_alive), "lead"),
            *(
                notice(("Next: ", step), tone)
                for step, tone in _next_steps(latest, counts, schedules, since, is_alive=is_alive)
            ),
            rematerialising.button_place(request, "Evaluating the invariants"),
            Section("Invariants", tuple(_invariants(request, latest, counts, runs, zone))),
            Section("Alerts", tuple(_alerts(request, messages))),
            Section("Schedules", (_daemon(is_alive, seen, zone), _schedules(schedules, zone))),
            Section("Runs under way", (_runs(runs_under_way(instance), settings),)),
        ),
    )


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    rematerialising.handle_evaluation(request, inputs)


def _answer(
    latest: Latest | None,
    counts: Mapping[str, OpenViolation],
    schedules: Sequence[ScheduleState],
    zone: str,
    *,
    is_alive: bool,
) -> Text:
    """Summarise the invariants and the schedules in a sentence. `is_alive`: whether the daemon runs."""
    late_jobs = [schedule.job for schedule in schedules if schedule.late]
    pace = f"{join_names(late_jobs)} {is_or_are(len(late_jobs))} late" if late_jobs else "nothing is late"
    if not is_alive:
        pace = "the daemon is not running, so that no schedule ticks"
    if latest is None:
        return f"Not known yet: no invariant has been evaluated; {pace}."
    untested = {result["invariant"] for result in latest["incomplete"]}
    n = len(latest["invariants"])
    n_passed = sum(result["passed"] and result["name"] not in untested for result in latest["invariants"])
    at = _moment(latest["evaluated_at"], zone)
    if n_passed == n:
        return f"All {n} invariants hold as of ", at, f"; {pace}."
    violated = Counter(result.severity for result in counts.values())
    parts = [
        f"{in_words(violated['error'])} violated" if violated["error"] else "",
        f"{in_words(violated['warning'])} with a warning" if violated["warning"] else "",
        f"{in_words(len(untested))} not tested in full" if untested else "",
    ]
    return f"{n_passed} of {n} invariants hold as of ", at, f", {join_names(filter(None, parts))}; {pace}."


def _next_steps(
    latest: Latest | None,
    counts: Mapping[str, OpenViolation],
    schedules: Sequence[ScheduleState],
    since: str,
    *,
    is_alive: bool,
) -> Iterator[tuple[Text, Tone]]:
    """Yield the next steps, in order. The daemon comes first: without it nothing else improves."""
    if not is_alive:
        yield prose("start the daemon, `irt serve`, or see why it ended."), "warning"
    if latest is None:
        yield "evaluate the invariants now.", "warning"
    if since:
        yield f"evaluate the invariants again: since they were evaluated, {since}.", "warning"
    worst = min(counts.values(), key=lambda invariant: invariant.severity, default=None)
    if worst is not None and worst.invariant in BY_NAME:
        invariant = BY_NAME[worst.invariant]
        yield (
            ("this invariant is violated: ", _link(invariant), ". To fix it: ", *prose(invariant.fix)),
            TONES[invariant.severity],
        )
    for schedule in schedules:
        if schedule.late:
            yield f"{schedule.late}.", "warning"


def _invariants(
    request: ViewRequest, latest: Latest | None, counts: Mapping[str, OpenViolation], runs: Sequence[Latest], zone: str
) -> Iterator[Block]:
    if latest is None:
        yield Paragraph(prose("No invariant has been evaluated yet: `irt invariants run`."))
        return
    untested = {one["invariant"]: one["why"] for one in latest["incomplete"]}
    verdicts = {one["name"]: one for one in latest["invariants"]}
    at = _moment(latest["evaluated_at"], zone)
    yield Paragraph(("Conditions that all stored data must meet. Each was last evaluated ", at, "."))
    failed = {name for name, verdict in verdicts.items() if not verdict["passed"]} | counts.keys()
    for is_violated in (True, False):
        shown = [one for one in INVARIANTS if (one.name in failed) is is_violated]
        part = table(
            ("invariant", "severity", "state", "open", "since", "example, or untested part"),
            [_row(request, one, verdicts.get(one.name), untested.get(one.name, ""), counts, zone) for one in shown],
            numbers={"open": ","},
            caption="Invariants that do not hold, errors first"
            if is_violated
            else "Invariants that hold, as far as they were tested",
            empty="no invariant is violated",
        )
        summary = with_capital(f"{quantity(len(shown), 'invariant')} without a violation")
        yield part if is_violated else Details(summary, (part,))
    evaluated = table(
        ("evaluated", "held", "of"),
        [(_moment(one["evaluated_at"], zone), one["held"], one["of"]) for one in runs],
        numbers=("held", "of"),
        caption="When the invariants were evaluated, newest first",
    )
    yield Details("The last evaluations", (evaluated,))


def _row(
    request: ViewRequest,
    invariant: Invariant,
    verdict: Latest | None,
    untested: str,
    counts: Mapping[str, OpenViolation],
    zone: str,
) -> tuple[Cell, ...]:
    violations = counts.get(invariant.name)
    since = min((violation["opened_at"] for violation in verdict["violations"]), default=None) if verdict else None
    hidden = invariant.kind in PERSONAL and not request.identity.has_role("analyst")
    if violations:
        state = Badge("violated", TONES[invariant.severity])
    elif verdict is None or untested:
        state = Badge("not tested in full" if verdict else "not evaluated")
    else:
        state = Badge("holds", "good") if verdict["passed"] else Badge("could not be evaluated", "bad")
    example = (HIDDEN if hidden else violations.example) if violations else untested
    return (
        _link(invariant),
        invariant.severity,
        state,
        violations.subjects if violations else 0,
        _moment(since, zone),
        shorten(example, 160),
    )


def _link(invariant: Invariant) -> Span:
    return Span(invariant.truth, link=address("health", invariant=invariant.name))


def _moment(at: str | datetime | None, zone: str) -> Text:
    time = datetime.fromisoformat(at) if isinstance(at, str) else at
    return Moment(time, zone) if time else DASH


def _one_invariant(request: ViewRequest, name: str) -> Page:
    invariant = BY_NAME.get(name)
    if invariant is None:
        raise NotFound(f"There is no invariant {shorten(name)!r}: choose one from the page Checks and alerts.")
    zone = request.reader.settings.irt_time_zone
    with request.reader.connect() as connection:
        history = history_of_invariant(connection, name)
        since = changes_since_evaluation(connection, last_evaluated(connection))
    may_see = request.identity.has_role("analyst") or invariant.kind not in PERSONAL
    still = sum(violation["resolved_at"] is None for violation in history["violations"])
    runs = history["looks"]
    violations = table(
        ("partition", invariant.kind, "seen", "expected", "since", "over"),
        [_violation(violation, zone) for violation in history["violations"]],
        caption="Open violations first, then resolved ones; at most 500",
    )
    evaluations = table(
        ("evaluated", "result", "observed, or untested part"),
        [
            (_moment(evaluation["evaluated_at"], zone), _result_word(evaluation))
            + (" ".join(filter(None, [evaluation["observed"], evaluation["not_tested"]])),)
            for evaluation in runs
        ],
        caption="The last evaluations, newest first",
    )
    facts: dict[str, Text] = {
        "what it protects": invariant.protects,
        "severity": invariant.severity,
        "how to fix it": prose(invariant.fix),
        "what is judged": invariant.note,
        "its name": Span(invariant.name, "code"),
    }
    return Page(
        with_capital(invariant.truth),
        render_blocks(
            Paragraph(_verdict(runs, still, since, zone), "lead"),
            notice(("To fix it: ", *prose(invariant.fix)), TONES[invariant.severity]) if still else None,
            pairs(facts),
            Section("Violations", (violations if may_see else Paragraph(f"{still:,} are open. They name {HIDDEN}."),)),
            Section("History", (evaluations,)),
            Paragraph(page_link("All checks and alerts", "health")),
        ),
    )


def _result_word(evaluation: Latest) -> str:
    if not evaluation["passed"]:
        return "violated"
    return "holds, as far as it was tested" if evaluation["not_tested"] else "holds"


def _verdict(evaluations: Sequence[Latest], still: int, since: str, zone: str) -> Text:
    if not evaluations:
        return "Not known yet: it has not been evaluated."
    summary = (
        f"It does not hold: {quantity(still, 'violation')} open" if still else f"It {_result_word(evaluations[0])}"
    )
    return f"{summary}, as of ", _moment(evaluations[0]["evaluated_at"], zone), f", before {since}." if since else "."


def _violation(violation: Latest, zone: str) -> tuple[Cell, ...]:
    words = (shorten(violation[name] or "", MAX_TEXT_LENGTH) for name in ("subject", "observed", "expected"))
    over = _moment(violation["resolved_at"], zone) if violation["resolved_at"] else "open"
    return _partition_link(violation["partition"]), *words, _moment(violation["opened_at"], zone), over


def _partition_link(key: str) -> Text | None:
    """A link to the month's page if the key is a month, otherwise the key. Returns None if the key is empty."""
    return page_link(key, "month", month=key) if MONTH.fullmatch(key) else key or None


def _alerts(request: ViewRequest, recent: Sequence[RecordedAlert]) -> Iterator[Block]:
    """A table of the open alerts, and a table of the recent alerts that are over."""
    zone = request.reader.settings.irt_time_zone

    def alert_table(caption: str, alerts: Sequence[RecordedAlert]) -> Table:
        rows = [
            (
                Badge(alert.severity, TONES[alert.severity]),
                _partition_link(alert.partition),
                _moment(alert.opened_at, zone),
            )
            + (_deliveries(alert), _alert_text(request, alert))
            for alert in alerts
        ]
        return table(("severity", "of", "opened", "sent to", "alert, and what to do"), rows, caption=caption)

    yield alert_table("Open alerts, errors first", [alert for alert in recent if alert.resolved_at is None])
    over = [alert for alert in recent if alert.resolved_at is not None]
    ended = alert_table(f"The newest first; with the open ones at most {ALERTS_SHOWN}", over)
    times = [_moment(alert.resolved_at, zone) for alert in over]
    yield Details("Alerts that are over", (ended.with_column("over", times),))


def _alert_text(request: ViewRequest, alert: RecordedAlert) -> Text:
    if alert.kind in PERSONAL and not request.identity.has_role("analyst"):
        return f"{alert.key.partition('|')[0].strip()}: it names {HIDDEN}"
    url = f"{request.reader.settings.ui_url}{alert.link}"
    label = f"Open in Dagster: {shorten(alert.key)}"
    opened = (" ", markup(tags.a("Open in Dagster", href=url, aria_label=label))) if alert.link.startswith("/") else ()
    return f"{shorten(with_stop(alert.what), MAX_TEXT_LENGTH)} ", *prose(alert.fix), *opened


def _deliveries(alert: RecordedAlert) -> Text | List:
    if not alert.deliveries:
        return "nobody: no channel is configured, or it has not been sent yet"
    return List(
        tuple(
            f"{delivery['channel']} of its {'end' if delivery['event'] == 'resolved' else 'beginning'}"
            + ("" if delivery["arrived"] else f": not yet ({shorten(delivery['why'] or 'not tried', 80)})")
            for delivery in alert.deliveries
        )
    )


def _daemon(is_alive: bool, seen: datetime | None, zone: str) -> Paragraph:
    """State in a sentence whether the daemon runs."""
    if is_alive:
        return Paragraph((Badge("alive", "good"), " The daemon runs; last heard of ", _moment(seen, zone), "."))
    since: Text = ("; last heard of ", _moment(seen, zone)) if seen else " and has never run"
    return Paragraph((Badge("not running", "bad"), " The daemon is not running", since, *prose(": `irt serve`.")))


def _schedules(schedules: Sequence[ScheduleState], zone: str) -> Table:
    return table(
        ("schedule", "state", "last tick", "its runs", "next tick", "newest partition", "what is late"),
        [
            (
                schedule.job,
                schedule.badge,
                _moment(schedule.last_tick, zone),
                schedule.result or None,
                _moment(schedule.next_tick, zone),
            )
            + (schedule.newest or None, schedule.late)
            for schedule in schedules
        ],
        caption="Every schedule, as of the loading of this page",
    )


def _runs(runs: Sequence[UnfinishedRun], settings: Settings) -> Table:
    rows = [
        (Span(run.run_id[:8], link=f"{settings.ui_url}/runs/{run.run_id}"), run.name, run.partition or None)
        + (Badge(run.status, "info"), Moment(run.since, settings.irt_time_zone), run.by or None)
        for run in runs
    ]
    return table(("run", "of", "partition", "state", "since", "by"), rows, caption="Runs that have not ended")
