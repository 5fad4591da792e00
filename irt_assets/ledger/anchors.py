"""Anchor sets: the values of a version, the hash it is frozen under, and the writing of new versions.

A version holds for windows from its `effective_from` on (null: from the origin on), and its rows are never changed.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import psycopg

from irt_assets.common.arrays import Floats
from irt_assets.ledger.audit import versions_of_a_new_model
from irt_assets.ledger.cited_fits import further_errors_of_origins
from irt_assets.ledger.encoding import item_as_json, item_columns
from irt_assets.scales.scale import Scale
from irt_psychometrics import Calibration, ItemParameters
from irt_psychometrics.items import ItemRow
from irt_psychometrics.linking import AnchorSet
from resources.postgres.database import first_column, named_rows, one_value

MAX_WITH_COVARIANCES = 300
"""Largest number of anchors whose joint covariance is stored with the set (360,000 numbers)."""
_ROW = f"item_id, version, {item_columns('n')}, errors_assumed, topic_id, cov"
Anchors = dict[str, ItemRow]
Topics = dict[str, str | None]


def read_anchors(connection: psycopg.Connection, scale_id: str, version: int) -> AnchorSet | None:
    """The frozen anchors of a scale. Returns None if the scale has not been initialised."""
    rows = named_rows(
        connection,
        f"SELECT {_ROW} FROM anchor_set n WHERE scale_id = %s AND version = %s ORDER BY item_id",
        (scale_id, version),
    )
    return _anchor_set(connection, scale_id, rows)


def read_every_anchor(connection: psycopg.Connection, scale_id: str, version: int) -> AnchorSet | None:
    """Read the anchors of all versions of the set up to `version`, including dropped ones, which earlier fits used.

    Each has its newest values. Returns None if the scale has not been initialised.
    """
    wanted = {"scale": scale_id, "version": version, "items": None}
    return _anchor_set(connection, scale_id, named_rows(connection, _LAST_FROZEN, wanted))


def _anchor_set(connection: psycopg.Connection, scale_id: str, rows: list[dict[str, Any]]) -> AnchorSet | None:
    """Make the set from the rows. Errors of further parameters are known if the values come from an origin window."""
    if not rows:
        return None
    items = ItemParameters.from_rows([row["item_id"] for row in rows], map(ItemRow.from_row, rows))
    known = further_errors_of_origins(connection, scale_id, items.item_ids)
    values = enumerate(zip(items.item_ids, items.a.tolist(), items.b.tolist(), strict=True))
    further = {k: known[value] for k, value in values if value in known}
    return AnchorSet(
        **vars(items)
        | {"cov": items.cov if any(row["cov"] is None for row in rows) else _joint_covariance(rows)[None]}
        | {"further_cov": items.further_cov_of(further) if further else None},
        scale_id=scale_id,
        version=str(max(row["version"] for row in rows)),
        topics=tuple(row["topic_id"] for row in rows),
        errors_assumed=np.array([row["errors_assumed"] for row in rows]),
    )


def _joint_covariance(rows: list[dict[str, Any]]) -> Floats:
    """Covariance of (a, b) of all K anchors, shape (2K, 2K). Anchors from different fits have covariance 0."""
    joint = np.zeros((len(rows), 2, len(rows), 2))
    for j, row in enumerate(rows):
        for k, other in enumerate(rows):
            if row["version"] == other["version"] and other["item_id"] in row["cov"]:
                joint[j, :, k] = np.reshape(row["cov"][other["item_id"]], (2, 2))
    return joint.reshape(2 * len(rows), 2 * len(rows))


def anchor_items(connection: psycopg.Connection, scale: Scale) -> set[str]:
    """The anchors in the version of the set that `scale` names."""
    return set(
        first_column(
            connection,
            "SELECT item_id FROM anchor_set WHERE scale_id = %s AND version = %s",
            (scale.scale_id, scale.anchor_version),
        )
    )


def anchors_among(connection: psycopg.Connection, items: Sequence[str]) -> set[str]:
    """The subset of `items` that are anchors in the newest version of their scale's set."""
    return set(
        first_column(
            connection,
            """SELECT item_id FROM anchor_set n JOIN calibration_scale s
             ON (s.scale_id, s.anchor_version) = (n.scale_id, n.version)
           WHERE item_id = ANY(%s)""",
            (list(items),),
        )
    )


def anchor_hash(connection: psycopg.Connection, scale_id: str, version: int) -> str:
    """The hash under which the anchor set was frozen. Returns "" if there is no such set."""
    return one_value(
        connection,
        "SELECT coalesce(max(anchor_hash), '') FROM anchor_set WHERE scale_id = %s AND version = %s",
        (scale_id, version),
    )


def anchors_change_after(connection: psycopg.Connection, scale_id: str, start: datetime) -> datetime | None:
    """The date from which the newest version of the anchor set applies. Returns None if it is not after `start`."""
    return one_value(
        connection,
        "SELECT max(effective_from) FROM anchor_set WHERE scale_id = %s HAVING max(effective_from) > %s",
        (scale_id, start),
    )


def hash_of_anchors(anchors: Mapping[str, ItemRow]) -> str:
    """SHA-256 of the anchors' values and errors (hex), independent of their order."""
    content = {item: [*x.with_errors, *x.scored_with[3:]] for item, x in anchors.items()}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def freeze_anchors(
    connection: psycopg.Connection,
    scale_id: str,
    version: int,
    anchors: Anchors,
    topics: Topics,
    assumed: Collection[str] = (),
    effective_from: datetime | None = None,
    fit: Calibration | None = None,
) -> str:
    """Write a version of the anchor set and return its hash.

    Args:
        assumed: items whose errors are assumed.
        effective_from: start of the first window that uses the version; None: the origin.
        fit: the fit, on the bank's scale, from which all values come, or None if they come from the bank.
    """
    digest = hash_of_anchors(anchors)
    covariances = {} if fit is None else _covariances(fit, sorted(anchors))
    columns = "scale_id, version, item_id, parameters, errors_assumed, topic_id, anchor_hash, effective_from, cov"
    with connection.cursor().copy(f"COPY anchor_set ({columns}) FROM STDIN") as copy:
        for item, values in sorted(anchors.items()):
            copy.write_row(
                [scale_id, version, item, item_as_json(values), item in assumed, topics[item], digest, effective_from]
                + [json.dumps(covariances[item]) if covariances else None]
            )
    return digest


def _covariances(fit: Calibration, items: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Covariances of (a, b) between all pairs of `items`, flattened by row, as stored in `anchor_set.cov`.

    Returns an empty dict if the fit has no joint covariance or if there are more than MAX_WITH_COVARIANCES items.
    """
    if fit.joint_cov is None or len(items) > MAX_WITH_COVARIANCES:
        return {}
    index_of = {item: j for j, item in enumerate(fit.item_ids)}
    cov = fit.select([index_of[item] for item in items]).items.joint_cov
    blocks = cov.reshape(len(items), 2, len(items), 2)
    return {
        item: {other: blocks[j, :, k].ravel().tolist() for k, other in enumerate(items)} for j, item in enumerate(items)
    }


_LAST_FROZEN = f"""
    SELECT DISTINCT ON (item_id) {_ROW}, parameters FROM anchor_set n
    WHERE scale_id = %(scale)s AND version <= %(version)s
      AND (%(items)s::text[] IS NULL OR item_id = ANY(%(items)s)) ORDER BY item_id, version DESC"""
"""The items (null: all) with the values that they were last frozen with."""


def preview_set(connection: psycopg.Connection, scale: Scale, items: Collection[str]) -> tuple[AnchorSet | None, str]:
    """The anchor set that `freeze_set` would write for the items, and its hash."""
    wanted = {"scale": scale.scale_id, "version": scale.anchor_version, "items": [*items]}
    rows = [row | {"version": scale.anchor_version} for row in named_rows(connection, _LAST_FROZEN, wanted)]
    digest = hash_of_anchors({row["item_id"]: ItemRow.from_row(row) for row in rows})
    return _anchor_set(connection, scale.scale_id, rows), digest


def freeze_set(connection: psycopg.Connection, scale: Scale, items: Collection[str], effective_from: datetime) -> None:
    """Write a new version with these items for windows from `effective_from` on, and make it the scale's newest.

    Each item keeps the values that it was last frozen with.
    """
    _, digest = preview_set(connection, scale, items)
    version = scale.anchor_version + 1
    connection.execute(
        f"""INSERT INTO anchor_set (scale_id, version, item_id, parameters, errors_assumed, topic_id, cov, anchor_hash,
                                   effective_from)
           SELECT %(scale)s, %(new)s, item_id, parameters, errors_assumed, topic_id, cov, %(digest)s, %(since)s
           FROM ({_LAST_FROZEN}) as_frozen""",
        {"scale": scale.scale_id, "version": scale.anchor_version, "items": [*items]}
        | {"new": version, "digest": digest, "since": effective_from},
    )
    make_newest(connection, scale.scale_id, version)


def dropped_anchors(connection: psycopg.Connection, scale: Scale) -> set[str]:
    """Items that have left the anchor set of `scale` since it was last frozen for a new model."""
    of_models = [version for scale_id, version in versions_of_a_new_model(connection) if scale_id == scale.scale_id]
    return set(
        first_column(
            connection,
            """SELECT item_id FROM anchor_set WHERE scale_id = %(scale)s AND version >= %(first)s AND version < %(now)s
           EXCEPT SELECT item_id FROM anchor_set WHERE (scale_id, version) = (%(scale)s, %(now)s)""",
            {"scale": scale.scale_id, "first": max(of_models, default=0), "now": scale.anchor_version},
        )
    )


def next_version(connection: psycopg.Connection, scale_id: str) -> int:
    """The number that the next frozen version will have."""
    return int(one_value(connection, "SELECT max(version) + 1 FROM anchor_set WHERE scale_id = %s", (scale_id,)))


def make_newest(connection: psycopg.Connection, scale_id: str, version: int) -> None:
    """Record `version` as the newest version of the scale's anchors."""
    connection.execute("UPDATE calibration_scale SET anchor_version = %s WHERE scale_id = %s", (version, scale_id))
