"""Decide which score table of a form is in force: release a table, undo a release, and preview the effect.

A decision is a row of `scale_decision` with the former table, so it can be undone. Issued scores stay as they were
handed out (see `issued`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
import psycopg

from irt_assets.common.wording import quantity
from irt_assets.decisions.release import require_text
from irt_assets.item_analysis.stored import read_forms
from irt_assets.responses.scale_decisions import TABLE_OF, record_decisions
from irt_assets.responses.scales import Scale
from irt_assets.scores.form_tables import FormTable, read_tables
from irt_assets.scores.issued import current_scores
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, named_rows, one_value


@dataclass(frozen=True)
class ScoreChanges:
    """Learners whose reported score or pass differs between two tables.

    Attributes:
        learners: number of learners.
        scaled: number of learners with another scaled score.
        newly_passed, newly_failed: numbers of learners who pass by the second table only, or by the first only.
    """

    learners: int
    scaled: int
    newly_passed: int
    newly_failed: int

    @classmethod
    def between(cls, before: FormTable, after: FormTable, counts: Sequence[int]) -> "ScoreChanges":
        """Compare two tables of one form. `counts` are the numbers of learners with each raw score."""
        n = np.array(counts)
        old, new = before.table, after.table
        return cls(
            int(n.sum()),
            int(n[old.scaled != new.scaled].sum()),
            int(n[new.passes & ~old.passes].sum()),
            int(n[old.passes & ~new.passes].sum()),
        )

    @property
    def in_words(self) -> str:
        return (
            f"{self.scaled:,} have another scaled score, {self.newly_passed:,} newly pass and {self.newly_failed:,} "
            "newly fail"
        )


@dataclass(frozen=True)
class TableRelease:
    """A release of a table, made or previewed.

    Attributes:
        table: the table that is in force afterwards; None: the form has no released table.
        before: the table in force before, or None.
        of_month: changes among the learners of the table's month, or None if a table or the raw scores are missing.
        of_issued: changes among issued scores, if they were issued again.
    """

    form_id: str
    table: FormTable | None
    before: FormTable | None
    of_month: ScoreChanges | None = None
    of_issued: ScoreChanges | None = None

    @property
    def sentences(self) -> list[str]:
        """The release in words, for the person who decides."""
        if self.table is None:
            return [f"form {self.form_id} has no released table any more, and no scores of it can be issued"]
        new = (
            f"form {self.form_id}: table {self.table.table_id} of {self.table.month} ({self.table.method}); "
            f"{self.table.passing_in_words}"
        )
        if self.before is None:
            lines = [f"{new}; no table was in force before"]
        elif not np.isfinite(move := self.table.largest_move(self.before)):
            again = f"`irt scores issue {quote(self.form_id)} --again --scale {quote(self.table.scale_id)}`"
            why = "the number of raw scores differs, because items were dropped or added"
            lines = [f"{new}; {why}; after the release, {again} lists the scores that change"]
        else:
            lines = [
                f"{new}; it replaces table {self.before.table_id} of {self.before.month}",
                f"the unrounded score of a raw score moves by up to {move:.2f}",
            ]
        if self.of_month is not None:
            lines.append(
                f"of {quantity(self.of_month.learners, 'learner')} of {self.table.month}, {self.of_month.in_words}"
            )
        if self.of_issued is not None:
            lines.append(
                f"of {quantity(self.of_issued.learners, 'score')} that were handed out, {self.of_issued.in_words}; "
                "they stay as they are unless they are issued again"
            )
        return lines


def table_decisions(connection: psycopg.Connection, scale_id: str, form_id: str | None = None) -> list[dict[str, Any]]:
    """The decisions on the score tables of a scale, oldest first: decision_id, form_id, table_id, former (numbers of
    tables, or None), `undoes` (the decision that it undoes, or None), decided_by, reason and decided_at."""
    return named_rows(
        connection,
        """SELECT decision_id, substr(subject, %(n)s) AS form_id, (value::jsonb->>'table')::bigint AS table_id,
                  (value::jsonb->>'former')::bigint AS former, (value::jsonb->>'undoes')::bigint AS undoes,
                  decided_by, reason, decided_at
           FROM scale_decision
           WHERE scale_id = %(scale)s AND starts_with(subject, %(prefix)s)
             AND substr(subject, %(n)s) = coalesce(%(form)s, substr(subject, %(n)s)) ORDER BY decision_id""",
        {"scale": scale_id, "prefix": TABLE_OF, "n": len(TABLE_OF) + 1, "form": form_id},
    )


def released_tables(connection: psycopg.Connection, scale_id: str) -> dict[str, FormTable]:
    """The released table of each form that has one."""
    newest = {decision["form_id"]: decision["table_id"] for decision in table_decisions(connection, scale_id)}
    wanted = {table_id for table_id in newest.values() if table_id is not None}
    return {found.form_id: found for found in read_tables(connection, scale_id) if found.table_id in wanted}


class MovedTable(NamedTuple):
    """A released table that does not hold, the table that shows it, and how scores and passes moved."""

    released: FormTable
    new: FormTable
    why: str


def moved_tables(connection: psycopg.Connection, scale: Scale, month: str | None = None) -> list[MovedTable]:
    """The released tables of a scale that do not hold, by the tables of the month (None: the newest tables)."""
    made = {found.form_id: found for found in read_tables(connection, scale.scale_id, month=month)}
    moved = []
    for form_id, released in released_tables(connection, scale.scale_id).items():
        if (new := made.get(form_id)) is None or new.table_id == released.table_id:
            continue
        move, cuts = new.largest_move(released), (new.table.raw_cut, released.table.raw_cut)
        if move > scale.rules.scores.max_score_shift or cuts[0] != cuts[1]:
            other_pass = f"; raw scores pass from {cuts[0]} on, not from {cuts[1]}" if cuts[0] != cuts[1] else ""
            moved.append(MovedTable(released, new, f"moves by up to {move:.2f}{other_pass}"))
    return moved


def find_table(
    connection: psycopg.Connection,
    scale_id: str,
    form_id: str,
    *,
    month: str | None = None,
    table_id: int | None = None,
    released: bool = False,
) -> FormTable:
    """The newest table of a form: of this month, with this number, or the released one.

    Raises PermanentFailure if the form has no such table.
    """
    found = read_tables(connection, scale_id, form_id=form_id, month=month, table_id=table_id)
    if released:
        found = [*filter(None, [released_tables(connection, scale_id).get(form_id)])]
    if not found:
        which = f" with the number {table_id}" * (table_id is not None) + f" of {month}" * (month is not None)
        raise PermanentFailure(
            f"scale {scale_id} has no {'released ' * released}score table{which} of a form {form_id}: "
            f"`irt scores table --scale {quote(scale_id)}` lists the tables, and the forms without one"
        )
    return found[-1]


def preview_release(
    connection: psycopg.Connection, scale_id: str, form_id: str, table_id: int | None = None, *, undo: bool = False
) -> TableRelease:
    """The effect of `release_table`. Changes nothing. Raises the same errors."""
    return _plan(connection, scale_id, form_id, table_id, undo)[0]


def release_table(
    database: Database,
    scale_id: str,
    form_id: str,
    table_id: int | None = None,
    *,
    undo: bool = False,
    by: str,
    reason: str,
    seen: TableRelease | None = None,
) -> TableRelease:
    """Record that `by` releases a score table of a form.

    Parameters
    ----------
    database
        The database.
    scale_id, form_id
        The form.
    table_id
        Number of the table; None: the newest one of the form.
    undo
        Whether to undo the last release that stands, instead; the table before it is in force again.
    by, reason
        Name of the person who decides, and the reason.
    seen
        The preview that the person has seen.

    Raises
    ------
    PermanentFailure
        If the form has no such table, if it is in force already, if there is no release to undo, or if the effect
        differs from `seen`.
    """
    by, reason = require_text("name", by), require_text("reason", reason)
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        planned, undoes = _plan(connection, scale_id, form_id, table_id, undo)
        if seen is not None and (_number(seen.table), _number(seen.before)) != (
            _number(planned.table),
            _number(planned.before),
        ):
            raise PermanentFailure("nothing was decided: another table has been made or released since. Look again")
        value = {"table": _number(planned.table), "former": _number(planned.before), "undoes": undoes}
        now = one_value(connection, "SELECT now()")
        record_decisions(connection, scale_id, {TABLE_OF + form_id: json.dumps(value)}, now, by=by, reason=reason)
    return planned


def _plan(
    connection: psycopg.Connection, scale_id: str, form_id: str, table_id: int | None, undo: bool
) -> tuple[TableRelease, int | None]:
    """The release, and the number of the decision that it undoes."""
    before = released_tables(connection, scale_id).get(form_id)
    undone: dict[str, Any] = {}
    if undo:
        decisions = table_decisions(connection, scale_id, form_id)
        over = {decision["undoes"] for decision in decisions}
        standing = [d for d in decisions if d["undoes"] is None and d["decision_id"] not in over]
        if not standing:
            raise PermanentFailure(f"no release of a score table of form {form_id} stands, so there is nothing to undo")
        undone = standing[-1]
        table = find_table(connection, scale_id, form_id, table_id=undone["former"]) if undone["former"] else None
    else:
        table = find_table(connection, scale_id, form_id, table_id=table_id)
    if not undo and before is not None and before.table_id == _number(table):
        raise PermanentFailure(f"table {before.table_id} of form {form_id} is released already")
    return _compare(connection, form_id, table, before), undone.get("decision_id")


def _compare(
    connection: psycopg.Connection, form_id: str, table: FormTable | None, before: FormTable | None
) -> TableRelease:
    if table is None or (before is not None and before.table.raw.size != table.table.raw.size):
        return TableRelease(form_id, table, before)
    forms = {form.form_id: form.scores for form in read_forms(connection, table.scale_id, table.month)}
    counts = forms.get(form_id, ())
    of_month = ScoreChanges.between(before, table, counts) if before and len(counts) == table.table.raw.size else None
    issued = [
        score
        for score in current_scores(connection, scale_id=table.scale_id, form_id=form_id)
        if score.status == "issued" and score.raw is not None and score.raw < table.table.raw.size
    ]
    raw = np.array([score.raw for score in issued], dtype=int)
    passed, passes = np.array([bool(score.passes) for score in issued], dtype=bool), table.table.passes[raw]
    of_issued = ScoreChanges(
        len(issued),
        int((np.array([score.scaled for score in issued]) != table.table.scaled[raw]).sum()),
        int((passes & ~passed).sum()),
        int((passed & ~passes).sum()),
    )
    return TableRelease(form_id, table, before, of_month, of_issued if issued else None)


def _number(table: FormTable | None) -> int | None:
    return table.table_id if table else None
