"""Verdicts of a day: equal to what a window's judgement says, judged again where the log says otherwise, and all old or
all new whenever judging ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from irt_assets.common.partitions import day_bounds
from irt_assets.psychometrics.eligibility.rules import Rules
from irt_assets.responses import window
from irt_assets.responses.item_time import times_of_day
from irt_assets.responses.scales import Scale, read_scales
from irt_assets.responses.verdicts import judge_day
from resources.postgres.database import Database
from tests.helpers.dirty_log import load_dirty
from tests.helpers.rooms import rows

FIRST, LAST = date(2026, 6, 1), date(2026, 8, 20)
DAY = timedelta(days=1)
VERDICTS = """SELECT attempt_id, completed_at, user_id, item_id, scale_id, reason, score, max_score, rules_hash,
                     recorded_at
              FROM attempt_verdict LEFT JOIN learner USING (learner_key) WHERE completed_at >= %s AND completed_at < %s
              ORDER BY 1, 2"""


def stored(database: Database, day: date, until: date | None = None) -> list[tuple[Any, ...]]:
    return rows(database, VERDICTS, (day, (until or day) + DAY))


@pytest.mark.parametrize("load", ["small world", "dirty"])
def test_the_verdicts_of_a_day_are_those_of_its_window(
    load: str, database: Database, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if load == "dirty":
        load_dirty(database)
        days = [date(2026, 3, 1), date(2026, 3, 10), date(2026, 3, 31)]
    else:
        database = request.getfixturevalue("begun")
        days = [date(2026, 6, 10), date(2026, 7, 1), date(2026, 7, 15)]
    for day in days:
        with database.connect() as connection:
            judged = judge_day(connection, day)
            times = times_of_day(connection, day)
            monkeypatch.setattr(window, "current_item_times", lambda *_, times=times: times)
            scales = {k: without_minima(s) for k, s in read_scales(connection, day_bounds(day.isoformat())[0]).items()}
            whole = window.judged_window(connection, *day_bounds(day.isoformat()), scales)
        found = {(row[0], *row[4:7]) for row in stored(database, day)}
        names = ("attempt_id", "scale_id", "reason", "score")
        assert found == {*zip(*(whole.table[name].to_pylist() for name in names), strict=True)}
        assert judged.n == len(found) == sum(n for of in judged.counts.values() for n in of.values())
        assert found


def without_minima(scale: Scale) -> Scale:
    rules = scale.rules.changed() | {"min_responses": 1, "min_provisional_responses": 1, "min_learner_responses": 1}
    return replace(scale, rules=Rules.from_settings(rules))
