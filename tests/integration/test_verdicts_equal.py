"""Stored verdicts equal today's judgement of each month in every simulated world, but for other times of items."""

from __future__ import annotations

import pytest

from resources.postgres.database import Database
from tests.helpers.rooms import run_sql
from tests.helpers.verdict_worlds import DEMO, WORLDS, Difference, World, WrongVerdict, compare, differences
from tests.testbed.patience import patient

QUICK = {"slower month", "scored items", "exam over midnight", "change of clocks", "leap day"}
"""Worlds of few days, for each change; the others come with the servers."""
ALLOWED = {
    "median of the month before",
    "median of its own month so far",
    "too few times",
    "rules of its own month",
    "late answer",
    "late answer of the learner",
}
BY_NAME = {world.name: world for world in WORLDS}


@pytest.mark.parametrize(
    "world",
    [
        *(pytest.param(one, marks=[] if one.name in QUICK else pytest.mark.ci, id=one.name) for one in WORLDS),
        pytest.param(DEMO, marks=[pytest.mark.long, pytest.mark.timeout(patient(1800))], id="demo"),
    ],
)
def test_verdicts_are_those_of_today(
    database: Database, world: World, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if world.name == "SAT12":
        monkeypatch.setenv("IRT_SHARED", str(request.getfixturevalue("shared")))
    found = compare(database, world)
    assert found.attempts > 0
    assert {difference.kind for difference in found.differences} <= ALLOWED


def test_each_time_of_an_item_judges_the_answers_that_it_should(database: Database) -> None:
    """In February everybody takes four times as long; in March one item is new, and slower from its second day on."""
    found = compare(database, BY_NAME["slower month"]).differences
    assert found == {
        Difference("median of the month before", "counts → rapid"): 6,
        Difference("median of its own month so far", "rapid → counts"): 2,
    }


def test_a_wrong_verdict_is_found(database: Database) -> None:
    """The comparison itself can fail."""
    compare(database, BY_NAME["leap day"])
    run_sql(database, "CREATE TABLE kept AS SELECT * FROM attempt_verdict")
    for fault in (
        "UPDATE attempt_verdict SET score = 1 - score WHERE attempt_id = {one}",
        "UPDATE attempt_verdict SET reason = 'hinted', score = NULL WHERE attempt_id = {one}",
        "UPDATE attempt_verdict SET scale_id = 'other' WHERE attempt_id = {one}",
        "DELETE FROM attempt_verdict WHERE attempt_id = {one}",
    ):
        run_sql(database, fault.format(one="(SELECT min(attempt_id) FROM kept WHERE score IS NOT NULL)"))
        with pytest.raises(WrongVerdict, match=r"202[45]-0"):
            differences(database)
        run_sql(database, "TRUNCATE attempt_verdict")
        run_sql(database, "INSERT INTO attempt_verdict SELECT * FROM kept")
    assert not differences(database)[1]
