"""A failed run leads to a delivered message, through the real daemon and code server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from dagster import DagsterRunStatus

from irt_assets.common.job_names import MONTHLY_JOB
from irt_assets.common.partitions import Month
from resources.dagster_compat import TickStatus
from tests.helpers.rooms import add_attempts, attempt, rows, run_sql
from tests.testbed.stack_harness import wait_for
from tests.ui.walked_platform import Platform

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("ui")]


@pytest.fixture
def quiet_platform(platform: Platform) -> Iterator[Platform]:
    """The platform, once all earlier messages have been delivered."""
    wait_for("what is to be told to arrive", lambda: not undelivered(platform))
    yield platform
    platform.web.gate.set()


def test_a_failed_run_sends_an_alert_and_a_later_success_resolves_the_alert(quiet_platform: Platform) -> None:
    month, stack = quiet_platform.empty[0], quiet_platform.stack
    run_id = stack.launch(MONTHLY_JOB, month, ["scored_responses"])
    assert stack.finished(run_id) is DagsterRunStatus.FAILURE
    wait_for("the alert", lambda: bodies(quiet_platform, month))
    (item,) = rows(stack.database, "SELECT min(item_id) FROM question")[0]
    add_attempts(stack.database, [attempt("u1", item, Month(month).start)])
    again = stack.launch(MONTHLY_JOB, month, ["scored_responses"])
    assert stack.finished(again) is DagsterRunStatus.SUCCESS
    wait_for("its end", lambda: len(bodies(quiet_platform, month)) > 1)
    wait_for("all to be on record as delivered", lambda: not undelivered(quiet_platform))
    opened, resolved = bodies(quiet_platform, month)
    assert (opened["event"], resolved["event"], opened["id"]) == ("opened", "resolved", resolved["id"])
    assert opened["title"].startswith(f"[test] the run of {MONTHLY_JOB} failed: month {month} has no attempts")
    assert (opened["partition"], opened["subjects"]) == (month, ["scored_responses"])
    assert opened["link"] == f"{stack.settings.ui_url}/runs/{run_id}"


def test_a_hanging_channel_delays_only_its_own_messages(quiet_platform: Platform) -> None:
    """The delivery sensor keeps ticking while a channel hangs, and the delayed message arrives in the end."""
    month, stack = quiet_platform.empty[1], quiet_platform.stack
    mails = len(quiet_platform.mail.received)
    quiet_platform.web.gate.clear()
    assert stack.finished(stack.launch(MONTHLY_JOB, month, ["scored_responses"])) is DagsterRunStatus.FAILURE
    wait_for("the mail", lambda: len(quiet_platform.mail.received) > mails)
    wait_for("the webhook to be tried", lambda: bodies(quiet_platform, month))
    wait_for("its failure to be noted", lambda: [error for _, error in undelivered(quiet_platform)] not in ([], [None]))
    wait_for("the mail to be noted", lambda: [channel for channel, _ in undelivered(quiet_platform)] == ["webhook"])
    quiet_platform.web.gate.set()
    wait_for("all to arrive", lambda: not undelivered_and_due(quiet_platform), pause=1)
    ticks = [
        tick.status
        for state in stack.instance.all_instigator_state()
        if state.instigator_name == "alert_delivery"
        for tick in stack.instance.get_ticks(state.instigator_origin_id, state.selector_id)
    ]
    assert TickStatus.SKIPPED in ticks  # a tick that only delivers messages requests no run
    assert TickStatus.FAILURE not in ticks
    assert len(quiet_platform.mail.received) == mails + 1


def bodies(platform: Platform, month: str) -> list[dict[str, Any]]:
    """Messages about a month that the webhook received."""
    return [body for body in platform.web.bodies() if body["partition"] == month]


def undelivered_and_due(platform: Platform) -> list[tuple[str, str | None]]:
    """Make all undelivered messages due, then list them. A hanging attempt may have set a later time."""
    run_sql(platform.stack.database, "UPDATE alert_delivery SET next_attempt_at = now() WHERE delivered_at IS NULL")
    return undelivered(platform)


def undelivered(platform: Platform) -> list[tuple[str, str | None]]:
    """Channels with undelivered messages, and the error of the last attempt."""
    return rows(platform.stack.database, "SELECT channel, last_error FROM alert_delivery WHERE delivered_at IS NULL")
