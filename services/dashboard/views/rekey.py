"""The key of an item: the options that learners chose, the decision on the right ones, and the next steps.

Addresses are `?view=rekey&scale=default&item=A01`.
"""

from htmltools import Tag
from shiny import Inputs, Outputs, Session, ui

from irt_assets.blocks import Badge, Paragraph, Tone, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.decisions.key_path import KeyPath, read_key_path
from irt_assets.decisions.proposals import Reference
from irt_assets.decisions.rekey import closed_months_changed, read_options
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import unsettled_months
from irt_assets.ledger.decisions import key_decisions
from irt_assets.scales.item_keys import key_in_words
from services.dashboard import decision_form, rematerialising
from services.dashboard.decisions import DecisionKind, may_decide
from services.dashboard.elements import section, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest

KINDS: tuple[DecisionKind, ...] = ("guessing", "misfit", "rekey", "undo_key")
SCORING = {
    "options": "The ticked options are right",
    "all": "Every answer gets credit",
    "drop": "The item is dropped from scoring, in all sittings",
}
CLOSED_NOTE = "These months closed before scores of the item changed. Reopen them on their pages: "
FORMATS = {"answers": ",", "share": ".1%"}
TONES: dict[str, Tone] = {"done": "good", "next": "warning", "under way": "info", "later": "neutral"}
TIMEOUT_MS = 30_000


def page(request: ViewRequest) -> Page:
    item = request.field("item")
    running = unsettled_months(request.reader.instance)
    with request.reader.connect(TIMEOUT_MS) as connection:
        key, options = read_options(connection, item)
        decided, closed = key_decisions(connection, item), closed_months_changed(connection, item)
        path = read_key_path(connection, item, running)
    total = sum(n for _, n, _ in options) or 1
    rows = [(option, n, n / total, "right" if right else "") for option, n, right in options]
    names = {option: shorten(option) for option, *_ in options}
    links = [(page_link(month, "month", month=month, scale=request.field("scale")), " ") for month in closed]
    right_now = [option for option, _, right in options if right]
    inputs = (
        ui.input_radio_buttons("scoring", "Its answers are scored like this", SCORING, width="100%"),
        ui.input_checkbox_group("options", "Right options", names, selected=right_now) if names else None,
    )
    kinds = [*(path.to_accept if path else ()), "rekey", *(["undo_key"] if decided else [])]
    return Page(
        f"Key of item {shorten(item)}",
        render_blocks(
            Paragraph(f"Recorded key: {key_in_words(key)}.", "lead"),
            _steps(request, path) if path else None,
            Paragraph((CLOSED_NOTE, *links)) if links else None,
            table(("option", "answers", "share", "key"), rows, numbers=FORMATS, caption="Chosen options", small=True),
            section(
                "Decide",
                *(inputs if may_decide(request.identity) else ()),
                decision_form.form(request, [kind for kind in KINDS if kind in kinds]),
            ),
            Paragraph(page_link("The item", "item", scale=request.field("scale"), item=item)),
        ),
    )


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    rematerialising.handle_events(request, inputs)
    item = request.field("item")
    with request.reader.connect() as connection:
        path = read_key_path(connection, item)
    held = min(path.to_accept.values(), default="") if path else ""
    scale_id = path.scale_id if path else ""
    decision_form.handle_events(request, inputs, KINDS, lambda: [Reference(held, item)], scale_id)


def _steps(request: ViewRequest, path: KeyPath) -> Tag:
    """List the steps from the corrected key to the published value, with the button that recomputes months."""
    rows = [(n, step.title, Badge(step.state, TONES[step.state]), step.why) for n, step in enumerate(path.steps, 1)]
    return section(
        "From the key to a published value",
        table(("no.", "step", "state", "where it stands"), rows, caption="What follows a decision on the key"),
        rematerialising.button_place(request) if path.in_state([State.STALE]) else None,
    )
