"""What the ledger's sensor asks for."""

from __future__ import annotations

from datetime import UTC, datetime

from irt_assets.ledger.steps import Step
from jobs.sensors import Ask, asks

STEPPED = datetime(2026, 7, 1, tzinfo=UTC)


def pending(month: str, scale: str = "default", fit_id: str = "fit", stepped: datetime = STEPPED) -> Step:
    return Step(month=month, scale_id=scale, fit_id=fit_id, state="pending", why="waits", stepped_at=stepped)


def months(found: list[Ask]) -> list[tuple[str, bool]]:
    return [(ask.month, ask.settle) for ask in found]


def test_nothing_waits_and_nothing_is_asked() -> None:
    assert asks([], {}, {"2026-01"}) == []


def test_months_that_wait_are_asked_for_in_order_once_the_way_is_clear() -> None:
    assert months(asks([pending("2026-03"), pending("2026-02")], {}, ())) == [("2026-02", True), ("2026-03", True)]


def test_a_month_is_not_asked_for_while_an_earlier_one_is_under_way() -> None:
    waiting = [pending("2026-01"), pending("2026-03")]
    assert months(asks(waiting, {}, {"2026-02"})) == [("2026-01", True)]


def test_a_month_is_not_asked_for_while_it_is_under_way_itself() -> None:
    assert asks([pending("2026-03")], {}, {"2026-03"}) == []


def test_a_later_month_under_way_is_no_hindrance() -> None:
    assert months(asks([pending("2026-03")], {}, {"2026-04"})) == [("2026-03", True)]


def test_stale_abilities_are_asked_for_alone() -> None:
    assert months(asks([], {"2026-03": "set"}, {"2026-01"})) == [("2026-03", False)]


def test_a_month_that_waits_and_is_stale_is_asked_for_once() -> None:
    assert months(asks([pending("2026-03")], {"2026-03": "set"}, ())) == [("2026-03", True)]


def test_a_stale_month_under_way_is_left_to_its_run() -> None:
    assert asks([], {"2026-03": "set"}, {"2026-03"}) == []


def test_a_request_is_named_by_what_it_answers_so_that_it_is_made_once() -> None:
    (first,), (again,) = asks([pending("2026-03")], {}, ()), asks([pending("2026-03")], {}, ())
    (refitted,) = asks([pending("2026-03", fit_id="another")], {}, ())
    (later,) = asks([pending("2026-03", stepped=STEPPED.replace(hour=5))], {}, ())
    assert first.key == again.key
    assert len({first.key, refitted.key, later.key}) == 3
    (old,), (new,) = asks([], {"2026-03": "old"}, ()), asks([], {"2026-03": "new"}, ())
    assert old.key != new.key
