"""Invariants of the analyses after a month: they exist and rest on stored fits, and people decide on large drift."""

from datetime import timedelta

from irt_assets.gates.month_classification import State
from irt_assets.invariants.invariant import Findings, InvariantContext, NotTested, Violation, invariant
from irt_assets.ledger.audit import drift_without_a_publication, judgements_without_a_fit, large_drift
from irt_assets.ledger.linked_windows import last_linked_at
from irt_assets.reports.assets import DRIFT_REPORT, REPORT_SOURCES
from resources.postgres.database import one_value

ANALYSES = (*REPORT_SOURCES, DRIFT_REPORT)
"""Assets that analyse a month. They materialise automatically once the month is green."""
MAX_ANALYSIS_TIME = timedelta(hours=6)
MAX_UNDECIDED = timedelta(days=31)
"""One month: by then the next month has been compared, too."""


@invariant(
    kind="assets",
    protects="Every green month has been analysed for drift, DIF and lost information, with its current numbers.",
    fix="Materialise the asset for the month in the UI; check that the sensor `automation` is switched on.",
)
def every_green_month_was_judged(context: InvariantContext) -> Findings:
    green = sorted({(state.month, state.scale_id) for state in context.states if state.state is State.GREEN})
    if not green:
        yield NotTested("no month is green yet")
    for month, scale_id in green:
        linked = last_linked_at(context.connection, context.scales[scale_id], month)
        if linked is None:
            continue
        if context.now - linked < MAX_ANALYSIS_TIME:
            yield NotTested("it was fitted within the last six hours, so its analyses may still run", partition=month)
            continue
        for asset in ANALYSES:
            made = context.made.get(asset, {}).get(month)
            if made is None:
                yield Violation(asset, "never made", f"made after the fit of {linked:%Y-%m-%d %H:%M} UTC", month)
            elif made < linked:
                observed = f"made at {made:%Y-%m-%d %H:%M} UTC, of an earlier fit"
                yield Violation(asset, observed, f"made after the fit of {linked:%Y-%m-%d %H:%M} UTC", month)


@invariant(
    kind="items",
    protects="Every finding of drift is stored with its fit and the item's earlier value.",
    fix="Materialise `item_drift`, `dif_analysis` and `test_information` of the month again.",
)
def judgements_rest_on_fits_and_publications(context: InvariantContext) -> Findings:
    if not one_value(
        context.connection,
        """SELECT EXISTS (SELECT FROM item_drift) OR EXISTS (SELECT FROM dif_analysis)
             OR EXISTS (SELECT FROM test_information)""",
    ):
        yield NotTested("no month has been judged yet")
        return
    for row in judgements_without_a_fit(context.connection):
        subject, observed = f"{row['judged']} of {row['scale_id']}", f"{row['n']} rows without a linked fit"
        yield Violation(subject, observed, "the fit from which they were computed", row["month"])
    for row in drift_without_a_publication(context.connection):
        item, observed = f"{row['scale_id']}: {row['item_id']}", "compared, with nothing in force when the month began"
        yield Violation(item, observed, "the published value it was compared with", row["month"])
    for month, scale_id, item in context.connection.execute(
        """SELECT opened_month, scale_id, item_id FROM drift_alerts a
           WHERE NOT EXISTS (
             SELECT FROM item_drift d
             WHERE (d.month, d.scale_id, d.item_id) = (a.opened_month, a.scale_id, a.item_id) AND d.severity <> 'none')
           ORDER BY 1, 2, 3"""
    ):
        yield Violation(f"{scale_id}: {item}", "an alert of a month that does not flag it", "a flag", month)


@invariant(
    kind="items",
    protects="No item that changed much is scored with its old value only because nobody has decided on it.",
    fix="Read the item's page of the drift report, then `irt release accept` or `reject`, or `irt items withdraw`.",
)
def large_drift_is_decided_on(context: InvariantContext) -> Findings:
    rows = large_drift(context.connection, context.now - MAX_UNDECIDED)
    if not one_value(context.connection, "SELECT EXISTS (SELECT FROM item_drift)"):
        yield NotTested("no month has been compared with the published set yet")
    for row in rows:
        if row["is_old"] and not row["decided"]:
            observed = f"{row['kind']} since {row['opened_month']}, without a decision"
            yield Violation(f"{row['scale_id']}: {row['item_id']}", observed, "a decision in a month")
