"""The sections of a month's page about anchors that moved and about linking, compared with earlier months."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg
from htmltools import Tag, TagChild, TagList, tags

from irt_assets.blocks import signed
from irt_assets.calibration.linking_history import LinkedMonth, constant_by_month, linked_of, read_history
from irt_assets.charts.chart import Chart, Line, ends_of, names_at
from irt_assets.charts.pictures import mark
from irt_assets.common.partitions import Month
from irt_assets.common.wording import counted
from irt_assets.gates.anchor_shifts import AnchorShift, anchor_shifts
from irt_assets.ledger.anchors import read_anchors
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.fits import linked_fit
from irt_assets.ledger.linked_windows import latest_constants
from irt_assets.psychometrics.core.confidence import Z95
from irt_assets.psychometrics.linking.anchor_diagnosis import Suspect
from irt_assets.responses.scales import Scale
from services.dashboard.elements import DASH, badge, link, number, prose, section, shortened, table
from services.dashboard.figures import figure, stack

MOST_DRAWN = 40
ROW_HEIGHT = 17


def anchors_and_linking(connection: psycopg.Connection, scale: Scale, month: str) -> Tag:
    start = Month(month).start
    constants = latest_constants(connection, month, scale.scale_id, scale.engine)
    fit = linked_fit(connection, scale.scale_id, "monthly", start, scale.engine)
    anchors = read_anchors(connection, scale.scale_id, scale.anchor_version)
    shifts = anchor_shifts(anchors, fit.values, fit.constants) if anchors and fit and constants == fit.constants else []
    return section(
        "Anchors and linking",
        _anchors_said(constants),
        _moved_table(constants, scale),
        _shifts_figure(shifts),
        _history(read_history(connection, scale, month), month),
    )


def _anchors_said(constants: LinkingConstants | None) -> Tag:
    if constants is None:
        return tags.p("The month was not linked: there are no constants.")
    used, dropped, suspects = len(constants.anchors_used), constants.anchors_dropped, constants.suspects
    summary = f"{used} of {used + len(dropped)} anchors were used"
    summary += (
        f"; {counted(len(suspects), 'anchor')} moved against the others." if suspects else "; none of them moved."
    )
    if constants.tested:
        summary += f" Q = {number(constants.q, 1)} on {constants.q_df} df, p = {constants.q_p:.2g}."
    return tags.p(summary, f" {constants.diagnosis}." if constants.diagnosis and not suspects else None)


def _moved_table(constants: LinkingConstants | None, scale: Scale) -> TagChild:
    """Those that moved, the surest first, then those that were left out for another reason."""
    if constants is None:
        return None
    suspects, dropped = constants.moved, constants.anchors_dropped
    others = [item for item in sorted(dropped) if item not in suspects]
    if not suspects and not others:
        return None
    rows = [_moved_row(item, suspect, dropped.get(item, ""), scale) for item, suspect in suspects.items()]
    rows += [
        (
            _item(item, scale),
            badge("left out", "secondary"),
            DASH,
            DASH,
            DASH,
            tags.div(prose(dropped[item]), class_="in-words"),
        )
        for item in others
    ]
    headers = ("anchor", "", "b, change", "a, change", "standard errors", "in the linking")
    return table("Anchors that moved or were left out", headers, rows, numbers="ttnnn")


def _moved_row(item: str, suspect: Suspect, why: str, scale: Scale) -> tuple[TagChild, ...]:
    return (
        _item(item, scale),
        badge("moved", "danger"),
        signed(suspect.delta_b),
        signed(suspect.delta_a),
        signed(suspect.z, 1),
        tags.div(prose(why), class_="in-words") if why else "used",
    )


def _item(item: str, scale: Scale) -> Tag:
    return link(item, "item", item=item, scale=scale.scale_id)


def _shifts_figure(shifts: Sequence[AnchorShift]) -> TagChild:
    if not shifts:
        return None
    rows = [
        (shift.item_id, signed(shift.delta_b), number(shift.error), "moved" if shift.moved else "agrees")
        for shift in shifts
    ]
    chart = shifts_chart(shifts)
    return TagList(
        tags.p(chart.described),
        figure(
            chart,
            table("Change of each anchor", ("anchor", "change in b", "error", ""), rows, numbers="tnn"),
        ),
    )


def shifts_chart(shifts: Sequence[AnchorShift]) -> Chart:
    """The change in b of the anchors that changed most, with 95 % intervals, from the top."""
    drawn = shifts[:MOST_DRAWN]
    n_moved = sum(shift.moved for shift in shifts)
    sentence = (
        f"How far each of {len(shifts)} anchors lies from the anchor set in b, as the anchors that did not move link "
        f"them, with 95 % intervals; {counted(n_moved, 'anchor')} moved."
    )
    sentence += f" Drawn are the {MOST_DRAWN} that lie furthest." if len(shifts) > MOST_DRAWN else ""
    at = [shift.delta_b for shift in drawn]
    left, right = ([shift.delta_b + sign * Z95 * shift.error for shift in drawn] for sign in (-1, 1))
    chart = Chart(
        ends_of(left, right, [0.0]),
        (len(drawn) - 0.4, -0.6),
        "b this month − b of the anchor set",
        "",
        sentence,
        height=ROW_HEIGHT * len(drawn) + 100,
        y_names=names_at(shortened(shift.item_id, 24) for shift in drawn),
    )
    chart.add(Line([0, 0], chart.y, "grey", dash="dot", width=1))
    kinds = ["moved" if shift.moved else "" for shift in drawn]
    titles = [f"{shift.item_id}: {shift.delta_b:+.2f}" for shift in drawn]
    return mark(chart, at, range(len(drawn)), kinds, left=left, right=right, titles=titles, plain="agrees")


def _history(history: Sequence[LinkedMonth], month: str) -> TagChild:
    if not history:
        return None
    now = next((one for one in history if one.month == month), None)
    linked = linked_of(history)
    rows = [
        (one.month, f"not linked: {one.error}", "", "", "", "")
        if one.constants is None
        else (
            one.month,
            _with_error(*one.constants.value("slope")),
            _with_error(*one.constants.value("intercept")),
            str(len(one.constants.anchors_used)),
            ", ".join(one.dropped) or "none",
            str(one.unseen),
        )
        for one in reversed(history)
    ]
    headers = ("month", "slope", "intercept", "anchors used", "left out", "too few answers")
    return TagList(
        tags.h3("Linking constants", class_="h5 mt-3"),
        tags.p(_linking_said(now, month)),
        stack(*(figure(constant_by_month(linked, list(linked), name)) for name in ("slope", "intercept")))
        if linked
        else None,
        tags.details(
            tags.summary("Linking month by month"),
            table("Linking of the months, the newest first", headers, rows, numbers="tnnntn"),
        ),
    )


def _linking_said(now: LinkedMonth | None, month: str) -> TagChild:
    if now is None:
        return f"{month} was not fitted yet."
    if now.constants is None:
        return TagList(f"{month} is not on the scale: ", prose(now.error))
    slope, intercept = (_with_error(*now.constants.value(name)) for name in ("slope", "intercept"))
    return f"Slope {slope}, intercept {intercept}: the spread and the mean of the month's learners on the scale."


def _with_error(value: float, error: float) -> str:
    return f"{number(value, 3)} ± {number(error, 3)}"
