"""A real failover: what reads goes on at a standby, and what works with both addresses goes on at the new primary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from irt_assets.gates.month_judged import State
from irt_assets.gates.month_status import month_states
from irt_assets.servers.stack import dagster_instance
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.standby import fail_over, replicated
from tests.helpers.typed import Irt
from tests.integration.test_database_away import (
    EVENTS_OF_THE_LAST_RUN,
    MONTH,
    READS,
    WRITES,
    after_first_step,
    hasty,
)

pytestmark = pytest.mark.ci
__all__ = ["hasty"]

MADE = {"ASSET_MATERIALIZATION", "STEP_SUCCESS", "PIPELINE_SUCCESS"}
"""What a step that was tried again has but once."""


@pytest.mark.usefixtures("hasty")
def test_a_standby_is_read_and_takes_over_in_the_middle_of_a_calibration(
    made_month: Settings, irt: Callable[[Settings], Irt], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        with database.connect() as connection:
            undisturbed = [row for row in connection.execute(EVENTS_OF_THE_LAST_RUN) if row[0] in MADE]
        thread = after_first_step(either, lambda: fail_over(primary, standby, 1.0))
        done = typed("calibrate", "--month", MONTH)
        thread.join()

        assert read == before
        for words, one in refused.items():
            assert one.code == 2, (words, one.err)
            assert "error: the database can be read and not changed at the moment" in one.err, words
            assert "Traceback" not in one.err + one.out, words
        assert doctor.code == 1
        assert "it can be read and not changed" in doctor.out + doctor.err
        assert done.code == 0, done.err + done.out
        assert not (primary.data / "postmaster.pid").exists()
        with database.connect() as connection:
            assert [row for row in connection.execute(EVENTS_OF_THE_LAST_RUN) if row[0] in MADE] == undisturbed
        with dagster_instance(either, database) as instance:
            (of_scale,) = month_states(database, instance, [MONTH])
        assert of_scale.state is State.GREEN
