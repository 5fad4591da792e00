"""The sweep finds whose answers are newer than their θ, measures each once, and goes on where it stopped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from irt_assets.abilities.online import read_measures, update
from irt_assets.abilities.sweep import Mark, Swept, sweep
from irt_assets.runs.in_process_runs import SENSORS
from jobs.sensors import build_theta_sensor
from resources.postgres.database import Database
from resources.settings import Settings
from services.theta_api.ledger import Ledger
from tests.helpers.rooms import add_attempts, add_learners, attempt, rows, run_sql


@pytest.fixture
def answered(world: Settings, now: datetime) -> Database:
    """Of ann, bob and eve each an answer of half an hour ago, recorded one minute apart; nothing else is so new."""
    database = Database(world)
    item = rows(database, "SELECT item_id FROM item_parameter_publication ORDER BY 1 LIMIT 1")[0][0]
    run_sql(database, "UPDATE response_log SET recorded_at = completed_at")
    add_attempts(database, [attempt(user, item, now - timedelta(minutes=30)) for user in ("ann", "bob", "eve")])
    for user, minutes in (("ann", 20), ("bob", 19), ("eve", 18)):
        recorded(database, user, minutes)
    return database


def recorded(database: Database, user: str, minutes: float) -> None:
    run_sql(
        database,
        "UPDATE response_log SET recorded_at = %s WHERE user_id = %s",
        (datetime.now(UTC) - timedelta(minutes=minutes), user),
    )


def online(database: Database) -> list[str]:
    return [user for (user,) in rows(database, "SELECT user_id FROM mirt_ability WHERE kind = 'online' ORDER BY 1")]


def test_it_updates_whom_no_request_came_for_and_each_once(answered: Database) -> None:
    with answered.connect() as connection:
        now = datetime.now(UTC)
        update(connection, read_measures(connection, now), "bob", 30, now)
    first = sweep(answered, None, 60)
    assert (first.looked_at, first.updated) == (2, 2)
    assert online(answered) == ["ann", "bob", "eve"]
    before = rows(answered, "SELECT * FROM mirt_ability WHERE kind = 'online' ORDER BY user_id")
    assert sweep(answered, first.mark.write(), 60).looked_at == 0
    assert sweep(answered, None, 60).looked_at == 0, "without its mark it sees that they are measured"
    assert rows(answered, "SELECT * FROM mirt_ability WHERE kind = 'online' ORDER BY user_id") == before


def test_it_goes_on_where_its_time_was_up_also_among_answers_of_one_moment(answered: Database) -> None:
    moment = datetime.now(UTC) - timedelta(minutes=20)
    run_sql(answered, "UPDATE response_log SET recorded_at = %s WHERE user_id IN ('ann', 'bob', 'eve')", (moment,))
    rest = sweep(answered, Mark(moment, "ann").write(), 60)
    assert (rest.looked_at, online(answered)) == (2, ["bob", "eve"])
    stopped = sweep(answered, Mark(moment - timedelta(seconds=1)).write(), -1.0)
    assert stopped == Swept(Mark(moment - timedelta(seconds=1)), 0, 0)


def test_test_accounts_sandbox_answers_of_this_minute_and_imports_of_old_answers_are_left_alone(
    answered: Database,
) -> None:
    add_learners(answered, ["ann"], is_test=True)
    run_sql(answered, "UPDATE response_log SET mode = 'sandbox' WHERE user_id = 'bob'")
    recorded(answered, "eve", 0)
    someone = rows(answered, "SELECT min(user_id) FROM response_log WHERE user_id NOT IN ('ann', 'bob', 'eve')")[0][0]
    recorded(answered, someone, 5)
    swept = sweep(answered, None, 60)
    assert (swept.looked_at, online(answered)) == (0, [])
    recorded(answered, "eve", 2)
    assert sweep(answered, swept.mark.write(), 60).updated == 0, "its mark is a minute ago"
    assert sweep(answered, None, 60).updated == 1


def test_where_nothing_is_published_it_waits(database: Database) -> None:
    assert sweep(database, None, 60).why == "nothing is published"


@pytest.mark.parametrize(
    ("of_the_daemon", "of_the_api", "works"),
    [
        (False, (), False),
        (True, (), True),
        (False, (True,), True),
        (False, (True, False), False),
        (True, (False,), True),
    ],
)
def test_the_sensor_works_only_where_it_or_the_theta_api_that_started_last_is_switched_on(
    of_the_daemon: bool, of_the_api: tuple[bool, ...], works: bool, answered: Database, world: Settings
) -> None:
    assert "theta_sweep" in SENSORS
    for on in of_the_api:
        ledger = Ledger(Database(world.model_copy(update={"enable_irt_online_update": on})), 1)
        ledger.start()
        ledger.wait_for_first_look()
        ledger.stop()
    sensor = build_theta_sensor(world.model_copy(update={"enable_irt_online_update": of_the_daemon}))
    context = dg.build_sensor_context(resources={"database": answered}, sensor_name="theta_sweep")
    with context:
        tick = sensor.evaluate_tick(context)
    assert not tick.run_requests
    assert online(answered) == (["ann", "bob", "eve"] if works else [])
