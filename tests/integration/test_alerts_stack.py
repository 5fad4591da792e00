"""From a run that fails to a message that arrives, through the real daemon and code server."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster import DagsterRunStatus
from pydantic import SecretStr

from irt_assets.job_names import MONTHLY_JOB
from irt_assets.partitions import month_bounds
from resources.dagster_compat import TickStatus
from resources.database import Database
from resources.schema import ensure_month_partitions, upgrade
from resources.settings import Settings
from testbed.small_world import last_months
from testbed.stack_harness import running_stack, wait_for
from tests.helpers.rooms import add_attempts, add_items, attempt, rows
from tests.integration.sinks import http_sink, smtp_sink

pytestmark = pytest.mark.ci

ARRIVES_WITHIN_S = 150.0
"""Two sensors follow each other, each every 30 seconds, on a machine that may be busy."""


def test_a_failed_run_is_told_of_once_and_its_end_too(tmp_path: Path) -> None:
    (month,) = last_months(1)
    with http_sink() as sink:
        settings = Settings(
            irt_home=tmp_path / "irt",
            irt_first_month=month,
            irt_schedules="stopped",
            env_name="test",
            alert_webhook_url=SecretStr(f"{sink.url}/hook"),
            _env_file=None,  # type: ignore[call-arg]
        )
        database = Database(settings)
        upgrade(database)
        with running_stack(settings, "irt_assets.definitions") as stack:
            run_id = stack.launch(MONTHLY_JOB, month, ["scored_responses"])
            assert stack.finished(run_id) is DagsterRunStatus.FAILURE
            wait_for("the alert", lambda: bool(sink.received), ARRIVES_WITHIN_S)
            with database.connect() as connection:
                ensure_month_partitions(connection, month, month)
            add_items(database, {"q1": None})
            add_attempts(database, [attempt("u1", "q1", month_bounds(month)[0])])
            again = stack.launch(MONTHLY_JOB, month, ["scored_responses"])
            assert stack.finished(again) is DagsterRunStatus.SUCCESS
            wait_for("its end", lambda: len(sink.received) > 1, ARRIVES_WITHIN_S)
            wait_for("both to be on record as delivered", lambda: not rows(database, UNDELIVERED), ARRIVES_WITHIN_S)
            opened, resolved = sink.bodies()
        assert (opened["event"], resolved["event"]) == ("opened", "resolved")
        assert opened["id"] == resolved["id"]
        assert opened["title"].startswith(f"[test] the run of {MONTHLY_JOB} failed: month {month} has no attempts")
        assert (opened["partition"], opened["subjects"]) == (month, ["scored_responses"])
        assert opened["link"] == f"{settings.ui_url}/runs/{run_id}"


def test_a_channel_that_takes_a_message_and_never_answers_delays_its_own_alone(tmp_path: Path) -> None:
    """The sensor that delivers keeps its time while a channel hangs, and what hung arrives in the end."""
    (month,) = last_months(1)
    with http_sink() as hanging, smtp_sink() as smtp:
        hanging.gate.clear()
        settings = Settings(
            irt_home=tmp_path / "irt",
            irt_first_month=month,
            irt_schedules="stopped",
            alert_webhook_url=SecretStr(f"{hanging.url}/hook"),
            alert_email="ops@example.org",
            smtp_url=SecretStr(f"smtp://127.0.0.1:{smtp.port}"),
            _env_file=None,  # type: ignore[call-arg]
        )
        upgrade(Database(settings))
        with running_stack(settings, "irt_assets.definitions") as stack:
            assert stack.finished(stack.launch(MONTHLY_JOB, month, ["scored_responses"])) is DagsterRunStatus.FAILURE
            wait_for("the mail", lambda: bool(smtp.received), ARRIVES_WITHIN_S)
            wait_for("the webhook to be tried", lambda: bool(hanging.received), ARRIVES_WITHIN_S)
            wait_for("its failure to be noted", lambda: said_of_the_webhook(stack.database) is not None, 60)
            wait_for("the mail to be noted", lambda: rows(stack.database, UNDELIVERED) == [("webhook",)], 60)
            hanging.gate.set()
            wait_for("all to arrive", lambda: rows(stack.database, UNDELIVERED) == [], ARRIVES_WITHIN_S)
            ticks = [
                tick.status
                for state in stack.instance.all_instigator_state()
                if state.instigator_name == "alert_delivery"
                for tick in stack.instance.get_ticks(state.instigator_origin_id, state.selector_id)
            ]
        assert TickStatus.SKIPPED in ticks  # a tick that only delivers asks for no run
        assert TickStatus.FAILURE not in ticks
        assert len(smtp.received) == 1


UNDELIVERED = "SELECT channel FROM alert_delivery WHERE delivered_at IS NULL"


def said_of_the_webhook(database: Database) -> str | None:
    """Why the last try did not arrive."""
    found = rows(database, "SELECT last_error FROM alert_delivery WHERE channel = 'webhook'")
    return found[0][0] if found else None
