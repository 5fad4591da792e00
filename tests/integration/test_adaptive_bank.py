"""Policies of adaptive tests as decisions, and the plans that they give with a published set."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from irt_assets.adaptive.banks import TestBank, hash_content, read_test_bank
from irt_assets.adaptive.policy import Policy
from irt_assets.adaptive.sessions import Plans
from irt_assets.adaptive.versions import version_in_force, versions_in_force
from irt_assets.decisions.deciding import decide
from irt_assets.new_items.decided import REJECT, ItemsRequest
from resources.failures import PermanentFailure
from resources.postgres.database import Database
from tests.helpers import rooms, score_world
from tests.helpers.decided import set_policy, undo_policy

POLICY = f"test: placement\nscale: {rooms.SCALE}\nlength: {{max: 8}}\n"
NOW = datetime(2030, 1, 1, tzinfo=UTC)
SIGNED = {"by": "Ann", "reason": "committee of June"}


def test_version_is_set_replaced_and_undone(database: Database) -> None:
    first = set_policy(database, Policy.from_yaml(POLICY), **SIGNED)
    second = set_policy(database, Policy.from_yaml(POLICY.replace("8", "9")), **SIGNED)
    with database.connect() as connection:
        assert version_in_force(connection, "placement", NOW).version == second
    undo_policy(database, "placement", **SIGNED)
    with database.connect() as connection:
        found = version_in_force(connection, "placement", NOW)
        assert (found.policy.length.max, found.undoes) == (8, second)
    undo_policy(database, "placement", **SIGNED)
    with database.connect() as connection:
        assert versions_in_force(connection, NOW) == {}
    with pytest.raises(PermanentFailure, match="nothing to undo"):
        undo_policy(database, "placement", **SIGNED)
    assert first < second


def test_plan_chooses_among_published_items(database: Database, tmp_path: Path) -> None:
    score_world.build_exam(database, tmp_path)
    with database.connect() as connection:
        bank = read_test_bank(connection, Policy.from_yaml(POLICY), NOW)
    step = bank.plan.next([], [], random_state=1)
    items = bank.items
    information = items.curves.information([bank.scale.mu])[0]
    assert step.item == items.item_ids[information.argmax()]
    assert bank.posterior.mean.item_ids == items.item_ids


def test_rejected_and_published_items_are_not_in_unscored_places(database: Database, tmp_path: Path) -> None:
    score_world.build_exam(database, tmp_path)
    rooms.add_items(database, dict.fromkeys(("n1", "n2")))
    policy = Policy.from_yaml(POLICY)
    assert rooms.call(database, read_test_bank, policy, NOW).unscored == ("n1", "n2")
    decide(database, REJECT, ItemsRequest(["n1"]), **SIGNED)
    assert rooms.call(database, read_test_bank, policy, NOW).unscored == ("n2",)


def test_content_of_a_new_bank_is_made_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content of 2,500 items has a megabyte."""
    score_world.build_exam(database, tmp_path)
    set_policy(database, Policy.from_yaml(POLICY), **SIGNED)
    made: list[TestBank] = []
    content = TestBank.__dict__["content"].fget

    def count(bank: TestBank) -> Any:
        made.append(bank)
        return content(bank)

    monkeypatch.setattr(TestBank, "content", property(count))
    with database.connect() as connection:
        plans = Plans()
        plans.refresh(connection, NOW)
        assert len(made) == 1
        plans.refresh(connection, NOW)
        assert len(made) == 2, "once to see whether the bank has changed"
    bank = plans.offers["placement"].bank
    assert bank.content_hash == hash_content(content(bank))
