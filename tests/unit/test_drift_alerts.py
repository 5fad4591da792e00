"""When a change that lasts for months was first seen."""

from __future__ import annotations

from typing import Any

import pytest

from irt_assets.drift.alerts import first_seen

Row = tuple[str, str, dict[str, Any]]


def leak(month: str, onset: str | None) -> Row:
    return month, "high", {"change": {"kind": "leak", "onset": onset}}


SOUND: Row = ("2026-07", "none", {})
FEW: Row = ("2026-09", "none", {"proportion_correct": {}})


@pytest.mark.parametrize(
    ("newest_first", "began"),
    [
        ([leak("2026-10", "2026-10-09")], "2026-10-09"),
        ([leak("2026-10", "2026-10-01"), leak("2026-09", "2026-09-11"), SOUND], "2026-09-11"),
        ([leak("2026-10", "2026-10-01"), FEW, leak("2026-08", "2026-08-20")], "2026-08-20"),
        ([leak("2026-10", "2026-10-01"), leak("2026-09", None)], "2026-09-01"),
        ([leak("2026-10", "2026-10-01"), SOUND, leak("2026-06", "2026-06-03")], "2026-10-01"),
        ([SOUND], None),
    ],
    ids=["new", "lasting", "not estimated between", "without a day", "an earlier one was over", "none"],
)
def test_a_change_began_when_the_first_month_of_its_run_saw_it(newest_first: list[Row], began: str | None) -> None:
    assert first_seen(newest_first) == began
