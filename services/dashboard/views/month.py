"""One month of a scale: whether it is safe to release, and the evidence for it.

Belongs here: the order of the page, the gates, what was published, where the numbers come from. Does not belong here:
anchors and linking (see `month_linking`), items that were flagged (see `month_items`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from htmltools import Tag, TagChild, TagList, tags
from shiny import Inputs, Outputs, Session

from irt_assets.abilities.batch import Measured, measured_in
from irt_assets.common.partitions import Month
from irt_assets.common.wording import counted
from irt_assets.decisions.shown import DECIDED
from irt_assets.gates.gates import SET_GATES, SetGate
from irt_assets.gates.month_judged import NOT_JUDGED, GateStatus, MonthState, State
from irt_assets.gates.month_status import gate_statuses
from irt_assets.ledger.decisions import newest_decisions
from irt_assets.ledger.linked_windows import Linked, latest_constants, linkings_of
from irt_assets.ledger.proposals import proposals_by_reason
from irt_assets.ledger.steps import Step, step_of
from irt_assets.psychometrics.eligibility.attempts import Reason
from irt_assets.reports.artifacts import of_months
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.snapshot import Snapshot, current_snapshot
from services.dashboard import making
from services.dashboard.chosen import decisions_waiting, month_named, months_of, scale_named, scales_of, state_of
from services.dashboard.elements import DASH, badge, facts, link, moment, notice, number, prose, section, table
from services.dashboard.page import Asked, Page
from services.dashboard.report_files import report_files
from services.dashboard.safety import next_step, verdict, waits
from services.dashboard.views.month_items import flagged_items
from services.dashboard.views.month_linking import anchors_and_linking

GATE_WORDS = {True: ("passed", "success"), False: ("failed", "danger"), None: ("not evaluated", "secondary")}

TAKE_OUT = ": take out those that really changed (a leak, a wrong key, an edited text), then make the month again."


@dataclass(frozen=True, kw_only=True)
class MonthFacts:
    """What the page shows. `fit`: the month's linked fit; `waiting`: proposals that ask for a decision."""

    asked: Asked
    scale: Scale
    state: MonthState
    waiting: int
    gates: dict[str, GateStatus]
    step: Step | None
    fit: Linked | None
    snapshot: Snapshot | None
    measured: Measured

    @property
    def month(self) -> str:
        return self.state.month

    @property
    def zone(self) -> str:
        return self.asked.reader.settings.irt_time_zone


def page(asked: Asked) -> Page:
    reader, overview = asked.reader, asked.reader.overview()
    scale_id = scale_named(asked, overview)
    name = month_named(asked, overview, "month", next(iter(months_of(overview)), ""))
    start, end = Month(name).bounds
    gates = {gate: gate_of(by_scale, scale_id) for gate, by_scale in gate_statuses(reader.instance, name).items()}
    with reader.connect() as connection:
        scale = read_scales(connection, start)[scale_id]
        fits = linkings_of(connection, scale, name)
        month = MonthFacts(
            asked=asked,
            scale=scale,
            state=state_of(overview, name, scale_id),
            waiting=decisions_waiting(overview, name, scale_id),
            gates=gates,
            step=step_of(connection, scale_id, name),
            fit=next((fit for fit in fits if fit.month == name), None),
            snapshot=current_snapshot(connection, name),
            measured=measured_in(connection, scale_id, end),
        )
        body = TagList(
            _answer(connection, month),
            making.place(asked) if month.state.state in (State.STALE, State.RUNNING) else None,
            _neighbours(month, months_of(overview), scales_of(overview)),
            _gates(month),
            anchors_and_linking(connection, month.scale, month.month),
            _published(connection, month),
            flagged_items(connection, month.scale, month.month, month.step, red=month.state.state is State.RED),
            _answers(month),
            _decisions(connection, month),
            _reports(connection, month),
            _provenance(month),
        )
    return Page(f"Is {name} safe to release?", body, as_of=overview.now)


def server(asked: Asked, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    making.converse(asked, inputs)


def gate_of(by_scale: dict[str, GateStatus], scale_id: str) -> GateStatus:
    return by_scale.get(scale_id, by_scale[""])


def _answer(connection: psycopg.Connection, month: MonthFacts) -> Tag:
    """Yes or no in a sentence, and the next step."""
    state = month.state.state
    marks = {
        State.GREEN: ("Yes", "success"),
        State.RED: ("No", "danger"),
        State.ORIGIN: ("It is released with the scale", "info"),
    }
    mark, tone = marks.get(state, ("Not yet", "warning"))
    return notice(
        tags.p(
            badge(state),
            " ",
            tags.strong(f"{mark}. "),
            verdict(month.state, month.waiting, month.step),
            class_="fs-5 mb-2",
        ),
        *(tags.p(*step, class_="mb-1") for step in _what_to_do(connection, month)),
        tone=tone,
    )


def _what_to_do(connection: psycopg.Connection, month: MonthFacts) -> Iterator[tuple[TagChild, ...]]:
    where = {"month": month.month, "scale": month.scale.scale_id}
    failed = [gate for gate in SET_GATES if (status := month.gates[gate.name]).passed is False and not _follows(status)]
    if month.state.state is State.RED:
        if not failed:
            yield prose(month.state.why), "."
        constants = latest_constants(connection, month.month, month.scale.scale_id, month.scale.engine)
        if constants and constants.suspects:
            yield "Next: ", link("decide on the anchors", "decisions", **where), TAKE_OUT
            failed = [gate for gate in failed if gate.name != "anchors_agree"]
        for gate in failed:
            yield "Next: ", prose(gate.fix)
    elif month.state.state is State.GREEN and month.waiting:
        yield (
            "What is published stays in force until someone decides otherwise. Next: ",
            link(f"look at what waits ({waits(month.waiting)})", "decisions", **where),
        )
    elif month.state.state is State.GREEN:
        yield ("What is published stays in force until someone decides otherwise.",)
    elif month.state.state is State.STALE:
        yield "Next: make it again, here or by ", tags.code(f"irt calibrate --month {month.month}"), "."
    else:
        yield "Next: ", next_step(month.state, month.waiting)


def _follows(status: GateStatus) -> bool:
    """Whether the gate fails only because another one does."""
    return status.why.startswith(NOT_JUDGED)


def _neighbours(month: MonthFacts, newest_first: list[str], scales: list[str]) -> Tag:
    """Links to the months before and after, to the comparison with the one before, and to the other scales."""
    at, scale_id = newest_first.index(month.month), month.scale.scale_id
    earlier = newest_first[at + 1] if at + 1 < len(newest_first) else None
    later = newest_first[at - 1] if at else None
    links = [
        link(f"← {earlier}", "month", month=earlier, scale=scale_id) if earlier else None,
        link(f"{later} →", "month", month=later, scale=scale_id) if later else None,
        link(f"compare with {earlier}", "compare", first=earlier, second=month.month, scale=scale_id)
        if earlier
        else None,
        *(link(f"scale {other}", "month", month=month.month, scale=other) for other in scales if other != scale_id),
    ]
    return tags.nav(
        *(tags.span(one, class_="me-3") for one in links if one is not None),
        tags.span(f"Scale {scale_id}", class_="text-body-secondary") if len(scales) > 1 else None,
        aria_label="Other months and scales",
    )


def _gates(month: MonthFacts) -> Tag:
    passed = sum(status.passed is True for status in month.gates.values())
    undecided = month.state.state is State.RED
    rows = [_gate_row(gate, month.gates[gate.name], undecided=undecided) for gate in SET_GATES]
    return section(
        "What must hold before anything is published",
        tags.p(f"{passed} of {len(SET_GATES)} gates passed. One that fails holds the whole month of the scale."),
        table("Gates of the month", ("outcome", "gate and reason"), rows),
    )


def _gate_row(gate: SetGate, status: GateStatus, *, undecided: bool) -> tuple[TagChild, ...]:
    word, tone = ("not judged", "secondary") if _follows(status) else GATE_WORDS[status.passed]
    return badge(word, tone), TagList(
        tags.strong(gate.explanation),
        " ",
        prose(status.why),
        tags.p("What to do: ", prose(gate.fix), class_="mt-2 mb-0")
        if undecided and status.passed is False and not _follows(status)
        else None,
    )


def _published(connection: psycopg.Connection, month: MonthFacts) -> Tag:
    step = month.step
    if step is None:
        return section("What was published", tags.p("Nothing: the month has not come as far as publication."))
    proposed = (
        proposals_by_reason(connection, month.scale.scale_id, month.month, month.fit.fit_id if month.fit else None)
        if step.n_proposed
        else {}
    )
    rows = [
        ("published for the first time", f"{step.n_published:,}", "in force from the end of the month"),
        *(("proposed", f"{n:,}", why) for why, n in proposed.items()),
        ("held back", f"{step.n_held:,}", "its item gates did not pass: see the flagged items" if step.n_held else ""),
    ]
    published = f"{counted(step.n_published, 'item').capitalize()} published for the first time"
    summary = {
        "done": TagList(f"{published}, {step.n_proposed:,} proposed and {step.n_held:,} held back. "),
        "pending": TagList("Nothing yet: ", prose(step.why), ". "),
        "held": TagList("Nothing: the month is held. "),
    }[step.state]
    return section(
        "What was published",
        tags.p(
            summary, link(waits(month.waiting).capitalize(), "decisions", month=month.month, scale=month.scale.scale_id)
        )
        if month.waiting
        else tags.p(summary),
        table("Items by what publication did with them", ("what", "items", "why"), rows, numbers="tn")
        if step.state == "done"
        else None,
    )


def _answers(month: MonthFacts) -> Tag:
    """Who answered how much, what was left out and why, and the learners' θ."""
    fit, measured = month.fit, month.measured
    counts = month.snapshot.counts.get(month.scale.scale_id, {}) if month.snapshot else {}
    known = {str(reason): reason.explanation for reason in Reason}
    left_out = {reason: n for reason, n in counts.items() if n and reason in known}
    total, n_left_out = sum(counts.values()), sum(left_out.values())
    rows = [
        (reason.replace("_", " "), f"{n:,}", f"{n / total:.1%}", known[reason])
        for reason, n in sorted(left_out.items(), key=lambda entry: -entry[1])
    ]
    used = (
        f"{fit.n_responses:,} answers of {fit.n_persons:,} learners to {fit.n_items:,} items were fitted."
        if fit
        else "No fit of the month is on the scale."
    )
    theta = (
        f"{measured.learners:,} learners were measured at its end: mean θ {number(measured.mean)}, "
        f"SD {number(measured.sd)}, mean error {number(measured.mean_se)}."
        if measured.learners
        else "No learner was measured at its end."
    )
    return section(
        "Answers and learners",
        tags.p(used, " ", f"{n_left_out:,} of {total:,} answers of the month were left out." if total else None),
        table("Answers that were left out", ("reason", "answers", "share", "why"), rows, numbers="tnn")
        if total
        else None,
        tags.p(theta),
    )


def _decisions(connection: psycopg.Connection, month: MonthFacts) -> Tag:
    taken = newest_decisions(connection, month=month.month, scale_id=month.scale.scale_id)
    rows = [
        (
            _proposal(d.on),
            DECIDED.get(d.what, d.what),
            d.by,
            f"{d.at:%Y-%m-%d %H:%M} UTC",
            d.in_force_from or DASH,
            d.reason,
        )
        for d in taken
    ]
    return section(
        "Decisions taken on it",
        tags.p(f"{counted(len(taken), 'decision').capitalize()} so far."),
        table("Decisions, the newest first", ("on", "decision", "by", "when", "in force from", "reason"), rows)
        if rows
        else None,
    )


def _reports(connection: psycopg.Connection, month: MonthFacts) -> Tag:
    name, scale_id = month.month, month.scale.scale_id
    made = [one for one in of_months(connection, name) if one.window == f"{name}/{scale_id}"]
    if made:
        found = report_files(f"the drift report of {name}, scale {scale_id}", made)
        return section("Reports", tags.p("The drift report, to read and to send: ", found))
    in_origin = month.state.state is State.ORIGIN
    why: TagChild = verdict(month.state, 0, None) if in_origin else tags.code(f"irt report drift --month {name}")
    return section("Reports", tags.p("No drift report was made yet: ", why))


def _proposal(reference: str) -> Tag:
    return link(reference, "proposal", proposal=reference)


def _provenance(month: MonthFacts) -> Tag:
    fit = month.fit
    if fit is None:
        return section("Where the numbers come from", tags.p("There is no linked fit of the month yet."))
    ui = month.asked.reader.settings.irt_ui_url
    run: TagChild = tags.code(fit.run_id or DASH)
    if ui and fit.run_id:
        run = tags.a(fit.run_id, href=f"{ui.rstrip('/')}/runs/{fit.run_id}")
    return section(
        "Where the numbers come from",
        tags.details(
            tags.summary("Fit, hashes, code and run"),
            facts(
                [
                    ("fit", tags.code(fit.fit_id)),
                    ("engine", f"{fit.engine} {fit.engine_version}, model {fit.model}, {fit.iterations} iterations"),
                    ("fitted", moment(fit.fitted_at, month.zone)),
                    ("hash of the answers", tags.code(fit.data_hash)),
                    ("hash of the snapshot", tags.code(fit.snapshot_hash)),
                    ("anchor set", TagList(f"version {month.scale.anchor_version}, ", tags.code(fit.anchor_hash))),
                    ("code version", tags.code(fit.code_version)),
                    ("run", run),
                ]
            ),
        ),
    )
