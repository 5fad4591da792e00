"""Invariants evaluated again from a page: one button, and when they were evaluated last.

What does not belong here: how runs are queued (see `irt_assets.runs.queue`), and who may (see `deciding`).
"""

import asyncio

from htmltools import TagChild, TagList, tags
from shiny import Inputs, reactive, render, ui

from irt_assets.blocks import Moment, Paragraph
from irt_assets.invariants.open_violations import last_evaluated
from services.dashboard.deciding import Outcome, evaluate_now, may_decide
from services.dashboard.figures import shown
from services.dashboard.page import Asked

LOOK_AGAIN_S = 3.0


def place(asked: Asked) -> TagChild:
    """Where the button appears, for those who may ask for it."""
    if not may_decide(asked.identity):
        return None
    button = ui.input_action_button("evaluate", "Evaluate the rules now", class_="btn-sm btn-outline-primary")
    return tags.div(button, ui.output_ui("evaluated"), aria_live="polite", class_="mb-3")


def converse(asked: Asked, inputs: Inputs) -> None:
    """Queue an evaluation, and say when it is over."""
    requested: reactive.Value[Outcome | None] = reactive.Value(None)

    @render.ui
    def evaluated() -> TagChild:
        outcome = requested()
        if outcome is None:
            return None
        sentences = tags.p(*outcome.sentences, class_="my-2")
        with asked.reader.connect() as connection:
            last = last_evaluated(connection)
        if not outcome.ok or outcome.at is None:
            return sentences
        if last is None or last < outcome.at:
            reactive.invalidate_later(LOOK_AGAIN_S)
            return sentences
        asked.reader.forget()
        at = Moment(last, asked.reader.settings.irt_time_zone)
        again = tags.p(tags.a("Load this page again", href=""), " to see what they found.")
        return TagList(shown(Paragraph(("The rules were evaluated at ", at, "."))), again)

    @reactive.effect
    @reactive.event(inputs["evaluate"])
    async def _() -> None:
        requested.set(await asyncio.to_thread(evaluate_now, asked))
