"""The channels that send alerts to people, and the delivery of the outbox.

Each channel has its own thread, so a channel that is down or hangs delays only itself. A message that did not arrive
stays in the outbox and is tried again later. A message may arrive twice (if a channel responds too late), but no
message is lost.
"""

import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType
from apprise.exception import AppriseImproperlyConfigured
from apprise.plugins.base import NotifyBase
from apprise.plugins.custom_json import NotifyJSON
from apprise.plugins.email import NotifyEmail
from apprise.plugins.pagerduty import NotifyPagerDuty
from pydantic import SecretStr

from resources.alerts import outbox
from resources.alerts.outbox import Due, Event
from resources.failures import PermanentFailure
from resources.postgres.database import LOCK, Database, lock_key, one_value
from resources.serving.logs import passwords_of
from resources.settings import Settings

LOG = logging.getLogger(__name__)

MAX_NAMED = 10
"""Number of items or learners that a message names; the rest is only counted."""
MAX_MESSAGES = 50
ROUND_TIMEOUT_S = 20.0
"""Time limit of a round: a sensor's tick has 60 seconds, and a silent socket is given up after 4."""

ASSET = AppriseAsset(app_id="irt-assets", app_desc="irt-assets", app_url="")

# Both would log addresses that contain tokens: urllib3 when it sends, apprise when it is misconfigured.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").setLevel(logging.WARNING)
logging.getLogger("apprise").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Message:
    """The text of an alert from the installation `env`, whose UI is at `ui_url`."""

    due: Due
    env: str
    ui_url: str

    @property
    def ident(self) -> str:
        """Identifier of the alert, the same when it is opened and when it is resolved."""
        return f"irt-assets-{self.env or 'default'}-{self.due.alert_id}"

    @property
    def title(self) -> str:
        env = f"[{self.env}] " if self.env else ""
        over = "resolved: " if self.due.event == "resolved" else ""
        partition = f" ({self.due.partition})" if self.due.partition and self.due.severity != "info" else ""
        return f"{env}{over}{self.due.what}{partition}"

    @property
    def subjects(self) -> str:
        """The first subjects and the number of the rest, or only the number of all."""
        if self.due.n_unnamed:
            return f"{self.due.n_unnamed:,}"
        first, n_more = self.due.subjects[:MAX_NAMED], len(self.due.subjects) - MAX_NAMED
        return ", ".join(first) + (f" and {n_more} more" if n_more > 0 else "")

    @property
    def link(self) -> str:
        return f"{self.ui_url}{self.due.link}"

    @property
    def body(self) -> str:
        parts = [
            ("Partition", self.due.partition),
            (self.due.kind.capitalize(), self.subjects),
            ("What to do", self.due.fix if self.due.event == "opened" else "nothing: it is over"),
            ("Look", self.link),
        ]
        return "\n".join(f"{name}: {text}" for name, text in parts if text)

    @property
    def notify_type(self) -> NotifyType:
        if self.due.event == "resolved":
            return NotifyType.SUCCESS
        return {"error": NotifyType.FAILURE, "warning": NotifyType.WARNING, "info": NotifyType.INFO}[self.due.severity]


@dataclass(frozen=True)
class Channel:
    """A channel to people, such as Slack or e-mail.

    Attributes:
        plugin: makes the sender of one message.
        secrets: texts that must never be shown.
        quote: escapes the channel's markup, because item ids come from logs and may contain anything.
    """

    name: str
    plugin: Callable[[Message], NotifyBase]
    secrets: tuple[str, ...]
    quote: Callable[[str], str] = str

    def send(self, message: Message) -> str | None:
        """Send a message. Returns None if it arrived, else the reason why it did not."""
        log = AppriseLog()
        logging.getLogger("apprise").addHandler(log)
        try:
            plugin = self.plugin(message)
            summary = isinstance(plugin, NotifyPagerDuty)  # the rest of the message is in its custom details
            body, title = (message.title[:1024], "") if summary else (message.body, message.title)
            if plugin.notify(body=self.quote(body), title=self.quote(title), notify_type=message.notify_type):
                return None
            return self._without_secrets("; ".join(log.lines) or "it was refused")
        except Exception as error:  # noqa: BLE001 - whatever happens to one channel must not reach another
            return self._without_secrets(f"{type(error).__name__}: {error}")
        finally:
            logging.getLogger("apprise").removeHandler(log)

    def _without_secrets(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


class AppriseLog(logging.Handler):
    """Collects apprise's log of this thread, the only place where apprise explains a failure."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.lines.append(record.getMessage())


def channels(settings: Settings) -> dict[str, Channel]:
    """The configured channels by name, without connecting to them."""
    webhooks = {"slack": settings.slack_webhook_url, "discord": settings.discord_webhook_url}
    configured = [_webhook_channel(name, url) for name, url in webhooks.items() if url]
    if settings.alert_email:
        configured.append(_email(settings, settings.alert_email))
    if settings.pd_routing_key:
        configured.append(_pagerduty(settings, settings.pd_routing_key.get_secret_value()))
    if settings.alert_webhook_url:
        configured.append(_webhook(settings.alert_webhook_url))
    return {channel.name: channel for channel in configured}


def problems(settings: Settings) -> list[str]:
    """Faults in the channels' configuration, found without connecting."""
    sample = Due("test", "error", "a test", "nothing")
    faults = []
    for channel in channels(settings).values():
        try:
            channel.plugin(Message(sample, settings.env_name, settings.ui_url))
        except (PermanentFailure, AppriseImproperlyConfigured) as error:
            faults.append(f"{channel.name}: {channel._without_secrets(str(error))}")
    return faults


def send_test(settings: Settings, sender: str) -> dict[str, str | None]:
    """Send a test alert and its resolution to every channel, without the outbox.

    `sender` is a person's name in the alert. Returns for each channel None if both arrived, else the reason why not.
    """
    sentence = "Test alert: someone is checking whether alerts arrive"
    events: tuple[Event, ...] = ("opened", "resolved")
    ends = [Due("test", "warning", sentence, "nothing", f"sent by {sender}", event=event) for event in events]
    return {
        name: next(filter(None, (channel.send(Message(due, settings.env_name, settings.ui_url)) for due in ends)), None)
        for name, channel in channels(settings).items()
    }


def deliver(database: Database, *, limit_s: float = ROUND_TIMEOUT_S) -> dict[str, int]:
    """Send the due messages on every configured channel. Returns the number of messages that arrived on each.

    A channel stops at its first message that does not arrive. Nothing is sent if another process is delivering.
    """
    configured = channels(database.settings)
    with database.connect() as guard:
        if not one_value(guard, f"SELECT pg_try_advisory_xact_lock({LOCK})", (lock_key("alert delivery"),)):
            return {}
        with database.connect() as connection:
            outbox.queue(connection, configured)
            waiting = outbox.due(connection, list(configured), MAX_MESSAGES, database.settings.alert_learners)
        arrived = dict.fromkeys(configured, 0)
        for due, error in _attempts(configured, waiting, database.settings, limit_s):
            database.call(outbox.record, due, error)
            if error is None:
                arrived[due.channel] += 1
            else:
                LOG.warning("alert %s did not reach %s: %s", due.alert_id, due.channel, error)
    return arrived


AlertOutcome = tuple[Due, str | None]


def _attempts(
    configured: dict[str, Channel], waiting: dict[str, list[Due]], settings: Settings, limit_s: float
) -> list[AlertOutcome]:
    """Run every channel in its own thread for at most `limit_s`; threads that hang after that are abandoned.

    Returns the messages that were tried, with None or the reason why they did not arrive.
    """
    outcomes: dict[str, list[AlertOutcome]] = {name: [] for name, messages in waiting.items() if messages}
    over = threading.Event()

    def work(name: str) -> None:
        for due in waiting[name]:
            if over.is_set():
                return
            error = configured[name].send(Message(due, settings.env_name, settings.ui_url))
            if not over.is_set():
                outcomes[name].append((due, error))
            if error is not None:
                return

    threads = {
        name: threading.Thread(target=work, args=(name,), name=f"alerts-{name}", daemon=True) for name in outcomes
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + limit_s
    for thread in threads.values():
        thread.join(max(0.0, end - time.monotonic()))
    over.set()
    attempts: list[AlertOutcome] = []
    for name, thread in threads.items():
        of_channel = list(outcomes[name])
        attempts.extend(of_channel)
        has_failed = bool(of_channel) and of_channel[-1][1] is not None
        unsent = waiting[name][len(of_channel) :]
        # A thread that has recorded its last message may still be alive for a moment.
        if thread.is_alive() and unsent and not has_failed:
            attempts.append((unsent[0], f"no response within {limit_s:.0f} s"))
    return attempts


def _webhook_channel(name: str, url: SecretStr) -> Channel:
    """Channel of Slack or Discord, whose webhooks apprise recognises by their addresses."""
    value = url.get_secret_value().strip()

    def plugin(_message: Message) -> NotifyBase:
        service = Apprise.instantiate(value, asset=ASSET)
        if not isinstance(service, NotifyBase) or type(service).__name__.lower() != f"notify{name}":
            raise PermanentFailure(f"{name.upper()}_WEBHOOK_URL is not an address of a {name.capitalize()} webhook")
        for adornment in ("include_image", "include_footer", "avatar"):
            if hasattr(service, adornment):
                setattr(service, adornment, False)  # pictures from a third-party site
        return service

    return Channel(name, plugin, _secrets(value), neutralise_mentions)


def neutralise_mentions(text: str) -> str:
    """Insert a zero-width space into mentions such as `<!channel>` and `@everyone`, which apprise does not escape."""
    return re.sub("([<!@])", "\\1\u200b", text)


def _email(settings: Settings, to: str) -> Channel:
    url = settings.smtp_url.get_secret_value()

    def plugin(message: Message) -> NotifyBase:
        server = _parse_address("SMTP_URL", url)
        user, password = (unquote(part) if part else None for part in (server.username, server.password))
        if server.scheme not in ("smtp", "smtps") or not server.hostname:
            raise PermanentFailure("SMTP_URL must be smtp://host:port or smtps://host:port")
        sender = dict(parse_qsl(server.query)).get("from")
        port = server.port or (465 if server.scheme == "smtps" else 25)
        mode = "ssl" if server.scheme == "smtps" else "starttls" if port == 587 else "insecure"
        plugin = NotifyEmail(
            smtp_host=server.hostname,
            host=server.hostname,
            port=port,
            user=user,
            password=password,
            secure=mode != "insecure",
            secure_mode=mode,
            from_addr=sender or (user if user and "@" in user else f"irt-assets@{_domain()}"),
            targets=to,
            headers={"X-Irt-Alert": message.ident},
            format=NotifyFormat.TEXT,
            asset=ASSET,
        )
        if not plugin.targets:
            raise PermanentFailure("ALERT_EMAIL must be one or more e-mail addresses, separated by commas")
        return plugin

    return Channel("email", plugin, tuple(filter(None, passwords_of(url))))


def _domain() -> str:
    name = socket.getfqdn()
    return name if "." in name else f"{name}.localdomain"


def _pagerduty(settings: Settings, key: str) -> Channel:
    def plugin(message: Message) -> NotifyBase:
        return NotifyPagerDuty(
            asset=ASSET,
            apikey="unused",  # the Events API v2 uses only the routing key; apprise requires both
            integrationkey=key,
            source=settings.env_name or "irt-assets",
            component="irt-assets",
            severity="error" if message.due.severity == "error" else "warning",
            action="map",
            dedup=message.ident,
            click=message.link,
            include_image=False,
            details={
                "partition": message.due.partition,
                message.due.kind or "subjects": message.subjects,
                "what to do": message.due.fix,
            },
        )

    return Channel("pagerduty", plugin, (key,))


def _webhook(url: SecretStr) -> Channel:
    value = url.get_secret_value().strip()

    def plugin(message: Message) -> NotifyBase:
        target = _parse_address("ALERT_WEBHOOK_URL", value)
        if target.scheme not in ("http", "https") or not target.hostname:
            raise PermanentFailure("ALERT_WEBHOOK_URL must be an http:// or https:// address")
        return NotifyJSON(
            asset=ASSET,
            host=target.hostname,
            port=target.port,
            fullpath=target.path + (f"?{target.query}" if target.query else ""),
            secure=target.scheme == "https",
            user=unquote(target.username) if target.username else None,
            password=unquote(target.password) if target.password else None,
            payload={
                "id": message.ident,
                "event": message.due.event,
                "severity": message.due.severity,
                "env": message.env,
                "what": message.due.what,
                "partition": message.due.partition,
                "kind": message.due.kind,
                "subjects": message.due.subjects[:MAX_NAMED],
                "n_subjects": len(message.due.subjects) + message.due.n_unnamed,
                "fix": message.due.fix,
                "link": message.link,
                "attachments": "",
            },
        )

    return Channel("webhook", plugin, _secrets(value))


def _secrets(url: str) -> tuple[str, ...]:
    """A webhook's address, and the parts of it that allow others to post there."""
    try:
        target = urlsplit(url)
    except ValueError:
        return (url,)
    parts = [part for part in target.path.split("/") if len(part) > 5 and part not in ("services", "webhooks")]
    return (url, *filter(None, (target.query, target.password)), *parts)


def _parse_address(name: str, url: str) -> SplitResult:
    """Split an address. Raises PermanentFailure whose message contains no part of the address."""
    try:
        parsed = urlsplit(url)
        _ = parsed.port
    except ValueError:
        raise PermanentFailure(
            f"{name} cannot be read as an address: in its user name and password write @ as %40, : as %3A, / as %2F, "
            "[ as %5B, ] as %5D, and let its port be a number from 1 to 65535"
        ) from None
    return parsed
