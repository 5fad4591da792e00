"""Read a month's answers and learners' attributes, describe the groups of each attribute, and write the rows.

`groups` has the statistics. Two months are compared by the set in force at the end of the later one, so that new
values of items do not look like a change of ability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa

from irt_assets.abilities.groups import (
    MIN_LEARNERS,
    NOT_DESCRIBED,
    GroupFit,
    MonthSample,
    Row,
    fit_groups,
    group_rows,
    with_q_values,
)
from irt_assets.common.partitions import Month
from irt_assets.ledger.item_errors import set_with_errors
from irt_assets.responses.learner_groups import groups_of
from irt_assets.responses.snapshot import FIT_COLUMNS, read_for_run, sample_for_run, snapshot_for_scale
from irt_assets.responses.window import scored_responses_of
from irt_assets.scales.scale import Scale, read_scales
from irt_psychometrics.scoring import ParameterErrors
from resources import tables
from resources.files.object_store import ObjectStore
from resources.postgres import warehouse
from resources.postgres.database import Database, database_settings


@dataclass(frozen=True)
class MonthReader:
    """The answers of months: each file is read once."""

    connection: psycopg.Connection
    store: ObjectStore
    files: dict[str, pa.Table]

    def read(self, month: str, scale: Scale, items: Sequence[str]) -> tuple[MonthSample, str] | None:
        """The answers to `items` that a month's fit would use, and the sample of learners in words.

        Returns None if the month has no file of answers.
        """
        snapshot = snapshot_for_scale(self.connection, month, scale.scale_id)
        if snapshot is None:
            return None
        most = database_settings(self.connection).most_for_run
        if snapshot.snapshot_hash not in self.files:
            self.files[snapshot.snapshot_hash] = read_for_run(self.store, snapshot, most, FIT_COLUMNS)
        responses, learners = scored_responses_of(self.files[snapshot.snapshot_hash], scale.scale_id)
        responses = responses.of_items(np.isin(np.array(responses.item_ids, dtype=str), items))
        answered = np.unique(responses.person)
        sample = MonthSample(responses.of_persons(answered), learners[answered].astype(np.int64))
        return sample, sample_for_run(snapshot, most, scale.scale_id)


def groups_of_month(database: Database, store: ObjectStore, month: str) -> dict[str, list[Row]]:
    """Describe the groups of every scale's attributes and replace the month's stored rows, in one transaction.

    Returns the rows by scale, as stored in `group_ability`.
    """
    files: dict[str, pa.Table] = {}
    found: dict[str, list[Row]] = {}
    for scale in database.call(read_scales, Month(month).start).values():
        with database.connect() as connection:
            rows = scale_rows(MonthReader(connection, store, files), month, scale)
        found[scale.scale_id] = [{"month": month, "scale_id": scale.scale_id} | row for row in rows]
    with database.connect() as connection:
        for scale_id, rows in found.items():
            owned = {"month": month, "scale_id": scale_id}
            warehouse.replace(connection, tables.group_ability, owned, pd.DataFrame(rows))
    return found


def scale_rows(reader: MonthReader, month: str, scale: Scale) -> list[Row]:
    """The rows of a scale's attributes, without month and scale."""
    published = set_with_errors(reader.connection, scale.scale_id, Month(month).end)
    now = reader.read(month, scale, list(published.items))
    attributes = scale.rules.warnings.attributes
    if published.errors is None or now is None or not now[0].learners.size:
        why = "no learner has an answer that counts"
        if published.errors is None:
            why = f"no parameters of scale {scale.scale_id} are in force at the end of {month}"
        return [whole_row(attribute, 0, {}, {"why_not": why}) for attribute in attributes]
    before = reader.read(Month(month).previous, scale, list(published.items))
    rows = []
    for attribute in attributes:
        rows += attribute_rows(reader.connection, attribute, now, before and before[0], published.errors, scale)
    return with_q_values(rows)


def attribute_rows(
    connection: psycopg.Connection,
    attribute: str,
    now: tuple[MonthSample, str],
    before: MonthSample | None,
    errors: ParameterErrors,
    scale: Scale,
) -> list[Row]:
    """The rows of an attribute and of the attribute as a whole. Groups of both months are by present attributes."""
    sample, sample_in_words = now
    groups, n_unreadable = groups_of(connection, attribute, sample.learners.tolist())
    fits, small = fit_groups(sample, groups, errors)
    earlier: dict[str, GroupFit] = {}
    if before is not None and fits:
        earlier, _ = fit_groups(before, groups_of(connection, attribute, before.learners.tolist())[0], errors)
    no_change = "" if before is not None else "the month before has no file of answers"
    rows = group_rows(fits, earlier, errors, scale.pass_theta, no_change)
    details = {
        "why_not": "" if fits else f"no group has {MIN_LEARNERS} learners",
        "n_unknown": sum(group is None for group in groups),
        "n_unreadable": n_unreadable,
        "sample": sample_in_words,
    }
    whole = whole_row(attribute, len(groups), small, details, rows[0]["reference_group"] if rows else "")
    return [whole, *({"attribute": attribute} | row for row in rows)]


def whole_row(attribute: str, n: int, small: dict[str, int], details: Row, reference: str = "") -> Row:
    """The row of an attribute as a whole. `small`: numbers of learners in the groups that are not described."""
    counts = {"smaller_groups": {"groups": len(small), "learners": sum(small.values())}}
    key = {"attribute": attribute, "group_name": "", "n": n, "reference_group": reference}
    return key | dict.fromkeys(NOT_DESCRIBED) | {"details": details | counts}
