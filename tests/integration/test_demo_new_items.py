"""The demo's new items: answers in seed places of sessions, and the outcome of each item."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from irt_assets.common.partitions import DAYS
from irt_assets.decisions.deciding import decide
from irt_assets.demo import new_items
from irt_assets.demo.findings import Finding
from irt_assets.demo.new_items import STUCK, TRUE_VALUES, WRONG_KEY
from irt_assets.item_analysis.periods import analyse_day
from irt_assets.new_items.decided import REJECT, ItemsRequest, SeedLimits
from irt_assets.new_items.pipeline import make_pipeline
from irt_assets.scales.scale import change_rules
from irt_assets.simulation.files import SimulatedFiles
from resources.postgres.database import Database
from tests.helpers.rooms import SCALE, rows, run_sql
from tests.testbed.small_world import fill

NOON, MIDNIGHT = datetime(2026, 8, 25, 12, tzinfo=UTC), datetime(2026, 9, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def seed(database: Database, now: datetime) -> None:
    """Seed the demo's items in a small world with a log that ends at `now`. Twice is once."""
    fill(database.settings, ["2026-07", "2026-08"])
    files = SimulatedFiles.in_folder(database.settings.irt_home / "simulated")
    truth: dict[str, Any] = json.loads(files.truth.read_text("utf-8")) | {"now": now.isoformat()}
    for _ in range(2):
        new_items.seed_new_items(database, files, truth, lambda _line: None)


def find(database: Database) -> dict[str, Finding]:
    """Compare with the truth: planted item or items → finding."""
    return {found.planted: found for found in database.call(new_items.compare_new_items)}


@pytest.mark.parametrize("now", [NOON, MIDNIGHT])
def test_learners_answer_new_items_after_their_sessions_and_before_the_last_midnight(
    database: Database, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    """The small world has a third of the demo's sessions on the first day, so the limit is a third."""
    monkeypatch.setattr(new_items, "FEW", SeedLimits(max_answers=4))
    seed(database, now)
    answers = rows(
        database,
        """SELECT item_id, completed_at, draw_id IS NOT NULL, correct = (response = meta ->> 'key'),
                  r.position > (SELECT max(o.position) FROM response_log o
                              WHERE o.session_id = r.session_id AND NOT o.item_id = ANY(%s)
                                AND o.completed_at < r.completed_at)
           FROM response_log r JOIN question USING (item_id)
           LEFT JOIN seed_draw USING (user_id, session_id, item_id) WHERE item_id = ANY(%s)""",
        ([*TRUE_VALUES], [*TRUE_VALUES]),
    )
    midnight = now.replace(hour=0)
    assert len(answers) > 500
    assert all(midnight - 20 * DAY <= at < midnight and all(sound) for _, at, *sound in answers)
    of_stuck = [at for item, at, *_ in answers if item == STUCK]
    assert len(of_stuck) == 4
    assert max(of_stuck) < midnight - 19 * DAY


def test_outcomes_are_as_planted_or_as_a_person_decided(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small world has two thirds of the demo's answers, so its rules are milder."""
    seed(database, MIDNIGHT)
    change_rules(database, SCALE, {"seed_min_responses": 50, "seed_max_b_se": 0.4, "seed_max_ln_a_se": 0.4})
    for day in DAYS.last_keys(MIDNIGHT, 5):
        analyse_day(database, day)
    make_pipeline(database, "2026-08-31")
    said: list[str] = []
    for _ in range(2):
        new_items.publish_new_items(database, MIDNIGHT, said.append)
    assert len(said) == 1
    found = find(database)
    assert all(each.as_expected for each in found.values()), found
    with database.connect() as connection:
        table = new_items.outcomes_table(new_items.read_outcomes(connection))
    shown = {str(row[0]): [str(cell) for cell in row[1:]] for row in table.rows}
    assert shown.keys() == TRUE_VALUES.keys()
    published = [row for row in shown.values() if row[0] == "published"]
    assert len(published) >= new_items.MIN_READY
    assert {row[-1] for row in published} == {"in force from 2026-10-01 on"}
    assert "irt items rekey N11" in shown[WRONG_KEY][-1]
    assert "no answers in 14 days. Raise its limits" in shown[STUCK][-1]

    decide(database, REJECT, ItemsRequest([WRONG_KEY]), by="Kim", reason="key reversed")
    assert find(database)[WRONG_KEY].found == "Kim decided on it"
    assert find(database)[WRONG_KEY].as_expected
    run_sql(database, "DELETE FROM item_pipeline")
    assert not find(database)[STUCK].as_expected
    others = {item: replace(row, b=row.b + 2.0) for item, row in TRUE_VALUES.items()}
    monkeypatch.setattr(new_items, "TRUE_VALUES", others)
    [sound] = [each for item, each in find(database).items() if item not in (WRONG_KEY, STUCK)]
    assert not sound.as_expected
