"""A month that is made again with the same answers, rules, code and engine leaves what people see as it was."""

from __future__ import annotations

from typing import Any

import pytest

from irt_assets.runs.in_process_runs import follow_up, run_month
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.settings import Settings
from resources.tables import METADATA
from tests.helpers import rooms

pytestmark = pytest.mark.ci

MONTH = rooms.MONTHS[0]
OF_THE_MAKING = ("run_id", "run", "seconds", "url", "sha256", "artifact_id", "update_id")
"""What belongs to a run and not to its result, besides times."""


def stored(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, without what belongs to the making."""
    found = {}
    with database.connect() as connection:
        for table in METADATA.sorted_tables:
            rows = [row for (row,) in connection.execute(f'SELECT to_jsonb(t) FROM "{table.name}" t'.encode())]
            kept = [
                {name: value for name, value in row.items() if name not in OF_THE_MAKING and not name.endswith("_at")}
                for row in rows
            ]
            found[table.name] = sorted(kept, key=str)
    return found


def test_a_month_made_again_leaves_what_people_see_as_it_was(made_month: Settings) -> None:
    database = Database(made_month)
    with dagster_instance(made_month, database) as instance:
        assert all(outcome.success for outcome in follow_up(instance, made_month))
        before = stored(database)
        assert run_month(instance, made_month, MONTH).success
        assert all(outcome.success for outcome in follow_up(instance, made_month))
        after = stored(database)
    assert {name: len(rows) for name, rows in after.items()} == {name: len(rows) for name, rows in before.items()}
    assert [name for name, rows in before.items() if after[name] != rows] == []
