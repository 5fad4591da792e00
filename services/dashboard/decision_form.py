"""The form of a decision. It shows the effect of the decision, asks the person to confirm it, and shows the outcome."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

from htmltools import Tag, TagChild, TagList, tags
from shiny import Inputs, reactive, render, ui

from irt_assets.blocks import Paragraph, notice, prose
from services.dashboard.decisions import (
    DECIDER,
    DecisionForm,
    DecisionKind,
    DecisionOutcome,
    decide,
    may_decide,
    review,
)
from services.dashboard.figures import render_blocks
from services.dashboard.page import ViewRequest

BUTTONS: dict[DecisionKind, str] = {
    "accept": "Accept …",
    "reject": "Reject …",
    "undo": "Undo …",
    "drop": "Drop from the anchors …",
    "put_back": "Restore to the anchors …",
    "withdraw": "Take it out of use …",
    "restore": "Put it back into use …",
    "reopen": "Reopen the month …",
    "adopt": "Accept the movement …",
    "rekey": "Change the key …",
    "undo_key": "Undo the last change …",
}
CONFIRM: dict[DecisionKind, str] = {
    "accept": "Yes, publish",
    "reject": "Yes, reject",
    "undo": "Yes, undo",
    "drop": "Yes, drop",
    "put_back": "Yes, restore",
    "withdraw": "Yes, withdraw",
    "restore": "Yes, restore",
    "reopen": "Yes, reopen",
    "adopt": "Yes, accept",
    "rekey": "Yes, change the key",
    "undo_key": "Yes, undo",
}
DAYS: dict[DecisionKind, str] = {
    "accept": "Accepted values are in force from this day on (UTC)",
    "undo": "First day of the values before, UTC (empty: as soon as it changes nothing reported)",
    "withdraw": "First day out of use, UTC (empty: tomorrow)",
    "restore": "First day back in use, UTC (empty: the first that is still to come)",
}


def form(
    request: ViewRequest, kinds: Sequence[DecisionKind], *, since: str = "", leaked: bool = False
) -> Tag | TagList:
    """Reason, day and buttons for those who may decide; for others, why they may not.

    kinds: a button for each; the label of the day belongs to the first. since: the day that is filled in. leaked:
    whether to show a box that confirms accepting a leaked item.
    """
    if not may_decide(request.identity):
        reason = (
            f"Deciding needs the role {DECIDER}; your login has {', '.join(request.identity.roles)}. Someone who has "
            "it can decide at this page's address."
        )
        return render_blocks(notice(reason, "neutral"))
    day, tomorrow = DAYS.get(kinds[0]), f"{request.reader.now() + timedelta(days=1):%Y-%m-%d}"
    by_hand = notice(
        prose("Deciding here needs JavaScript. Without it, use `irt release`, `irt items` or `irt month`."), "warning"
    )
    return tags.div(
        ui.input_text_area("reason", "Reason, kept on record (required)", rows=3, width="100%"),
        ui.input_text("since", day, since, width="100%", placeholder=tomorrow) if day else None,
        ui.input_checkbox("although_it_leaked", "Accept it although it leaked", width="100%") if leaked else None,
        tags.div(
            *(
                ui.input_action_button(
                    kind, BUTTONS[kind], class_=f"btn-{'secondary' if kind == 'reject' else 'primary'}"
                )
                for kind in kinds
            ),
            class_="d-flex flex-wrap gap-2 my-2",
        ),
        tags.p(
            f"It is recorded as decided by {request.identity.sub}. You see what it will do before you confirm it.",
            class_="text-body-secondary",
        ),
        tags.div(ui.output_ui("decision"), aria_live="polite"),
        tags.p(
            "The connection to this page has ended, or your login has expired. Reload it to see the decisions.",
            class_="alert alert-warning when-disconnected",
        ),
        tags.noscript(render_blocks(by_hand)),
        class_="decision",
    )


def handle_events(
    request: ViewRequest,
    inputs: Inputs,
    fill: Callable[[DecisionKind, str, str, bool], DecisionForm],
    after: Callable[[DecisionForm, DecisionOutcome], TagChild],
    kinds: Sequence[DecisionKind],
) -> None:
    """React to the form of `kinds` while the page is open.

    fill: makes the form from kind, reason, day, and whether the box is ticked. after: makes the elements below the
    sentences of an outcome, such as links to the page that shows the effect.
    """
    pending: reactive.Value[tuple[DecisionForm, DecisionOutcome] | None] = reactive.Value(None)
    outcome_shown: reactive.Value[TagChild] = reactive.Value(None)

    @render.ui
    def decision() -> TagChild:
        return outcome_shown()

    def on(kind: DecisionKind) -> None:
        @reactive.effect
        @reactive.event(inputs[kind])
        async def _() -> None:
            filled = fill(
                kind, _text(inputs, "reason"), _text(inputs, "since"), bool(_value(inputs, "although_it_leaked"))
            )
            outcome = await asyncio.to_thread(review, request, filled)
            pending.set((filled, outcome) if outcome.ok else None)
            outcome_shown.set(_question(request, filled, outcome) if outcome.ok else _message(outcome, tone="warning"))

    for kind in kinds:
        on(kind)

    @reactive.effect
    @reactive.event(inputs["confirm"])
    async def _() -> None:
        reviewed = pending()
        if reviewed is None:
            return  # second click of a double click
        pending.set(None)
        filled, before = reviewed
        outcome = await asyncio.to_thread(decide, request, filled, before.seen, before.movement)
        follows = await asyncio.to_thread(after, filled, outcome)
        outcome_shown.set(_message(outcome, follows, tone="success" if outcome.ok else "warning"))

    @reactive.effect
    @reactive.event(inputs["back"])
    def _() -> None:
        pending.set(None)
        outcome_shown.set(None)


def _question(request: ViewRequest, filled: DecisionForm, outcome: DecisionOutcome) -> Tag:
    return tags.div(
        tags.p(tags.strong("This will happen:")),
        _sentences(outcome),
        tags.p(f"Decided by {request.identity.sub}. Reason: {filled.reason.strip()}"),
        tags.div(
            ui.input_action_button("confirm", CONFIRM[filled.kind], class_="btn-primary"),
            ui.input_action_button("back", "Back", class_="btn-secondary"),
            class_="d-flex flex-wrap gap-2",
        ),
        class_="alert alert-info",
        data_seen="",
    )


def _message(outcome: DecisionOutcome, follows: TagChild = None, *, tone: str) -> Tag:
    """Element with the sentences of an outcome. Its class `decided` closes the form."""
    decided = " decided" if outcome.ok else ""
    return tags.div(_sentences(outcome), follows, class_=f"alert alert-{tone}{decided}", data_seen="")


def _sentences(outcome: DecisionOutcome) -> TagList:
    return render_blocks(*(Paragraph(prose(sentence)) for sentence in outcome.sentences))


def _text(inputs: Inputs, name: str) -> str:
    return str(_value(inputs, name) or "")


def _value(inputs: Inputs, name: str) -> object:
    return inputs[name]() if name in inputs else None
