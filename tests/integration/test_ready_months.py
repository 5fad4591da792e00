"""A month that is ready opens one info alert, for every channel but PagerDuty, and resolves it at once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from irt_assets.gates.month_judged import MonthState, State
from jobs.watching import ready_months
from resources.alerts.notifier import deliver
from resources.alerts.outbox import Alert, open_alert, open_keys, queue, resolve_alert
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import SCALE, rows, run_sql
from tests.helpers.waiting_decision import FEB, JAN, accept, bank
from tests.integration.sinks import HttpSink

__all__ = ["bank"]  # a fixture
WAITS = f"{FEB} is green, 1 decision waits: irt release list --month {FEB}"
RED = Alert(key=f"held {FEB}", severity="error", what=f"{FEB} is held", fix="look", partition=FEB)


class Instance:
    """The states that months are in; the ledger is the database's own."""

    def __init__(self, database: Database, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database, self.instance = database, instance
        self.states = {JAN: State.RED, FEB: State.GREEN}
        self.looked_at: list[str] = []
        monkeypatch.setattr(ready_months, "month_states", self._month_states)

    def _month_states(self, _database: object, _instance: object, months: list[str], *_: object) -> list[MonthState]:
        self.looked_at = months
        return [MonthState(month, SCALE, self.states[month], "") for month in months]

    def told(self, now: datetime | None = None) -> list[str]:
        return ready_months.tell_of_ready_months(self.database, self.instance, now or datetime.now(UTC))

    def published_again(self) -> None:
        run_sql(self.database, "UPDATE publication_step SET stepped_at = now() WHERE month = %s", (FEB,))


@pytest.fixture
def months(bank: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Instance(bank, instance, monkeypatch)


def alerts(database: Database) -> list[tuple[Any, ...]]:
    return rows(database, "SELECT what, severity, resolved_at IS NULL FROM alert ORDER BY alert_id")


def test_a_green_month_is_announced_once_with_what_waits(months: Instance) -> None:
    assert [months.told(), months.told()] == [[WAITS], []]
    assert alerts(months.database) == [(WAITS, "info", False)], "nothing that anybody must close"
    assert months.looked_at == [JAN], "only what may be news is looked at"
    months.published_again()
    assert months.told() == [], "it was announced when it first turned green"
    accept(months.database)
    months.states[JAN] = State.GREEN
    assert months.told() == [f"{JAN} is green, no decision waits"]


def test_with_a_dashboard_it_links_to_the_page_of_the_month(months: Instance) -> None:
    address = {"irt_dashboard_url": "https://irt.example.org/admin/"}
    months.database.settings = months.database.settings.model_copy(update=address)
    assert months.told() == [WAITS]
    ((fix,),) = rows(months.database, "SELECT fix FROM alert")
    assert f"in https://irt.example.org/admin/?view=month&month={FEB}: what is published stays" in fix


@pytest.mark.parametrize("state", [State.RED, State.STALE, State.RUNNING, State.PENDING])
def test_it_waits_until_the_month_is_green(months: Instance, state: State) -> None:
    months.states[FEB] = state
    assert months.told() == []
    months.states[FEB] = State.GREEN
    assert months.told() == [WAITS]


def test_a_month_that_was_red_meanwhile_is_announced_again(months: Instance) -> None:
    assert months.told() == [WAITS]
    with months.database.connect() as connection:
        assert open_alert(connection, RED)
    months.states[FEB] = State.RED
    assert months.told() == []
    with months.database.connect() as connection:
        resolve_alert(connection, RED.key)
    months.published_again()
    months.states[FEB] = State.GREEN
    assert [months.told(), months.told()] == [[WAITS], []]


def test_a_run_of_the_month_that_failed_made_it_red_and_one_of_its_report_did_not(months: Instance) -> None:
    assert months.told() == [WAITS]
    for job, told in (("drift_report", []), ("monthly_calibration", [WAITS])):
        failed = Alert(f"run {job} {FEB}|abc", "error", "the run failed", "look", partition=FEB)
        with months.database.connect() as connection:
            open_alert(connection, failed)
            resolve_alert(connection, failed.key)
        assert months.told() == told


def test_months_published_long_ago_are_not_announced(months: Instance) -> None:
    assert months.told(datetime.now(UTC) + timedelta(days=2)) == []


def test_the_sensor_says_what_it_told(months: Instance) -> None:
    with dg.build_sensor_context(instance=months.instance, resources={"database": months.database}) as context:
        said = ready_months.ready_months(context)
    assert said.skip_message == WAITS


# -- channels ----------------------------------------------------------------------------------------


def test_a_webhook_gets_the_message_without_an_end(months: Instance, settings: Settings, http: HttpSink) -> None:
    months.told()
    database = Database(settings.model_copy(update={"alert_webhook_url": SecretStr(f"{http.url}/hook")}))
    assert deliver(database) == {"webhook": 1}
    ((_, news),) = http.received
    assert (news["title"], news["type"], news["event"]) == (WAITS, "info", "opened")
    assert (news["partition"], news["subjects"]) == (FEB, ["moved"])
    assert deliver(database) == {"webhook": 0}
    with months.database.connect() as connection:
        assert open_keys(connection, "") == {}


def test_pagerduty_gets_no_message_that_a_month_is_ready(months: Instance) -> None:
    months.told()
    with months.database.connect() as connection:
        open_alert(connection, RED)
        queue(connection, ["slack", "pagerduty"])
    queued = rows(
        months.database, "SELECT channel, severity FROM alert_delivery JOIN alert USING (alert_id) ORDER BY 1, 2"
    )
    assert queued == [("pagerduty", "error"), ("slack", "error"), ("slack", "info")]
