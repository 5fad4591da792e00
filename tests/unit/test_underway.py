"""What Dagster's instance knows of partitions, asked of one in memory."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg
import pytest

from irt_assets.common import run_progress
from irt_assets.common.run_progress import last_made

MONTHS = dg.MonthlyPartitionsDefinition(start_date="2026-06", fmt="%Y-%m")


def test_a_partition_was_last_made_when_it_was_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are read at once."""
    monkeypatch.setattr(run_progress, "RECORDS_TOGETHER", 1)

    @dg.asset(partitions_def=MONTHS)
    def judged() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:

        def make(month: str) -> tuple[datetime, datetime]:
            before = datetime.now(UTC)
            assert dg.materialize([judged], partition_key=month, instance=instance).success
            return before, datetime.now(UTC)

        assert last_made(instance, judged.key) == {}
        make("2026-06")
        bounds = {"2026-07": make("2026-07"), "2026-06": make("2026-06")}
        made = last_made(instance, judged.key)
    assert made.keys() == bounds.keys()
    assert all(before <= made[month] <= after for month, (before, after) in bounds.items())
