"""Publish item parameters, and read the parameters in force at a time and the publications of an item.

Rows are only ever added. The item's publication with the latest `effective_from` up to a time is in force then; if
several have the same `effective_from`, the last one made is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple

import psycopg

from irt_assets.ledger.encoding import item_as_json, item_columns
from irt_assets.ledger.testlets import EffectsInForce, effects_in_force
from irt_assets.scales.item_status import Withdrawals, read_withdrawals
from irt_psychometrics.items import ItemRow
from irt_psychometrics.scoring import ParameterErrors
from resources.postgres.database import first_column, named_rows, one_value
from resources.postgres.warehouse import read_frame
from resources.version import code_version

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class PublishedSet:
    """The parameters in force on a scale at a time.

    Attributes:
        items: parameters by item.
        withdrawn: the items and times for which answers do not count.
        testlets: effects of testlets, or None if no SD is in force.
        fits: item → the fit from which its values come, or None for the bank's values.
        errors: errors of the items, in the same order (see `item_errors.set_with_errors`), or None if not requested.
        publication_ids: number of each item's publication.
    """

    items: dict[str, ItemRow]
    set_hash: str
    withdrawn: Withdrawals = field(default_factory=Withdrawals)
    testlets: EffectsInForce | None = None
    fits: dict[str, str | None] = field(default_factory=dict)
    errors: ParameterErrors | None = None
    publication_ids: dict[str, int] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Publication:
    """A row of `item_parameter_publication`; `publication_id` is None until it is published."""

    scale_id: str
    item_id: str
    values: ItemRow
    effective_from: datetime
    rule: str
    reason: str
    anchor_hash: str
    data_hash: str | None
    month: str | None = None
    fit_id: str | None = None
    decided_by: str | None = None
    replaces: int | None = None
    publication_id: int | None = None


class ItemInForce(NamedTuple):
    """An item's values in force, the fit from which they come (None: the bank), and their first day."""

    item_id: str
    values: ItemRow
    fit_id: str | None
    effective_from: datetime


def in_force(connection: psycopg.Connection, scale_id: str, at: datetime) -> PublishedSet:
    """The published set in force at `at`: each item's last publication with effective_from ≤ at.

    Its hash covers the parameters and, if an SD of testlet effects is in force, the testlets.
    """
    rows = _last_published(connection, scale_id, at, f"publication_id, fit_id, {item_columns('p')}")
    items = {row["item_id"]: ItemRow.from_row(row) for row in rows}
    content = [(item, *values.scored_with) for item, values in items.items()]
    testlets = effects_in_force(connection, scale_id, at, items)
    hashed: Any = content if testlets is None else [content, testlets.sd, testlets.of]
    digest = hashlib.sha256(json.dumps(hashed).encode()).hexdigest()
    fits, numbers = ({row["item_id"]: row[name] for row in rows} for name in ("fit_id", "publication_id"))
    return PublishedSet(items, digest, read_withdrawals(connection), testlets, fits, publication_ids=numbers)


def ends_of_sets(connection: psycopg.Connection, scale_id: str, before: datetime, most: int) -> list[datetime]:
    """Return the last moments of the published sets that were replaced up to `before`, newest first, at most `most`."""
    return first_column(
        connection,
        """SELECT DISTINCT effective_from - interval '1 us' FROM (
             SELECT scale_id, effective_from FROM item_parameter_publication
             UNION ALL SELECT scale_id, effective_from FROM testlet_sd_publication) published
           WHERE scale_id = %s AND effective_from <= %s ORDER BY 1 DESC LIMIT %s""",
        (scale_id, before, most),
    )


def newest_publication(connection: psycopg.Connection, scale_id: str, at: datetime) -> int | None:
    """Return the number of the scale's last publication in force at `at`, which another set changes."""
    return one_value(
        connection,
        "SELECT max(publication_id) FROM item_parameter_publication WHERE scale_id = %s AND effective_from <= %s",
        (scale_id, at),
    )


def in_force_query(columns: LiteralString) -> LiteralString:
    """SQL query for these columns of the publications in force at `at`.

    To read a single scale, filter the query from outside: PostgreSQL then reads no other scale.
    """
    return f"""SELECT DISTINCT ON (scale_id, item_id) scale_id, item_id, {columns}
               FROM item_parameter_publication p WHERE effective_from <= %(at)s
               ORDER BY scale_id, item_id, effective_from DESC, publication_id DESC"""


def publications_in_force(connection: psycopg.Connection, scale_id: str, at: datetime) -> list[ItemInForce]:
    """The last publication of each item with effective_from ≤ at, by item."""
    rows = _last_published(connection, scale_id, at, f"fit_id, effective_from, {item_columns('p')}")
    return [ItemInForce(row["item_id"], ItemRow.from_row(row), row["fit_id"], row["effective_from"]) for row in rows]


def _last_published(
    connection: psycopg.Connection, scale_id: str, at: datetime, columns: LiteralString
) -> list[dict[str, Any]]:
    return named_rows(
        connection,
        f"SELECT * FROM ({in_force_query(columns)}) p WHERE scale_id = %(scale)s ORDER BY item_id",
        {"scale": scale_id, "at": at},
    )


def bank_in_force(connection: psycopg.Connection, scale_id: str, at: datetime) -> list[dict[str, Any]]:
    """All items of the bank on a scale: item_id, topic_id, the b in force at `at` (or None), and
    `was_anchor`, whether the item was ever an anchor."""
    return named_rows(
        connection,
        f"""SELECT q.item_id, q.topic_id, p.b, n.item_id IS NOT NULL AS was_anchor
            FROM question q
            LEFT JOIN (SELECT item_id, b FROM ({in_force_query("b")}) i WHERE scale_id = %(scale)s) p USING (item_id)
            LEFT JOIN (SELECT DISTINCT item_id FROM anchor_set WHERE scale_id = %(scale)s) n USING (item_id)
            WHERE q.scale_id = %(scale)s""",
        {"scale": scale_id, "at": at},
    )


def parameters_of_every_scale(
    connection: psycopg.Connection, at: datetime, since: datetime | None = None
) -> pd.DataFrame:
    """Parameters in force at `at` by scale and item, with the person who decided and whether the item was in use.

    `since`: only values that have been published or have come into force after this time. The column `further` has the
    parameters beyond a, b and c as JSON. It is left out if no item has any.
    """
    published = in_force_query(
        f"{item_columns('p')}, effective_from, published_at, rule, month, decided_by, reason, fit_id"
    )
    found = read_frame(
        connection,
        f"""SELECT scale_id, p.item_id, a, b, c, a_se, b_se, c_se, effective_from, rule, month, p.decided_by, p.reason,
                   fit_id, further::text, CASE WHEN w.since IS NULL THEN 'in use' ELSE 'withdrawn' END AS status,
                   w.since AS withdrawn_from, w.reason AS withdrawn_because
            FROM ({published}) p
            LEFT JOIN item_withdrawal w
              ON w.item_id = p.item_id AND w.since <= %(at)s AND (w.until IS NULL OR w.until > %(at)s)
            WHERE %(since)s::timestamptz IS NULL OR greatest(effective_from, published_at) > %(since)s
            ORDER BY scale_id, item_id""",
        {"at": at, "since": since},
    )
    return found if found["further"].notna().any() else found.drop(columns="further")


def items_ever_published(connection: psycopg.Connection, scale_id: str) -> set[str]:
    """Items with at least one publication, of any effective_from."""
    return set(
        first_column(
            connection, "SELECT DISTINCT item_id FROM item_parameter_publication WHERE scale_id = %s", (scale_id,)
        )
    )


def first_days_to_come(connection: psycopg.Connection) -> dict[str, datetime]:
    """Read the first day of each item whose first publication is not in force yet."""
    return dict(
        connection.execute(
            """SELECT item_id, min(effective_from) FROM item_parameter_publication
               GROUP BY 1 HAVING min(effective_from) > now()"""
        ).fetchall()
    )


def items_published_by(connection: psycopg.Connection, scale_id: str, at: datetime) -> frozenset[str]:
    """The items with a publication in force at `at`."""
    return frozenset(
        first_column(
            connection,
            "SELECT DISTINCT item_id FROM item_parameter_publication WHERE scale_id = %s AND effective_from <= %s",
            (scale_id, at),
        )
    )


def settled_values(connection: psycopg.Connection, scale_id: str, month: str) -> dict[str, list[ItemRow]]:
    """Values that are settled, by item: the month published them as the item's first, or a person decided on its
    proposal."""
    settled: dict[str, list[ItemRow]] = {}
    for row in named_rows(
        connection,
        f"""SELECT item_id, {item_columns("p")} FROM item_parameter_publication p
           WHERE (scale_id, month, rule) = (%(scale)s, %(month)s, 'first')
           UNION
           SELECT item_id, {item_columns("p")} FROM item_parameter_proposal p
           JOIN standing_decision d USING (month, scale_id, item_id, fit_id)
           WHERE (p.scale_id, p.month) = (%(scale)s, %(month)s)""",
        {"scale": scale_id, "month": month},
    ):
        settled.setdefault(row["item_id"], []).append(ItemRow.from_row(row))
    return settled


def publications_of(connection: psycopg.Connection, scale_id: str, item_id: str) -> list[Publication]:
    """All publications of an item of a scale, in the order of publication."""
    rows = named_rows(
        connection,
        f"""SELECT *, {item_columns("p")} FROM item_parameter_publication p
            WHERE (scale_id, item_id) = (%s, %s) ORDER BY publication_id""",
        (scale_id, item_id),
    )
    stored = [f.name for f in fields(Publication) if f.name != "values"]
    return [Publication(values=ItemRow.from_row(row), **{name: row[name] for name in stored}) for row in rows]


def publish(connection: psycopg.Connection, publications: Iterable[Publication], run_id: str | None = None) -> None:
    """Append publications with the current code version, in the caller's transaction."""
    columns = [f.name for f in fields(Publication) if f.name not in ("values", "publication_id")]
    statement = (
        f"""COPY item_parameter_publication ({", ".join(columns)}, parameters, code_version, run_id) FROM STDIN"""
    )
    version = code_version()
    with connection.cursor().copy(statement) as copy:
        for publication in publications:
            copy.write_row(
                [*(getattr(publication, name) for name in columns), item_as_json(publication.values), version, run_id]
            )


def publications_with_their_fits(connection: psycopg.Connection, item_id: str) -> list[dict[str, Any]]:
    """All publications of an item with their fit, snapshot and anchors, the latest effective_from first."""
    return named_rows(
        connection,
        f"""
            SELECT p.publication_id, p.scale_id, p.item_id, {item_columns("p")}, p.effective_from, p.rule, p.decided_by,
                   p.reason, p.replaces, p.month, p.fit_id, p.data_hash,
                   p.anchor_hash, p.code_version, p.run_id, p.published_at,
                   current.publication_id IS NOT NULL AS in_force,
                   m.engine, m.engine_version, m.model, m.n_persons, m.n_responses AS fit_responses,
                   m.model_spec->'linking_constants' AS linking_constants, m.snapshot_hash,
                   coalesce(s.uri, m.model_spec->>'snapshot') AS snapshot,
                   i.n_responses, i.params->'raw' AS raw
            FROM item_parameter_publication p
            LEFT JOIN item_parameter_current current ON current.publication_id = p.publication_id
            LEFT JOIN mirt_fit_meta m ON m.fit_id = p.fit_id
            LEFT JOIN mirt_item_params i ON i.fit_id = p.fit_id AND i.item_id = p.item_id
            LEFT JOIN scored_snapshot s ON s.month = p.month AND s.snapshot_hash = m.snapshot_hash
            WHERE p.item_id = %s ORDER BY p.effective_from DESC, p.publication_id DESC
            """,
        (item_id,),
    )
