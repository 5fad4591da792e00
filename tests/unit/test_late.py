"""What is computed again because of late answers, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from irt_assets.common.partitions import spans
from irt_assets.responses.late_months import Arrival
from jobs.watching.late_answers_cursor import LONGEST_WAIT, OVERLAP, QUIET, Memory, late_days, waits, weeks_to_ask

NOW = datetime(2026, 7, 17, 12, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def arrival(
    day: str = "2026-07-01", hour: str = "2026-07-17T10", n: int = 5, live: int = 5, ago: int = 7200
) -> Arrival:
    return Arrival(day, hour, n, live, 0, 0, NOW - timedelta(seconds=ago))


def remembered(*arrived: Arrival) -> Memory:
    return Memory.read(None, NOW).mark_handled(arrived, NOW)


def test_what_was_seen_is_not_new_and_what_was_added_to_it_is() -> None:
    memory = remembered(arrival())
    assert memory.new([arrival()]) == []
    assert memory.new([arrival(n=6)]) == [arrival(n=6)]
    assert memory.new([arrival(hour="2026-07-17T11")]) == [arrival(hour="2026-07-17T11")]
    assert memory.new([arrival(day="2026-07-02")]) == [arrival(day="2026-07-02")]


def test_a_transaction_that_began_hours_ago_and_was_committed_now_is_new() -> None:
    memory = remembered(arrival(hour="2026-07-17T10"))
    assert memory.new([arrival(hour="2026-07-16T14", ago=79200), arrival()]) == [
        arrival(hour="2026-07-16T14", ago=79200)
    ]


def test_sandbox_answers_concern_no_day() -> None:
    memory = remembered(arrival())
    assert memory.live_days([arrival(n=9, live=5), arrival("2026-07-02", live=0)]) == set()
    assert memory.live_days([arrival(n=9, live=6)]) == {"2026-07-01"}


def test_the_memory_is_a_cursor_and_looks_back_over_a_full_day() -> None:
    memory = remembered(arrival(), arrival(hour="2026-07-16T12", ago=86400)).waiting(NOW)
    assert Memory.read(memory.write(), NOW) == memory
    assert memory.since == datetime(2026, 7, 16, 12, tzinfo=UTC)
    assert NOW - memory.since >= OVERLAP
    assert set(memory.seen) == {"2026-07-01 2026-07-17T10", "2026-07-01 2026-07-16T12"}


def test_hours_that_are_looked_at_no_more_are_forgotten() -> None:
    memory = remembered(arrival(hour="2026-07-16T12", ago=86400))
    assert memory.mark_handled([arrival(hour="2026-07-16T12", ago=86400)], NOW + timedelta(hours=1)).seen == {}


@pytest.mark.parametrize(
    ("youngest_s", "noticed_ago", "wait"),
    [
        (299, None, True),
        (300, None, False),
        (1, LONGEST_WAIT - SECOND, True),
        (1, LONGEST_WAIT, False),
        (400, timedelta(minutes=7), False),
    ],
)
def test_while_answers_keep_coming_it_waits_but_no_longer_than_an_hour(
    youngest_s: int, noticed_ago: timedelta | None, wait: bool
) -> None:
    new = [arrival(ago=5000), arrival(ago=youngest_s)]
    assert timedelta(seconds=300) == QUIET
    assert waits(new, NOW - noticed_ago if noticed_ago else None, NOW) is wait


def test_months_of_new_answers_wait_for_the_night_and_those_of_changed_ones_do_not() -> None:
    memory = remembered()
    assert memory.months_due({"2026-06"}, {"2026-05"}, NOW) == ({"2026-06"}, {"2026-05"})
    memory = memory.mark_handled([], NOW, ["2026-06"], ["2026-05"])
    before, after = (datetime(2026, 7, 18, *time, tzinfo=UTC) for time in ((2, 59), (3, 0)))
    assert memory.months_due((), {"2026-04"}, before) == ({"2026-06"}, {"2026-04", "2026-05"})
    assert memory.months_due((), {"2026-04"}, after) == ({"2026-04", "2026-05", "2026-06"}, set())
    assert memory.mark_handled([], after).months_due((), {"2026-04"}, after) == (set(), {"2026-04"}), "once a night"


def test_a_cursor_of_an_earlier_release_is_read() -> None:
    old = '{"since":"2026-07-16T12:00:00Z","seen":{},"noticed":null,"months":["2026-06"],"fresh":false}'
    assert Memory.read(old, NOW).months_due((), {"2026-05"}, NOW) == ({"2026-05", "2026-06"}, set())


@pytest.mark.parametrize(("attempts", "corrected", "is_new"), [(3, 0, True), (3, 1, False), (0, 0, False)])
def test_arrivals_are_new_unless_an_earlier_answer_was_corrected_or_changed_by_hand(
    attempts: int, corrected: int, is_new: bool
) -> None:
    assert Arrival("2026-07-01", "2026-07-17T10", attempts, attempts, corrected, 1, NOW).is_new is is_new


def test_nothing_new_is_nothing_to_wait_for() -> None:
    assert waits([], None, NOW) is False


def test_the_first_notice_is_kept_while_it_waits() -> None:
    once = remembered().waiting(NOW)
    assert once.waiting(NOW + timedelta(minutes=9)).noticed == NOW


@pytest.mark.parametrize(
    ("day", "source", "fresh", "late"),
    [
        ("2026-06-01", "old", False, True),
        ("2026-06-01", "old", True, True),
        ("2026-06-01", "now", False, False),  # its features have them
        ("2026-06-01", None, False, True),  # no features were made of it; its weeks and months may have been
        ("2026-06-01", None, True, False),
        ("2026-07-16", None, False, True),  # yesterday's, at noon
        ("2026-07-16", "old", False, True),
    ],
)
def test_a_day_is_late_when_it_was_read_without_its_answers(
    day: str, source: str | None, fresh: bool, late: bool
) -> None:
    found = late_days({day: "now"}, {day: source} if source else {}, NOW, fresh=fresh)
    assert found == ({day: "now"} if late else {})


@pytest.mark.parametrize(("hour", "late"), [(0, False), (2, False), (3, True)])
def test_yesterdays_answers_are_in_time_until_the_schedules_have_come(hour: int, late: bool) -> None:
    now = datetime(2026, 7, 17, hour, 1, tzinfo=UTC)
    assert bool(late_days({"2026-07-16": "now"}, {}, now, fresh=False)) is late


def test_the_week_of_a_late_day_and_the_eight_after_it_are_asked_for_where_they_were_made() -> None:
    mondays = [(datetime(2026, 3, 30, tzinfo=UTC) + timedelta(weeks=n)).strftime("%Y-%m-%d") for n in range(14)]
    found = weeks_to_ask({"2026-04-12": "v"}, mondays)  # a Sunday
    assert list(found) == mondays[1:10] == sorted(found)
    assert (mondays[1], mondays[9]) == ("2026-04-06", "2026-06-01")
    assert list(weeks_to_ask({"2026-04-12": "v"}, ["2026-04-13", "2026-06-08"])) == ["2026-04-13"]


def test_a_week_is_asked_for_by_what_came_and_so_once() -> None:
    made = ["2026-04-06", "2026-04-13"]
    first, again = weeks_to_ask({"2026-04-07": "v"}, made), weeks_to_ask({"2026-04-07": "v"}, made)
    more = weeks_to_ask({"2026-04-07": "v", "2026-04-14": "w"}, made)
    assert first == again
    assert more["2026-04-06"] == first["2026-04-06"]  # the later day does not concern the earlier week
    assert more["2026-04-13"] != first["2026-04-13"]


def test_days_that_follow_each_other_are_one_run() -> None:
    days = {"2026-02-28", "2026-03-01", "2026-03-03", "2025-12-31", "2026-01-01"}
    assert spans(days) == [("2025-12-31", "2026-01-01"), ("2026-02-28", "2026-03-01"), ("2026-03-03", "2026-03-03")]
