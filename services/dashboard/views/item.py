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
from services.dashboard.decisions import DecisionForm, DecisionOutcome, What
from services.dashboard.elements import asking_form, choice, section, shorten
from services.dashboard.figures import shown
from services.dashboard.page import NotFound, Page, ViewRequest
from services.dashboard.views.bank import scale_asked

USE_KINDS: tuple[What, ...] = ("withdraw", "restore")


def page(asked: ViewRequest) -> Page:
    facts = facts_asked(asked)
    month = _month(asked, facts)
    name = shorten(facts.item_id)
    zone = asked.reader.settings.irt_time_zone
    return Page(
        f"Item {name}",
        shown(
            Paragraph(item_blocks.item_in_short(facts, asked.reader.now()), "lead"),
            item_blocks.identity(facts),
            _answered(asked, facts, month) if month else None,
            *item_blocks.history_sections(facts, zone),
            _use_section(asked, facts),
            Paragraph(page_link(f"All items of scale {facts.scale.scale_id}", "bank", scale=facts.scale.scale_id)),
        ),
    )


def server(asked: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    name = asked.fields.get("item", "")

    def fill(what: What, reason: str, since: str, _although_it_leaked: bool) -> DecisionForm:
        return DecisionForm(what, (Reference("", name),), reason, since)

    def after(_form: DecisionForm, outcome: DecisionOutcome) -> TagChild:
        again = page_link("Reload this page", "item", scale=asked.field("scale"), item=name)
        return shown(Paragraph(again)) if outcome.ok else None

    decision_form.converse(asked, inputs, fill, after, USE_KINDS)


def facts_asked(asked: ViewRequest) -> ItemFacts:
    """The facts of the address's item, on its scale or else on any scale. Raises NotFound if no scale has the item."""
    name = asked.fields.get("item", "")
    if not name or "\0" in name:
        raise NotFound("The address names no item: take one from the bank.")
    with asked.reader.connect() as connection:
        scales = read_scales(connection)
        among = [scale_asked(asked, scales)[0]] if asked.field("scale") else [*scales.values()]
        for scale in among:
            facts = item_facts(connection, scale, name, asked.reader.now())
            if facts is not None:
                return facts
    where = f"Scale {among[0].scale_id}" if len(among) == 1 else "The bank"
    raise NotFound(f"{where} has no item {shorten(name)!r}: ids are case-sensitive; search for it in the bank.")


def _month(asked: ViewRequest, facts: ItemFacts) -> ItemInMonth | None:
    """The month of the address, or else the newest month. Raises NotFound if the item has no linked fit of it."""
    months = {month.month: month for month in facts.months}
    name = asked.field("month", next(reversed(months), ""))
    if name and name not in months:
        there = ", ".join(months) or "no month yet"
        raise NotFound(f"{shorten(facts.item_id)} has no linked fit of {shorten(name)!r}: there is {there}.")
    return months.get(name)


def _answered(asked: ViewRequest, facts: ItemFacts, month: ItemInMonth) -> Tag:
    months = [one.month for one in reversed(facts.months)]
    kept = {"scale": facts.scale.scale_id, "item": facts.item_id}
    seen, why_not = _observed(asked, facts, month)
    item = facts.findings_in(month, seen)
    red = f"{month.month} is red, so its curve stands in the wrong place on the scale: {month.red}" if month.red else ""
    return section(
        f"How learners of {month.month} answered it",
        asking_form("item", choice("Month", "month", months, month.month), kept=kept),
        *(notice(prose(warning), "warning") for warning in (red, why_not) if warning),
        item_blocks.curves(item.item_id, item.published, item.values, facts.scale, month.month, seen),
        *item_blocks.category_curves(item, facts.scale, month.month),
        item_blocks.details(item, facts.leak_onset_in(month.month), facts.information.get(month.month)),
    )


def _observed(asked: ViewRequest, facts: ItemFacts, month: ItemInMonth) -> tuple[Observed | None, str]:
    """The observed proportions, or None and the reason why they do not exist."""

    def read() -> Observed | None:
        with asked.reader.connect() as connection:
            return observed_proportions(connection, asked.reader.store, facts, month)

    try:
        seen = asked.reader.remembered(("observed", month.fit_id, facts.item_id), read)
    except PermanentFailure as failure:
        return None, f"What learners of {month.month} answered cannot be shown: {failure}"
    return seen, "" if seen is not None else f"No answer of {month.month} to this item could be used."


def _use_section(asked: ViewRequest, facts: ItemFacts) -> Tag:
    """The form to withdraw the item, or to restore it if it is or will be withdrawn."""
    if facts.anchor:
        text = "Months are linked by this anchor, so it cannot be taken out of use before it is dropped as an anchor: "
        return section(
            "Take it out of use", tags.p(text, tags.code(f"irt release drop-anchors {shlex.quote(facts.item_id)}"))
        )
    if facts.status is not None and facts.status.is_withdrawn:
        return section("Put it back into use", decision_form.form(asked, ("restore",)))
    return section(
        "Take it out of use",
        tags.p("Answers from that day on count towards no ability; earlier ones and what was reported stay."),
        decision_form.form(asked, ("withdraw",)),
    )
