"""Rows of the ledger next to the rows that they must agree with, for the invariants to compare."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from irt_assets.ledger.encoding import item_columns
from irt_assets.ledger.fit_spec import LinkingConstants
from irt_assets.ledger.relations import MONTHS_IN_USE
from irt_psychometrics.items import ItemRow
from resources.postgres.database import named_rows, records


@dataclass(frozen=True)
class SourceOfPublication:
    """A publication, and the fit it names.

    Attributes:
        fit_is_there: whether the fit is stored.
        converged: whether the fit converged.
        slope: slope of the fit's linking, or None if it is not linked.
        fitted_hash: hash of the answers that were fitted.
    """

    item_id: str
    month: str
    fit_id: str | None
    rule: str
    data_hash: str | None
    code_version: str
    fit_is_there: bool
    converged: bool | None
    slope: str | None
    fitted_hash: str | None


def sources_of_publications(connection: psycopg.Connection) -> list[SourceOfPublication]:
    """All publications with their fits, in the order of publication."""
    return records(
        connection,
        SourceOfPublication,
        """SELECT p.item_id, coalesce(p.month, '') AS month, p.fit_id, p.rule, p.data_hash, p.code_version,
                      m.fit_id IS NOT NULL AS fit_is_there, m.converged,
                      m.model_spec->'linking_constants'->>'slope' AS slope, m.data_hash AS fitted_hash
               FROM item_parameter_publication p LEFT JOIN mirt_fit_meta m USING (fit_id)
               ORDER BY p.publication_id""",
    )


def values_now(connection: psycopg.Connection) -> dict[tuple[str, str], ItemRow]:
    """The parameters in force now, by scale and item."""
    rows = named_rows(connection, "SELECT * FROM item_parameter_current ORDER BY scale_id, item_id")
    return {(row["scale_id"], row["item_id"]): ItemRow.from_row(row) for row in rows}


@dataclass(frozen=True)
class Change:
    """A publication with the item's previous publication.

    Attributes:
        earlier, earlier_since, earlier_rule: id, first day and rule of the previous publication, or None if this is the
            first.
        decided: whether a decision of that date and kind is recorded.
        replaced: whether the publication that this one names in `replaces` exists.
        values: a, b and c.
    """

    item_id: str
    month: str
    rule: str
    effective_from: datetime
    replaces: int | None
    earlier: int | None
    earlier_since: datetime | None
    earlier_rule: str | None
    decided: bool
    replaced: bool
    values: list[float]


def changes(connection: psycopg.Connection) -> list[Change]:
    """All publications in the order of publication, each with the previous one and whether it was decided."""
    return records(
        connection,
        Change,
        """SELECT p.item_id, coalesce(p.month, '') AS month, p.rule, p.effective_from, p.replaces,
                      lag(p.publication_id) OVER mine AS earlier, lag(p.effective_from) OVER mine AS earlier_since,
                      lag(p.rule) OVER mine AS earlier_rule,
                      EXISTS (SELECT 1 FROM decision d
                              WHERE p.rule = 'pipeline' AND d.kind = 'publish new items'
                                AND (d.scale_id, d.subject, d.effective_from)
                                  = (p.scale_id, p.item_id, p.effective_from))
                      OR EXISTS (SELECT 1 FROM release_decision d
                              WHERE d.scale_id = p.scale_id AND d.item_id = p.item_id
                                AND d.effective_from = p.effective_from
                                AND CASE WHEN p.rule = 'undo' THEN d.decision = 'undo'
                                         ELSE d.decision = 'accept' AND d.fit_id = p.fit_id END) AS decided,
                      EXISTS (SELECT 1 FROM item_parameter_publication r
                              WHERE r.publication_id = p.replaces AND r.scale_id = p.scale_id
                                AND r.item_id = p.item_id) AS replaced,
                      ARRAY[p.a, p.b, p.c] AS values
               FROM item_parameter_publication p
               WINDOW mine AS (PARTITION BY p.scale_id, p.item_id ORDER BY p.publication_id)
               ORDER BY p.publication_id""",
    )


@dataclass(frozen=True)
class FrozenVersion:
    """A version of an anchor set, and the hashes stored in its rows (one, if nobody changed them)."""

    anchors: dict[str, ItemRow] = field(default_factory=dict)
    hashes: set[str] = field(default_factory=set)


def frozen_versions(connection: psycopg.Connection) -> dict[tuple[str, int], FrozenVersion]:
    """All versions of all anchor sets, ordered by scale and version."""
    found: dict[tuple[str, int], FrozenVersion] = defaultdict(FrozenVersion)
    rows = named_rows(
        connection,
        f"""SELECT scale_id, version, item_id, {item_columns("n")}, anchor_hash FROM anchor_set n
            ORDER BY scale_id, version, item_id""",
    )
    for row in rows:
        of_version = found[row["scale_id"], row["version"]]
        of_version.anchors[row["item_id"]] = ItemRow.from_row(row)
        of_version.hashes.add(row["anchor_hash"])
    return dict(found)


def versions_of_a_new_model(connection: psycopg.Connection) -> set[tuple[str, int]]:
    """Scale and version of the anchor sets that were frozen in the transaction of a decision to change the model."""
    return set(
        connection.execute(
            """SELECT DISTINCT s.scale_id, s.version FROM anchor_set s
               JOIN scale_decision d ON (d.scale_id, d.effective_from, d.decided_at)
                                      = (s.scale_id, s.effective_from, s.frozen_at)
               WHERE d.subject = 'model'"""
        ).fetchall()
    )


def anchors_in_the_bank(connection: psycopg.Connection) -> dict[tuple[str, str], str | None]:
    """The scale that the bank has for each anchor of a newest version, by the anchor set's scale and the item.

    The value is None if the bank does not have the item.
    """
    rows = connection.execute(
        """SELECT s.scale_id, s.item_id, q.scale_id
           FROM anchor_set s JOIN calibration_scale c ON c.scale_id = s.scale_id AND c.anchor_version = s.version
           LEFT JOIN question q USING (item_id) ORDER BY 1, 2"""
    )
    return {(scale_id, item): bank_scale for scale_id, item, bank_scale in rows}


def flagged_estimates(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Flagged estimates of months whose publication step is done: item_id, month, flags, `held` (whether the step holds
    the item back) and `published` (whether the estimate was published)."""
    return named_rows(
        connection,
        f"""SELECT i.item_id, m.month, i.flags::text, coalesce(s.held ? i.item_id, false) AS held,
                  EXISTS (SELECT 1 FROM item_parameter_publication p
                          WHERE p.fit_id = i.fit_id AND p.item_id = i.item_id) AS published
           FROM mirt_item_params i JOIN {MONTHS_IN_USE} m USING (fit_id)
           JOIN month_verdict s ON s.fit_id = i.fit_id AND s.state = 'done'
           WHERE i.flags <> '[]'::jsonb ORDER BY 2, 1""",
    )


def linkings(connection: psycopg.Connection) -> dict[tuple[str, str, str], LinkingConstants]:
    """Linking constants of all months' linked fits in use, keyed by scale, month and engine, ordered by month."""
    rows = connection.execute(
        f"""SELECT scale_id, month, engine, model_spec->'linking_constants' FROM {MONTHS_IN_USE} m
           ORDER BY month, scale_id"""
    )
    return {
        (scale_id, month, engine): LinkingConstants.from_json(stored, f"of {month} ({scale_id}, {engine})")
        for scale_id, month, engine, stored in rows
    }


def judgements_without_a_fit(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Rows of drift, DIF or information whose month has no linked fit in use, counted by table (`judged`), month and
    scale_id as `n`."""
    return named_rows(
        connection,
        f"""SELECT judged, j.month, j.scale_id, count(*) AS n FROM (
             SELECT 'item_drift' AS judged, month, scale_id, engine FROM item_drift
             UNION ALL SELECT 'dif_analysis', month, scale_id, NULL FROM dif_analysis
             UNION ALL SELECT 'test_information', month, scale_id, NULL FROM test_information) j
           WHERE NOT EXISTS (
             SELECT FROM {MONTHS_IN_USE} m
             WHERE (m.scale_id, m.month) = (j.scale_id, j.month) AND m.engine = coalesce(j.engine, m.engine))
           GROUP BY 1, 2, 3 ORDER BY 2, 1, 3""",
    )


def drift_without_a_publication(connection: psycopg.Connection) -> list[dict[str, Any]]:
    """Month, scale_id and item_id of drift rows for items without a published value when the month began."""
    return named_rows(
        connection,
        """SELECT month, scale_id, item_id FROM item_drift d
           WHERE NOT EXISTS (
             SELECT FROM item_parameter_publication p
             WHERE (p.scale_id, p.item_id) = (d.scale_id, d.item_id)
               AND p.effective_from <= (d.month || '-01')::timestamp AT TIME ZONE 'UTC')
           ORDER BY 1, 2, 3""",
    )


def large_drift(connection: psycopg.Connection, before: datetime) -> list[dict[str, Any]]:
    """Open alerts of high drift for items in use: scale_id, item_id, opened_month, kind, `is_old` (whether the alert
    was opened before `before`) and `decided` (whether somebody has decided on the item since)."""
    return named_rows(
        connection,
        """SELECT scale_id, item_id, opened_month, kind, opened_at < %s AS is_old,
                  EXISTS (SELECT FROM release_decision d LEFT JOIN standing_decision s USING (decision_id)
                          WHERE (d.scale_id, d.item_id) = (a.scale_id, a.item_id) AND d.decided_at >= a.opened_at
                            AND (s.decision_id IS NOT NULL OR d.decision = 'drop_anchor')) AS decided
           FROM drift_alerts a JOIN question q USING (scale_id, item_id)
           WHERE closed_month IS NULL AND severity = 'high'
             AND NOT EXISTS (SELECT FROM item_withdrawal w WHERE w.item_id = a.item_id AND w.until IS NULL)
           ORDER BY 1, 2""",
        (before,),
    )
