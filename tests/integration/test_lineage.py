"""Lineage of published numbers."""

from __future__ import annotations

from typing import Any

import pytest

from irt_assets.decisions.lineage import lineage
from irt_assets.ledger.decisions import decisions_on
from irt_assets.responses.snapshot import current_snapshot
from irt_assets.simulation.truth import Truth
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from resources.settings import Settings
from resources.version import code_version
from tests.helpers.rooms import MONTHS, add_items, call, folder_store, rows, run_sql

MONTH = MONTHS[0]


def of_item(settings: Settings, item: str) -> list[dict[str, Any]]:
    return call(Database(settings), lineage, item)


def test_published_number_is_traced_to_fit_snapshot_answers_code_and_run(
    calibrated: Settings, small_truth: Truth
) -> None:
    bank = small_truth.bank
    (found,) = of_item(calibrated, bank.item_ids[int((~bank.anchor).nonzero()[0][0])])
    snapshot = call(Database(calibrated), current_snapshot, MONTH)
    expected = {
        "rule": "first",
        "month": MONTH,
        "run_id": "run",
        "data_hash": snapshot.data_hash,
        "snapshot": snapshot.uri,
        "snapshot_hash": snapshot.snapshot_hash,
        "code_version": code_version(),
        "in_force": True,
    }
    assert {name: found[name] for name in expected} == expected
    assert (
        folder_store(calibrated).exists(snapshot.uri),
        rows(Database(calibrated), "SELECT DISTINCT anchor_hash FROM anchor_set"),
    ) == (True, [(found["anchor_hash"],)])
    slope, intercept = (found["linking_constants"][name] for name in ("slope", "intercept"))
    assert (found["a"], found["b"]) == (
        pytest.approx(found["raw"]["a"] / slope, rel=1e-12),
        pytest.approx(found["raw"]["b"] * slope + intercept, rel=1e-9),
    )


def test_anchor_is_traced_to_the_bank(calibrated: Settings, small_truth: Truth) -> None:
    bank = small_truth.bank
    (found,) = of_item(calibrated, bank.item_ids[int(bank.anchor.nonzero()[0][0])])
    assert (found["rule"], found["fit_id"], found["month"], found["reason"]) == (
        "origin",
        None,
        None,
        "bank parameters of an anchor",
    )
    assert found["anchor_hash"]


def test_lineage_lists_the_latest_decision_first_and_marks_the_values_in_force(
    world: Settings, small_truth: Truth
) -> None:
    item = small_truth.bank.item_ids[int(small_truth.bank.anchor.nonzero()[0][0])]
    database = Database(world)
    for when, b in (("2026-08-01", 0.5), ("2099-01-01", 0.9)):
        run_sql(
            database,
            """INSERT INTO item_parameter_publication
                 (scale_id, item_id, parameters, effective_from, rule, decided_by, reason, anchor_hash, code_version)
               VALUES ('default', %s, jsonb_build_object('a', 1, 'b', %s::float8, 'c', 0),
                       %s, 'decision', 'Ada', 'it drifted', '', '')""",
            (item, b, when),
        )
    found = of_item(world, item)
    assert [row["b"] for row in found][:2] == [0.9, 0.5]
    assert ([row["in_force"] for row in found], found[0]["decided_by"]) == ([False, True, False], "Ada")


ODD = 'new\'s "odd" 🦉'
HELD_BACK = """INSERT INTO publication_step (month, scale_id, state, held, why)
               VALUES ('2026-06', 'default', 'done',
                       jsonb_build_object(%s::text, '["too flat", "too hard"]'::jsonb), '')"""


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ("a01", r"the bank has no item 'a01': ids are case-sensitive"),
        ("new", r"nothing was ever published for item new of scale default; no month has estimated it yet$"),
        (ODD, "2026-06 held it back: too flat; too hard"),
    ],
)
def test_lineage_states_the_reason_if_an_item_was_never_published(world: Settings, item: str, reason: str) -> None:
    add_items(Database(world), {"new": None, ODD: None})
    run_sql(Database(world), HELD_BACK, (ODD,))
    with pytest.raises(PermanentFailure, match=reason):
        of_item(world, item)


def test_decisions_on_an_item_are_listed_latest_first(world: Settings) -> None:
    add_items(Database(world), {"new": None})
    decide = """INSERT INTO release_decision (month, scale_id, item_id, fit_id, decision, decided_by, reason)
                VALUES (%s, 'default', %s, 'fit', 'reject', %s, 'one month is too little')"""
    for month, item, by in (("2026-06", "new", "Ada"), ("2026-07", "new", "Grace"), ("2026-07", "another", "Ada")):
        run_sql(Database(world), decide, (month, item, by))
    found = call(Database(world), decisions_on, "new")
    assert [(one["month"], one["decided_by"]) for one in found] == [("2026-07", "Grace"), ("2026-06", "Ada")]
