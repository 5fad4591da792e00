"""Recompute stale months or evaluate the invariants from a page: a button, and a link to the runs that it queues."""

import asyncio
from collections.abc import Callable, Sequence

from htmltools import Tag, TagChild, TagList, tags
from shiny import Inputs, reactive, render, ui

from irt_assets.common.environment import CODE_LOCATION
from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import months_between
from irt_assets.common.wording import join_names
from irt_assets.gates.month_classification import State
from jobs.watching.daemons import daemon_alive
from services.dashboard.decisions import DECIDER, DecisionOutcome, may_decide, queue_evaluation, queue_months
from services.dashboard.page import ViewRequest


def button_place(request: ViewRequest, act: str = "Recomputing months") -> TagChild:
    """Build the element in which a page's button appears, for those who may use it. `act`: the act in words."""
    if not may_decide(request.identity):
        return tags.p(f"{act} needs the role {DECIDER}.", class_="text-body-secondary")
    return tags.div(ui.output_ui("making"), aria_live="polite", class_="my-3")


def handle_events(request: ViewRequest, inputs: Inputs) -> None:
    """Show the button that recomputes the stale months, and after a click the outcome."""
    offered: list[str] = []

    def draw() -> TagChild:
        offered[:] = sorted({state.month for state in request.reader.month_states() if state.state is State.STALE})
        return _months_button(offered, daemon_alive=daemon_alive(request.reader.instance)) if offered else None

    def is_over(_outcome: DecisionOutcome) -> bool:
        states = request.reader.month_states()
        return not any(state.state is State.RUNNING for state in states if state.month in offered)

    _handle_clicks(request, inputs, draw, lambda: queue_months(request, tuple(offered)), is_over)


def handle_evaluation(request: ViewRequest, inputs: Inputs) -> None:
    """Show the button that evaluates the invariants, and after a click the outcome."""
    instance = request.reader.instance

    def draw() -> TagChild:
        return _button("Evaluate the invariants now", "irt invariants run", daemon_alive=daemon_alive(instance))

    def is_over(outcome: DecisionOutcome) -> bool:
        run = instance.get_run_by_id(outcome.run_id)
        return run is None or run.is_finished

    _handle_clicks(request, inputs, draw, lambda: queue_evaluation(request), is_over)


def _handle_clicks(
    request: ViewRequest,
    inputs: Inputs,
    draw: Callable[[], TagChild],
    act: Callable[[], DecisionOutcome],
    is_over: Callable[[DecisionOutcome], bool],
) -> None:
    """Show the button that `draw` returns, after a click the outcome of `act`, and load the page again after the runs.

    The three functions run in threads.
    """
    requested: reactive.Value[DecisionOutcome | None] = reactive.Value(None)
    ended: reactive.Value[bool] = reactive.Value(False)

    @render.ui
    async def making() -> TagChild:
        outcome = requested()
        if outcome is None:
            return await asyncio.to_thread(draw)
        return _ended_text() if ended() else _outcome_text(request, outcome)

    @reactive.effect
    @reactive.event(inputs["make_again"])
    async def _() -> None:
        requested.set(await asyncio.to_thread(act))

    @reactive.effect
    async def _() -> None:
        if (outcome := requested()) and outcome.ok:
            reactive.invalidate_later(5)  # seconds, as a run takes minutes
            ended.set(await asyncio.to_thread(is_over, outcome))


def _ended_text() -> Tag:
    """Return the element that makes the script load the page again, unless a reason is typed on it."""
    return tags.div("The runs have ended.", class_="alert alert-info decided", data_seen="")


def _outcome_text(request: ViewRequest, outcome: DecisionOutcome) -> TagList:
    if not outcome.ok:
        return TagList(tags.p(*outcome.sentences), tags.p("To try again, ", tags.a("reload this page", href=""), "."))
    path = f"runs/{outcome.run_id}" if outcome.run_id else f"locations/{CODE_LOCATION}/jobs/{MONTHLY_JOB}/runs"
    in_dagster = tags.a("Dagster shows the progress", href=f"{request.reader.settings.ui_url}/{path}")
    return TagList(tags.p(*outcome.sentences), tags.p(in_dagster, "; this page loads again at the end."))


def _months_button(months: Sequence[str], *, daemon_alive: bool) -> TagChild:
    in_a_row = len(months) > 1 and [*months_between(months[0], months[-1])] == [*months]
    span = f"{months[0]} … {months[-1]}" if in_a_row else join_names(months, 5)
    by_hand = f"irt backfill --from {months[0]} --to {months[-1]}"
    return _button(f"Recompute {span}", by_hand, daemon_alive=daemon_alive)


def _button(label: str, command: str, *, daemon_alive: bool) -> TagChild:
    """Build the button, or show the command to type if no daemon runs."""
    if not daemon_alive:
        return tags.p("No daemon runs, so nothing starts from here: ", tags.code(command))
    return ui.input_action_button("make_again", label, class_="btn-primary")
