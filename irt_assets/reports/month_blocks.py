"""Blocks about a month of a scale, for its drift report and its page, and the order of the page's sections.

They cover gates, linking, publication, answers, the fit and flagged items. What does not belong here: the verdict in a
sentence (drift_report.py), the text on linking (drift_linking.py), proposals (drift_actions.py), and the numbers of
one item (item_blocks.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import psycopg

from irt_assets.abilities.batch import MeasuredLearners, read_measured_learners
from irt_assets.abilities.group_page import group_blocks, read_groups
from irt_assets.blocks import (
    Badge,
    Block,
    Cell,
    Details,
    Figure,
    Moment,
    Paragraph,
    Section,
    Span,
    Table,
    Text,
    filled_sections,
    number,
    pairs,
    percent,
    prose,
    signed_number,
    table,
)
from irt_assets.calibration.blocks import growth_blocks
from irt_assets.calibration.linking_history import read_history
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.partitions import Month
from irt_assets.common.wording import quantity, with_capital, with_stop
from irt_assets.decisions.origin import OriginSummary, read_origin
from irt_assets.drift.alerts import first_seen
from irt_assets.drift.blocks import TONES, information_summary
from irt_assets.drift.rows import (
    DifRow,
    DriftRow,
    read_drifted_items,
    read_histories,
    read_large_dif,
    read_lost_information,
)
from irt_assets.gates.anchor_shifts import anchor_shifts
from irt_assets.gates.gates import SET_GATES, SetGate
from irt_assets.gates.month_classification import GateStatus, MonthState, State
from irt_assets.ledger.anchors import read_anchors
from irt_assets.ledger.decisions import Decision, newest_decisions
from irt_assets.ledger.fits import latest_staged, linked_fit
from irt_assets.ledger.fitted_items import FittedItem, items_of_fit, items_of_origin
from irt_assets.ledger.linked_windows import LinkedFitRecord, latest_constants, linked_origin, linkings_of
from irt_assets.ledger.proposals import proposals_by_reason
from irt_assets.ledger.steps import Step, step_of
from irt_assets.reports import origin_report
from irt_assets.reports.decision_blocks import decisions_table
from irt_assets.reports.drift_linking import linking
from irt_assets.reports.place_in_order import PlaceInOrder, growth_by_place
from irt_assets.responses.closing_records import ClosedMonth, read_states
from irt_assets.responses.eligibility.attempts import Reason
from irt_assets.responses.snapshot import snapshot_for_scale
from irt_assets.scales.scale import Scale
from irt_psychometrics.drift import ChangeKind
from irt_psychometrics.itemfit import WindowGrowth

ANCHORS = "Anchors"
"""Title of the first section, with the figure of the anchors, if the month is linked."""
GROUPS = "Groups of learners"
NOT_COMPARED = "While the month is red its items are not compared with what is published."
MAX_SHOWN, MAX_ITEMS = 100, 10
"""Maximum numbers of findings shown, and of items shown in other tables."""
OUTCOMES = {True: Badge("passed", "good"), False: Badge("failed", "bad"), None: Badge("not evaluated")}


def sections(
    connection: psycopg.Connection,
    scale: Scale,
    state: MonthState,
    gates: Mapping[str, GateStatus],
    *,
    at: datetime,
    dashboard: str | None = None,
    ui_url: str = "",
    zone: str = "UTC",
) -> Iterator[Section]:
    """Yield the sections of the page of a month of the scale.

    Args:
        connection: connection to the database.
        scale: the scale.
        state: the month's state.
        gates: status of each set gate, by name.
        at: the present time.
        dashboard: see `page_link`.
        ui_url: address of the Dagster UI; "" for no links to it.
        zone: time zone of the times shown.
    """
    if state.state is State.ORIGIN and (origin := read_origin(connection, scale.scale_id)):
        yield from _sections_of_origin(connection, scale, state.month, origin, dashboard=dashboard, zone=zone)
        return
    month, is_red = state.month, state.state is State.RED
    step = step_of(connection, scale.scale_id, month)
    fit = next((x for x in linkings_of(connection, scale, month) if x.month == month), None)
    proposed = proposals_by_reason(connection, scale.scale_id, month, fit.fit_id if fit else None)
    snapshot = snapshot_for_scale(connection, month, scale.scale_id)
    counts = snapshot.counts.get(scale.scale_id, {}) if snapshot else {}
    taken = newest_decisions(connection, month=month, scale_id=scale.scale_id)
    flagged = [Paragraph(NOT_COMPARED)] if is_red else flagged_items(connection, scale, month, step, dashboard)
    measured = read_measured_learners(connection, scale.scale_id, Month(month).end)
    known = next((x for x in read_states(connection, [month]) if x.scale_id == scale.scale_id), None)
    linked = [*linking_blocks(connection, scale, month, dashboard)]
    yield from filled_sections(
        (ANCHORS, [block for block in linked if isinstance(block, Figure)]),
        ("Set gates", gate_blocks(gates, red=is_red)),
        ("Linking", [block for block in linked if not isinstance(block, Figure)]),
        ("Growth within the month", growth_within(connection, scale, month)),
        ("Published items", publication_blocks(step, proposed)),
        ("Flagged items", flagged),
        (
            "Answers and learners",
            [*answers(fit, counts), *opening(scale, month, known, at, zone, dashboard), learners(measured)],
        ),
        (GROUPS, group_blocks(read_groups(connection, scale.scale_id, month), scale)),
        ("Decisions on the month", _decisions(taken, zone, dashboard)),
        ("Sources of the numbers", provenance(fit, scale, ui_url, zone)),
    )


def _sections_of_origin(
    connection: psycopg.Connection, scale: Scale, month: str, origin: OriginSummary, *, dashboard: str | None, zone: str
) -> Iterator[Section]:
    """Yield the sections for a month of the origin window that has no fit of its own."""
    fit = linked_origin(connection, scale)
    taken = newest_decisions(connection, month=month, scale_id=scale.scale_id)
    yield from filled_sections(
        ("Published items", origin_report.publication(origin)),
        ("Fit of the model", origin_report.model_fit(origin)),
        ("Answers and learners", [Paragraph(origin_report.answers(origin, {}))]),
        ("Decisions on the month", _decisions(taken, zone, dashboard)),
        ("Sources of the numbers", provenance(fit, scale, "", zone)),
    )


def _decisions(taken: Sequence[Decision], zone: str, dashboard: str | None) -> list[Block]:
    caption = f"{with_capital(quantity(len(taken), 'decision'))} so far."
    return [decisions_table(taken, zone, dashboard=dashboard, caption=caption)] if taken else []


def gate_blocks(gates: Mapping[str, GateStatus], *, red: bool) -> Iterator[Block]:
    """Yield the outcome of each set gate: first the failed ones, with remedies in a red month, then the others,
    folded."""
    passed, failed, unknown = ([g for g in SET_GATES if gates[g.name].passed is it] for it in (True, False, None))
    yield Paragraph(
        f"{len(passed)} of {len(SET_GATES)} gates passed. A gate that fails holds the whole month of the scale."
    )
    if failed:
        failed.sort(key=lambda gate: not gates[gate.name].failed_itself)
        yield _gate_table(failed, gates, red=red)
    for outcome, judged in (("passed", passed), ("not evaluated", unknown)):
        if judged:
            yield Details(f"{len(judged)} {outcome}", (_gate_table(judged, gates, red=red),))


def _gate_table(judged: Sequence[SetGate], gates: Mapping[str, GateStatus], *, red: bool) -> Table:
    rows: list[tuple[Text, Text]] = []
    for gate in judged:
        status = gates[gate.name]
        outcome = Badge("not judged") if status.follows else OUTCOMES[status.passed]
        what_to_do = (Span(" What to do: ", "bold"), *prose(gate.fix)) if red and status.failed_itself else ()
        rows.append((outcome, (Span(gate.explanation, "bold"), " ", *prose(with_stop(status.why)), *what_to_do)))
    return table(("outcome", "gate and reason"), rows, caption="Gates of the month")


def linking_blocks(connection: psycopg.Connection, scale: Scale, month: str, dashboard: str | None) -> Iterator[Block]:
    """Yield blocks on the month's linking, or on why the month is not on the scale."""
    constants = latest_constants(connection, month, scale.scale_id, scale.engine)
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
    history = read_history(connection, scale, month)
    errors = {linked_month.month: linked_month.error for linked_month in history}
    anchors = read_anchors(connection, scale.scale_id, scale.anchor_version)
    shifts = anchor_shifts(anchors, fit.values, fit.constants) if anchors and fit and constants == fit.constants else []
    why_not = errors.get(month, "it has not been fitted yet")
    sentences = [(f"{month} is not on the scale: ", *prose(why_not), ".")] if why_not else []
    return linking(constants, scale, shifts, history, sentences, dashboard)


def growth_within(connection: psycopg.Connection, scale: Scale, month: str) -> Iterator[Block]:
    """Yield blocks on growth of ability within the month, with the items that show it most clearly."""
    staged = latest_staged(connection, month, scale.scale_id, scale.engine)
    found, fit = (staged.spec.fit_statistics, staged.decode()) if staged else (None, None)
    if found is None or fit is None or found.set.growth is None:
        yield Paragraph("Growth was not estimated when the month was calibrated.")
        return
    yield from growth_blocks(found, fit, MAX_ITEMS)
    by_place = growth_of_anchors(connection, scale, month)
    if by_place is not None:
        size = f"{number(by_place.estimate)} ± {number(by_place.se)} in θ in {WindowGrowth.PERIOD_DAYS:.0f} days"
        yield Paragraph(
            f"By how much easier the {by_place.anchors} anchors look the later they come, compared with the origin "
            f"window, growth is {size} (place in order; in a strict order nothing else shows growth)."
        )


def growth_of_anchors(connection: psycopg.Connection, scale: Scale, month: str) -> PlaceInOrder | None:
    """Estimate growth from the anchors' places in learners' order, this month and in the origin window.

    Returns None if the month is not linked, if the scale has no anchors, or if `growth_by_place` has too few.
    """
    fit = linked_fit(connection, scale.scale_id, "monthly", Month(month).start, scale.engine)
    anchors = read_anchors(connection, scale.scale_id, scale.anchor_version)
    if fit is None or anchors is None:
        return None
    shifts = anchor_shifts(anchors, fit.values, fit.constants)
    now, then = items_of_fit(connection, fit.fit_id), items_of_origin(connection, scale.scale_id)
    days = [[_days(items, shift.item_id) for items in (now, then)] for shift in shifts]
    later = np.array(days, dtype=float).reshape(-1, 2) @ [1.0, -1.0]
    moved, errors = (np.array([getattr(shift, name) for shift in shifts], dtype=float) for name in ("delta_b", "error"))
    return growth_by_place(moved, errors, later, fit.constants.tau)


def _days(items: Mapping[str, FittedItem], item: str) -> float:
    days = items[item].statistics.get("growth_days") if item in items else None
    return float("nan") if days is None else days


def provenance(fit: LinkedFitRecord | None, scale: Scale, ui_url: str, zone: str) -> Iterator[Block]:
    if fit is None:
        yield Paragraph("There is no linked fit of the month yet.")
    else:
        yield Details("Fit, hashes, code and run", (pairs(fit_facts(fit, scale, ui_url, zone)),))


def answers(fit: LinkedFitRecord | None, counts: Mapping[str, int]) -> Iterator[Block]:
    """Yield the number of fitted answers, and the answers left out by reason. `counts` are answers by reason."""
    why = {str(reason): reason.explanation for reason in Reason}
    left_out = {reason: n for reason, n in counts.items() if n and reason in why}
    total = sum(counts.values())
    fitted = "No fit of the month is on the scale."
    if fit:
        fitted = f"{fit.n_responses:,} answers of {fit.n_persons:,} learners to {fit.n_items:,} items were fitted."
    if not total:
        yield Paragraph(fitted)
        return
    yield Paragraph(f"{fitted} {sum(left_out.values()):,} of {total:,} answers of the month were left out.")
    yield table(
        ("reason", "answers", "share", "why"),
        [
            (reason.replace("_", " "), n, n / total, why[reason])
            for reason, n in sorted(left_out.items(), key=lambda entry: -entry[1])
        ],
        numbers={"answers": ",", "share": ".1%"},
        caption="Answers that were left out",
    )


def opening(
    scale: Scale, month: str, known: ClosedMonth | None, at: datetime, zone: str, dashboard: str | None
) -> Iterator[Block]:
    """Yield whether the month is open, closed or reopened, and the answers that have changed since it closed."""
    if known is None:
        last = Month(month).end + timedelta(days=scale.rules.answers.late_days)
        due = f"It has been due since {last:%Y-%m-%d}, and" if last <= at else f"From {last:%Y-%m-%d} on it"
        yield Paragraph(
            f"The month is open. {due} closes in the first night in which it has been made from all its answers, and "
            "nothing is being imported."
        )
        return
    since = Moment(known.since, zone)
    if known.state == "reopened":
        who = f" by {known.decided_by}: {with_stop(known.reason)}"
        again = " It closes again in the first night in which it has been made from all its answers."
        yield Paragraph(("The month was reopened on ", since, who, again))
        return
    summary = f"{with_capital(known.sentence)}. " if known.sentence else "No answer has changed since. "
    counts = "Later answers count for θ, features, KPIs and later months, and change nothing of this one."
    yield Paragraph(("The month closed on ", since, f". {summary}{counts}"))
    if items := known.came.get("items"):
        rows = sorted(items.items(), key=lambda entry: -entry[1])[:MAX_ITEMS]
        yield table(
            ("item", "changed answers"),
            [(page_link(item, "item", dashboard=dashboard, item=item, scale=scale.scale_id), n) for item, n in rows],
            numbers={"changed answers": ".1%"},
            caption="Items of which more than 5 % of the answers have changed since",
        )


def publication_blocks(step: Step | None, proposed: Mapping[str, int]) -> Iterator[Block]:
    """Yield the outcome of publication for the month's items. `proposed`: reason → number of items only proposed."""
    if step is None:
        yield Paragraph("Nothing was published: the month has not reached publication.")
        return
    if step.state != "done":
        why = "the month is held" if step.state == "held" else step.why
        yield Paragraph(("Nothing was published: ", *prose(with_stop(why))))
        return
    first = with_capital(quantity(step.n_published, "item"))
    yield Paragraph(
        f"{first} published for the first time, {step.n_proposed:,} proposed and {step.n_held:,} held back."
    )
    yield table(
        ("what", "items", "why"),
        [
            ("published for the first time", step.n_published, "in force from the end of the month"),
            *(("proposed", n, why) for why, n in proposed.items()),
            ("held back", step.n_held, "item gates did not pass" if step.n_held else ""),
        ],
        numbers={"items": ","},
        caption="Items by outcome of publication",
    )


def learners(measured: MeasuredLearners) -> Paragraph:
    """The number of learners measured at the month's end, and the distribution of θ, in a sentence."""
    if not measured.learners:
        return Paragraph("No learner was measured at its end.")
    return Paragraph(
        f"{measured.learners:,} learners were measured at its end: mean θ {number(measured.mean)}, "
        f"SD {number(measured.sd)}, mean error {number(measured.mean_se)}."
    )


def fit_facts(fit: LinkedFitRecord, scale: Scale, ui_url: str = "", zone: str = "UTC") -> dict[str, Text | None]:
    """Sources of a month's fit, by name. `ui_url` is the address of the Dagster UI, for a link to the run."""
    run = f"{ui_url.rstrip('/')}/runs/{fit.run_id}" if ui_url and fit.run_id else ""
    return {
        "fit": Span(fit.fit_id, "code"),
        "engine": f"{fit.engine} {fit.engine_version}, model {fit.model}, {fit.iterations} iterations, log-likelihood "
        f"{fit.loglik:.2f}",
        "fitted": Moment(fit.fitted_at, zone),
        "software": settings_in_words(fit.spec.software),
        "priors": settings_in_words(_priors_shown(fit.spec.priors or {})),
        "hash of the answers": Span(fit.data_hash, "code"),
        "hash of the snapshot": Span(fit.snapshot_hash, "code"),
        "anchor set": (f"version {scale.anchor_version}, ", Span(fit.anchor_hash, "code")),
        "linking": fit.constants.method,
        "code of the fit": Span(fit.code_version, "code"),
        "run": fit.run_id and Span(fit.run_id, "code", run),
    }


def _priors_shown(priors: Mapping[str, Any]) -> dict[str, object]:
    known = priors.get("known_guessing")
    shown: dict[str, object] = {name: prior for name, prior in priors.items() if name != "known_guessing"}
    if known is not None:
        shown["c of the anchors"] = f"as in the anchor set ({len(known['items'])} items, SD {known['sd']:g} of logit c)"
    return shown


def settings_in_words(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} = {'empty' if value is None else value}" for name, value in values.items())


def flagged_items(
    connection: psycopg.Connection, scale: Scale, month: str, step: Step | None, dashboard: str | None = None
) -> Iterator[Block]:
    """Yield the flagged items of a month that is not red. For `dashboard` see `page_link`.

    Findings from before a month turned red rest on another linking, so do not call it for a red month.
    """
    drifted = read_drifted_items(connection, scale, month)
    dif = read_large_dif(connection, scale, month)
    information = {row.item_id: row for row in read_lost_information(connection, scale, month)}
    held = step.held if step else {}
    leaks = [row.item_id for row in drifted if row.kind == ChangeKind.LEAK]
    past = read_histories(connection, scale, month, leaks)
    began = {item: first_seen((r.month, r.severity, r.details) for r in reversed(rows)) for item, rows in past.items()}

    def link(item: str) -> Text:
        return page_link(item, "item", dashboard=dashboard, item=item, scale=scale.scale_id)

    found: list[tuple[Cell, ...]] = [(link(row.item_id), *_drift(row, began.get(row.item_id))) for row in drifted]
    found += [(link(item), Badge("held back", "bad"), "; ".join(why)) for item, why in sorted(held.items())]
    found += [(link(row.item_id), Badge("DIF", "warning"), _dif(row)) for row in dif]
    found += [
        (link(item), Badge("information lost", "warning"))
        + (f"gives {percent(row.details.get('ratio'))} of the published one",)
        for item, row in sorted(information.items())
        if item and row.flagged
    ]
    n = quantity(len({item for item, *_ in found}), "item")
    yield Paragraph(f"{with_capital(n)} flagged: {'; '.join(_counts(drifted, held, dif))}.")
    yield Paragraph(f"Information of the test: {information_summary(information)}.")
    if found:
        yield table(("item", "finding", "in words"), found[:MAX_SHOWN], caption="Findings by item")
    if (more := len(found) - MAX_SHOWN) > 0:
        bank = page_link("the item bank", "bank", dashboard=dashboard, scale=scale.scale_id)
        yield Paragraph((f"{more:,} more findings: ", bank))


def _counts(drifted: Sequence[DriftRow], held: dict[str, list[str]], dif: Sequence[DifRow]) -> Iterator[str]:
    severe = sum(row.severity == "high" for row in drifted)
    leaks = sum(row.kind == ChangeKind.LEAK for row in drifted)
    yield f"{len(drifted)} drifted ({severe} of them high, {quantity(leaks, 'leak')})" if drifted else "none drifted"
    yield f"{len({row.item_id for row in dif})} with large DIF" if dif else "none with large DIF"
    yield f"{len(held)} held back"


def _drift(row: DriftRow, began: str | None) -> tuple[Badge, str]:
    words = f"{row.kind or 'changed'}, b {signed_number(row.delta_b)}, difference of curves {number(row.wabc, 3)}"
    finding = Badge(f"drift {row.severity}", TONES.get(row.severity, "neutral"))
    return finding, words + (f", since {began}" if began else "")


def _dif(row: DifRow) -> str:
    words = f"{row.attribute}: {row.focal_group} against {row.reference_group} at equal ability"
    return words + (f", ETS class {row.ets_class}" if row.ets_class else "")
