"""Closed months: the file and the rules that a month of a scale closed with.

A month that has no row in `month_state`, or whose newest row says reopened, is open. What does not belong here: closing
and reopening (see `ledger.closings`).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, LiteralString

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.psychometrics.eligibility.rules import Rules, of_stage
from irt_assets.responses.scales import Scale, read_scales
from resources.cluster.relational import lake
from resources.postgres.database import first_column, records

KINDS = {
    "late": "late",
    "corrected": "corrected",
    "withdrawn": "withdrawn",
    "deleted": "deleted",
    "flagged": "from accounts that became test accounts or ceased to be",
    "item_changed": "to items whose scale or maximum score changed",
}
"""Kinds of changes to a closed month's answers, as they follow a number."""
MIN_SHARE_SHOWN = 0.001
NEWEST: LiteralString = "(SELECT DISTINCT ON (month, scale_id) * FROM month_state ORDER BY month, scale_id, since DESC)"
"""The row that holds for each month of each scale that ever closed, as a relation."""


@dataclass(frozen=True)
class ClosedMonth:
    """A month of a scale that is closed, or was until a person reopened it.

    Attributes:
        state: closed or reopened, since when, by whom and why.
        snapshot_hash: sha256 of the file that it closed with.
        rules: settings that its answers were judged by; those that are absent are the defaults.
        came: `answers`, their number when it closed; changed answers by `KINDS`; `items`, the share of changed
            answers of each item with more than 5 %. Empty until the first night after the closing.
        counted_at: when the changed answers were counted.
    """

    month: str
    scale_id: str
    state: str
    since: datetime
    decided_by: str
    reason: str
    snapshot_hash: str
    rules: dict[str, Any]
    came: dict[str, Any]
    counted_at: datetime | None

    @property
    def changes(self) -> dict[str, int]:
        """Number of changed answers, by those of `KINDS` that have some."""
        return {kind: self.came[kind] for kind in KINDS if self.came.get(kind)}

    @property
    def share(self) -> float:
        """Changed answers, as a share of the answers that the month closed with."""
        return sum(self.changes.values()) / max(self.came.get("answers", 0), 1)

    @property
    def sentence(self) -> str:
        """The changed answers by kind, and their share; empty if no answer has changed."""
        kinds = ", ".join(f"{n:,} {KINDS[kind]}" for kind, n in self.changes.items())
        share = f"{self.share:.1%}" if self.share >= MIN_SHARE_SHOWN else f"under {MIN_SHARE_SHOWN:.1%}"
        return f"answers since then: {kinds} ({share} of its answers)" if kinds else ""


def read_closed(connection: psycopg.Connection, months: Collection[str] | None = None) -> list[ClosedMonth]:
    """The closed ones of the months (None: of all), by month and scale."""
    return [one for one in read_states(connection, months) if one.state == "closed"]


def read_states(connection: psycopg.Connection, months: Collection[str] | None = None) -> list[ClosedMonth]:
    """Those of the months (None: of all) that ever closed, by month and scale."""
    return records(
        connection,
        ClosedMonth,
        f"""SELECT month, scale_id, state, since, decided_by, reason, snapshot_hash, rules, came, counted_at
            FROM {NEWEST} newest WHERE %(months)s::text[] IS NULL OR month = ANY(%(months)s)
            ORDER BY month, scale_id""",
        {"months": None if months is None else [*months]},
    )


def closed_rules(connection: psycopg.Connection, month: str) -> dict[str, Rules]:
    """The eligibility rules of each scale for which the month is closed; all other rules are the defaults."""
    return {
        one.scale_id: Rules.from_settings(of_stage("eligibility", one.rules))
        for one in read_closed(connection, [month])
    }


def scales_of_month(connection: psycopg.Connection, month: str) -> dict[str, Scale]:
    """`read_scales` as the month follows it. A closed month keeps the eligibility rules that it closed with."""
    found = read_scales(connection, Month(month).start)
    for scale_id, rules in closed_rules(connection, month).items():
        if scale_id in found:
            kept = found[scale_id].rules.model_copy(update={"eligibility": rules.eligibility})
            found[scale_id] = replace(found[scale_id], rules=kept)
    return found


def rules_of_month(connection: psycopg.Connection, month: str) -> dict[str, Rules]:
    """The rules of each scale that judge the answers of a month."""
    return {scale_id: scale.rules for scale_id, scale in scales_of_month(connection, month).items()}


def scales_to_compare(
    connection: psycopg.Connection,
    month: str,
    counts: Mapping[str, Mapping[str, int]],
    scales: Collection[str],
    closed: Collection[str],
) -> set[str]:
    """The `scales` whose answers may make the month stale: it is open for them, and they have or had answers.

    counts: attempts by scale and reason of the month's snapshot.
    """
    open_scales = {*scales} - {*closed}
    new = {scale for scale in open_scales if not sum(counts.get(scale, {}).values())}
    if not closed or not new or lake(connection) is not None:
        return open_scales
    start, end = Month(month).bounds
    answered = first_column(
        connection,
        """SELECT DISTINCT coalesce(q.scale_id, 'default') FROM attempt a LEFT JOIN question q USING (item_id)
           WHERE completed_at >= %s AND completed_at < %s""",
        (start, end),
    )
    return open_scales - (new - {*answered})
