"""One month of a scale: whether it is safe to release, the next steps and the evidence (`reports.month_blocks`)."""

from collections.abc import Iterator, Mapping, Sequence

import psycopg
from htmltools import TagChild, tags
from shiny import Inputs, Outputs, Session

from irt_assets.blocks import Box, Paragraph, Span, Text, Tone, prose
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.partitions import Month
from irt_assets.decisions.accepting import GATE_OF
from irt_assets.decisions.proposals import Reference, waiting_proposals
from irt_assets.gates.gates import SET_GATES
from irt_assets.gates.month_classification import GateStatus, MonthState, State
from irt_assets.gates.month_status import gate_statuses
from irt_assets.ledger.linked_windows import latest_constants
from irt_assets.ledger.month_verdicts import read_verdict
from irt_assets.reports import month_blocks
from irt_assets.reports.artifacts import drift_reports
from irt_assets.responses.closing_records import read_closed
from irt_assets.scales.scale import Scale, read_scales
from jobs.watching.overview import count_by_month
from services.dashboard import decision_form, rematerialising
from services.dashboard.address_fields import find_month, find_scale, months_of, scales_of, state_of
from services.dashboard.elements import section
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest
from services.dashboard.release_status import next_step, verdict
from services.dashboard.report_files import report_files

MARKS: dict[State, tuple[str, Tone]] = {
    State.GREEN: ("Yes", "good"),
    State.RED: ("No", "bad"),
    State.ORIGIN: ("It is released with the scale", "info"),
}
LATE_ANSWERS_NOTE = "They count for this month only if it is reopened: see the end of this page."
TAKE_OUT_NOTE = ": take out those that really changed (a leak, a wrong key, an edited text), then recompute the month."


def page(request: ViewRequest) -> Page:
    states, settings = request.reader.month_states(), request.reader.settings
    scale_id = find_scale(request, states)
    name = _find_month(request, states)
    state = state_of(states, name, scale_id)
    mark, tone = MARKS.get(state.state, ("Not yet", "warning"))
    with request.reader.connect() as connection:
        scale = read_scales(connection, Month(name).start)[scale_id]
        waiting = count_by_month(waiting_proposals(connection, scale_id))[name, scale_id]
        judged = read_verdict(connection, name, scale_id)
        gates = gate_statuses(judged)
        verdict_said = verdict(state, waiting, judged.step)
        answer = Paragraph((state.state.badge, " ", Span(f"{mark}. ", "bold"), verdict_said), "lead")
        next_steps = map(Paragraph, _next_steps(connection, scale, state, gates, waiting))
        closed = next((record for record in read_closed(connection, [name]) if record.scale_id == scale_id), None)
        since = (
            [Paragraph(f"It has closed; {closed.sentence}. {LATE_ANSWERS_NOTE}")] if closed and closed.sentence else []
        )
        at, ui_url, zone = request.reader.now(), settings.irt_ui_url or "", settings.irt_time_zone
        parts = [*month_blocks.sections(connection, scale, state, gates, at=at, dashboard="", ui_url=ui_url, zone=zone)]
        first = parts[: 2 if parts[0].title == month_blocks.ANCHORS else 1]
        held_by = [subject for subject, gate in GATE_OF.items() if gates[gate].failed_itself]
        accept = section("Accept what holds the month", decision_form.form(request, held_by)) if held_by else None
        body = render_blocks(
            Box((answer, *next_steps, *since), tone),
            accept if state.state is State.RED else None,
            rematerialising.button_place(request) if state.state is State.STALE else None,
            _neighbours(state, months_of(states), scales_of(states)),
            tags.div(*map(render_blocks, first), class_="two"),
            *parts[len(first) :],
            section("Reopen the month", decision_form.form(request, ("reopen",))) if closed and not held_by else None,
            section("Reports", *_reports(connection, state)),
        )
    return Page(f"Is {name} safe to release?", body)


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    rematerialising.handle_events(request, inputs)

    states = request.reader.month_states()
    month = Reference(_find_month(request, states), "")
    decision_form.handle_events(request, inputs, ("reopen", *GATE_OF), lambda: [month], find_scale(request, states))


def _find_month(request: ViewRequest, states: Sequence[MonthState]) -> str:
    return find_month(request, states, "month", next(iter(months_of(states)), ""))


def _next_steps(
    connection: psycopg.Connection, scale: Scale, state: MonthState, gates: Mapping[str, GateStatus], waiting: int
) -> Iterator[Text]:
    if state.state is State.RED:
        failed = [gate for gate in SET_GATES if gates[gate.name].failed_itself]
        if not failed:
            yield *prose(state.why), "."
        constants = latest_constants(connection, state.month, scale.scale_id, scale.engine)
        if constants and constants.suspects:
            fields = {"month": state.month, "scale": scale.scale_id}
            yield "Next: ", page_link("decide on the anchors", "decisions", **fields), TAKE_OUT_NOTE
            failed = [gate for gate in failed if gate.name != "anchors_agree"]
        for gate in failed:
            yield "Next: ", *prose(gate.fix)
        return
    if state.state is State.GREEN:
        yield "Published values stay in force until someone decides otherwise."
    if waiting or state.state not in (State.GREEN, State.ORIGIN):
        yield "Next: ", next_step(state, waiting)


def _neighbours(state: MonthState, newest_first: Sequence[str], scales: Sequence[str]) -> Paragraph:
    """Links to the months before and after, to the comparison with the month before, and to the other scales."""
    at, scale_id = newest_first.index(state.month), state.scale_id
    links: list[Span] = []
    for earlier in newest_first[at + 1 : at + 2]:
        links.append(page_link(f"← {earlier}", "month", month=earlier, scale=scale_id))
        compared = {"first": earlier, "second": state.month, "scale": scale_id}
        links.append(page_link(f"compare with {earlier}", "compare", **compared))
    if at:
        links.append(page_link(f"{newest_first[at - 1]} →", "month", month=newest_first[at - 1], scale=scale_id))
    links += [page_link(f"scale {name}", "month", month=state.month, scale=name) for name in scales if name != scale_id]
    scale = Span(f"Scale {scale_id}", "quiet") if len(scales) > 1 else ""
    return Paragraph((*((name, " \u2002 ") for name in links), scale))


def _reports(connection: psycopg.Connection, state: MonthState) -> Iterator[TagChild | Paragraph]:
    window = f"{state.month}/{state.scale_id}"
    if reports := [report for report in drift_reports(connection, state.month) if report.window == window]:
        yield "The drift report: "
        yield report_files(f"the drift report of {state.month}, scale {state.scale_id}", reports)
    else:
        by_hand = Span(f"irt report drift --month {state.month}", "code")
        yield Paragraph(("No report has been written yet: ", by_hand))
