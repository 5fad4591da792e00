"""One item: whether it is in use and sound, how learners answer it, and its history."""

import shlex

from htmltools import Tag, TagChild, tags
from shiny import Inputs, Outputs, Session

from irt_assets.blocks import Paragraph, notice, prose
from irt_assets.common.dashboard_pages import page_link
from irt_assets.decisions.proposals import Reference
from irt_assets.reports import item_blocks
from irt_assets.reports.item_facts import ItemFacts, ItemInMonth, item_facts, observed_proportions
from irt_assets.responses.scales import read_scales
from irt_psychometrics.itemfit import Observed
from resources.failures import PermanentFailure
from services.dashboard import decision_form
from services.dashboard.decisions import DecisionForm, DecisionKind, DecisionOutcome
from services.dashboard.elements import choice, query_form, section, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest
from services.dashboard.views.bank import choose_scale

USE_KINDS: tuple[DecisionKind, ...] = ("withdraw", "restore")


def page(request: ViewRequest) -> Page:
    facts = find_facts(request)
    month = _month(request, facts)
    name = shorten(facts.item_id)
    zone = request.reader.settings.irt_time_zone
    return Page(
        f"Item {name}",
        render_blocks(
            Paragraph(item_blocks.item_in_short(facts, request.reader.now()), "lead"),
            item_blocks.identity(facts),
            _month_section(request, facts, month) if month else None,
            *item_blocks.history_sections(facts, zone),
            _use_section(request, facts),
            Paragraph(page_link(f"All items of scale {facts.scale.scale_id}", "bank", scale=facts.scale.scale_id)),
        ),
    )


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    name = request.fields.get("item", "")

    def fill(kind: DecisionKind, reason: str, since: str, _although_it_leaked: bool) -> DecisionForm:
        return DecisionForm(kind, (Reference("", name),), reason, since)

    def after(_form: DecisionForm, outcome: DecisionOutcome) -> TagChild:
        reload = page_link("Reload this page", "item", scale=request.field("scale"), item=name)
        return render_blocks(Paragraph(reload)) if outcome.ok else None

    decision_form.handle_events(request, inputs, fill, after, USE_KINDS)


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


def _month(request: ViewRequest, facts: ItemFacts) -> ItemInMonth | None:
    """The month of the address, or else the newest month. Raises NotFound if the item has no linked fit of it."""
    months = {month.month: month for month in facts.months}
    name = request.field("month", next(reversed(months), ""))
    if name and name not in months:
        names = ", ".join(months) or "no month yet"
        raise NotFound(f"{shorten(facts.item_id)} has no linked fit of {shorten(name)!r}: there is {names}.")
    return months.get(name)


def _month_section(request: ViewRequest, facts: ItemFacts, month: ItemInMonth) -> Tag:
    months = [other.month for other in reversed(facts.months)]
    hidden = {"scale": facts.scale.scale_id, "item": facts.item_id}
    observed, why_not = _observed_proportions(request, facts, month)
    item = facts.findings_in(month, observed)
    red = f"{month.month} is red, so its curve is in the wrong place on the scale: {month.red}" if month.red else ""
    return section(
        f"How learners of {month.month} answered it",
        query_form("item", choice("Month", "month", months, month.month), kept=hidden),
        *(notice(prose(warning), "warning") for warning in (red, why_not) if warning),
        item_blocks.curves(item.item_id, item.published, item.values, facts.scale, month.month, observed),
        *item_blocks.category_curves(item, facts.scale, month.month),
        item_blocks.details(item, facts.leak_onset_in(month.month), facts.information.get(month.month)),
    )


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


def _use_section(request: ViewRequest, facts: ItemFacts) -> Tag:
    """The form to withdraw the item, or to restore it if it is or will be withdrawn."""
    if facts.anchor:
        text = "Months are linked by this anchor, so it cannot be taken out of use before it is dropped as an anchor: "
        return section(
            "Take it out of use", tags.p(text, tags.code(f"irt release drop-anchors {shlex.quote(facts.item_id)}"))
        )
    if facts.status is not None and facts.status.is_withdrawn:
        return section("Put it back into use", decision_form.form(request, ("restore",)))
    return section(
        "Take it out of use",
        tags.p("Answers from that day on count towards no ability; earlier ones and what was reported stay."),
        decision_form.form(request, ("withdraw",)),
    )
