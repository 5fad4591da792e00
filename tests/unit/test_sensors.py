"""What the ledger's sensor asks for."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime

import pytest

from irt_assets.ledger.steps import Step
from jobs.sensors import asks

STEPPED = datetime(2026, 7, 1, tzinfo=UTC)


def pending(month: str, scale: str = "default", fit_id: str = "fit", stepped: datetime = STEPPED) -> Step:
    return Step(month=month, scale_id=scale, fit_id=fit_id, state="pending", why="waits", stepped_at=stepped)


@pytest.mark.parametrize(
    ("waiting", "stale", "under_way", "expected"),
    [
        pytest.param([], {}, {"2026-01"}, [], id="nothing waits and nothing is asked"),
        pytest.param(
            ["2026-03", "2026-02"], {}, (), [("2026-02", True), ("2026-03", True)], id="in order once the way is clear"
        ),
        pytest.param(["2026-01", "2026-03"], {}, {"2026-02"}, [("2026-01", True)], id="not while an earlier one runs"),
        pytest.param(["2026-03"], {}, {"2026-03"}, [], id="not while it runs itself"),
        pytest.param(["2026-03"], {}, {"2026-04"}, [("2026-03", True)], id="a later one that runs holds nothing up"),
        pytest.param([], {"2026-03": "set"}, {"2026-01"}, [("2026-03", False)], id="stale abilities alone"),
        pytest.param(["2026-03"], {"2026-03": "set"}, (), [("2026-03", True)], id="waiting and stale, once"),
        pytest.param([], {"2026-03": "set"}, {"2026-03"}, [], id="a stale month that runs is left to its run"),
    ],
)
def test_what_is_asked_for(
    waiting: list[str], stale: dict[str, str], under_way: Collection[str], expected: list[tuple[str, bool]]
) -> None:
    found = asks([pending(month) for month in waiting], stale, under_way)
    assert [(ask.month, ask.settle) for ask in found] == expected


def test_a_request_is_named_by_what_it_answers_so_that_it_is_made_once() -> None:
    (first,), (again,) = asks([pending("2026-03")], {}, ()), asks([pending("2026-03")], {}, ())
    (refitted,) = asks([pending("2026-03", fit_id="another")], {}, ())
    (later,) = asks([pending("2026-03", stepped=STEPPED.replace(hour=5))], {}, ())
    assert first.key == again.key
    assert len({first.key, refitted.key, later.key}) == 3
    (old,), (new,) = asks([], {"2026-03": "old"}, ()), asks([], {"2026-03": "new"}, ())
    assert old.key != new.key
