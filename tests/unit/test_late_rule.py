"""Whether a month is made without its late answers, at the edges of the rule."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.reports import month_shown
from irt_assets.responses.late_answers import Late, late_since
from irt_assets.responses.scales import Scale

SINCE = datetime(2026, 9, 15, tzinfo=UTC)
MADE_AT = SINCE + timedelta(days=30)


@pytest.mark.parametrize(
    ("days", "since"),
    [(14, SINCE), (0, datetime(2026, 9, 1, tzinfo=UTC)), (30, datetime(2026, 10, 1, tzinfo=UTC)), (None, None)],
)
def test_a_month_closes_to_new_answers_so_many_days_after_its_end(days: int | None, since: datetime | None) -> None:
    assert late_since(Scale("s", rules=Rules.from_settings({"late_days": days})), "2026-08") == since
    assert Rules().answers.late_days == 14


@pytest.mark.parametrize(
    ("n", "in_time", "is_left_out"),
    [(1, 1000, True), (1, 999, False), (2, 2000, True), (3, 2999, False), (5_000, 5_000_000, True), (7, 0, False)],
)
def test_one_late_answer_for_a_thousand_in_time_is_left_out_and_no_more(
    n: int, in_time: int, is_left_out: bool
) -> None:
    for made in (0, in_time):
        late = Late(n, in_time + n, SINCE, newer=n, made=made, made_at=SINCE - timedelta(days=1))
        for again in (True, False):
            assert late.limit(again=again) == (SINCE if is_left_out else None)


def test_a_month_keeps_what_it_was_made_with_until_it_is_made_again() -> None:
    """By an earlier release, or by another rule."""
    late = Late(3, 10_003, SINCE, newer=0, made=10_003, made_at=MADE_AT)
    assert late.limit(again=False) == MADE_AT, "all three came before"
    two_more = replace(late, n=5, attempts=10_005, newer=2)
    assert two_more.limit(again=False) == MADE_AT
    assert two_more.limit(again=True) == SINCE
    assert replace(two_more, made=10_000).limit(again=False) == SINCE, "it was made without all of them"


def test_where_a_table_says_only_when_a_row_was_last_written_none_is_new_that_the_month_was_made_with() -> None:
    new = Late(2, 10_002, SINCE, newer=2, made=10_000, made_at=SINCE, new_for_sure=False)
    regraded = replace(new, attempts=10_000)
    both = replace(new, attempts=10_001)
    for again in (True, False):
        assert new.limit(again=again) == SINCE
        assert regraded.limit(again=again) is None
        assert both.limit(again=again) is None
        assert replace(new, made=0).limit(again=again) is None
    made_again = replace(regraded, newer=0, made_at=MADE_AT)
    assert made_again.limit(again=False) == MADE_AT, "with them"


def test_the_months_page_says_how_many_came_too_late() -> None:
    with_late, without = ([*month_shown.answers(None, {"scored": 3000}, n)] for n in (3, 0))
    assert len(with_late) == len(without) + 1
    assert "by the scale's rule late_days: 3. They count for θ" in str(with_late[-1])
