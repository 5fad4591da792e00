"""One item: whether it is in use and sound, how learners answer it, and its whole history."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from itertools import chain

from htmltools import Tag, TagChild, TagList, tags
from shiny import Inputs, Outputs, Session

from irt_assets.blocks import chance, signed
from irt_assets.common.wording import listed
from irt_assets.decisions.proposals import Reference
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.relations import ORIGIN_WINDOW
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.psychometrics.core.models import Flag
from irt_assets.psychometrics.fit.observed import Observed
from irt_assets.reports.item_facts import ItemFacts, ItemInMonth, item_facts, observed_in
from irt_assets.responses.scales import read_scales
from resources.failures import PermanentFailure
from services.dashboard import decision_form
from services.dashboard.deciding import Form, Outcome, What
from services.dashboard.elements import (
    DASH,
    asking_form,
    badge,
    choice,
    link,
    moment,
    notice,
    number,
    percent,
    prose,
    section,
    shortened,
    table,
)
from services.dashboard.elements import (
    facts as pairs,
)
from services.dashboard.figures import stack
from services.dashboard.page import Asked, NotFound, Page
from services.dashboard.views import item_figures
from services.dashboard.views.bank import parameter, scale_asked

USE_KINDS: tuple[What, ...] = ("withdraw", "restore")
SEVERITY_TONES = {"none": "success", "medium": "warning", "high": "danger"}


def page(asked: Asked) -> Page:
    facts = facts_asked(asked)
    month = _month(asked, facts)
    name = shortened(facts.item_id)
    return Page(
        f"Item {name}",
        TagList(
            tags.p(*sentences(facts, asked.reader.now()), class_="lead text-break"),
            _facts_table(facts),
            _answered(asked, facts, month) if month else None,
            month_by_month(facts) if facts.months else None,
            _drift(facts),
            _fit(facts),
            _dif(facts),
            _decisions(facts),
            _lineage(facts),
            _use_section(asked, facts),
            tags.p(link(f"All items of scale {facts.scale.scale_id}", "bank", scale=facts.scale.scale_id)),
        ),
    )


def server(asked: Asked, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    name = asked.fields.get("item", "")

    def fill(what: What, reason: str, since: str, _although_it_leaked: bool) -> Form:
        return Form(what, (Reference("", name),), reason, since)

    def after(_form: Form, outcome: Outcome) -> TagChild:
        return link("Reload this page", "item", scale=asked.field("scale"), item=name) if outcome.ok else None

    decision_form.converse(asked, inputs, fill, after, USE_KINDS)


def facts_asked(asked: Asked) -> ItemFacts:
    """The facts of the address's item, on the address's scale or else on any. Raises NotFound if there is none."""
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
    raise NotFound(f"{where} has no item {shortened(name)!r}: ids are case-sensitive; search for it in the bank.")


def sentences(facts: ItemFacts, at: datetime) -> list[TagChild]:
    """Whether it is in use, whether it is sound, and what waits."""
    sentences: list[TagChild] = [_use(facts, at)]
    if facts.status is not None and facts.status.effective_from > at:
        sentences.append(f"It is {facts.status.sentence}.")
    if facts.drifted is not None:
        sentences.append(f"It has drifted since {facts.onset or facts.drifted.since}{_moved(facts)}.")
    groups = sorted({f"{row.attribute} = {row.focal_group}" for row in facts.dif if row.large})
    if groups:
        sentences.append(f"Large DIF for {', '.join(groups)}.")
    if facts.proposal is not None:
        sentences.append(TagList(link("A decision waits", "proposal", proposal=str(facts.proposal.reference)), "."))
    elif not facts.drifted:
        sentences.append("No decision on it waits.")
    return [part for one in sentences for part in (one, " ")]


def _use(facts: ItemFacts, at: datetime) -> str:
    name, row = shortened(facts.item_id), facts.published
    if facts.withdrawn and facts.status is not None:
        return f"{name} is {facts.status.sentence}."
    if row is None:
        to_come = [one["effective_from"] for one in facts.publications if one["effective_from"] > at]
        if to_come:
            return f"{name} comes into use on {min(to_come):%Y-%m-%d}."
        return f"{name} is not in use: {facts.unpublished.replace(facts.item_id, name)}."
    values = _in_words(ItemRow.of(row))
    in_use = f"{name} is in use with {values} since {row['effective_from']:%Y-%m-%d}."
    to_come = [one for one in facts.publications if one["effective_from"] > at]  # of each day the one that counts first
    after = min(to_come, key=lambda one: one["effective_from"], default=row)
    if ItemRow.of(after).scored_with == ItemRow.of(row).scored_with:
        return in_use
    values = _in_words(ItemRow.of(after))
    return f"{in_use} {after['decided_by']} decided on {values} from {after['effective_from']:%Y-%m-%d} on."


def _in_words(values: ItemRow) -> str:
    return listed([f"{name} = {number(value)}" for name, (value, _) in values.shown.items()])


def _with_errors(values: ItemRow) -> TagList:
    parts = [(", " if k else "", f"{name} ", parameter(*of)) for k, (name, of) in enumerate(values.shown.items())]
    return TagList(*chain(*parts))


def _moved(facts: ItemFacts) -> str:
    delta = facts.drift[-1].delta_b if facts.drift else None
    if delta is None:
        return f" ({facts.drifted.severity})" if facts.drifted else ""
    return f": {'easier' if delta < 0 else 'harder'} by {number(abs(delta))}"


def _facts_table(facts: ItemFacts) -> Tag:
    row, newest = facts.published, facts.months[-1] if facts.months else None
    published: TagChild = "nothing" if row is None else _with_errors(ItemRow.of(row))
    rows: list[tuple[str, TagChild]] = [
        ("published", published),
        ("scale", link(facts.scale.scale_id, "bank", scale=facts.scale.scale_id)),
        ("topic", shortened(facts.topic or DASH)),
        ("anchor", "yes: months are linked by it" if facts.anchor else "no"),
    ]
    if newest is not None:
        right = newest.statistics["p_value"]
        rows.append((f"answers in {newest.month}", f"{newest.n:,}, {percent(right)} of them correct"))
    if facts.response_time is not None:
        median, n = facts.response_time
        rows.append(("response time", f"{median / 1000:.1f} s (median of {n:,} answers)"))
    if facts.change:
        rows.append(("kind of change", facts.change))
    return pairs(rows)


def _month(asked: Asked, facts: ItemFacts) -> ItemInMonth | None:
    """The month of the address, or else the newest."""
    name = asked.field("month")
    if not name:
        return facts.months[-1] if facts.months else None
    for month in facts.months:
        if month.month == name:
            return month
    there = ", ".join(month.month for month in facts.months) or "no month yet"
    raise NotFound(f"{shortened(facts.item_id)} has no linked fit of {shortened(name)!r}: there is {there}.")


def _answered(asked: Asked, facts: ItemFacts, month: ItemInMonth) -> Tag:
    months = [one.month for one in reversed(facts.months)]
    kept = {"scale": facts.scale.scale_id, "item": facts.item_id}
    seen, why_not = _observed(asked, facts, month)
    return section(
        f"How learners of {month.month} answered it",
        asking_form("item", choice("Month", "month", months, month.month), kept=kept),
        notice(
            prose(f"{month.month} is red, so its curve stands in the wrong place on the scale: {month.red}"),
            tone="warning",
        )
        if month.red
        else None,
        notice(prose(why_not), tone="warning") if why_not else None,
        item_figures.curves(facts, month, seen),
    )


def _observed(asked: Asked, facts: ItemFacts, month: ItemInMonth) -> tuple[Observed | None, str]:
    """The proportions, or why there are none."""

    def read() -> Observed | None:
        with asked.reader.connect() as connection:
            return observed_in(connection, asked.reader.store, facts, month)

    try:
        seen = asked.reader.remembered(("observed", month.fit_id, facts.item_id), read)
    except PermanentFailure as failure:
        return None, f"What learners of {month.month} answered cannot be shown: {failure}"
    return seen, "" if seen is not None else f"No answer of {month.month} to this item could be used."


def month_by_month(facts: ItemFacts) -> Tag:
    """The parameters as each month estimated them, and as they were published; for an item with a month."""
    end = facts.months[-1].end
    shown = [month.values.shown if month.values else {} for month in facts.months]
    names = tuple(dict.fromkeys(chain("ab", *shown)))
    rows = [
        (
            link(month.month, "months")
            if month.month == ORIGIN_WINDOW
            else link(month.month, "month", month=month.month, scale=facts.scale.scale_id),
            f"{month.n:,}",
            *(parameter(*of.get(name, (None, None))) for name in names),
            badge("red", "danger") if month.red else badge("used", "success"),
        )
        for month, of in zip(reversed(facts.months), reversed(shown), strict=True)
    ]
    return section(
        "Month by month",
        stack(item_figures.history(facts, "b", end), item_figures.history(facts, "a", end)),
        table(
            "Answers and estimates of each month; ± is the standard error",
            ("month", "answers", *names, "month is"),
            rows,
            numbers=f"tn{'n' * len(names)}t",
        ),
    )


def _drift(facts: ItemFacts) -> Tag:
    rows = []
    for row in reversed(facts.drift):
        low, high = row.details.get("delta_b_95") or (None, None)
        share = row.details.get("proportion_correct")
        rows.append(
            (
                row.month,
                badge(row.severity, SEVERITY_TONES.get(row.severity)),
                signed(row.delta_b),
                f"{signed(low)} to {signed(high)}" if low is not None else DASH,
                signed(row.delta_a),
                number(row.wabc, 3),
                chance(row.q_value),
                row.kind or row.details.get("across_models") or (f"not estimated: {share['why']}" if share else DASH),
            )
        )
    return section(
        "Drift",
        table(
            "Each month against what was published when it began; wABC is the area between the curves",
            ("month", "drift", "Δb", "95 % interval", "Δa", "wABC", "q", "kind of change"),
            rows,
            numbers="ttnnnnnt",
        ),
    )


def _fit(facts: ItemFacts) -> Tag:
    def s_x2(month: ItemInMonth) -> str:
        s = month.statistics
        if s.get("s_x2") is None or s.get("s_x2_df") is None:
            return DASH
        return f"{number(s['s_x2'], 1)} on {number(s['s_x2_df'], 0)}, p {chance(s.get('s_x2_p'))}"

    rows = [
        (
            month.month,
            *(number(month.statistics.get(name)) for name in ("infit", "outfit")),
            number(month.statistics.get("rmsd"), 3),
            number(month.statistics.get("point_biserial")),
            s_x2(month),
            "; ".join(Flag(flag).explanation for flag in month.flags) or DASH,
        )
        for month in reversed(facts.months)
    ]
    return section(
        "Fit",
        table(
            "How well each month's curve describes the answers (infit and outfit of a sound item are near 1)",
            ("month", "infit", "outfit", "RMSD", "item-rest r", "S-X²", "the engine says"),
            rows,
            numbers="tnnnntt",
        ),
    )


def _dif(facts: ItemFacts) -> Tag | None:
    if facts.dif_month is None:
        return None
    rows = []
    for row in facts.dif:
        wald = row.details.get("wald") or {}
        n = row.details.get("n") or {}
        rows.append(
            (
                row.attribute,
                f"{row.focal_group} against {row.reference_group}",
                f"{n.get('focal', DASH)} / {n.get('reference', DASH)}",
                signed(wald.get("delta_b")),
                chance(row.q_value),
                row.ets_class or DASH,
                badge("large", "danger") if row.large else row.details.get("why_not") or "not large",
            )
        )
    return section(
        "DIF",
        table(
            f"Groups of equal ability compared in {facts.dif_month}; Δb above 0: harder for the group",
            ("attribute", "group", "answers", "Δb", "q", "ETS class", "verdict"),
            rows,
            numbers="ttnnntt",
        ),
    )


def _decisions(facts: ItemFacts) -> Tag:
    """Decisions on its values and on its use."""
    taken = [
        (row["decided_at"], row["decision"].replace("_", " "), row["month"], row["decided_by"])
        + (row["effective_from"], row["reason"])
        for row in facts.decisions
    ]
    taken += [(use.decided_at, use.state, DASH, use.decided_by, use.effective_from, use.reason) for use in facts.uses]
    rows: list[Sequence[TagChild]] = [
        (moment(at), what, on, by, f"{since:%Y-%m-%d}" if since else DASH, shortened(why, 500))
        for at, what, on, by, since, why in sorted(taken, key=lambda one: one[0], reverse=True)
    ]
    headers = ("when", "decision", "on", "by", "in force from", "why")
    return section("Decisions", table("Decisions on it, the latest first", headers, rows))


def _lineage(facts: ItemFacts) -> Tag | None:
    if not facts.publications:
        return None
    blocks = []
    for row in facts.publications:
        stored = row["linking_constants"]
        linking = LinkingConstants.from_json(stored, row["fit_id"]) if stored else None
        linked = f"{linking.method}, slope {number(linking.slope, 3)}" if linking else DASH
        known: dict[str, TagChild] = {
            "values": _with_errors(ItemRow.of(row)),
            "published": moment(row["published_at"]),
            "by": row["decided_by"] or f"rule {row['rule']}",
            "why": row["reason"],
            "month": row["month"],
            "answers": None if row["n_responses"] is None else f"{row['n_responses']:,}",
            "fit": _code(row["fit_id"]),
            "engine": row["engine"] and f"{row['engine']} {row['engine_version']}, {row['model']}",
            "linked by": linked,
            "snapshot": _code(row["snapshot"]),
            "snapshot rewritten": row["rewritten"] or None,
            "hash of the answers": _code(row["data_hash"]),
            "hash of the anchors": _code(row["anchor_hash"]),
            "code": _code(row["code_version"]),
            "run": _code(row["run_id"]),
        }
        state = " (in force)" if row["in_force"] else ""
        blocks += [
            tags.h3(f"From {row['effective_from']:%Y-%m-%d} on{state}", class_="h6"),
            pairs((name, value) for name, value in known.items() if value),
        ]
    return section(
        "Where the published values come from",
        tags.details(tags.summary(f"Publications: {len(facts.publications)}"), *blocks),
    )


def _use_section(asked: Asked, facts: ItemFacts) -> Tag:
    """The form to withdraw it, or to restore it if it is or will be withdrawn."""
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


def _code(text: str | None) -> TagChild:
    return tags.code(text, class_="text-break") if text else None
