"""Equating of a form: the methods compared, and the decision on one of them.

Addresses are `?view=equate&scale=default&new=booklet-b&old=booklet-a`.
"""

from htmltools import TagChild
from shiny import Inputs, Outputs, Session, ui

from irt_assets.blocks import Document, Paragraph, without_page_links
from irt_assets.common.dashboard_pages import page_link
from irt_assets.decisions.proposals import Reference
from irt_assets.reports.equating_blocks import equating_blocks
from irt_assets.scales.scale import read_scales
from irt_assets.scores.equating import EquatingComparison, compare_methods
from irt_assets.scores.form_tables import form_items
from irt_assets.scores.releases import released_tables
from resources.version import code_version
from services.dashboard import decision_form
from services.dashboard.address_fields import require_known
from services.dashboard.decisions import DecisionKind, may_decide
from services.dashboard.elements import choice, document_links, query_form, section, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest
from services.dashboard.views.bank import choose_scale

KINDS: tuple[DecisionKind, ...] = ("equate", "undo_equating")
TIMEOUT_MS = 60_000


def page(request: ViewRequest) -> Page:
    comparison, choices = _read(request)
    if comparison is None:
        text = Paragraph("Choose a new form, and an old form whose score table is released.")
        return Page("Equating", render_blocks(query_form("equate", *choices), text))
    fields = {"scale": comparison.old_table.scale_id, "new": comparison.new.form_id, "old": comparison.old.form_id}
    radio = ui.input_radio_buttons(
        "method", "Method", [*comparison.methods], selected=comparison.baseline, width="100%"
    )
    return Page(
        f"Equating of {shorten(fields['new'])} to {shorten(fields['old'])}",
        render_blocks(
            query_form("equate", *choices),
            *equating_blocks(comparison),
            section(
                "Decide",
                radio if may_decide(request.identity) else None,
                decision_form.form(request, KINDS if comparison.in_force else KINDS[:1]),
            ),
            document_links("equate", **fields),
            Paragraph(page_link(f"Form {fields['new']}", "form", scale=fields["scale"], form=fields["new"])),
        ),
    )


def document(request: ViewRequest) -> Document:
    """The page as a document, for a committee. Raises NotFound if the address does not name both forms."""
    comparison, _ = _read(request)
    if comparison is None:
        raise NotFound("The address of an equating names two forms: new=…&old=….")
    title, now = f"Equating of {comparison.new.form_id} to {comparison.old.form_id}", request.reader.now()
    scale = f"scale {comparison.old_table.scale_id}"
    return Document(
        title=title,
        subtitle=f"{scale} · written on {now:%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}",
        running=f"{title} · {scale}",
        language="en",
        kind="bank",
        blocks=without_page_links(tuple(equating_blocks(comparison))),
    )


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    with request.reader.connect() as connection:
        scale, _ = choose_scale(request, read_scales(connection))
    forms = Reference(request.field("old"), request.field("new"))
    decision_form.handle_events(request, inputs, KINDS, lambda: [forms], scale.scale_id)


def _read(request: ViewRequest) -> tuple[EquatingComparison | None, list[TagChild]]:
    """The comparison of the address, None if it does not name both forms, and the fields that choose them."""
    new, old = request.field("new"), request.field("old")
    with request.reader.connect(TIMEOUT_MS) as connection:
        scale, scales = choose_scale(request, read_scales(connection))
        forms, released = form_items(connection, scale.scale_id), released_tables(connection, scale.scale_id)
        choices: list[TagChild] = [
            choice("Scale", "scale", scales, scale.scale_id),
            choice("New form", "new", ["", *forms], new),
            choice("Old form", "old", ["", *released], old),
        ]
        for name in filter(None, [new, old]):
            require_known("form", name, forms)
        found = None
        if new and old:
            reader = request.reader
            found = compare_methods(
                connection, scale.scale_id, new, old, now=reader.now(), cached=reader.compute_cached
            )
    return found, choices[len(scales) == 1 :]
