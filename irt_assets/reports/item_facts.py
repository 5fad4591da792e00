"""Read one item over all of its months: estimates, publications, findings and decisions.

Nothing is estimated here except learners' abilities for observed proportions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.decision_kinds import ITEM_KINDS
from irt_assets.decisions.bank import OpenDrift
from irt_assets.decisions.lineage import why_unpublished
from irt_assets.decisions.proposals import Proposal, waiting_proposals
from irt_assets.drift.alerts import first_seen
from irt_assets.drift.rows import DIF_COLUMNS, DRIFT_COLUMNS, DifRow, DriftRow, InformationRow
from irt_assets.ledger.anchors import anchor_items
from irt_assets.ledger.decisions import Decision, newest_decisions
from irt_assets.ledger.fit_spec import Spread
from irt_assets.ledger.fitted_items import FittedItem, items_of_fit, months_of_item
from irt_assets.ledger.origin_fit import origin_fit
from irt_assets.ledger.publications import publications_in_force, publications_with_their_fits
from irt_assets.new_items.progress import PipelineItem, read_pipeline
from irt_assets.new_items.stages import ItemStage, item_stages
from irt_assets.reports.drift_facts import ItemFindings, observed_of
from irt_assets.responses.snapshot import read_learners_of, snapshot_of
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.item_status import Status, item_status
from irt_assets.scales.scale import Scale
from irt_psychometrics import ItemParameters
from irt_psychometrics.drift import ChangeKind
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.items import ItemRow
from resources.failures import PermanentFailure
from resources.files.object_store import ObjectStore
from resources.postgres.database import records


@dataclass(frozen=True, kw_only=True)
class ItemInMonth(FittedItem):
    """An item in a month's linked fit, or in the origin window's fit if no month has one.

    Attributes:
        red: reason why the month is red, and so its linking unreliable; "" if it is not red.
        dependent: Q3 with each item of the fit on which its answers depend beyond the ability.
    """

    month: str
    start: datetime
    end: datetime
    fit_id: str
    snapshot_hash: str
    latent: Mapping[str, float]
    red: str
    dependent: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ItemFacts:
    """An item and its history.

    Attributes:
        publications: rows of `publications_with_their_fits`, the latest first.
        unpublished: why there is no publication; "" if there is one.
        months: months with a linked fit, oldest first.
        drift: comparisons with the published values by month, oldest first, without red months.
        drifted: open drift alert, or None without one.
        information: information by month, oldest first.
        dif: DIF tests of `dif_month`.
        dif_month: newest month of the scale that was tested for DIF, or None without one.
        decisions: decisions on its values and its use, the latest first.
        proposal: proposal that waits for a decision, or None without one.
        response_time: median in ms, and the number of answers.
        withdrawn: whether it is withdrawn at the requested time.
        status: the decision on its use that begins last, perhaps in the future.
        stage: stage of its life.
        new: row of `item_pipeline`, which only new items with answers have.
        exposure: month → learners to whom it was presented, and all learners of the month's item analysis.
        of_bank: facts of the bank about it (`model`, `block`), as text.
        test: the items of the scale in force; only read if the scale has a pass mark.
    """

    item_id: str
    scale: Scale
    topic: str | None
    anchor: bool
    publications: tuple[Mapping[str, Any], ...]
    unpublished: str
    months: tuple[ItemInMonth, ...]
    drift: tuple[DriftRow, ...]
    drifted: OpenDrift | None
    information: Mapping[str, InformationRow]
    dif: tuple[DifRow, ...]
    dif_month: str | None
    decisions: tuple[Decision, ...]
    proposal: Proposal | None
    response_time: tuple[float, int] | None
    withdrawn: bool
    status: Status | None
    stage: ItemStage
    new: PipelineItem | None
    exposure: Mapping[str, tuple[int, int]]
    of_bank: Mapping[str, str]
    test: ItemParameters | None

    @property
    def publication(self) -> Mapping[str, Any] | None:
        """The publication in force."""
        return next((row for row in self.publications if row["in_force"]), None)

    def coming(self, at: datetime) -> Mapping[str, Any] | None:
        """The next publication that comes into force after `at`, or None."""
        later = [row for row in self.publications if row["effective_from"] > at]
        # of several on a day the first in the list counts, and `min` returns it
        return min(later, key=lambda row: row["effective_from"], default=None)

    @property
    def onset(self) -> str | None:
        """First day of the leak (ISO) found by the newest comparison, or None if it found no leak."""
        return self.leak_onset_in(self.drift[-1].month) if self.drift else None

    def leak_onset_in(self, month: str) -> str | None:
        """First day of the leak (ISO) found by the month's comparison, or None if it found no leak."""
        past = [row for row in self.drift if row.month <= month]
        if not past or past[-1].month != month or past[-1].kind != ChangeKind.LEAK:
            return None
        return first_seen((row.month, row.severity, row.details) for row in reversed(past))

    def findings_in(self, month: ItemInMonth, seen: Observed | None = None) -> ItemFindings:
        """Return the month's findings about the item, with the values published now."""
        row = self.publication or {}
        return ItemFindings(
            item_id=self.item_id,
            topic=self.topic,
            is_anchor=self.anchor,
            published=ItemRow.if_known(row),
            since=row.get("effective_from"),
            values=month.values,
            n=month.n,
            statistics=month.statistics,
            flags=month.flags,
            drift=next((row for row in self.drift if row.month == month.month), None),
            observed=seen,
        )


def item_facts(connection: psycopg.Connection, scale: Scale, item_id: str, at: datetime) -> ItemFacts | None:
    """Read the item as of `at`. Returns None if the scale has no such item."""
    known = connection.execute(
        "SELECT topic_id, meta->'irt' FROM question WHERE (scale_id, item_id) = (%s, %s)", (scale.scale_id, item_id)
    ).fetchone()
    if known is None:
        return None
    publications = tuple(publications_with_their_fits(connection, item_id))
    unpublished = "" if publications else why_unpublished(connection, scale.scale_id, item_id)
    keys = {"scale": scale.scale_id, "engine": scale.engine, "item": item_id}
    months = _months(connection, scale, item_id)
    red = {month.month for month in months if month.red}  # drift stored before they turned red rests on another linking
    drift = tuple(row for row in records(connection, DriftRow, _DRIFT, keys) if row.month not in red)
    dif = tuple(records(connection, DifRow, _DIF, keys))
    judged = {month.month for month in months if not month.red} | {row.month for row in drift}
    information = connection.execute(_INFORMATION, keys | {"months": [*judged]}).fetchall()
    alert = connection.execute(_ALERT, keys).fetchone()
    dif_month = connection.execute("SELECT max(month) FROM dif_analysis WHERE scale_id = %(scale)s", keys).fetchone()
    time = connection.execute(_TIME, keys).fetchone()
    now = item_status(connection, at).get(item_id)
    return ItemFacts(
        item_id=item_id,
        scale=scale,
        topic=known[0],
        anchor=item_id in anchor_items(connection, scale),
        publications=publications,
        unpublished=unpublished,
        months=months,
        drift=drift,
        drifted=OpenDrift(*alert) if alert else None,
        information={month: InformationRow(*row) for month, *row in information},
        dif=dif,
        dif_month=dif_month[0] if dif_month else None,
        decisions=tuple(newest_decisions(connection, scale_id=scale.scale_id, item_id=item_id, item_kinds=ITEM_KINDS)),
        proposal=next(iter(waiting_proposals(connection, scale.scale_id, [item_id])), None),
        response_time=(time[0], time[1]) if time else None,
        withdrawn=now is not None and now.is_withdrawn,
        status=item_status(connection).get(item_id),
        stage=item_stages(connection, scale.scale_id, [item_id])[0],
        new=next(iter(read_pipeline(connection, scale.scale_id, [item_id])), None),
        exposure={month: (n, of) for month, n, of in connection.execute(_EXPOSURE, keys)},
        of_bank={name: str(value) for name, value in (known[1] or {}).items() if name in ("model", "block")},
        test=_items_in_force(connection, scale, at) if scale.pass_theta is not None else None,
    )


def _items_in_force(connection: psycopg.Connection, scale: Scale, at: datetime) -> ItemParameters:
    found = publications_in_force(connection, scale.scale_id, at)
    return ItemParameters.from_rows([item.item_id for item in found], [item.values for item in found])


def observed_proportions(
    connection: psycopg.Connection, store: ObjectStore, facts: ItemFacts, month: ItemInMonth
) -> Observed | None:
    """Compute observed proportions correct of the fitted answers, by ability from the other items.

    Returns None if the month has no answer to the item. Raises PermanentFailure if the month's snapshot is no longer
    recorded.
    """
    origin = origin_fit(connection, facts.scale.scale_id)
    is_origin = origin is not None and origin.snapshot_hash == month.snapshot_hash
    snapshot = origin.snapshot if origin and is_origin else snapshot_of(connection, month.month, month.snapshot_hash)
    if snapshot is None:
        raise PermanentFailure(f"the snapshot that {month.fit_id} was fitted to is no longer recorded")
    table = read_learners_of(store, snapshot, facts.scale.scale_id, facts.item_id)
    responses, _ = scored_responses_of(table, facts.scale.scale_id)
    curves = {item: fitted.values for item, fitted in items_of_fit(connection, month.fit_id).items()}
    latent = Spread.from_json(month.latent, month.fit_id)
    return observed_of(responses, curves, latent, [facts.item_id]).get(facts.item_id)


_DRIFT = f"""
SELECT {DRIFT_COLUMNS}
FROM item_drift WHERE scale_id = %(scale)s AND item_id = %(item)s AND engine = %(engine)s ORDER BY month
"""
_DIF = f"""
SELECT {DIF_COLUMNS}
FROM dif_analysis WHERE scale_id = %(scale)s AND item_id = %(item)s
  AND month = (SELECT max(month) FROM dif_analysis WHERE scale_id = %(scale)s)
ORDER BY attribute, focal_group
"""
_INFORMATION = """
SELECT month, item_id, curve, flagged, details FROM test_information
WHERE month = ANY(%(months)s) AND scale_id = %(scale)s AND item_id = %(item)s ORDER BY month
"""
_ALERT = """
SELECT severity, kind, opened_month FROM drift_alerts
WHERE scale_id = %(scale)s AND item_id = %(item)s AND closed_month IS NULL ORDER BY opened_month DESC LIMIT 1
"""
_EXPOSURE = """
SELECT i.period, (i.statistics->>'presented')::int, greatest(f.n, (i.statistics->>'presented')::int)
FROM item_analysis i
JOIN item_analysis f ON (f.scale_id, f.period, f.form_id, f.item_id) = (i.scale_id, i.period, '', '')
WHERE i.scale_id = %(scale)s AND i.item_id = %(item)s AND i.form_id = '' AND length(i.period) = 7 ORDER BY 1
"""
_TIME = """
SELECT median_ms, n FROM item_time WHERE item_id = %(item)s ORDER BY month DESC LIMIT 1
"""


def _months(connection: psycopg.Connection, scale: Scale, item_id: str) -> tuple[ItemInMonth, ...]:
    return tuple(
        ItemInMonth(
            **vars(FittedItem.from_row(row)),
            month=row["month"],
            start=row["start"],
            end=row["end"],
            fit_id=row["fit_id"],
            snapshot_hash=row["snapshot_hash"],
            latent=row["latent"],
            red=row["red"],
            dependent={
                name: pair["q3"]
                for pair in row["q3"] or ()
                if item_id in pair["items"]
                for name in pair["items"]
                if name != item_id
            },
        )
        for row in months_of_item(connection, scale, item_id)
    )
