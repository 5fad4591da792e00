"""A decision is undone by another one: openly, and without changing anything that was reported."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from irt_assets.decisions import release
from irt_assets.decisions.exports import read_export
from irt_assets.decisions.lineage import lineage
from irt_assets.decisions.proposals import Reference, State
from irt_assets.decisions.release_undo import Undo, undo
from irt_assets.ledger.publications import in_force
from resources.failures import PermanentFailure
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from tests.helpers.rooms import SCALE, run_sql
from tests.helpers.sentences import unsaid
from tests.helpers.waiting_decision import (
    APRIL,
    FEB,
    JAN,
    MAR,
    MOVED,
    NOW,
    accept,
    asked,
    bank,
    calibrate,
    decisions,
    proposal_of,
    published,
    refused,
    violations,
)

__all__ = ["bank"]  # a fixture
IN_APRIL = datetime(2026, 4, 15, tzinfo=UTC)
MAY = datetime(2026, 5, 1, tzinfo=UTC)
JUNE = datetime(2026, 6, 1, tzinfo=UTC)


def undone(database: Database, *references: Reference, **others: Any) -> list[Undo]:
    values = {"by": "Ben", "reason": "the text was not simplified", "now": NOW} | others
    return undo(database, references or (MOVED,), **values)


def not_undone(database: Database, *references: Reference, **others: Any) -> str:
    before = decisions(database), published(database)
    with pytest.raises(PermanentFailure) as told:
        undone(database, *references, **others)
    assert (decisions(database), published(database)) == before
    return str(told.value)


def b_at(database: Database, at: datetime) -> float:
    with database.connect() as connection:
        return in_force(connection, SCALE, at).items["moved"].b


def test_values_that_are_not_in_force_yet_never_come_into_force(bank: Database, store: FolderStore) -> None:
    with bank.connect() as connection:
        before = in_force(connection, SCALE, APRIL)
    accept(bank)
    (done,) = undone(bank)
    with bank.connect() as connection:
        assert in_force(connection, SCALE, APRIL) == before, "the hash of the set too, so that no θ is stale"
        exported = read_export(connection, "parameters", APRIL).set_index("item_id")
        newest = lineage(connection, "moved")[0]
    assert (exported.b["moved"], exported.rule["moved"]) == (0.5, "undo")
    assert (newest["rule"], newest["decided_by"], newest["month"]) == ("undo", "Ben", JAN)
    assert (done.since, done.never_in_force, done.restored.b) == (APRIL, True, 0.5)
    assert [row[:3] for row in published(bank)] == [
        (0.5, "first", JAN),
        (pytest.approx(-0.3), "decision", FEB),
        (0.5, "undo", JAN),
    ], "nothing is changed or deleted"
    assert decisions(bank)[-1] == (FEB, "moved", "undo", "Ben", "the text was not simplified", APRIL)
    assert asked(bank) == ["2026-02/moved"]
    assert violations(bank, store) == []


def test_values_in_force_stay_until_the_next_first(bank: Database, store: FolderStore) -> None:
    accept(bank)
    (done,) = undone(bank, now=IN_APRIL)
    assert (done.since, done.never_in_force) == (MAY, False)
    assert [b_at(bank, at) for at in (NOW, IN_APRIL, MAY)] == [0.5, pytest.approx(-0.3), 0.5]
    assert violations(bank, store) == []


def test_a_later_date_is_taken_at_its_word(bank: Database) -> None:
    accept(bank)
    undone(bank, effective_from=JUNE)
    assert [b_at(bank, at) for at in (APRIL, JUNE)] == [pytest.approx(-0.3), 0.5]


def test_what_is_open_again_can_be_accepted_for_the_same_day_and_undone_again(
    bank: Database, store: FolderStore
) -> None:
    accept(bank)
    undone(bank)
    accept(bank)
    assert (b_at(bank, APRIL), proposal_of(bank).state) == (pytest.approx(-0.3), State.ACCEPTED)
    undone(bank)
    assert (b_at(bank, APRIL), proposal_of(bank).state) == (0.5, State.OPEN)
    release.reject(bank, [MOVED], by="Cleo", reason="the key changed")
    assert (b_at(bank, APRIL), proposal_of(bank).state) == (0.5, State.REJECTED)
    assert violations(bank, store) == []


def test_a_rejected_proposal_asks_again(bank: Database, store: FolderStore) -> None:
    release.reject(bank, [MOVED], by="Ann", reason="within error")
    assert asked(bank) == []
    (done,) = undone(bank)
    assert (done.restored, done.since, asked(bank)) == (None, None, ["2026-02/moved"])
    assert len(published(bank)) == 1
    assert violations(bank, store) == []


def test_a_month_that_runs_again_proposes_what_was_undone(bank: Database, store: FolderStore) -> None:
    """Its numbers are the same ones, which nobody's decision stands on any more."""
    accept(bank)
    undone(bank)
    calibrate(bank, store, FEB, {"moved": (1.0, -0.3), "still": (1.2, 0.12)})
    assert asked(bank) == ["2026-02/moved"]
    assert proposal_of(bank).state is State.OPEN


def test_of_two_accepts_the_later_is_undone_first(bank: Database, store: FolderStore) -> None:
    accept(bank)
    calibrate(bank, store, MAR, {"moved": (1.0, -0.4)})
    accept(bank, Reference(MAR, "moved"), effective_from=MAY)
    assert "after 2026-02/moved, 2026-03/moved was accepted: undo 2026-03/moved first" in not_undone(bank)
    undone(bank, Reference(MAR, "moved"))
    assert [b_at(bank, at) for at in (APRIL, MAY)] == [pytest.approx(-0.3), pytest.approx(-0.3)]
    undone(bank)
    assert [b_at(bank, at) for at in (APRIL, MAY)] == [pytest.approx(-0.3), 0.5], "not before what is published last"
    assert violations(bank, store) == []


def test_what_cannot_be_undone_says_why_and_the_way_out(bank: Database, store: FolderStore) -> None:
    assert "2026-02/moved has not been decided on yet" in not_undone(bank)
    assert "nothing is proposed as 2025-01/moved" in not_undone(bank, Reference("2025-01", "moved"))
    assert "name each item" in not_undone(bank, Reference(FEB, "all"))
    accept(bank)
    assert "is not in the future" in not_undone(bank, effective_from=NOW)
    assert "name that date or a later one" in not_undone(bank, effective_from=datetime(2026, 3, 20, tzinfo=UTC))
    assert "a decision needs a reason" in not_undone(bank, reason=" ")
    undone(bank)
    assert "the decision undone by Ben" in not_undone(bank)


def test_an_item_that_was_never_published_before_can_only_be_withdrawn(bank: Database, store: FolderStore) -> None:
    calibrate(bank, store, JAN, {"late": (1.0, 0.4)})
    accept(bank, Reference(JAN, "late"), MOVED)
    said = not_undone(bank, MOVED, Reference(JAN, "late"))
    assert not unsaid(said, "nothing was published for late before 2026-01/late", "irt items withdraw late")
    assert proposal_of(bank).state is State.ACCEPTED, "none of them where not all"


def test_a_reject_of_numbers_that_were_made_again_is_not_undone(bank: Database, store: FolderStore) -> None:
    release.reject(bank, [MOVED], by="Ann", reason="wait for more answers")
    calibrate(bank, store, FEB, {"moved": (1.0, -0.35), "still": (1.2, 0.12)})
    assert "2026-02/moved is open: its month has proposed it again" in not_undone(bank)


def test_an_undo_that_nobody_decided_or_of_other_values_is_found(bank: Database, store: FolderStore) -> None:
    accept(bank)
    undone(bank)
    run_sql(
        bank,
        "UPDATE item_parameter_publication SET parameters = parameters || jsonb_build_object('b', 0.4)"
        " WHERE rule = 'undo'",
    )
    assert violations(bank, store) == [
        "one_set_is_in_force_and_changes_are_decided: moved: an undo published other values than those before"
    ]
    run_sql(
        bank,
        "UPDATE item_parameter_publication SET parameters = parameters || jsonb_build_object('b', 0.5)"
        " WHERE rule = 'undo'",
    )
    run_sql(bank, "DELETE FROM release_decision WHERE decision = 'undo'")
    assert violations(bank, store) == [
        "one_set_is_in_force_and_changes_are_decided: moved: changed without a recorded decision"
    ]


def test_whoever_undid_is_named_to_the_next(bank: Database) -> None:
    accept(bank)
    undone(bank)
    accept(bank, by="Cleo")
    assert "was accepted by Cleo" in refused(bank)
