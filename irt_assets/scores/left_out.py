"""Items of a form that do not count, by a person's decision: leave them out of the form's score, and count them again.

`item_analysis.forms` keeps the decision when a form is read again from the log or a file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import psycopg

from irt_assets.common.arrays import Ints
from irt_assets.common.partitions import Month
from irt_assets.common.wording import join_names, quantity
from irt_assets.item_analysis.stored import FormRow, analysed_months
from irt_assets.ledger.decision_rows import DecisionRow, Entry, Kind, Plan
from irt_assets.ledger.form_scoring import COUNT_AGAIN, LEAVE_OUT, FormScoring, apply_scoring
from irt_assets.scales.scale import Scale, initialised_scale
from irt_assets.scores.form_tables import MAX_NAMED, form_items, make_table
from irt_assets.scores.sittings import raw_scores, read_answers
from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure


@dataclass(frozen=True)
class ScoringRequest:
    """Items of a form to leave out of the form's score, or to count again."""

    scale_id: str
    form_id: str
    items: Sequence[str]


@dataclass(frozen=True)
class ChangeOfScoring(Kind):
    """Leave the items of a `ScoringRequest` out of the form's score, or count them again."""

    name: str
    scored: bool
    opposite: str
    value = FormScoring
    subject = "form"

    def plan(self, connection: psycopg.Connection, request: ScoringRequest) -> Plan:
        """Plan the change. Raises PermanentFailure, naming the items, if items are not in the form, or count or do not
        count already, or if fewer than two items would be left."""
        scale_id, form_id, items = request.scale_id, request.form_id, [*dict.fromkeys(request.items)]
        before = form_items(connection, scale_id).get(form_id, {})
        others = items_left_out(connection, scale_id, form_id)
        possible = others if self.scored else before
        if wrong := [item for item in items if item not in possible] or ([] if items else ["no item"]):
            which = "left out" if self.scored else "scored"
            raise PermanentFailure(
                f"items must be {which} items of form {form_id} on scale {scale_id}, got "
                f"{join_names(wrong, MAX_NAMED)}; {which}: {join_names(possible, MAX_NAMED) or 'none'}"
            )
        after = (
            before | {item: others[item] for item in items}
            if self.scored
            else {item: most for item, most in before.items() if item not in items}
        )
        if len(after) < 2:
            raise PermanentFailure(f"form {form_id} must keep two or more scored items, got {len(after)}")
        sentence = (
            f"{self.name}: {join_names(items, MAX_NAMED)} of form {form_id}; the form then has "
            f"{quantity(len(after), 'item')} with {sum(after.values()):,} points instead of {len(before)} with "
            f"{sum(before.values()):,}"
        )
        return Plan(
            entries=[Entry(scale_id, FormScoring(items=items, scored=self.scored), form_id)],
            sentences=(
                sentence,
                "materialise item_analysis and form_score_tables of a month again, then release the table",
            ),
            basis={f"the scored items of form {form_id}": ", ".join(before)},
            effects=lambda connection: _effects(connection, scale_id, form_id, before, after),
        )

    def apply(self, connection: psycopg.Connection, decisions: Sequence[DecisionRow]) -> None:
        apply_scoring(connection, [decision.subject for decision in decisions])

    def inverse(self, _connection: psycopg.Connection, decision: DecisionRow) -> tuple[str, ScoringRequest]:
        return self.opposite, ScoringRequest(decision.scale_id, decision.subject, decision.value["items"])


LEAVE_ITEMS_OUT = ChangeOfScoring(LEAVE_OUT, False, COUNT_AGAIN)
COUNT_ITEMS_AGAIN = ChangeOfScoring(COUNT_AGAIN, True, LEAVE_OUT)


def items_left_out(connection: psycopg.Connection, scale_id: str, form_id: str) -> dict[str, int]:
    """Read the items of the form that do not count: item → maximum score."""
    return dict(
        connection.execute(
            """SELECT item_id, f.max_score FROM form_item f JOIN question USING (item_id)
               WHERE form_id = %s AND scale_id = %s AND NOT f.scored ORDER BY position""",
            (form_id, scale_id),
        ).fetchall()
    )


def _effects(
    connection: psycopg.Connection, scale_id: str, form_id: str, before: Mapping[str, int], after: Mapping[str, int]
) -> list[str]:
    """Compare raw scores and passes of the newest analysed month before and after the decision."""
    months = analysed_months(connection, scale_id)
    if not months:
        return ["no month has been analysed yet, so there are no scores to compare"]
    scale, (start, end) = initialised_scale(connection, scale_id, None), Month(months[-1]).bounds
    answers = read_answers(connection, scale_id, form_id, start, end, fixed=True)
    lines = []
    for when, items in (("before", before), ("after", after)):
        raw = raw_scores(answers, items).dropna().to_numpy(dtype=np.int64)
        mean = f", mean raw score {raw.mean():.2f} of {sum(items.values())}" if raw.size else ""
        passes = _passes(connection, scale, months[-1], form_id, items, raw)
        lines.append(f"{when}: {quantity(raw.size, 'sitting')} of {months[-1]}{mean}; {passes}")
    return lines


def _passes(
    connection: psycopg.Connection, scale: Scale, month: str, form_id: str, items: Mapping[str, int], raw: Ints
) -> str:
    """Return how many of the raw scores pass by a table of these items, or why there is no table."""
    highest = sum(items.values())
    scores = tuple(np.bincount(raw, minlength=highest + 1).tolist())
    form = FormRow(form_id=form_id, n=raw.size, n_items=len(items), max_score=highest, scores=scores)
    try:
        table = make_table(connection, scale, month, form_id, items, form)
    except (PsychometricsError, PermanentFailure) as error:
        return f"no score table: {error}"
    return f"{int(table.table.passes[raw].sum()):,} pass ({table.passing_in_words})"
