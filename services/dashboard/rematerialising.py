"""Recompute stale months from a page: a button, and a link to the runs that it queues."""

import asyncio
from collections.abc import Sequence

from htmltools import Tag, TagChild, TagList, tags
from shiny import Inputs, reactive, render, ui

from irt_assets.common.environment import CODE_LOCATION
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import months_between
from irt_assets.common.wording import join_names
from irt_assets.gates.month_classification import State
from jobs.watching.daemons import daemon_alive
from services.dashboard.decisions import DECIDER, MAX_NAMED, DecisionOutcome, may_decide, queue_months
from services.dashboard.page import ViewRequest


def button_place(request: ViewRequest) -> TagChild:
    """The element in which the button appears, for those who may recompute months."""
    if not may_decide(request.identity):
        return tags.p(f"Recomputing months needs the role {DECIDER}.", class_="text-body-secondary")
    return tags.div(ui.output_ui("making"), aria_live="polite", class_="my-3")


def handle_events(request: ViewRequest, inputs: Inputs) -> None:
    """Show the button for the stale months, after a click the outcome, and load the page again after the runs."""
    offered: list[str] = []
    requested: reactive.Value[DecisionOutcome | None] = reactive.Value(None)
    ended: reactive.Value[bool] = reactive.Value(False)

    @render.ui
    async def making() -> TagChild:
        outcome = requested()
        if outcome is not None:
            return _ended_text(offered) if ended() else _outcome_text(request, outcome)
        states = await asyncio.to_thread(request.reader.month_states)
        offered[:] = sorted({state.month for state in states if state.state is State.STALE})
        is_alive = await asyncio.to_thread(daemon_alive, request.reader.instance)
        return _button(offered, daemon_alive=is_alive) if offered else None

    @reactive.effect
    @reactive.event(inputs["make_again"])
    async def _() -> None:
        requested.set(await asyncio.to_thread(queue_months, request, tuple(offered)))

    @reactive.effect
    async def _() -> None:
        if (outcome := requested()) and outcome.ok:
            reactive.invalidate_later(5)  # seconds, as a run takes minutes
            states = await asyncio.to_thread(request.reader.month_states)
            ended.set(not any(state.state is State.RUNNING for state in states if state.month in offered))


def _ended_text(months: Sequence[str]) -> Tag:
    """Return the element that makes the script load the page again, unless a reason is typed on it."""
    return tags.div(
        f"The runs of {join_names(months, MAX_NAMED)} have ended.", class_="alert alert-info decided", data_seen=""
    )


def _outcome_text(request: ViewRequest, outcome: DecisionOutcome) -> TagList:
    runs = f"{request.reader.settings.ui_url}/locations/{CODE_LOCATION}/jobs/{MONTHLY_JOB}/runs"
    if not outcome.ok:
        return TagList(tags.p(*outcome.sentences), tags.p("To try again, ", tags.a("reload this page", href=""), "."))
    return TagList(
        tags.p(*outcome.sentences),
        tags.p(tags.a("Dagster shows the progress of the runs", href=runs), "; this page loads again when they end."),
    )


def _button(months: Sequence[str], *, daemon_alive: bool) -> TagChild:
    """The button, or the command to type if no daemon runs."""
    if not daemon_alive:
        by_hand = tags.code(f"irt backfill --from {months[0]} --to {months[-1]}")
        return tags.p("No daemon runs, so nothing starts from here: ", by_hand)
    in_a_row = len(months) > 1 and [*months_between(months[0], months[-1])] == [*months]
    span = f"{months[0]} … {months[-1]}" if in_a_row else join_names(months, 5)
    return ui.input_action_button("make_again", f"Recompute {span}", class_="btn-primary")
