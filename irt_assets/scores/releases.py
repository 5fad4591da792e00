"""Decide which score table of a form is in force: release a table, undo a release, and preview the effect.

A decision is a row of `scale_decision` with the former table, so it can be undone. Issued scores stay as they were
handed out (see `issued`).
"""

import json
from dataclasses import dataclass
from shlex import quote
from typing import Any

import numpy as np
import psycopg

from irt_assets.common.arrays import Floats, Ints, Mask
from irt_assets.common.wording import quantity
from irt_assets.item_analysis.stored import read_forms
from irt_assets.scales.scale import Scale
from irt_assets.scales.scale_decisions import TABLE_OF, record_decisions, standing_decisions
from irt_assets.scores.form_tables import FormTable, newest_tables, read_tables
from irt_assets.scores.issued import current_scores
from irt_psychometrics.scoring import ScoreTable
from resources.failures import PermanentFailure
from resources.postgres.database import Database, advisory_lock, named_rows


@dataclass(frozen=True)
class ScoreChanges:
    """Learners whose reported score or pass differs by another table.

    Attributes:
        learners: number of learners.
        scaled: number of learners with another scaled score.
        newly_passed, newly_failed: numbers of learners who pass by the other table only, or by the other table no more.
    """

    learners: int
    scaled: int
    newly_passed: int
    newly_failed: int

    @classmethod
    def count(cls, learners: Ints, scaled: Floats, passes: Mask, table: ScoreTable, raw: Ints) -> "ScoreChanges":
        """Compare groups of learners with a table. Numbers, scores, passes and raw scores have the shape (G,)."""
        newly_passed, newly_failed = table.passes[raw] & ~passes, passes & ~table.passes[raw]
        groups = (scaled != table.scaled[raw], newly_passed, newly_failed)
        return cls(int(learners.sum()), *(int(learners[group].sum()) for group in groups))

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
        undoes: number of the release that is undone, or None.
    """

    form_id: str
    table: FormTable | None
    before: FormTable | None
    of_month: ScoreChanges | None = None
    of_issued: ScoreChanges | None = None
    undoes: int | None = None

    @property
    def numbers(self) -> tuple[int | None, int | None]:
        """The numbers of the table in force afterwards and before."""
        return self.table.table_id if self.table else None, self.before.table_id if self.before else None

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
        elif self.before.table.raw.size != self.table.table.raw.size:
            again = f"`irt scores issue {quote(self.form_id)} --scale {quote(self.table.scale_id)} --dry-run`"
            why = "the number of raw scores differs, because items were dropped or added"
            lines = [f"{new}; {why}; after the release, {again} lists the scores that change"]
        else:
            lines = [
                f"{new}; it replaces table {self.before.table_id} of {self.before.month}",
                f"the unrounded score of a raw score moves by up to {self.table.largest_move(self.before):.2f}",
            ]
        if found := self.of_month:
            lines.append(f"of {quantity(found.learners, 'learner')} of {self.table.month}, {found.in_words}")
        if found := self.of_issued:
            lines.append(
                f"of the {found.learners:,} scores that were handed out, {found.in_words}; they stay as they are "
                "unless they are issued again"
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
    numbers = [number for number in newest.values() if number is not None]
    return {found.form_id: found for found in read_tables(connection, scale_id, numbers=numbers)}


def moved_tables(
    connection: psycopg.Connection, scale: Scale, month: str | None = None
) -> list[tuple[FormTable, FormTable, str]]:
    """The released tables of a scale that do not hold, by the tables of the month (None: the newest tables).

    Each is given with the table that shows it, and how scores and passes moved.
    """
    made, moved = newest_tables(connection, scale.scale_id, month), []
    for form_id, released in released_tables(connection, scale.scale_id).items():
        new = made.get(form_id, released)
        move, cut, former_cut = new.largest_move(released), new.table.raw_cut, released.table.raw_cut
        other_pass = "" if cut == former_cut else f"; raw scores pass from {cut} on, not from {former_cut}"
        if move > scale.rules.scores.max_score_shift or other_pass:
            moved.append((released, new, f"moves by up to {move:.2f}{other_pass}"))
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
    if released:
        found = [table for form, table in released_tables(connection, scale_id).items() if form == form_id]
    else:
        numbers = None if table_id is None else [table_id]
        found = read_tables(connection, scale_id, form_id=form_id, month=month, numbers=numbers)
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
    before, undoes = released_tables(connection, scale_id).get(form_id), None
    if undo:
        decisions = table_decisions(connection, scale_id, form_id)
        undone = standing_decisions(decisions, f"release of a score table of form {form_id}")[-1]
        undoes, table_id = undone["decision_id"], undone["former"]
        if table_id is None:
            return TableRelease(form_id, None, before, undoes=undoes)
    table = find_table(connection, scale_id, form_id, table_id=table_id)
    n_scores, of_month, of_issued = table.table.raw.size, None, None
    if before is not None and before.table_id == table.table_id and not undo:
        raise PermanentFailure(f"table {table.table_id} of form {form_id} is released already")
    if before is not None and before.table.raw.size != n_scores:
        return TableRelease(form_id, table, before, undoes=undoes)
    for form in read_forms(connection, scale_id, table.month):
        if before is not None and form.form_id == form_id and len(form.scores) == n_scores:
            former = before.table.scaled, before.table.passes
            of_month = ScoreChanges.count(np.array(form.scores), *former, table.table, np.arange(n_scores))
    issued = [
        (score.raw, score.scaled, bool(score.passes))
        for score in current_scores(connection, scale_id=scale_id, form_id=form_id)
        if score.status == "issued" and score.raw is not None and score.raw < n_scores
    ]
    if issued:
        raw, scaled, passed = map(np.array, zip(*issued, strict=True))
        of_issued = ScoreChanges.count(np.ones_like(raw), scaled, passed, table.table, raw)
    return TableRelease(form_id, table, before, of_month, of_issued, undoes)


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
    with database.connect() as connection:
        advisory_lock(connection, "scores", scale_id)
        planned = preview_release(connection, scale_id, form_id, table_id, undo=undo)
        if seen is not None and seen.numbers != planned.numbers:
            raise PermanentFailure("nothing was decided: another table has been made or released since. Look again")
        value = dict(zip(("table", "former"), planned.numbers, strict=True)) | {"undoes": planned.undoes}
        record_decisions(connection, scale_id, {TABLE_OF + form_id: json.dumps(value)}, by=by, reason=reason)
    return planned
