"""The form of a decision. It shows the effect of the decision, asks the person to confirm it, and shows the outcome."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from htmltools import Tag, TagChild, TagList, tags
from shiny import Inputs, reactive, render, ui

from irt_assets.blocks import Paragraph, notice, prose
from irt_assets.decisions.proposals import Reference
from irt_assets.new_items.decided import SeedLimits
from services.dashboard.decisions import (
    DECIDER,
    DECISIONS,
    DecisionForm,
    DecisionKind,
    DecisionOutcome,
    decide,
    may_decide,
    review,
)
from services.dashboard.figures import render_blocks
from services.dashboard.page import ViewRequest


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
    day, tomorrow = DECISIONS[kinds[0]].day, f"{request.reader.now() + timedelta(days=1):%Y-%m-%d}"
    by_hand = notice(
        prose(
            "Deciding here needs JavaScript. Without it, use `irt release`, `irt items`, `irt month` or `irt scores`."
        ),
        "warning",
    )
    return tags.div(
        ui.input_text_area("reason", "Reason, kept on record (required)", rows=3, width="100%"),
        ui.input_text(f"since_{kinds[0]}", day, since, width="100%", placeholder=tomorrow) if day else None,
        _limits() if "seed" in kinds else None,
        ui.input_checkbox("although_it_leaked", "Accept it although it leaked", width="100%") if leaked else None,
        tags.div(
            *(
                ui.input_action_button(
                    kind,
                    DECISIONS[kind].button,
                    class_=f"btn-{'secondary' if kind.startswith('reject') else 'primary'}",
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


def _limits() -> Tag:
    """Fields for the limits of items that are seeded, as in `SeedLimits`."""
    fields = {
        "max_answers": "Most answers to an item",
        "max_per_day": "Most answers a day (empty: no limit)",
        "first_day": "First day of seeding, UTC (empty: now)",
        "last_day": "Last day of seeding, UTC (empty: no limit)",
    }
    default = {"max_answers": f"{SeedLimits().max_answers}"}
    inputs = (ui.input_text(name, label, default.get(name, "")) for name, label in fields.items())
    return tags.details(tags.summary("Limits for seeding"), *inputs)


def handle_events(
    request: ViewRequest,
    inputs: Inputs,
    kinds: Sequence[DecisionKind],
    references: Callable[[], Sequence[Reference]],
    scale_id: str = "",
) -> None:
    """React to the form of `kinds` while the page is open. `references`, `scale_id`: as in `DecisionForm`."""
    pending: reactive.Value[tuple[DecisionForm, DecisionOutcome] | None] = reactive.Value(None)
    outcome_shown: reactive.Value[TagChild] = reactive.Value(None)

    @render.ui
    def decision() -> TagChild:
        return outcome_shown()

    def on(kind: DecisionKind) -> None:
        @reactive.effect
        @reactive.event(inputs[kind])
        async def _() -> None:
            filled = DecisionForm(
                kind,
                tuple(references()),
                reason=_text(inputs, "reason"),
                since=_text(inputs, f"since_{kind}"),
                although_it_leaked=bool(_value(inputs, "although_it_leaked")),
                scale_id=scale_id,
                scoring=_text(inputs, "scoring"),
                options=tuple(_value(inputs, "options") or ()),
                method=_text(inputs, "method"),
                limits={name: _text(inputs, name) for name in SeedLimits.model_fields},
            )
            outcome = await asyncio.to_thread(review, request, filled)
            pending.set((filled, outcome) if outcome.ok else None)
            outcome_shown.set(_question(request, filled, outcome) if outcome.ok else _message(outcome))

    for kind in kinds:
        on(kind)

    @reactive.effect
    @reactive.event(inputs["confirm"])
    async def _() -> None:
        reviewed = pending()
        if reviewed is None:
            return  # second click of a double click
        pending.set(None)
        outcome = await asyncio.to_thread(decide, request, *reviewed)
        reload = None if outcome.ok else tags.p(tags.a("Reload this page", href=""))
        outcome_shown.set(TagList(_message(outcome), reload))

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
            ui.input_action_button("confirm", DECISIONS[filled.kind].confirm, class_="btn-primary"),
            ui.input_action_button("back", "Back", class_="btn-secondary"),
            class_="d-flex flex-wrap gap-2",
        ),
        class_="alert alert-info",
        data_seen="",
    )


def _message(outcome: DecisionOutcome) -> Tag:
    """Element with the sentences of an outcome. Its class `decided` makes the script load the page again."""
    style = "alert alert-success decided" if outcome.ok else "alert alert-warning"
    return tags.div(_sentences(outcome), class_=style, data_seen="")


def _sentences(outcome: DecisionOutcome) -> TagList:
    return render_blocks(*(Paragraph(prose(sentence)) for sentence in outcome.sentences))


def _text(inputs: Inputs, name: str) -> str:
    return str(_value(inputs, name) or "")


def _value(inputs: Inputs, name: str) -> Any:
    return inputs[name]() if name in inputs else None
