"""Checks of a month's drift: high severity is an error, medium a warning. Neither holds a month. Also how the checks of
drift, DIF and information name their items.

Dagster reads the annotations of the decorated functions, so this module does not postpone them.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import dagster as dg
import psycopg

from irt_assets.common.dated import partition_check
from irt_assets.common.partitions import Month
from irt_assets.common.retries import classify_failures
from irt_assets.common.wording import by_scale, counted, some_of
from irt_assets.decisions.proposals import proposals
from irt_assets.drift.unestimated import items_gone
from irt_assets.drift.unjudged import unjudged
from irt_assets.ledger.decisions import decisions_on_drift
from irt_assets.ledger.publications import in_force
from irt_assets.psychometrics.core.curves import MEDIUM_WABC
from irt_assets.responses.scales import read_scales
from resources.dagster_schema import HOW_TO_FIX, ITEMS, KNOWN_FROM, rows_shown
from resources.files.object_store import ObjectStore
from resources.postgres.database import Database

WHAT_TO_DO = {
    "high": "Look at each item under `top flagged items` of item_drift: a leaked item is withdrawn (`irt items "
    "withdraw`), a wrong key is corrected in question.meta, a drifted one is calibrated again on answers after the "
    "change. Its published value stays in force until somebody decides.",
    "medium": "Watch these items; if one is flagged again next month, treat it like one of high severity.",
}
GONE = (
    "Import the item again with `irt import questions FILE` if it was lost; if it was taken out on purpose, its "
    "published value stays in the ledger, and nothing is left to do."
)
NAMED = 10


def build_drift_checks(months: dg.PartitionsDefinition) -> list[dg.AssetChecksDefinition]:
    return [
        _check("no_item_drifted_far", "high", dg.AssetCheckSeverity.ERROR, months),
        _check("no_item_drifted", "medium", dg.AssetCheckSeverity.WARN, months),
        _published_items_are_in_the_bank(months),
    ]


def _check(
    name: str, level: Literal["high", "medium"], severity: dg.AssetCheckSeverity, months: dg.PartitionsDefinition
) -> dg.AssetChecksDefinition:
    @partition_check(
        asset="item_drift",
        name=name,
        description=f"No item changed against the published set with {level} severity, except those that need no "
        "decision: a person has decided on them and they changed no further, or a later month contradicts what is "
        "proposed. It holds nothing.",
        partitions_def=months,
    )
    def check(
        context: dg.AssetCheckExecutionContext,
        database: dg.ResourceParam[Database],
        store: dg.ResourceParam[ObjectStore],
    ) -> dg.AssetCheckResult:
        month = context.partition_key
        with classify_failures(), database.connect() as connection:
            silent = unjudged(connection, store, month, "item_drift")
            rows = connection.execute(
                """SELECT scale_id, item_id,
                          coalesce(details->'change'->>'kind',
                                   CASE WHEN details ? 'proportion_correct' THEN 'by proportion correct' END)
                   FROM item_drift
                   WHERE month = %s AND severity = %s ORDER BY wabc DESC, scale_id, item_id""",
                (month, level),
            ).fetchall()
            known = settled_items(connection, month)
        found = [Named(scale, item, kind or "", known.get((scale, item), "")) for scale, item, kind in rows]
        return items_result(found, f"no item of {level} severity", WHAT_TO_DO[level], severity=severity, silent=silent)

    return check


def settled_items(connection: psycopg.Connection, month: str) -> dict[tuple[str, str], str]:
    """The month's items whose drift needs no decision, each with the reason: the month of a proposal that a person has
    decided on, and the decision; or why what this month proposes is settled without one.

    A decision covers what was known then: a change that the proposal's month saw as well and that has not grown since.
    A rejection holds until something else is published, an acceptance until its value is in force. A withdrawn item
    needs no other decision.
    """
    proposed = proposals(connection, windows=[month], may_ask=True)
    withdrawn = connection.execute(
        """SELECT q.scale_id, w.item_id, w.since, w.decided_by
           FROM item_withdrawal w JOIN question q USING (item_id) WHERE w.until IS NULL"""
    ).fetchall()
    return (
        {(p.scale_id, p.item_id): p.settled for p in proposed if p.settled}
        | decisions_on_drift(connection, month, Month(month).start, grown=MEDIUM_WABC)
        | {(scale, item): f"withdrawn from {since:%Y-%m-%d} on by {by}" for scale, item, since, by in withdrawn}
    )


def _published_items_are_in_the_bank(months: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
    @partition_check(
        asset="item_drift",
        name="published_items_are_in_the_bank",
        description="Every item in force when the month began is still in the bank, on its scale. It holds nothing.",
        partitions_def=months,
    )
    def check(context: dg.AssetCheckExecutionContext, database: dg.ResourceParam[Database]) -> dg.AssetCheckResult:
        start = Month(context.partition_key).start
        with classify_failures(), database.connect() as connection:
            gone = {
                scale_id: items_gone(connection, scale_id, list(in_force(connection, scale_id, start).items))
                for scale_id in read_scales(connection)
            }
        found = [Named(scale, item, why) for scale, items in gone.items() for item, why in items.items()]
        return items_result(found, "all are in the bank", GONE)

    return check


class Named(NamedTuple):
    """An item that a check names, why, and which month or decision reported it before or settled it."""

    scale_id: str
    item_id: str
    why: str = ""
    known: str = ""

    def __str__(self) -> str:
        return f"{self.item_id} ({self.why})" if self.why else self.item_id


def items_result(
    found: Sequence[Named],
    fine: str,
    fix: str,
    *,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.WARN,
    silent: Mapping[str, str] | None = None,
) -> dg.AssetCheckResult:
    """Fails if any item is new: names it, has a row for each item, and says what to do. Warns about `silent` scales,
    each with the reason why nothing is known about its items."""
    new, known = [n for n in found if not n.known], [n for n in found if n.known]
    unknown = by_scale(silent or {})
    description = "; ".join([*unknown, *([items_said(list(map(str, new)), fine)] if new or not unknown else [])])
    if known:
        description += f"; no decision needed: {', '.join(n.item_id for n in known)}"
    return dg.AssetCheckResult(
        passed=not new and not unknown,
        severity=severity if new else dg.AssetCheckSeverity.WARN,
        description=description,
        metadata={
            ITEMS: rows_shown(
                ("scale", "item", KNOWN_FROM, "why"), [(n.scale_id, n.item_id, n.known, n.why) for n in new + known]
            ),
            **({HOW_TO_FIX: fix if new else "; ".join(unknown)} if new or unknown else {}),
        },
    )


def items_said(named: Sequence[str], fine: str) -> str:
    """How many, the first ten, and how many more; `fine` if there is none."""
    return f"{counted(len(named), 'item')}: {some_of(named, NAMED)}" if named else fine
