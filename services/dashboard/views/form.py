"""The forms of a scale in a month, and one form: its scores, reliability, keys, items, precision and persons."""

import pandas as pd
from htmltools import Tag, TagChild, tags
from shiny import Inputs, Outputs, Session, ui

from irt_assets.adaptive.forms import read_drafts
from irt_assets.blocks import Document, Paragraph
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import quantity, sentence
from irt_assets.decisions.proposals import Reference
from irt_assets.item_analysis.stored import analysed_months, read_forms
from irt_assets.reports import form_blocks, item_sheet
from irt_assets.reports.assembly_blocks import assembled_forms, assembly_blocks
from irt_assets.reports.form_facts import FormFacts, form_facts
from irt_assets.reports.person_list import person_table, read_person_list
from irt_assets.responses.snapshot import snapshot_for_scale
from irt_assets.scales.scale import Scale, read_scales
from irt_assets.scores.form_tables import form_items
from irt_assets.scores.releases import released_tables
from resources.failures import PermanentFailure
from services.dashboard import decision_form
from services.dashboard.address_fields import require_known
from services.dashboard.decisions import DecisionKind, may_decide
from services.dashboard.elements import choice, document_links, download_links, query_form, section
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest
from services.dashboard.views.bank import choose_scale

KINDS: tuple[DecisionKind, ...] = ("release_table", "undo_table", "leave_out", "count_again", "issue", "issue_again")
KINDS_OF_DRAFT: tuple[DecisionKind, ...] = ("release_form", "undo_form")


def forms_page(request: ViewRequest) -> Page:
    scale, month, choices = _choose(request)
    with request.reader.connect() as connection:
        drafts = read_drafts(connection, scale.scale_id)
        assembled = section("Assembled forms", assembled_forms(drafts.values())) if drafts else None
        if not month:
            text = f"No answers of scale {scale.scale_id} have been analysed yet: materialise item_analysis of a month."
            return Page("Forms", render_blocks(query_form("forms", *choices), Paragraph(text), assembled))
        forms = read_forms(connection, scale.scale_id, month)
        tables = released_tables(connection, scale.scale_id)
    released = {name: f"{each.table_id} of {each.month}" for name, each in tables.items()}
    found = form_blocks.forms_table(forms, scale.scale_id, month, released if scale.rules.scores.score_slope else None)
    return Page(f"Forms of scale {scale.scale_id}", render_blocks(query_form("forms", *choices), found, assembled))


def page(request: ViewRequest) -> Page:
    chosen, month, _ = _choose(request)
    with request.reader.connect() as connection:
        drafts = read_drafts(connection, chosen.scale_id)
        analysed = {form.form_id for form in read_forms(connection, chosen.scale_id, month)}
        items, tables = form_items(connection, chosen.scale_id), released_tables(connection, chosen.scale_id)
    stored = drafts.get(request.field("form"))
    assembled = [*assembly_blocks(stored, drafts)] if stored else []
    if stored and stored.form_id not in analysed:
        kinds = KINDS_OF_DRAFT[:1] if stored.state == "draft" else KINDS_OF_DRAFT[1:]
        return Page(
            f"Form {stored.form_id}",
            render_blocks(
                Paragraph(sentence(stored.sentence), "lead"),
                *assembled,
                section("Decide on the form", decision_form.form(request, kinds)),
                Paragraph(page_link("All forms", "forms", scale=stored.blueprint.scale)),
            ),
        )
    if (name := request.field("form")) in items.keys() - analysed:
        return Page(
            f"Form {name}",
            render_blocks(
                Paragraph(f"Form {name} is stored with {quantity(len(items[name]), 'item')}.", "lead"),
                Paragraph(
                    f"No answers to the form{f' in {month}' if month else ''} have been analysed. "
                    "The analysis comes with the first month that has answers to it."
                ),
                download_links("The released score table:", "scores", scale=chosen.scale_id, form=name)
                if name in tables
                else None,
                Paragraph(page_link("All forms", "forms", scale=chosen.scale_id)),
            ),
        )
    facts, choices = _read(request)
    scale, fields = facts.scale.scale_id, _fields(facts)
    title = f"Form {facts.name}" if facts.form.form_id else "All answers"
    return Page(
        f"{title}, {facts.month}",
        render_blocks(
            query_form("form", *choices),
            *form_blocks.form_blocks(facts),
            section("Assembly", *assembled) if assembled else None,
            _persons_section(request, facts),
            *_decide_on_scores(request, facts),
            document_links("form", **fields),
            document_links("items", "All items, six a page:", **fields),
            Paragraph(
                (
                    *(page_link(f"All forms of {facts.month}", "forms", scale=scale, month=facts.month), " · "),
                    page_link("Equating", "equate", scale=scale, new=facts.form.form_id),
                )
            ),
        ),
    )


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    scale, month, _ = _choose(request)
    decision_form.handle_events(
        request, inputs, KINDS + KINDS_OF_DRAFT, lambda: [Reference(month, request.field("form"))], scale.scale_id
    )


def _decide_on_scores(request: ViewRequest, facts: FormFacts) -> list[TagChild]:
    """The decisions on the form's scores, and its scores as files."""
    if facts.reported is None:
        return []
    kinds, fields = (
        KINDS[-2:] if facts.reported.by_theta else KINDS,
        {"scale": facts.scale.scale_id, "form": facts.form.form_id},
    )
    return [
        section("Decide on the scores", _choose_items(request, facts), decision_form.form(request, kinds)),
        download_links("The released score table:", "scores", **fields) if facts.reported.released else None,
        download_links("Scores that were handed out:", "issued", **fields),
    ]


def _choose_items(request: ViewRequest, facts: FormFacts) -> TagChild:
    """Boxes for the items to leave out of the score or to count again; items without values are ticked if they must be
    published."""
    if facts.reported is None or facts.reported.by_theta or not may_decide(request.identity):
        return None
    items = [item.item_id for item in facts.items]
    unpublished = [item for item in items if item not in facts.published.item_ids]
    return ui.input_checkbox_group(
        "options",
        "Items to leave out of the form's score, or to count again",
        list(dict.fromkeys([*items, *facts.reported.left_out])),
        selected=unpublished if facts.scale.rules.scores.unit == "theta" else [],
        inline=True,
        width="100%",
    )


def document(request: ViewRequest) -> Document:
    """The page of the form as a document."""
    return form_blocks.document(_read(request)[0], request.reader.now())


def persons_table(request: ViewRequest) -> pd.DataFrame:
    """The persons of the form as a table."""
    return _read_persons(request, _read(request)[0])


def _persons_section(request: ViewRequest, facts: FormFacts) -> Tag | None:
    """Show the persons with the least likely patterns, and links to all. Return None for senders below analyst."""
    if not request.identity.has_role("analyst"):
        return None
    try:
        shown = person_table(_read_persons(request, facts))
    except PermanentFailure as failure:
        return section("Persons", tags.p(f"There is no list of persons: {failure}."))
    return section("Persons", shown, download_links("All persons:", "persons", **_fields(facts)))


def _read_persons(request: ViewRequest, facts: FormFacts) -> pd.DataFrame:
    """Read the form's persons in the month. Raises PermanentFailure as `read_person_list`, and without a snapshot."""
    reader, scale_id = request.reader, facts.scale.scale_id
    with reader.connect() as connection:
        snapshot = snapshot_for_scale(connection, facts.month, scale_id)
    if snapshot is None:
        raise PermanentFailure(f"the answers of {facts.month} have not been scored yet")

    def read() -> pd.DataFrame:
        with reader.connect() as connection:
            return read_person_list(connection, reader.store, snapshot, facts)

    values = "".join(map(repr, (facts.published.a, facts.published.b, facts.published.c)))
    key = ("persons", snapshot.snapshot_hash, scale_id, facts.form.form_id, values)
    return reader.compute_cached(key, read)


def _fields(facts: FormFacts) -> dict[str, str]:
    """Return the fields of addresses about the form."""
    return {"scale": facts.scale.scale_id, "month": facts.month, "form": facts.form.form_id}


def items_document(request: ViewRequest) -> Document:
    """Choices and curves of all items of the form as a document."""
    facts, _ = _read(request)
    with request.reader.connect() as connection:
        estimates = item_sheet.read_estimates(connection, facts)
    return item_sheet.document(facts, estimates, request.reader.now())


def _read(request: ViewRequest) -> tuple[FormFacts, list[TagChild]]:
    """The form of the address, and the fields that choose it. Raises NotFound if the month has no such form."""
    scale, month, choices = _choose(request)
    name = request.field("form")
    with request.reader.connect() as connection:
        forms = {form.form_id: form.form_id or "all answers" for form in read_forms(connection, scale.scale_id, month)}
        if name:
            require_known("form", name, [*filter(None, forms)])
        return form_facts(connection, scale, name, month), [*choices, choice("Form", "form", forms, name)]


def _choose(request: ViewRequest) -> tuple[Scale, str, list[TagChild]]:
    """The scale and the month of the address (default: the newest with an analysis), and the fields that choose them.

    The month is empty if the scale has no analysis. Raises NotFound for an unknown scale or month.
    """
    with request.reader.connect() as connection:
        scale, scales = choose_scale(request, read_scales(connection))
        months = analysed_months(connection, scale.scale_id)[::-1]
    month = request.field("month", next(iter(months), ""))
    if months:
        require_known("month", month, months)
    choices: list[TagChild] = [
        choice("Scale", "scale", scales, scale.scale_id),
        choice("Month", "month", months, month),
    ]
    return scale, month, choices[len(scales) == 1 :]
