"""Stored verdicts are those of plain loops over the whole log, in small worlds with every edge of the rules."""

from __future__ import annotations

from typing import Any

import pytest

from irt_assets.responses.verdicts import JudgedDay, judge_differing
from resources.postgres.database import Database
from tests.helpers.rooms import rows, run_sql
from tests.helpers.verdict_worlds import WORLDS, World, WrongVerdict, compare, judge_world, months_of_log

BY_NAME = {world.name: world for world in WORLDS}
QUICK = {"slower month", "exam over midnight", "change of clocks", "leap day"}
WRITTEN = "SELECT attempt_id, judged_at FROM attempt_verdict WHERE completed_at::date = %s ORDER BY 1"


@pytest.mark.parametrize(
    "world",
    [pytest.param(one, marks=[] if one.name in QUICK else pytest.mark.ci, id=one.name) for one in WORLDS],
)
def test_verdicts_equal_those_of_plain_loops(database: Database, world: World) -> None:
    for by_reason in judge_world(database, world):
        assert {"scored", *world.reasons} <= {reason for reason, n in by_reason.items() if n}


def test_a_backfill_of_a_year_that_is_interrupted_goes_on_where_it_was(database: Database) -> None:
    BY_NAME["leap day"].fill(database)
    months = months_of_log(database)
    kept: list[tuple[JudgedDay, Any]] = []

    def is_killed(judged: JudgedDay) -> None:
        kept.append((judged, rows(database, WRITTEN, (judged.day,))))
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            judge_differing(database, months[0].start.date(), months[-1].end.date(), is_killed)
    rest = judge_differing(database, months[0].start.date(), months[-1].end.date())
    assert compare(database)["scored"]
    days = [judged.day for judged, _ in kept] + [one.day for one in rest]
    assert days == sorted({*days})
    assert len(days) > 4
    assert [rows(database, WRITTEN, (judged.day,)) for judged, _ in kept] == [written for _, written in kept]


def test_the_comparison_finds_a_wrong_verdict(database: Database) -> None:
    [before] = judge_world(database, BY_NAME["leap day"])
    run_sql(database, "CREATE TABLE kept AS SELECT * FROM attempt_verdict")
    for fault in (
        "UPDATE attempt_verdict SET score = 1 - score WHERE attempt_id = {one}",
        "UPDATE attempt_verdict SET reason = 'hinted', score = NULL WHERE attempt_id = {one}",
        "UPDATE attempt_verdict SET scale_id = 'other' WHERE attempt_id = {one}",
        "UPDATE attempt_verdict SET max_score = 2 WHERE attempt_id = {one}",
        "DELETE FROM attempt_verdict WHERE attempt_id = {one}",
    ):
        run_sql(database, fault.format(one="(SELECT min(attempt_id) FROM kept WHERE score IS NOT NULL)"))
        with pytest.raises(WrongVerdict, match=r"^1 of "):
            compare(database)
        run_sql(database, "DELETE FROM attempt_verdict")
        run_sql(database, "INSERT INTO attempt_verdict SELECT * FROM kept")
    assert compare(database) == before
