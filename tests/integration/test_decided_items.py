"""Items in drift that a person has decided on: the checks of later months do not fail for them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from irt_assets.cli.status import waiting_line
from irt_assets.common.partitions import monthly
from irt_assets.decisions import release
from irt_assets.decisions.proposals import Reference
from irt_assets.drift.checks import build_drift_checks, settled_items
from jobs.watching.overview import collect_overview
from resources.dagster_schema import rows_of
from resources.files.object_store import FolderStore
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import SCALE, check_context, run_sql
from tests.helpers.waiting_decision import FEB, JAN, MAR, MOVED, accept, bank, calibrate

__all__ = ["bank"]  # a fixture

FAR, _, _, _, LOST, _ = build_drift_checks(monthly(JAN))


@pytest.fixture
def drifted(bank: Database, store: FolderStore) -> Database:
    """An item that February and March see drift, by nearly as much."""
    calibrate(bank, store, MAR, {"moved": (1.0, -0.4), "still": (1.2, 0.1)})
    run_sql(bank, "UPDATE item_drift SET wabc = 0.15 WHERE month = %s", (FEB,))
    run_sql(
        bank,
        """INSERT INTO item_drift (month, scale_id, item_id, engine, delta_b, wabc, severity, details)
           VALUES (%s, %s, 'moved', 'em', -0.9, 0.17, 'high', '{}')""",
        (MAR, SCALE),
    )
    return bank


def test_what_waits_is_in_the_status(bank: Database, settings: Settings, tmp_path: Path) -> None:
    """A month's proposals that confirm what is published do not wait."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert collect_overview(bank, instance, settings).waiting == ["2026-02/moved"]
        assert waiting_line(["2026-02/moved"]) == "1 proposal waits: 2026-02/moved"
        assert waiting_line(list("abcde")) == "5 proposals wait: a, b, c and 2 more"
        release.reject(bank, [MOVED], by="Ann", reason="it is being replaced")
        assert collect_overview(bank, instance, settings).waiting == []


def known(database: Database, month: str = MAR) -> dict[tuple[str, str], str]:
    with database.connect() as connection:
        return settled_items(connection, month)


def evaluate(check: Any, database: Database, store: FolderStore, month: str) -> dg.AssetCheckResult:
    with dg.DagsterInstance.ephemeral() as instance:
        context: Any = check_context(month, instance)
        found: dg.AssetCheckResult = check.op.compute_fn.decorated_fn(context, database, store)
    return found


def test_an_item_that_nobody_decided_on_fails(drifted: Database, store: FolderStore) -> None:
    assert known(drifted) == {}
    found = evaluate(FAR, drifted, store, MAR)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert found.description == f"{MAR}: one item: moved"


def test_an_item_that_was_decided_on_does_not_fail_again_and_is_still_named(
    drifted: Database,
    store: FolderStore,
) -> None:
    release.reject(drifted, [MOVED], by="Ann", reason="it is being replaced")
    assert known(drifted) == {(SCALE, "moved"): f"{FEB}, rejected by Ann"}
    found = evaluate(FAR, drifted, store, MAR)
    assert found.passed
    assert found.description == f"{MAR}: no item of high severity; no decision needed: moved"
    assert [row["known from"] for row in rows_of(found.metadata, "items")] == [f"{FEB}, rejected by Ann"]


def test_an_item_that_was_decided_on_may_lose_its_information(drifted: Database, store: FolderStore) -> None:
    """It is the same change, seen twice."""
    run_sql(
        drifted,
        """INSERT INTO test_information (month, scale_id, item_id, curve, flagged, details)
           VALUES (%s, %s, 'moved', '{}', true, '{"ratio": 0.7}')""",
        (MAR, SCALE),
    )
    assert evaluate(LOST, drifted, store, MAR).description == f"{MAR}: one item: moved (keeps 70%)"
    release.reject(drifted, [MOVED], by="Ann", reason="it is being replaced")
    assert evaluate(LOST, drifted, store, MAR).passed


def test_what_grew_since_the_decision_fails_again(drifted: Database) -> None:
    release.reject(drifted, [MOVED], by="Ann", reason="it is being replaced")
    run_sql(drifted, "UPDATE item_drift SET wabc = 0.21 WHERE month = %s", (MAR,))
    assert known(drifted) == {}
    run_sql(drifted, "UPDATE item_drift SET wabc = 0.17 WHERE month = %s", (MAR,))
    run_sql(drifted, "UPDATE item_drift SET severity = 'medium' WHERE month = %s", (FEB,))
    assert known(drifted) == {}


def test_a_decision_is_over_when_its_value_is_in_force(drifted: Database) -> None:
    """March is then compared with the new value, which has not been decided on."""
    release.reject(drifted, [MOVED], by="Ann", reason="wait")
    run_sql(drifted, "UPDATE release_decision SET decision = 'accept', effective_from = '2026-04-01 00:00+00'")
    assert list(known(drifted).values()) == [f"{FEB}, accepted by Ann"]
    run_sql(drifted, "UPDATE release_decision SET effective_from = '2026-03-01 00:00+00'")
    assert known(drifted) == {}


def test_an_item_whose_proposal_a_later_month_contradicts_does_not_fail(bank: Database, store: FolderStore) -> None:
    """February is made late, as after a decision on its anchors: March has shown that its change is not real."""
    assert evaluate(FAR, bank, store, FEB).description == f"{FEB}: one item: moved (drift)"
    calibrate(bank, store, MAR, {"moved": (1.0, 0.5), "still": (1.2, 0.1)})
    assert known(bank, FEB) == {(SCALE, "moved"): f"contradicted by {MAR}"}
    found = evaluate(FAR, bank, store, FEB)
    assert found.passed
    assert found.description == f"{FEB}: no item of high severity; no decision needed: moved"


def test_an_item_whose_later_value_was_accepted_does_not_fail_in_the_months_before(
    drifted: Database, store: FolderStore
) -> None:
    """February is made again after March was decided on: nobody can act on February's drift any more."""
    accept(drifted, Reference(MAR, "moved"))
    assert known(drifted, FEB) == {(SCALE, "moved"): f"{MAR}, accepted by Ann"}
    assert evaluate(FAR, drifted, store, FEB).passed
