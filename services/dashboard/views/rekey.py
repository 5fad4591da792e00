"""The key of an item: the options that learners chose, and the decision on which of them are right.

Addresses are `?view=rekey&scale=default&item=A01`.
"""

from shiny import Inputs, Outputs, Session, ui

from irt_assets.blocks import Paragraph, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.decisions.proposals import Reference
from irt_assets.decisions.rekey import closed_months_changed, key_decisions, read_options
from irt_assets.scales.item_keys import key_in_words
from services.dashboard import decision_form
from services.dashboard.decisions import DecisionKind, may_decide
from services.dashboard.elements import section, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest

KINDS: tuple[DecisionKind, ...] = ("rekey", "undo_key")
SCORING = {
    "options": "The ticked options are right",
    "all": "Every answer gets credit",
    "drop": "The item is dropped from scoring, in all sittings",
}
CLOSED_NOTE = "These months closed before scores of the item changed. Reopen them on their pages: "
FORMATS = {"answers": ",", "share": ".1%"}
TIMEOUT_MS = 30_000


def page(request: ViewRequest) -> Page:
    item = request.field("item")
    with request.reader.connect(TIMEOUT_MS) as connection:
        key, options = read_options(connection, item)
        decided, closed = key_decisions(connection, item), closed_months_changed(connection, item)
    total = sum(n for _, n, _ in options) or 1
    rows = [(option, n, n / total, "right" if right else "") for option, n, right in options]
    names = {option: shorten(option) for option, *_ in options}
    links = [(page_link(month, "month", month=month, scale=request.field("scale")), " ") for month in closed]
    right_now = [option for option, _, right in options if right]
    inputs = (
        ui.input_radio_buttons("scoring", "Its answers are scored like this", SCORING, width="100%"),
        ui.input_checkbox_group("options", "Right options", names, selected=right_now) if names else None,
    )
    return Page(
        f"Key of item {shorten(item)}",
        render_blocks(
            Paragraph(f"Recorded key: {key_in_words(key)}.", "lead"),
            table(("option", "answers", "share", "key"), rows, numbers=FORMATS, caption="Chosen options", small=True),
            section(
                "Decide",
                *(inputs if may_decide(request.identity) else ()),
                decision_form.form(request, KINDS if decided else KINDS[:1]),
            ),
            Paragraph((CLOSED_NOTE, *links)) if links else None,
            Paragraph(page_link("The item", "item", scale=request.field("scale"), item=item)),
        ),
    )


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    decision_form.handle_events(request, inputs, KINDS, lambda: [Reference("", request.field("item"))])
