"""A real failover: readers continue at a standby, and clients with both addresses continue at the new primary."""

from __future__ import annotations

import threading
from collections import Counter
from itertools import cycle
from pathlib import Path

import pytest
from pydantic import SecretStr

from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.standby import fail_over, replicated
from tests.helpers.typed import IrtOf
from tests.integration.test_database_away import MONTH, READS, WRITES, after_first_step, hasty
from tests.integration.test_theta_api import kind, running
from tests.testbed.stack_harness import wait_for

pytestmark = pytest.mark.ci
__all__ = ["hasty"]


@pytest.mark.usefixtures("hasty")
def test_standby_serves_reads_and_calibration_continues_after_its_promotion(
    made_month: Settings, irt: IrtOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made_month.irt_home)

    def at(url: str) -> Settings:
        return made_month.model_copy(update={"database_url": SecretStr(url)})

    typed = irt(made_month)
    before = {words: typed(*words.split()).code for words in READS}
    with replicated(tmp_path, Database(made_month).url) as (primary, standby):
        typed = irt(at(standby.url))
        read = {words: typed(*words.split()).code for words in READS}
        refused = {words: typed(*words.split()) for words in WRITES}
        doctor = typed("doctor")

        either = at(f"postgresql://irt@{primary.address},{standby.address}/irt?target_session_attrs=read-write")
        typed, database = irt(either), Database(either)
        thread = after_first_step(either, lambda: fail_over(primary, standby, 1.0))
        done = typed("calibrate", "--month", MONTH)
        thread.join()

        assert read == before
        for words, one in refused.items():
            assert one.code == 2, (words, one.err)
            assert "error: the database is read-only at the moment" in one.err, words
            assert "Traceback" not in one.err + one.out, words
        assert doctor.code == 1
        assert "it is read-only" in doctor.out + doctor.err
        assert done.code == 0, done.err + done.out
        assert not (primary.data / "postmaster.pid").exists()
        with dagster_instance(either, database) as instance:
            (of_scale,) = month_states(database, instance, [MONTH])
        assert of_scale.state is State.GREEN


@pytest.mark.long
def test_every_returned_theta_is_stored_once_at_the_new_primary(made_month: Settings, tmp_path: Path) -> None:
    learners = [user for (user,) in rooms.rows(Database(made_month), "SELECT DISTINCT user_id FROM mirt_ability")]
    with replicated(tmp_path, Database(made_month).url) as (primary, standby):
        url = SecretStr(f"postgresql://irt@{primary.address},{standby.address}/irt?target_session_attrs=read-write")
        either = made_month.model_copy(update={"database_url": url})
        thetas, refusals, over = set[tuple[str, float]](), Counter[tuple[int, str]](), threading.Event()

        def ask() -> None:
            for user in cycle(learners):
                if over.is_set():
                    return
                answer = api.update_at_once(user)
                if answer.status_code == 200:
                    thetas.add((user, answer.json()["theta"]))
                else:
                    refusals[kind(answer)] += 1

        with running(either) as api:
            thread = threading.Thread(target=ask)
            thread.start()
            wait_for("answers", lambda: len(thetas) > 20, pause=0.02)
            fail_over(primary, standby, 3.0)
            known = len(thetas)
            wait_for("more answers", lambda: len(thetas) > known + 20, pause=0.02)
            over.set()
            thread.join()
        kept = rooms.rows(Database(either), "SELECT user_id, theta FROM mirt_ability WHERE kind = 'online'")
    assert refusals[503, "database_away"], "it was away while somebody asked"
    assert {status for status, _ in refusals} == {503}
    assert thetas <= set(kept)
    assert len(kept) == len({user for user, _ in kept}), "of each learner one"
