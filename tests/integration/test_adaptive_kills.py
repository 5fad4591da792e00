"""Sessions of adaptive tests go on although API and database are killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from irt_assets.adaptive.policy import Policy
from irt_assets.common.partitions import month_of
from irt_assets.decisions.origin import initialise
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.postgres.schema import upgrade
from resources.settings import Settings
from services.theta_client import NextItemFailed, next_item, send_attempts
from services.theta_client.api import read_address
from services.theta_client.attempts import AttemptsNotSent
from tests.helpers.decided import set_policy
from tests.helpers.door import ROOT
from tests.helpers.rooms import SCALE, add_items, rows
from tests.helpers.score_world import item_values
from tests.integration.test_embedded_postgres import kill
from tests.testbed.machine import free_port
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

TOKEN = "a-service-token-of-32-characters"
SESSIONS, LENGTH = 50, 12
POLICY = (
    f"test: placement\nscale: {SCALE}\nlength: {{max: {LENGTH - 2}}}\nunscored: 0.167\nexposure: {{randomesque: 5}}\n"
)


@contextmanager
def served(url: str, home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The API as a process, which is killed at the end."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "IRT_HOME": str(home),
        "DATABASE_URL": url,
        "IRT_THETA_TOKEN": TOKEN,
        "IRT_THETA_PORT": str(port),
    }
    with (home / "api.log").open("ab") as log:
        child = subprocess.Popen([sys.executable, "-m", "services.theta_api"], env=environment, stderr=log, stdout=log)
    try:
        yield child
    finally:
        child.kill()
        child.wait(patient(10))


@pytest.mark.ci
def test_sessions_go_on_without_a_repeated_item_after_kills_of_api_and_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the sessions send their answers with each request, and half post them to the log."""
    server, port = EmbeddedPostgres(tmp_path / "postgres"), free_port()
    url = server.start()
    database = Database(Settings(irt_home=tmp_path, database_url=SecretStr(url), _env_file=None))
    monkeypatch.setenv("IRT_THETA_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("IRT_THETA_TOKEN", TOKEN)
    read_address.cache_clear()
    given: dict[int, list[dict[str, Any]]] = defaultdict(list)
    failures, changes = list[str](), list[str]()
    over = threading.Event()

    def repeat(request: Any) -> Any:
        while not over.is_set():
            try:
                return request()
            except (NextItemFailed, AttemptsNotSent) as error:
                if not error.pause:
                    raise
                failures.append(str(error))
                time.sleep(0.2)
        raise TimeoutError("the test is over")

    def sit(k: int) -> None:
        sent: list[dict[str, Any]] = []
        while True:
            step = repeat(lambda: next_item("placement", f"u{k}", f"s{k}", sent if k % 2 else None))
            again = repeat(lambda: next_item("placement", f"u{k}", f"s{k}", sent if k % 2 else None))
            changes.extend([f"{step} {again}"] if step != again else [])
            if step["stop"]:
                assert step["stop"] == "max-items"
                return
            given[k].append(step)
            sent.append({"item_id": step["item_id"], "correct": len(sent) % 2 == 0})
            if k % 2 == 0:
                row = sent[-1] | {"user_id": f"u{k}", "session_id": f"s{k}", "form_id": "placement"}
                row |= {"position": step["position"], "completed_at": datetime.now(UTC).isoformat()}
                results = repeat(lambda row=row: send_attempts([row]))
                assert results[0]["result"] in ("accepted", "duplicate"), results

    def count() -> int:
        return sum(map(len, given.values()))

    try:
        upgrade(database)
        add_items(database, item_values())
        month = month_of(datetime.now(UTC))
        initialise(database, SCALE, first_month=month.previous)
        add_items(database, dict.fromkeys(("n1", "n2", "n3")))
        set_policy(database, Policy.from_yaml(POLICY), by="Ann", reason="trial")
        with ThreadPoolExecutor(8) as threads:
            with served(url, tmp_path, port):
                sittings = [threads.submit(sit, k) for k in range(SESSIONS)]
                wait_for("sessions under way", lambda: count() > 100, pause=0.02)
            with served(url, tmp_path, port):
                before = count()
                wait_for("more sessions", lambda: count() > before + 100, pause=0.02)
                kill(server)
                wait_for("failures", lambda: len(failures) > 8, pause=0.02)
                assert server.start() == url
                try:
                    for sitting in sittings:
                        sitting.result(patient(120))
                finally:
                    over.set()
    finally:
        over.set()
        server.start()
        stored = rows(database, "SELECT session_id, user_id FROM adaptive_session JOIN adaptive_bank USING (bank_hash)")
        server.stop()
        read_address.cache_clear()
    assert sorted(stored) == sorted((f"s{k}", f"u{k}") for k in range(SESSIONS))
    assert not changes, changes[:3]
    assert {len({step["item_id"] for step in steps}) for steps in given.values()} == {LENGTH}
    assert {(len(steps), sum(not step["scored"] for step in steps)) for steps in given.values()} == {(LENGTH, 2)}
    assert all(len({step["seed"] for step in steps}) == 1 for steps in given.values())
