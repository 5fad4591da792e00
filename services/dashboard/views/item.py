"""One item: whether it is in use and sound, how learners answer it, and its history."""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from htmltools import Tag, tags
from shiny import Inputs, Outputs, Session

from irt_assets.blocks import Block, Document, Figures, Paragraph, Section, notice, prose, without_page_links
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.partitions import Month
from irt_assets.decisions.proposals import Reference
from irt_assets.item_analysis.key_evidence import key_warning
from irt_assets.item_analysis.stored import ItemRow, read_items
from irt_assets.ledger.relations import ORIGIN_WINDOW
from irt_assets.new_items.decided import SEED, STOP
from irt_assets.new_items.stages import UNPUBLISHED
from irt_assets.reports import item_blocks, item_history_blocks
from irt_assets.reports.classical_blocks import option_curves, options_table, statistics, trace_lines
from irt_assets.reports.item_facts import ItemFacts, ItemInMonth, item_facts, observed_proportions
from irt_assets.scales.scale import read_scales
from irt_psychometrics.itemfit import Observed
from resources.failures import PermanentFailure
from resources.version import code_version
from services.dashboard import decision_form
from services.dashboard.decisions import STAGE_KINDS, DecisionKind
from services.dashboard.elements import choice, document_links, query_form, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest
from services.dashboard.views.bank import choose_scale

KINDS: tuple[DecisionKind, ...] = ("withdraw", "restore", *STAGE_KINDS)


@dataclass(frozen=True)
class Chosen:
    """The month and the form of the address.

    Attributes:
        name: the month, or the origin window; empty if the item has neither a fit nor an analysis.
        month: its linked fit, if it has one.
        rows: the item's rows of the month's item analysis, by form; the row of all answers is first.
        row: the row of the chosen form, if the month was analysed.
    """

    name: str
    month: ItemInMonth | None
    rows: list[ItemRow]
    row: ItemRow | None


def page(request: ViewRequest) -> Page:
    facts = find_facts(request)
    chosen = _choose(request, facts)
    fields = {"scale": facts.scale.scale_id, "item": facts.item_id}
    has_key = any(row.key for row in chosen.rows)
    return Page(
        f"Item {shorten(facts.item_id)}",
        render_blocks(
            *_head(request, facts, chosen),
            notice(prose(f"It is stuck: {facts.new.stuck}. {facts.new.remedy}"), "warning")
            if facts.new and facts.new.stuck and facts.stage.stage in UNPUBLISHED
            else None,
            Paragraph(page_link("Change the key, and see what follows", "rekey", **fields)) if has_key else None,
            _selector(facts, chosen) if chosen.name else None,
            *_body(request, facts, chosen),
            document_links("item", **fields, month=request.field("month"), form=request.field("form")),
            _decide(request, facts),
            Paragraph(page_link(f"All items of scale {facts.scale.scale_id}", "bank", scale=facts.scale.scale_id)),
        ),
    )


def document(request: ViewRequest) -> Document:
    """The page of the item as a document."""
    facts = find_facts(request)
    chosen = _choose(request, facts)
    title = f"Item {shorten(facts.item_id)}, scale {facts.scale.scale_id}"
    blocks = without_page_links((*_head(request, facts, chosen), *_body(request, facts, chosen)))
    subtitle = f"written on {request.reader.now():%Y-%m-%d at %H:%M} UTC · irt-assets {code_version()}"
    return Document(title, "en", "bank", blocks, subtitle, running=title)


def _head(request: ViewRequest, facts: ItemFacts, chosen: Chosen) -> Iterator[Block]:
    """Yield the item's state, a warning about its key, and its identity."""
    yield Paragraph(item_blocks.item_in_short(facts, request.reader.now()), "lead")
    if chosen.rows and (warning := key_warning(chosen.rows[0])):
        yield notice(warning, "bad")
    yield item_blocks.identity(facts, request.reader.now(), chosen.rows)


def _body(request: ViewRequest, facts: ItemFacts, chosen: Chosen) -> Iterator[Block]:
    """Yield the answers of the chosen month, and the item's history."""
    if chosen.name:
        yield from _answers(request, facts, chosen)
    yield from item_history_blocks.history_sections(facts, request.reader.settings.irt_time_zone)


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    decision_form.handle_events(request, inputs, KINDS, lambda: [Reference("", request.fields.get("item", ""))])


def find_facts(request: ViewRequest) -> ItemFacts:
    """The facts of the address's item, on its scale or else on any scale. Raises NotFound if no scale has the item."""
    name = request.fields.get("item", "")
    if not name or "\0" in name:
        raise NotFound("The address names no item: choose one from the bank.")
    with request.reader.connect() as connection:
        scales = read_scales(connection)
        among = [choose_scale(request, scales)[0]] if request.field("scale") else [*scales.values()]
        for scale in among:
            facts = item_facts(connection, scale, name, request.reader.now())
            if facts is not None:
                return facts
    location = f"Scale {among[0].scale_id}" if len(among) == 1 else "The bank"
    raise NotFound(f"{location} has no item {shorten(name)!r}: ids are case-sensitive; search for it in the bank.")


def _choose(request: ViewRequest, facts: ItemFacts) -> Chosen:
    """Read the choice of the address. The default is the newest month and, if the form is not in it, all answers.

    Raises NotFound for an unknown month.
    """
    months = {month.month: month for month in facts.months}
    newest = max(facts.exposure, default="")
    name = request.field("month", next(reversed(months), newest))
    if name and name not in months and name not in facts.exposure:
        names = ", ".join(months) or "no month yet"
        raise NotFound(f"{shorten(facts.item_id)} has no linked fit of {shorten(name)!r}: there is {names}.")
    analysed = newest if name == ORIGIN_WINDOW else name
    with request.reader.connect() as connection:
        rows = read_items(connection, facts.scale.scale_id, analysed, item_id=facts.item_id)
    of_form = [row for row in rows if row.form_id == request.field("form")]
    fitted = months.get(name) or _origin_with(name, months)
    return Chosen(name, fitted, rows, next(iter(of_form or rows), None))


def _origin_with(name: str, months: Mapping[str, ItemInMonth]) -> ItemInMonth | None:
    """The fit of the origin window, if the month is in the window."""
    origin = months.get(ORIGIN_WINDOW)
    if origin is None or not name:
        return None
    start, end = Month(name).bounds
    return origin if origin.start < end and start < origin.end else None


def _selector(facts: ItemFacts, chosen: Chosen) -> Tag:
    """The form that chooses a month and a form."""
    names = dict.fromkeys([*(month.month for month in reversed(facts.months)), *sorted(facts.exposure, reverse=True)])
    forms = {row.form_id: row.form_id or "all answers" for row in chosen.rows}
    return query_form(
        "item",
        choice("Month", "month", [*names], chosen.name),
        choice("Form", "form", forms, chosen.row.form_id) if chosen.row and len(forms) > 1 else None,
        kept={"scale": facts.scale.scale_id, "item": facts.item_id},
    )


def _answers(request: ViewRequest, facts: ItemFacts, chosen: Chosen) -> Iterator[Block]:
    """Yield the chosen options, the item's curve, and the statistics of both."""
    month, row = chosen.month, chosen.row
    figures, model = [trace_lines(row), *option_curves(row)] if row and row.options else [], None
    warnings: list[str] = []
    if month is not None:
        observed, why_not = _observed_proportions(request, facts, month)
        model = facts.findings_in(month, observed)
        red = f"{month.month} is red, so its curve is in the wrong place on the scale: {month.red}" if month.red else ""
        warnings = [text for text in (red, why_not) if text]
        published, values = model.published, model.values
        figures.append(item_blocks.curves(facts.item_id, published, values, facts.scale, month.month, observed))
    options: list[Block] = [options_table(row)] if row and row.options else []
    if row and row.no_curves:
        options.append(Paragraph(f"There are no curves of options by model, because {row.no_curves}."))
    notices = [notice(prose(warning), "warning") for warning in warnings]
    yield Section(f"How learners of {chosen.name} answered it", (*notices, Figures(tuple(figures)), *options))
    if row is not None:
        yield Section(f"Item analysis: {row.form_id or 'all answers'}", (statistics(row),))
    if month is not None and model is not None:
        by_score = item_blocks.category_curves(model, facts.scale, month.month)
        informed = item_blocks.information(facts, model.values, month.month)
        found = item_blocks.details(model, facts.leak_onset_in(month.month), facts.information.get(month.month))
        yield Section(f"Estimate of {month.month}", (*by_score, *filter(None, [informed]), found))


def _observed_proportions(request: ViewRequest, facts: ItemFacts, month: ItemInMonth) -> tuple[Observed | None, str]:
    """The observed proportions, or None and the reason why they do not exist."""

    def read() -> Observed | None:
        with request.reader.connect() as connection:
            return observed_proportions(connection, request.reader.store, facts, month)

    try:
        observed = request.reader.read_cached(("observed", month.fit_id, facts.item_id), read)
    except PermanentFailure as failure:
        return None, f"What learners of {month.month} answered cannot be shown: {failure}"
    return observed, "" if observed is not None else f"No answer of {month.month} to this item could be used."


def _decide(request: ViewRequest, facts: ItemFacts) -> Tag:
    """Fold a form with the decisions on the item's use and stage."""
    note, kinds = None, list[DecisionKind]()
    if facts.status is not None and facts.status.is_withdrawn:
        kinds = ["restore"]
    elif facts.publications and facts.anchor:
        text = "Months are linked by this anchor, so it cannot be taken out of use before it is dropped as an anchor: "
        note = tags.p(text, tags.code(f"irt release drop-anchors {shlex.quote(facts.item_id)}"))
    elif facts.publications:
        kinds = ["withdraw"]
        note = tags.p("Out of use, answers from that day on count towards no ability; what was reported stays.")
    seeded = next((row.kind for row in facts.decisions if row.kind in (SEED.name, STOP.name)), "") == SEED.name
    of_stage = [name for name, kind in STAGE_KINDS.items() if facts.stage.stage in kind.stages]
    kinds += [name for name in of_stage if name != "stop" or seeded]
    return tags.details(tags.summary("Decide on the item"), note, decision_form.form(request, kinds))
