"""Subjects that a person has to accept before months are green: guessing, and misfit in the origin window."""

from collections.abc import Collection, Mapping, Sequence

import psycopg

from irt_assets.common.partitions import Month
from irt_assets.decisions.origin import read_origin
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.month_verdicts import NOTHING_JUDGED, read_verdicts
from irt_assets.scales.scale import accepted_subjects
from irt_assets.scales.scale_decisions import Acceptable

GATE_OF: Mapping[Acceptable, str] = {"guessing": "guessing_is_in_the_model", "misfit": "misfit_was_accepted"}
"""The gate that holds a month until a person accepts the subject."""
IN_WORDS: Mapping[Acceptable, str] = {"guessing": "learners guess", "misfit": "answers do not follow the model"}
TO_RECOMPUTE = (State.STALE, State.ORIGIN, State.MISSING)


def subjects_to_accept(
    connection: psycopg.Connection, scale_id: str, months: Sequence[MonthState]
) -> dict[Acceptable, str]:
    """Find the subjects to accept before all of `months` are green, each with the first month that it holds.

    A month that was judged is held by its gates. A month of the origin window that is being computed, or has to be,
    will be held by the subjects that the origin window let pass.
    """
    verdicts = read_verdicts(connection, [month.month for month in months if month.state is State.RED])
    origin = read_origin(connection, scale_id)
    found: dict[Acceptable, str] = {}
    for month in months:
        gates = verdicts.get((month.month, scale_id), NOTHING_JUDGED).gates
        failed = [subject for subject, gate in GATE_OF.items() if gate in gates and not gates[gate].passed]
        if origin and month.state in (*TO_RECOMPUTE, State.RUNNING) and origin.window.covers(Month(month.month)):
            accepted = accepted_subjects(connection, scale_id, Month(month.month).start)
            failed = [subject for subject in origin.let_pass if subject not in accepted]
        for subject in failed:
            found.setdefault(subject, month.month)
    return found


def steps_after_key(connection: psycopg.Connection, scale_id: str, months: Collection[str]) -> list[str]:
    """Describe, before a key is changed, which of its `months` will be held once they are recomputed, and why."""
    states = [MonthState(month, scale_id, State.STALE, "") for month in sorted(months)]
    held = [
        f"{month} will be held until somebody accepts that {IN_WORDS[subject]}, which the origin window let pass"
        for subject, month in subjects_to_accept(connection, scale_id, states).items()
    ]
    return [*held, "then a green month publishes a first value, or proposes a new one"] if months else []
