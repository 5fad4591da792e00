"""Scores that were handed out: reading them, and the score of a learner that counts.

Rows are only ever added. The newest row of a sitting is its current score; `issuing` adds rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

import psycopg

from irt_assets.scales.scale import Scale
from resources.postgres.database import records

Status = Literal["issued", "held", "invalid"]
"""issued: handed out. held: not handed out until somebody decides. invalid: does not count."""


@dataclass(frozen=True, kw_only=True)
class IssuedScore:
    """A row of `issued_score`; its columns explain the fields. `issued_id` and `issued_at` are None until it is
    stored."""

    user_id: str
    scale_id: str
    form_id: str
    session_id: str
    sat_at: datetime
    raw: int | None
    theta: float | None
    theta_se: float | None
    scaled: float
    scaled_se: float
    percentile: float | None
    passes: bool | None
    pass_probability: float | None
    table_id: int | None
    set_hash: str
    status: Status
    decided_by: str
    reason: str
    replaces: int | None = None
    issued_id: int | None = None
    issued_at: datetime | None = None

    @property
    def sitting(self) -> tuple[str, str, str, str]:
        return self.user_id, self.scale_id, self.form_id, self.session_id


def issued_scores(
    connection: psycopg.Connection,
    *,
    scale_id: str | None = None,
    form_id: str | None = None,
    user_id: str | list[str] | None = None,
) -> list[IssuedScore]:
    """All rows, in the order in which they were added. None: all scales, forms or learners."""
    wanted = {"scale_id": scale_id, "form_id": form_id, "user_id": user_id}
    given = {name: [value] if isinstance(value, str) else value for name, value in wanted.items() if value is not None}
    where = " AND ".join(f"{name} = ANY(%({name})s)" for name in given) or "true"  # no OR, so that an index is used
    columns = ", ".join(column.name for column in fields(IssuedScore))
    return records(
        connection, IssuedScore, f"SELECT {columns} FROM issued_score WHERE {where} ORDER BY issued_id", given
    )


def current_scores(
    connection: psycopg.Connection,
    *,
    scale_id: str | None = None,
    form_id: str | None = None,
    user_id: str | None = None,
) -> list[IssuedScore]:
    """The newest row of each sitting, by time of the sitting."""
    return newest_of_sittings(issued_scores(connection, scale_id=scale_id, form_id=form_id, user_id=user_id))


def newest_of_sittings(rows: Iterable[IssuedScore]) -> list[IssuedScore]:
    """The newest row of each sitting, by time of the sitting. `rows` are in the order in which they were added."""
    return sorted({row.sitting: row for row in rows}.values(), key=lambda row: row.sat_at)


def counting_scores(rows: Iterable[IssuedScore], scales: Mapping[str, Scale]) -> dict[tuple[str, str], IssuedScore]:
    """The score that counts of each learner on each of the scales, by user_id and scale_id: the last, or the best.

    Only scores that are handed out count. The best is the highest scaled score; a score that passes is better than one
    that does not.
    """
    found = dict[tuple[str, str], IssuedScore]()
    for row in newest_of_sittings(rows):
        if row.status == "issued" and row.scale_id in scales:
            best = scales[row.scale_id].rules.scores.retest == "best"
            former = found.setdefault((row.user_id, row.scale_id), row)
            if not best or (bool(row.passes), row.scaled) > (bool(former.passes), former.scaled):
                found[row.user_id, row.scale_id] = row
    return found
