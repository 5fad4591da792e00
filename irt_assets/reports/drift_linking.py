"""The sections of a drift report on the anchors, on how the month came to the scale, and on what is new in it.

What does not belong here: how a month is linked (calibration.placing).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from irt_assets.blocks import Block, Figure, Figures, Pairs, Paragraph, Text, chance, number, signed, table
from irt_assets.common.wording import listed
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.reports import drift_charts as charts
from irt_assets.reports.drift_facts import Facts

JUMP = 3.0
"""A constant jumped where it differs from last month's by more than three standard errors of the difference."""


def since_last_month(facts: Facts) -> Iterator[Block]:
    """What is new and what has ended since the month before; nothing where there was none."""
    before = facts.month_before
    if before is None or facts.fit is None:
        return
    rows: list[tuple[str, Text]] = [
        (
            "answers",
            f"{facts.fit.n_responses:,} of {facts.fit.n_persons:,} learners ({_then(before)} in {before.month})",
        )
    ]
    flagged, flagged_before = set(), set()
    for name, item in facts.items.items():
        if item.drift and item.drift.severity != "none":
            flagged.add(name)
        if any(row.month == before.month and row.severity != "none" for row in item.history):
            flagged_before.add(name)
    if not facts.not_compared:
        rows += [
            ("newly flagged", listed(sorted(flagged - flagged_before)) or "none"),
            ("still flagged", listed(sorted(flagged & flagged_before)) or "none"),
            ("no longer flagged", listed(sorted(flagged_before - flagged)) or "none"),
        ]
    dropped, dropped_before = (set(one.constants.anchors_dropped) for one in (facts.fit, before))
    rows.append(("anchors newly left out", listed(sorted(dropped - dropped_before)) or "none"))
    if back := dropped_before - dropped:
        rows.append(("anchors used again", listed(sorted(back))))
    rows.append(("linking", jumped(facts) or f"slope and intercept are about those of {before.month}."))
    yield Pairs(tuple(rows))


def _then(before: Any) -> str:
    return f"{before.n_responses:,} of {before.n_persons:,}"


def jumped(facts: Facts) -> str:
    """Whether slope or intercept jumped since the month before, and whether the learners or the anchors caused it.

    The fit gives its learners a mean of 0 and an SD of 1, so that slope and intercept are their SD and mean on the
    scale: where the anchors agree with each other the learners differ, where they disagree the anchors may have moved.
    """
    now, before = facts.fit, facts.month_before
    if now is None or before is None:
        return ""
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
    if now.constants.q_p < facts.scale.rules.publication.anchor_q_alpha:
        return (
            f"{summary} The anchors disagree with each other, so anchors that moved may be the cause: decide on them "
            "first."
        )
    differs = listed(of_learners for _, of_learners in jumps)
    return f"{summary} The anchors agree with each other, so the learners are the cause: their {differs} differs."


def linking(facts: Facts) -> Iterator[Block]:
    if facts.fit is None:
        yield Paragraph("The month has no linked fit.")
        return
    constants = facts.fit.constants
    yield Paragraph(
        f"θ on the scale = {number(constants.slope, 3)} ± {number(constants.slope_se, 3)} · θ of the fit "
        f"{signed(constants.intercept, 3)} ± {number(constants.intercept_se, 3)} ({constants.method}), from "
        f"{len(constants.anchors_used)} anchors."
        f"{_agreement(constants, facts.scale.rules.publication.anchor_q_alpha)}"
    )
    for warning in facts.linking_warnings:
        yield Paragraph(f"Be careful: {warning}.")
    if jump := jumped(facts):
        yield Paragraph(jump)
    yield Figures(
        (
            Figure(charts.linking(facts.linkings, "slope"), "The slope by month, with 95 % intervals."),
            Figure(charts.linking(facts.linkings, "intercept"), "The intercept by month, with 95 % intervals."),
        )
    )
    yield Figures(
        (
            Figure(
                charts.anchors(facts),
                "Each anchor's difficulty with its 95 % interval; on the line nothing changed. Orange triangles: left "
                "out, or moved against the others.",
                wide=True,
            ),
        )
    )
    yield Paragraph(f"Used this month: {listed(constants.anchors_used) or 'none'}.", "quiet")
    if constants.anchors_dropped:
        yield table(("anchor left out", "why"), sorted(constants.anchors_dropped.items()))
    else:
        yield Paragraph("No anchor was left out.")
    yield table(
        ("month", "slope ± SE", "intercept ± SE", "anchors used", "left out"),
        [
            (
                one.month,
                _plus_minus(one.constants, "slope"),
                _plus_minus(one.constants, "intercept"),
                str(len(one.constants.anchors_used)),
                ", ".join(sorted(one.constants.anchors_dropped)) or "none",
            )
            for one in facts.linkings
        ],
        numbers=("slope ± SE", "intercept ± SE", "anchors used"),
    )


def _agreement(constants: LinkingConstants, alpha: float) -> str:
    agreement = ""
    if constants.tested:
        agree = "agree" if constants.q_p >= alpha else "DISAGREE"
        q, p = number(constants.q, 1), chance(constants.q_p)
        agreement = f" They {agree}: Q = {q} on {constants.q_df} df, p = {p}."
    return agreement + (f" Diagnosis: {constants.diagnosis}." if constants.diagnosis else "")


def _plus_minus(constants: LinkingConstants, name: str) -> str:
    value, se = constants.value(name)
    return f"{number(value, 3)} ± {number(se, 3)}"
