"""Items in drift that a person has decided on: the checks of later months do not fail for them again."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from irt_assets.calibration import release
from irt_assets.drift.checks import build_drift_checks, decided
from irt_assets.partitions import monthly
from resources.dagster_schema import rows_of
from resources.database import Database
from resources.object_store import FolderStore
from tests.integration.rooms import SCALE, check_context, run_sql
from tests.integration.test_release import FEB, JAN, MAR, MOVED, bank, store

__all__ = ["bank", "store"]  # fixtures


@pytest.fixture
def drifted(bank: Database, store: FolderStore) -> Database:
    """An item that February and March see drift, by nearly as much."""
    run_sql(bank, "UPDATE item_drift SET wabc = 0.15 WHERE month = %s", (FEB,))
    run_sql(
        bank,
        """INSERT INTO item_drift (month, scale_id, item_id, engine, delta_b, wabc, severity, details)
           VALUES (%s, %s, 'moved', 'em', -0.9, 0.17, 'high', '{}')""",
        (MAR, SCALE),
    )
    return bank


def known(database: Database, month: str = MAR) -> dict[tuple[str, str], str]:
    with database.connect() as connection:
        return decided(connection, month)


def evaluate(database: Database, month: str) -> dg.AssetCheckResult:
    far, *_ = build_drift_checks(monthly(JAN))
    with dg.DagsterInstance.ephemeral() as instance:
        context: Any = check_context(month, instance)
        found: dg.AssetCheckResult = far.op.compute_fn.decorated_fn(context, database)
    return found


def test_an_item_that_nobody_decided_on_fails(drifted: Database) -> None:
    assert known(drifted) == {}
    found = evaluate(drifted, MAR)
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert found.description == f"{MAR}: 1 items: moved"


def test_an_item_that_was_decided_on_does_not_fail_again_and_is_still_named(drifted: Database) -> None:
    release.reject(drifted, [MOVED], by="Ann", reason="it is being replaced")
    assert known(drifted) == {(SCALE, "moved"): f"{FEB}, rejected by Ann"}
    found = evaluate(drifted, MAR)
    assert found.passed
    assert found.description == f"{MAR}: no item of high severity; decided before: moved"
    assert [row["known from"] for row in rows_of(found.metadata, "items")] == [f"{FEB}, rejected by Ann"]


def test_what_grew_since_the_decision_fails_again(drifted: Database) -> None:
    release.reject(drifted, [MOVED], by="Ann", reason="it is being replaced")
    run_sql(drifted, "UPDATE item_drift SET wabc = 0.21 WHERE month = %s", (MAR,))
    assert known(drifted) == {}
    run_sql(drifted, "UPDATE item_drift SET wabc = 0.17 WHERE month = %s", (MAR,))
    run_sql(drifted, "UPDATE item_drift SET severity = 'medium' WHERE month = %s", (FEB,))
    assert known(drifted) == {}


def test_a_decision_is_over_when_its_value_is_in_force(drifted: Database) -> None:
    """March is then compared with the new value, of which nobody has decided."""
    release.reject(drifted, [MOVED], by="Ann", reason="wait")
    run_sql(drifted, "UPDATE release_decision SET decision = 'accept', effective_from = '2026-04-01 00:00+00'")
    assert list(known(drifted).values()) == [f"{FEB}, accepted by Ann"]
    run_sql(drifted, "UPDATE release_decision SET effective_from = '2026-03-01 00:00+00'")
    assert known(drifted) == {}
