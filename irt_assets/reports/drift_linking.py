"""Sections of a drift report on anchors, on the linking of the month, and on changes since the month before."""

from collections.abc import Iterable, Iterator, Sequence

from irt_assets.blocks import (
    Block,
    Details,
    Figure,
    Pairs,
    Paragraph,
    Text,
    number,
    prose,
    signed_number,
    table,
    value_with_error,
)
from irt_assets.calibration.linking_history import LinkedMonth, history_figures, history_table, linked_months
from irt_assets.charts import USED_OFF_0
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import join_names, natural_order, quantity
from irt_assets.gates.anchor_shifts import AnchorShift
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.linked_windows import LinkedFitRecord
from irt_assets.reports import drift_charts as charts
from irt_assets.reports.decision_blocks import moved_anchors_table
from irt_assets.reports.drift_facts import Facts
from irt_assets.scales.rules import PublicationRules
from irt_assets.scales.scale import Scale

ANCHORS_CAPTION = (
    "Each anchor's change in b since the anchor set was frozen, as the anchors that did not move link them, with 95 % "
    "intervals."
)
MARKS = {
    "moved": "Orange triangles: moved against the others.",
    "left out": "Orange crosses: left out for another reason.",
    USED_OFF_0: "Blue diamonds: used although the interval excludes 0, as the test of a and b finds no move.",
}
JUMP = 3.0
"""A constant jumped if it differs from last month's by more than this number of standard errors of the difference."""


def changes_since_last_month(facts: Facts) -> Iterator[Block]:
    """Yield the changes since the last linked month before. Yields nothing if there is no such month."""
    before = facts.month_before
    if before is None or facts.fit is None:
        return
    rows: list[tuple[str, Text]] = [
        (
            "answers",
            (
                f"{facts.fit.n_responses:,} of {facts.fit.n_persons:,} learners"
                f" ({before.n_responses:,} of {before.n_persons:,} in {before.month})"
            ),
        )
    ]
    items = facts.items.items()
    flagged = {name for name, item in items if item.drift and item.drift.severity != "none"}
    flagged_before = {
        name
        for name, item in items
        if any(row.month == before.month and row.severity != "none" for row in item.history)
    }
    if not facts.not_compared:
        rows += [
            ("newly flagged", join_names(sorted(flagged - flagged_before)) or "none"),
            ("still flagged", join_names(sorted(flagged & flagged_before)) or "none"),
            ("no longer flagged", join_names(sorted(flagged_before - flagged)) or "none"),
        ]
    dropped, dropped_before = (set(fit.constants.anchors_dropped) for fit in (facts.fit, before))
    rows.append(("anchors newly left out", join_names(sorted(dropped - dropped_before)) or "none"))
    if back := dropped_before - dropped:
        rows.append(("anchors used again", join_names(sorted(back))))
    rows.append(("linking", jump_in_words(facts) or f"slope and intercept are about the same as in {before.month}."))
    yield Pairs(tuple(rows))


def jump_in_words(facts: Facts) -> str:
    """The jump since the month before, if there is such a month, as in `jump_between`."""
    now, before = facts.fit, facts.month_before
    return jump_between(before, now, facts.scale.rules.publication) if now and before else ""


def jump_between(before: LinkedFitRecord, now: LinkedFitRecord, limits: PublicationRules) -> str:
    """Say whether slope or intercept jumped between two months, and whether learners or anchors are the cause.

    The fit gives its learners a mean of 0 and an SD of 1, so slope and intercept are their SD and mean on the scale.
    If the anchors agree with each other, the learners differ; if they disagree, anchors may have moved.
    Returns "" if neither constant jumped.
    """
    jumps = []
    for name, of_learners in (("intercept", "mean ability"), ("slope", "spread of ability")):
        (old, old_se), (new, new_se) = before.constants.value(name), now.constants.value(name)
        error = (old_se**2 + new_se**2) ** 0.5
        if abs(new - old) > JUMP * error:
            change = f"from {number(old)} in {before.month} to {number(new)}"
            jumps.append((f"The {name} jumped {change}, {abs(new - old) / error:.1f} standard errors.", of_learners))
    if not jumps:
        return ""
    summary = " ".join(sentence for sentence, _ in jumps)
    if now.constants.disagreement(limits):
        return f"{summary} Anchors that moved against the others may be the cause: decide on them first."
    differs = join_names(of_learners for _, of_learners in jumps)
    return f"{summary} The anchors agree with each other, so the learners are the cause: their {differs} differs."


def remarks(facts: Facts) -> Iterator[str]:
    """Yield warnings about the linking."""
    if facts.fit is None:
        yield "The month has no linked fit."
    for warning in facts.linking_warnings:
        yield f"Be careful: {warning}."
    if jump := jump_in_words(facts):
        yield jump


def linking(
    constants: LinkingConstants | None,
    scale: Scale,
    shifts: Sequence[AnchorShift],
    history: Sequence[LinkedMonth],
    sentences: Iterable[Text],
    dashboard: str | None = None,
) -> Iterator[Block]:
    """Yield blocks on the month's linking, its anchors, and the linking of the months before.

    `sentences` are shown below the constants. For `dashboard` see `page_link`.
    """
    if constants is not None:
        yield _constants_paragraph(constants, scale.rules.publication)
    yield from map(Paragraph, sentences)
    if constants is not None:

        def link(item: str) -> Text:
            return page_link(item, "item", dashboard=dashboard, item=item, scale=scale.scale_id)

        if constants.suspects:
            yield moved_anchors_table(constants.moved_anchors, link, "Anchors that moved against the others")
        yield Paragraph(f"Used this month: {join_names(constants.anchors_used) or 'none'}.", "quiet")
        others = constants.anchors_dropped.keys() - constants.suspects.keys()
        rows = [(link(item), prose(constants.anchors_dropped[item])) for item in sorted(others, key=natural_order)]
        none = "No other anchor was left out." if constants.suspects else "No anchor was left out."
        yield table(("anchor left out", "why"), rows, empty=none)
    if shifts:
        yield _anchors_figure(shifts)
    if linked_months(history):
        yield history_figures(history)
    if history:
        yield Details("Linking month by month", (history_table(history),))


def _constants_paragraph(constants: LinkingConstants, limits: PublicationRules) -> Paragraph:
    """The linking constants, and whether the anchors agree."""
    used, dropped, suspects = len(constants.anchors_used), len(constants.anchors_dropped), len(constants.suspects)
    moved = f"{quantity(suspects, 'anchor')} moved against the others" if suspects else "none moved against the others"
    return Paragraph(
        f"θ on the scale = {value_with_error(*constants.value('slope'), 3)} · θ of the fit "
        f"{signed_number(constants.intercept, 3)} ± {number(constants.intercept_se, 3)} ({constants.method}): the "
        f"spread and the mean of the month's learners. {used} of {used + dropped} anchors were used; {moved}."
        f"{_agreement(constants, limits)}"
    )


def _anchors_figure(shifts: Sequence[AnchorShift]) -> Figure:
    """The difference of each anchor from the anchor set, as a figure."""
    formats = {"change in b": "+.2f", "error": ".2f"}
    kinds = [charts.kind_of_anchor(shift) for shift in shifts]
    rows = [
        (shift.item_id, shift.delta_b, shift.error, (kind == "left out" and shift.left_out) or kind or "used")
        for shift, kind in zip(shifts, kinds, strict=True)
    ]
    return Figure(
        charts.anchors(shifts),
        " ".join([ANCHORS_CAPTION, *(text for kind, text in MARKS.items() if kind in kinds)]),
        wide=True,
        numbers=table(("anchor", *formats, ""), rows, numbers=formats, caption="Change of each anchor"),
    )


def _agreement(constants: LinkingConstants, limits: PublicationRules) -> str:
    """Say whether the used anchors agree and are enough, with the diagnosis unless a table names moved anchors."""
    diagnosis = f" Diagnosis: {constants.diagnosis}." if constants.diagnosis and not constants.suspects else ""
    if not constants.tested:
        return diagnosis
    agree = "DISAGREE" if constants.disagreement_of_used(limits) else "agree"
    agreement = f" The used anchors {agree}: {constants.variation}."
    if n := len(constants.anchors_dropped):
        agreement += f" Q is of the {len(constants.anchors_used)} used alone, without the {n} left out."
    if constants.has_too_few_anchors(limits):
        agreement += (
            f" They are too few: {constants.share_kept:.0%} of the anchors with enough responses, and a month needs "
            f"{limits.min_anchors} anchors and {limits.min_anchor_share:.0%}."
        )
    return agreement + diagnosis
