"""Answers by HTTP while a month ends, and while PostgreSQL is killed: the clock of both servers is the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import requests
from pydantic import SecretStr

from resources.postgres import embedded_postgres
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.log_months import make_months_ahead, months_ahead_missing
from resources.postgres.schema import upgrade
from resources.postgres.server_account import surroundings
from resources.settings import Settings
from services.theta_api.posts import POSTS_PATH
from tests.helpers.door import ROOT
from tests.helpers.new_year import Clock
from tests.helpers.rooms import rows
from tests.integration.test_posts import HEADERS, TOKEN
from tests.testbed.machine import free_port
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.xdist_group("posts")

TURN = datetime(2031, 2, 1, tzinfo=UTC)


class World:
    """PostgreSQL, with fsync, and the API, in the last hours of a month: so long its start may take."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock(folder, TURN - timedelta(hours=2))
        self.server = EmbeddedPostgres(folder / "postgres")
        url = self.start_postgres()
        settings = Settings(irt_home=folder, database_url=SecretStr(url), _env_file=None)
        self.database = Database(settings)
        upgrade(self.database)
        self.make_months()
        port = free_port()
        env = {"DATABASE_URL": url, "IRT_HOME": str(folder), "IRT_THETA_TOKEN": TOKEN, "IRT_THETA_PORT": str(port)}
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "services.theta_api"]
        self.api = subprocess.Popen(
            command, env=os.environ | env | self.clock.environment, cwd=ROOT, stderr=subprocess.DEVNULL
        )
        wait_for("the API to be ready", self.is_ready, 120)

    def start_postgres(self) -> str:
        around = surroundings()
        around["env"] |= self.clock.environment
        with patch.object(embedded_postgres, "surroundings", lambda: around):
            return self.server.start()

    def make_months(self) -> None:
        """As the daemon does within minutes."""
        with self.database.connect() as connection:
            make_months_ahead(connection, self.clock.now())

    def is_ready(self) -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{self.url}/ready", timeout=5).status_code == 200
        return False

    def post(self, number: int, at: datetime | None = None) -> str:
        """What became of one answer; an empty text where it was not acknowledged."""
        given = {"attempt_id": f"a{number}", "user_id": f"u{number % 7}", "item_id": f"i{number % 5}", "correct": True}
        given["completed_at"] = (at or self.clock.now()).isoformat()
        with suppress(requests.RequestException):
            answer = requests.post(self.url + POSTS_PATH, json=[given], headers=HEADERS, timeout=patient(20))
            assert answer.status_code in (200, 503), answer.text
            return answer.json()["attempts"][0]["result"] if answer.status_code == 200 else ""
        return ""

    def until_stored(self, number: int, at: datetime | None = None) -> str:
        """What became of one answer that is sent until it is acknowledged."""
        return wait_for("the answer to be stored", lambda: self.post(number, at), 60)

    def kill_postgres(self) -> None:
        pid = int((self.server.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)  # an immediate shutdown


@pytest.fixture
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        made = World(Path(folder))
        try:
            yield made
        finally:
            made.api.kill()
            made.api.wait()
            made.server.stop()


def test_a_months_turn_and_a_killed_server_lose_and_double_no_acknowledged_answer(world: World) -> None:
    with world.database.connect() as connection:
        assert not months_ahead_missing(connection, world.clock.now())  # the month to come is there before it begins
    assert [world.until_stored(k) for k in range(3)] == ["accepted"] * 3
    world.clock.set(TURN - timedelta(minutes=2))
    early = TURN + timedelta(minutes=1)
    assert world.until_stored(3, early) == "accepted"  # a clock that is ahead, in the month to come
    world.clock.set(TURN - timedelta(seconds=1))
    acknowledged = set(range(4))
    with ThreadPoolExecutor(2) as pool:
        for batch in range(2):
            numbers = range(10 + 1000 * batch, 10 + 1000 * batch + 120)
            asked = {number: pool.submit(world.post, number) for number in numbers}
            asked[numbers[60]].result()
            if batch:
                world.kill_postgres()
                wait_for("it to end", lambda: world.server.status().state != "running", 60)
                assert world.post(4000) == ""
                world.start_postgres()
            acknowledged |= {number for number, answer in asked.items() if answer.result() == "accepted"}
    assert world.until_stored(5000) in ("accepted", "duplicate")
    assert world.until_stored(3, early) == "duplicate"
    assert world.clock.now() > TURN
    found = rows(world.database, "SELECT attempt_id, completed_at, tableoid::regclass::text FROM response_log")
    ids = [attempt_id for attempt_id, _, _ in found]
    assert len(ids) == len(set(ids))
    assert {f"a{number}" for number in acknowledged} <= set(ids)
    assert len(acknowledged) > 150
    assert "a4000" not in ids
    assert all(table.endswith(f"response_log_{at:%Y_%m}") for _, at, table in found)
    assert {f"{at:%Y-%m}" for _, at, _ in found} == {"2031-01", "2031-02"}
    assert next(at for attempt_id, at, _ in found if attempt_id == "a3") < TURN
    with world.database.connect() as connection:
        assert months_ahead_missing(connection, world.clock.now()) == ["2031-04"]
    world.make_months()
    assert world.until_stored(6000) in ("accepted", "duplicate")
