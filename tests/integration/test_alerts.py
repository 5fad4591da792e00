"""Alerts as they arrive at real servers: their texts, once each, also if a channel does not answer."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from apprise.plugins import pagerduty
from apprise.plugins.base import NotifyBase
from apprise.plugins.discord import NotifyDiscord
from apprise.plugins.slack import NotifySlack
from pydantic import SecretStr

from irt_assets.gates.month_classification import MonthState, State
from jobs.watching import ready_months
from resources.alerts.notifier import _attempts, channels, deliver, problems
from resources.alerts.outbox import FIRST_WAIT_S, Alert, Due, open_alert, open_keys, queue, resolve_alert
from resources.postgres.database import Database, advisory_lock
from resources.settings import Settings
from tests.helpers.rooms import SCALE, call, rows, run_sql
from tests.helpers.sentences import missing_sentences
from tests.helpers.waiting_decision import FEB, JAN, accept, bank
from tests.integration.sinks import HttpSink, SmtpSink, smtp_sink
from tests.testbed.patience import patient

SLACK_TOKEN, DISCORD_TOKEN, PD_KEY = "C" * 24, "d" * 64, "p" * 32
SLACK = f"https://hooks.slack.com/services/T1H9RESGL/B03HJ1YTU/{SLACK_TOKEN}"
DISCORD = f"https://discord.com/api/webhooks/4174216298/{DISCORD_TOKEN}"
PASSWORD = "hunter-of-mail"

BAD_ITEMS = Alert(
    key="invariant published_items_are_usable",
    severity="error",
    what="published items cannot be scored with",
    fix="look at the items' fits, and withdraw them",
    partition="2026-09",
    kind="items",
    subjects=tuple(f"q{n:02d}" for n in range(13)),
    link="/assets/invariant_report?partition=2026-09",
)


@pytest.fixture
def smtp() -> Iterator[SmtpSink]:
    with smtp_sink() as sink:
        yield sink


@pytest.fixture
def everywhere(settings: Settings, http: HttpSink, smtp: SmtpSink, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with all five channels, each of which reaches a server of the test."""
    monkeypatch.setattr(NotifySlack, "webhook_url", f"{http.url}/slack")
    monkeypatch.setattr(NotifyDiscord, "notify_url", f"{http.url}/discord")
    monkeypatch.setitem(pagerduty.PAGERDUTY_API_LOOKUP, "us", f"{http.url}/pagerduty")
    return configure(
        settings,
        env_name="production",
        irt_ui_url="https://irt.example.org/",
        slack_webhook_url=SecretStr(SLACK),
        discord_webhook_url=SecretStr(DISCORD),
        alert_email="ops@example.org, head@example.org",
        smtp_url=SecretStr(f"smtp://127.0.0.1:{smtp.port}?from=irt@example.org"),
        pd_routing_key=SecretStr(PD_KEY),
        alert_webhook_url=SecretStr(f"{http.url}/hook/very-secret-path?key=topsecret"),
    )


def configure(settings: Settings, **values: Any) -> Settings:
    return settings.model_copy(update=values)


def raise_alert(settings: Settings, alert: Alert = BAD_ITEMS) -> bool:
    return call(Database(settings), open_alert, alert)


def resolve(settings: Settings, alert: Alert = BAD_ITEMS) -> bool:
    return call(Database(settings), resolve_alert, alert.key)


def wait_is_over(settings: Settings) -> None:
    run_sql(Database(settings), "UPDATE alert_delivery SET next_attempt_at = now() - interval '1 second'")


def clock(settings: Settings) -> datetime:
    """The database's time."""
    return rows(Database(settings), "SELECT clock_timestamp()")[0][0]


def undelivered(settings: Settings) -> set[tuple[Any, ...]]:
    return set(
        rows(Database(settings), "SELECT channel, event FROM alert_delivery WHERE delivered_at IS NULL ORDER BY 1, 2")
    )


# -- delivered messages ------------------------------------------------------------------------------


def test_every_channel_receives_the_alert_in_its_own_format(
    everywhere: Settings, http: HttpSink, smtp: SmtpSink
) -> None:
    raise_alert(everywhere)
    assert deliver(Database(everywhere)) == dict.fromkeys(("slack", "discord", "email", "pagerduty", "webhook"), 1)
    posted = {path.split("/")[1]: (path, body) for path, body in http.received}
    title = "[production] published items cannot be scored with (2026-09)"
    first_ten = "q00, q01, q02, q03, q04, q05, q06, q07, q08, q09 and 3 more"
    link = "https://irt.example.org/assets/invariant_report?partition=2026-09"

    path, slack = posted["slack"]
    (attachment,) = slack["attachments"]
    assert (path, attachment["title"]) == (f"/slack/T1H9RESGL/B03HJ1YTU/{SLACK_TOKEN}", title)
    todo = "What to do: look at the items' fits, and withdraw them"
    assert not missing_sentences(attachment["text"], f"Items: {first_ten}", todo, link)

    path, discord = posted["discord"]
    assert path == f"/discord/4174216298/{DISCORD_TOKEN}"
    assert not missing_sentences(discord["content"], title, f"Items: {first_ten}")

    _, event = posted["pagerduty"]
    assert [event[name] for name in ("routing_key", "event_action", "dedup_key", "links")] == [
        PD_KEY,
        "trigger",
        "irt-assets-production-1",
        [{"href": link}],
    ]
    payload = event["payload"]
    assert (payload["summary"], payload["severity"], payload["source"]) == (title, "error", "production")
    assert payload["custom_details"]["items"] == first_ten

    path, hook = posted["hook"]
    assert path == "/hook/very-secret-path?key=topsecret"
    expected = {
        "title": title,
        "type": "failure",
        "id": "irt-assets-production-1",
        "event": "opened",
        "severity": "error",
        "partition": "2026-09",
        "kind": "items",
        "n_subjects": 13,
        "link": link,
        "subjects": list(BAD_ITEMS.subjects[:10]),
    }
    assert {name: hook[name] for name in expected} == expected

    assert {to for recipients in smtp.recipients for to in recipients} == {"ops@example.org", "head@example.org"}
    mail = smtp.received[0]
    assert (mail["subject"], mail["x-irt-alert"]) == (title, "irt-assets-production-1")
    assert "irt@example.org" in str(mail["from"])
    assert mail.get_content().splitlines() == [
        "Partition: 2026-09",
        f"Items: {first_ten}",
        "What to do: look at the items' fits, and withdraw them",
        f"Look: {link}",
    ]
    assert "apprise" not in str([body for _, body in http.received]).lower()


def test_ids_cannot_mention_all_members_of_a_chat(everywhere: Settings, http: HttpSink) -> None:
    raise_alert(
        everywhere, Alert("x", "error", "bad items", "look", kind="items", subjects=("<!channel>", "@everyone"))
    )
    deliver(Database(everywhere))
    posted = {path.split("/")[1]: str(body) for path, body in http.received}
    for chat in ("slack", "discord"):
        assert (missing_sentences(posted[chat], "channel", "everyone"), "<!channel>" in posted[chat]) == ([], False)
        assert "@everyone" not in posted[chat]


@pytest.mark.parametrize(
    ("rule", "subjects"),
    [
        (None, []),
        ("count", []),
        ("key", ["7001", "7002", "unknown"]),
        ("id", ["default: learner1", "two: x", "gone"]),
    ],
)
def test_messages_name_learners_by_the_rule_of_the_installation(
    everywhere: Settings, http: HttpSink, smtp: SmtpSink, rule: str | None, subjects: list[str]
) -> None:
    """Chats get the number of learners unless the setting is changed. One subject has its scale before the id, and one
    id has a colon."""
    database = Database(everywhere if rule is None else configure(everywhere, alert_learners=rule))
    run_sql(
        database, "INSERT INTO learner (user_id, learner_key) VALUES ('learner1', 7001), ('two: x', 7002), ('x', 7003)"
    )
    ids = ("default: learner1", "two: x", "gone")
    raise_alert(everywhere, Alert("x", "error", "odd", "look", kind="learners", subjects=ids))
    raise_alert(everywhere, Alert("y", "error", "odd", "look", kind="items", subjects=("q1",)))
    deliver(database)
    bodies = [body for _, body in http.received]
    messages = [str(body) for body in bodies] + [mail.get_content() for mail in smtp.received]
    named = ", ".join(subjects) or "3"
    assert sum("Items: q1" in message for message in messages) >= 3
    assert sum(f"Learners: {named}" in message for message in messages) >= 3
    [hook] = [body for body in bodies if body.get("kind") == "learners"]
    assert (hook["subjects"], hook["n_subjects"]) == (subjects, 3)
    [details] = [d for body in bodies if "learners" in (d := body.get("payload", {}).get("custom_details", {}))]
    assert details["learners"] == named
    assert any(name in message for message in messages for name in ids) is (rule == "id")


@pytest.mark.parametrize(
    ("rule", "name", "other"),
    [(None, "a learner", "a learner"), ("key", "7001", "7002"), ("id", "ann@x.org", "learner-2")],
)
def test_reason_of_a_failed_run_names_learners_by_the_rule(
    everywhere: Settings, http: HttpSink, smtp: SmtpSink, rule: str | None, name: str, other: str
) -> None:
    """Ids that may be ordinary words stay: few characters, only digits, or an item's id."""
    database = Database(everywhere if rule is None else configure(everywhere, alert_learners=rule))
    run_sql(
        database,
        """INSERT INTO learner (user_id, learner_key) VALUES
             ('ann@x.org', 7001), ('learner-2', 7002), ('2026', 7003), ('run', 7004), ('item7', 7005);
           INSERT INTO question (item_id, scale_id) VALUES ('item7', 'default')""",
    )
    reason = "the run of 2026 failed at item7: no report of {} ('{}', learner-20)"
    fix = "irt report learner {}"
    raise_alert(everywhere, Alert("x", "error", reason.format("ann@x.org", "learner-2"), fix.format("learner-2")))
    deliver(database)
    [hook] = [body for path, body in http.received if path.startswith("/hook")]
    assert reason.format(name, other) in hook["title"]
    assert fix.format(other) in hook["message"]
    sent = [str(body) for _, body in http.received] + [f"{mail['subject']} {mail}" for mail in smtp.received]
    assert any("ann@" in text or "learner-2'" in text for text in sent) is (rule == "id")


def test_message_omits_partition_and_subjects_if_the_alert_has_neither(everywhere: Settings, http: HttpSink) -> None:
    raise_alert(
        everywhere, Alert("run inventory", "warning", "the job inventory failed", "read its log", link="/runs/1")
    )
    deliver(Database(everywhere))
    (hook,) = [body for path, body in http.received if path.startswith("/hook")]
    assert (hook["title"], hook["type"]) == ("[production] the job inventory failed", "warning")
    assert hook["message"] == "What to do: read its log\nLook: https://irt.example.org/runs/1"


# -- one message per problem -------------------------------------------------------------------------


def test_repeated_violation_sends_a_single_alert_and_a_single_resolution(everywhere: Settings, http: HttpSink) -> None:
    assert [raise_alert(everywhere) for _ in range(3)] == [True, False, False]
    for _ in range(2):
        deliver(Database(everywhere))
    assert [resolve(everywhere) for _ in range(3)] == [True, False, False]
    for _ in range(2):
        deliver(Database(everywhere))
    hooks = [body for path, body in http.received if path.startswith("/hook")]
    assert ([(hook["event"], hook["type"]) for hook in hooks], hooks[1]["title"], hooks[0]["id"]) == (
        [("opened", "failure"), ("resolved", "success")],
        "[production] resolved: published items cannot be scored with (2026-09)",
        hooks[1]["id"],
    )
    events = [body for path, body in http.received if path.startswith("/pagerduty")]
    assert events[1] == {"routing_key": PD_KEY, "event_action": "resolve", "dedup_key": events[0]["dedup_key"]}


def test_violation_that_recurs_after_its_resolution_is_a_new_alert(everywhere: Settings, http: HttpSink) -> None:
    for _ in range(2):
        assert raise_alert(everywhere)
        resolve(everywhere)
    deliver(Database(everywhere))
    deliver(Database(everywhere))
    hooks = [(body["id"][-1], body["event"]) for path, body in http.received if path.startswith("/hook")]
    assert sorted(hooks) == [("1", "opened"), ("1", "resolved"), ("2", "opened"), ("2", "resolved")]


def test_two_deliveries_at_once_send_each_message_once(everywhere: Settings, http: HttpSink) -> None:
    raise_alert(everywhere)
    with Database(everywhere).connect() as other:
        advisory_lock(other, "alert delivery")
        assert deliver(Database(everywhere)) == {}
    assert http.received == []


def test_new_channel_receives_open_alerts_and_no_resolved_alerts(settings: Settings, http: HttpSink) -> None:
    over = Alert("old", "error", "old", "nothing")
    raise_alert(settings, over)
    raise_alert(settings)
    deliver(Database(settings))
    resolve(settings, over)
    with_hook = configure(settings, alert_webhook_url=SecretStr(f"{http.url}/hook"))
    deliver(Database(with_hook))
    assert [body["what"] for body in http.bodies()] == [BAD_ITEMS.what]


# -- channels that do not answer ---------------------------------------------------------------------


def test_failing_channel_delays_only_its_own_messages_and_loses_no_message(
    everywhere: Settings, smtp: SmtpSink
) -> None:
    smtp.refuse = True
    raise_alert(everywhere)
    started = clock(everywhere)
    arrived = deliver(Database(everywhere))
    assert arrived == {"slack": 1, "discord": 1, "email": 0, "pagerduty": 1, "webhook": 1}
    assert (undelivered(everywhere), deliver(Database(everywhere))["email"]) == ({("email", "opened")}, 0)
    ((attempts, next_attempt),) = rows(
        Database(everywhere), "SELECT attempts, next_attempt_at FROM alert_delivery WHERE channel = 'email'"
    )
    assert attempts == 1  # the second round was too early for a second attempt
    assert started <= next_attempt - timedelta(seconds=FIRST_WAIT_S) <= clock(everywhere)
    resolve(everywhere)
    smtp.refuse = False
    wait_is_over(everywhere)
    deliver(Database(everywhere))
    deliver(Database(everywhere))
    assert undelivered(everywhere) == set()
    subjects = [mail["subject"] for mail, to in zip(smtp.received, smtp.recipients, strict=True) if "ops" in to[0]]
    assert ["resolved" in subject for subject in subjects] == [False, True]


def test_the_wait_between_two_tries_doubles_up_to_an_hour(everywhere: Settings, http: HttpSink) -> None:
    http.status = 503
    raise_alert(everywhere)
    for wait in (60, 120, 240, 480, 960, 1920, 3600, 3600):
        started = clock(everywhere)
        deliver(Database(everywhere))
        ((next_attempt,),) = rows(
            Database(everywhere), "SELECT next_attempt_at FROM alert_delivery WHERE channel = 'webhook'"
        )
        assert started <= next_attempt - timedelta(seconds=wait) <= clock(everywhere)
        wait_is_over(everywhere)
    ((error,),) = rows(Database(everywhere), "SELECT last_error FROM alert_delivery WHERE channel = 'webhook'")
    assert "503" in error


def test_hanging_channel_does_not_delay_further_channels(
    everywhere: Settings, http: HttpSink, smtp: SmtpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotifyBase, "socket_read_timeout", 60)
    raise_alert(everywhere)
    http.gate.clear()  # Slack, Discord, PagerDuty and the webhook take the message and never answer
    limit_s = patient(1.0)
    started = time.monotonic()
    arrived = deliver(Database(everywhere), limit_s=limit_s)
    assert time.monotonic() - started < patient(3.0)
    assert arrived["email"] == 1
    assert undelivered(everywhere) == {(name, "opened") for name in ("slack", "discord", "pagerduty", "webhook")}
    ((error,),) = rows(Database(everywhere), "SELECT last_error FROM alert_delivery WHERE channel = 'slack'")
    assert error == f"no response within {limit_s:.0f} s"
    http.gate.set()
    wait_is_over(everywhere)
    deliver(Database(everywhere))
    assert undelivered(everywhere) == set()


def test_message_sent_just_before_the_timeout_counts_as_delivered(settings: Settings, http: HttpSink) -> None:
    """The channel has reported its only message, and its thread is still running."""
    with_hook = configure(settings, alert_webhook_url=SecretStr(f"{http.url}/hook"))
    due, may_end = Due("a", "error", "something", "look", alert_id=1, channel="webhook"), threading.Event()

    class Messages(list[Due]):
        def __iter__(self) -> Iterator[Due]:
            yield from super().__iter__()
            may_end.wait()

    try:
        assert _attempts(channels(with_hook), {"webhook": Messages([due])}, with_hook, patient(1.0)) == [(due, None)]
    finally:
        may_end.set()


def test_permanently_refused_message_does_not_block_later_messages(settings: Settings, http: HttpSink) -> None:
    with_hook = configure(settings, alert_webhook_url=SecretStr(f"{http.url}/hook"))
    raise_alert(with_hook)
    http.status = 400
    deliver(Database(with_hook))
    raise_alert(with_hook, Alert("another", "error", "another", "nothing"))
    http.status = 200
    assert deliver(Database(with_hook)) == {"webhook": 1}
    assert http.bodies()[-1]["what"] == "another"


def test_a_database_without_channels_keeps_its_alerts(settings: Settings) -> None:
    raise_alert(settings)
    assert (deliver(Database(settings)), list(call(Database(settings), open_keys, "invariant "))) == (
        {},
        [BAD_ITEMS.key],
    )


# -- secrets and wrong settings ----------------------------------------------------------------------


def test_no_secret_is_ever_logged_or_stored(
    everywhere: Settings, http: HttpSink, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    everywhere = configure(everywhere, smtp_url=SecretStr(f"smtp://irt:{PASSWORD}@127.0.0.1:1"))
    raise_alert(everywhere)
    http.status = 500
    deliver(Database(everywhere))
    http.status = 200
    wait_is_over(everywhere)
    deliver(Database(everywhere))
    stored = str(rows(Database(everywhere), "SELECT * FROM alert_delivery")) + str(
        rows(Database(everywhere), "SELECT * FROM alert")
    )
    output = caplog.text + "".join(capfd.readouterr()) + stored + repr(everywhere)
    assert "did not reach slack" in output
    for secret in (SLACK_TOKEN, DISCORD_TOKEN, PD_KEY, PASSWORD, "very-secret-path", "topsecret"):
        assert secret not in output, secret


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"slack_webhook_url": SecretStr("https://example.org/x")}, "SLACK_WEBHOOK_URL is not an address of a Slack"),
        ({"slack_webhook_url": SecretStr(DISCORD)}, "SLACK_WEBHOOK_URL is not an address of a Slack webhook"),
        ({"discord_webhook_url": SecretStr("nonsense")}, "DISCORD_WEBHOOK_URL is not an address of a Discord webhook"),
        ({"alert_email": "nobody"}, "ALERT_EMAIL must be one or more e-mail addresses"),
        ({"alert_email": "a@b.org", "smtp_url": SecretStr("mail.org:25")}, "SMTP_URL must be smtp://"),
        ({"alert_webhook_url": SecretStr("ftp://example.org")}, "ALERT_WEBHOOK_URL must be an http://"),
    ],
)
def test_invalid_configuration_of_a_channel_is_explained(
    settings: Settings, values: dict[str, Any], message: str
) -> None:
    (problem,) = problems(configure(settings, **values))
    assert message in problem


def test_valid_channels_have_no_problems(everywhere: Settings) -> None:
    assert (list(channels(everywhere)), problems(everywhere)) == (
        ["slack", "discord", "email", "pagerduty", "webhook"],
        [],
    )


# -- months that are ready ---------------------------------------------------------------------------
# A month that is ready opens one info alert, for the channels that want it, and resolves it at once.

__all__ = ["bank"]  # a fixture
WAITS = f"{FEB} is green, 1 decision waits: irt release list --month {FEB}"
RED = Alert(key=f"held {FEB}", severity="error", what=f"{FEB} is held", fix="look", partition=FEB)


class Instance:
    """A Dagster instance with given states of months, and the ledger of the database."""

    def __init__(self, database: Database, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database, self.instance = database, instance
        self.states = {JAN: State.RED, FEB: State.GREEN}
        self.looked_at: list[str] = []
        monkeypatch.setattr(ready_months, "month_states", self._month_states)

    def _month_states(self, _database: object, _instance: object, months: list[str], *_: object) -> list[MonthState]:
        self.looked_at = months
        return [MonthState(month, SCALE, self.states[month], "") for month in months]

    def announce(self, now: datetime | None = None) -> list[str]:
        return ready_months.alert_ready_months(self.database, self.instance, now or datetime.now(UTC))

    def published_again(self) -> None:
        run_sql(self.database, "UPDATE publication_step SET stepped_at = now() WHERE month = %s", (FEB,))


@pytest.fixture
def months(bank: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Instance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Instance(bank, instance, monkeypatch)


def alerts(database: Database) -> list[tuple[Any, ...]]:
    return rows(database, "SELECT what, severity, resolved_at IS NULL FROM alert ORDER BY alert_id")


def test_green_month_is_announced_once_with_its_waiting_decisions(months: Instance) -> None:
    assert ([months.announce(), months.announce()], alerts(months.database), months.looked_at) == (
        [[WAITS], []],
        [(WAITS, "info", False)],  # resolved, so nobody has to close it
        [JAN],  # only months that may be news are examined
    )
    months.published_again()
    assert months.announce() == [], "it was announced when it first turned green"
    accept(months.database)
    months.states[JAN] = State.GREEN
    assert months.announce() == [f"{JAN} is green, no decision waits"]


def test_announcement_links_to_the_months_page_if_a_dashboard_is_configured(months: Instance) -> None:
    address = {"irt_dashboard_url": "https://irt.example.org/admin/"}
    months.database.settings = months.database.settings.model_copy(update=address)
    assert months.announce() == [WAITS]
    ((fix,),) = rows(months.database, "SELECT fix FROM alert")
    assert f"in https://irt.example.org/admin/?view=month&month={FEB}: published values stay" in fix


@pytest.mark.parametrize("state", [State.RED, State.STALE, State.RUNNING, State.PENDING])
def test_announcement_waits_until_the_month_is_green(months: Instance, state: State) -> None:
    months.states[FEB] = state
    assert months.announce() == []
    months.states[FEB] = State.GREEN
    assert months.announce() == [WAITS]


def test_month_that_was_red_since_its_announcement_is_announced_again(months: Instance) -> None:
    assert (months.announce(), call(months.database, open_alert, RED)) == ([WAITS], True)
    months.states[FEB] = State.RED
    assert months.announce() == []
    call(months.database, resolve_alert, RED.key)
    months.published_again()
    months.states[FEB] = State.GREEN
    assert [months.announce(), months.announce()] == [[WAITS], []]


def test_month_that_is_held_on_another_scale_is_announced_only_once(months: Instance) -> None:
    assert (months.announce(), call(months.database, open_alert, RED)) == ([WAITS], True)
    assert months.announce() == []


def test_month_is_announced_again_after_a_failed_calibration_but_not_a_failed_report(months: Instance) -> None:
    assert months.announce() == [WAITS]
    for job, announced in (("drift_report", []), ("monthly_calibration", [WAITS])):
        failed = Alert(f"run {job} {FEB}|abc", "error", "the run failed", "look", partition=FEB)
        with months.database.connect() as connection:
            open_alert(connection, failed)
            resolve_alert(connection, failed.key)
        assert months.announce() == announced


def test_months_published_long_ago_are_not_announced(months: Instance) -> None:
    assert months.announce(datetime.now(UTC) + timedelta(days=2)) == []


def test_sensor_tick_contains_the_announcements(months: Instance) -> None:
    with dg.build_sensor_context(instance=months.instance, resources={"database": months.database}) as context:
        result = ready_months.ready_months(context)
    assert result.skip_message == WAITS


# -- channels ----------------------------------------------------------------------------------------


def test_announcement_is_sent_to_a_webhook_once_and_leaves_no_open_alert(
    months: Instance, settings: Settings, http: HttpSink
) -> None:
    months.announce()
    database = Database(settings.model_copy(update={"alert_webhook_url": SecretStr(f"{http.url}/hook")}))
    assert deliver(database) == {"webhook": 1}
    ((_, news),) = http.received
    assert (news["title"], news["type"], news["event"]) == (WAITS, "info", "opened")
    assert (news["partition"], news["subjects"]) == (FEB, ["moved"])
    assert deliver(database) == {"webhook": 0}
    assert call(months.database, open_keys, "") == {}


def test_pagerduty_receives_no_announcements_of_ready_months(months: Instance) -> None:
    months.announce()
    with months.database.connect() as connection:
        open_alert(connection, RED)
        queue(connection, ["slack", "pagerduty"])
    queued = rows(
        months.database, "SELECT channel, severity FROM alert_delivery JOIN alert USING (alert_id) ORDER BY 1, 2"
    )
    assert queued == [("pagerduty", "error"), ("slack", "error"), ("slack", "info")]
