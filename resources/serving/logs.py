"""The logs of this program's processes: lines for people on a terminal, else JSON for machines.

Every process calls `configure` once; runs write through `jobs.launching.run_logs`. A JSON line has `timestamp` (UTC),
`level`, `logger` and `message`; if there is an error, `exception`; in a run, `run_id`, `job`, `step` and `partition`;
if work is traced, `trace_id` and `span_id`; and the caller's `extra`.
"""

import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from resources.failures import PermanentFailure
from resources.serving import traces
from resources.settings import Settings, get_settings

OWN_LOGGERS = ("irt", "irt_assets", "irt_psychometrics", "jobs", "resources", "services")
DAGSTER_LOGGERS = ("dagster", "dagster-webserver")
"""Loggers to which Dagster's servers add their own handlers."""
DAGSTER_META = "dagster_meta"
"""Attribute of records that belong to a run's log; Dagster prints them itself."""
MIN_SECRET_LENGTH = 6
"""Length of the shortest secret that is hidden in any text: shorter secrets would match ordinary words. In a URL they
are found by their position."""
PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""Lowest level of each syslog priority, the most urgent first; lower levels have priority 7."""
QUERY = re.compile(r"://[^\s?]*\?\S+")
SECRET_FIELD = re.compile(
    r"([?&;][\w.%-]*(?:password|passwd|passphrase|pwd|secret|token|key|signature|sig|credential|auth)=)[^&;\s\"']*",
    re.I,
)
"""Secret in the query of a URL, recognised by the end of the field's name, such as sslpassword or X-Amz-Signature."""
STANDARD = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure() -> None:
    """Give the root logger a handler on standard error, instead of Dagster's own. Safe to repeat."""
    root = logging.getLogger()
    if not any(isinstance(handler, _StandardError) for handler in root.handlers):
        root.addHandler(_StandardError())
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level())
    for name in DAGSTER_LOGGERS:
        logging.getLogger(name).handlers.clear()


@contextmanager
def print_for_people() -> Iterator[None]:
    """Log only errors, as plain lines, and no warnings of libraries: for a command that prints text for people.

    In systemd's journal, logging does not change.
    """
    if is_journal():
        yield
        return
    before, _StandardError.for_people = _StandardError.for_people, True
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
            yield
    finally:
        _StandardError.for_people = before


def for_people() -> bool:
    return _StandardError.for_people or sys.stderr.isatty()


def level() -> str:
    """The lowest level that is logged: LOG_LEVEL."""
    settings = _settings()
    return settings.log_level if settings else "INFO"


def formatter() -> logging.Formatter:
    """The formatter for standard error as it is now: by LOG_FORMAT, with priorities if it is systemd's journal."""
    settings = _settings()
    log_format = settings.log_format if settings else None
    as_text = for_people() if log_format is None else log_format == "text"
    return Formatter(as_text=as_text, in_journal=is_journal())


def is_journal() -> bool:
    """Whether standard error goes to systemd's journal, and is not redirected to a file or a pipe."""
    try:
        stderr = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):  # closed, or replaced by an object without a descriptor
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stderr.st_dev}:{stderr.st_ino}"


def with_priority(text: str, level: int) -> str:
    """`text` for the journal, which reads a priority at the beginning of every line (sd-daemon(3))."""
    priority = next((syslog for lowest, syslog in PRIORITIES if level >= lowest), 7)
    return "\n".join(f"<{priority}>{line}" for line in text.splitlines())


class Formatter(logging.Formatter):
    """Formats a record without secrets, as a line of JSON or a line for people.

    In the journal each line has its priority, so that `journalctl -p err` finds errors.
    """

    def __init__(self, *, as_text: bool = False, in_journal: bool = False) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self._as_text, self._in_journal = as_text, in_journal

    def format(self, record: logging.LogRecord) -> str:
        if self._as_text:
            line = hide(super().format(record))
        else:
            line = json.dumps(dict(_fields(record, self)), ensure_ascii=False)
        return with_priority(line, record.levelno) if self._in_journal else line


def hide(text: str) -> str:
    """`text` without secrets of the settings and passwords in URLs."""
    for secret in _secrets():
        text = text.replace(secret, "***")
    return without_password(text)


def without_password(text: str) -> str:
    """Replace passwords of URLs in `text`, and secrets in the query of a URL, by ***."""
    text = re.sub(r"(://[^/@\s]*?:)\S*@", r"\1***@", text)
    text = QUERY.sub(lambda query: SECRET_FIELD.sub(r"\1***", query[0]), text)
    return re.sub(r"(password=)[^&\s]*", r"\1***", text)


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to the current standard error, without the records that Dagster prints already."""

    for_people = False

    def __init__(self) -> None:
        logging.Handler.__init__(self, level())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr

    def filter(self, record: logging.LogRecord) -> bool:
        if self.for_people and record.levelno < logging.ERROR:
            return False
        return not hasattr(record, DAGSTER_META) and bool(super().filter(record))

    def format(self, record: logging.LogRecord) -> str:
        return formatter().format(record)


def _fields(record: logging.LogRecord, formatter: logging.Formatter) -> Iterator[tuple[str, Any]]:
    meta: dict[str, Any] = getattr(record, DAGSTER_META, {})
    event = meta.get("dagster_event")
    yield "timestamp", datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    yield "level", record.levelname
    yield "logger", record.name
    yield "message", hide(str(meta.get("orig_message", record.getMessage())))
    error = getattr(event.event_specific_data, "error", None) if event is not None else None
    if record.exc_info:
        yield "exception", hide(formatter.formatException(record.exc_info))
    elif error is not None:
        # A Failure has a message for people, and Dagster's event log keeps the trace.
        yield "exception", hide(error.message.strip() if error.cls_name == "Failure" else error.to_string())
    tags = meta.get("job_tags") or {}
    of_run = {
        "run_id": meta.get("run_id"),
        "job": meta.get("job_name"),
        "step": meta.get("step_key"),
        "partition": tags.get("dagster/partition"),
        "event": event.event_type_value if event is not None else None,
    }
    yield from ((name, value) for name, value in of_run.items() if value is not None)
    yield from traces.current_ids().items()
    for name, value in vars(record).items():
        if name not in STANDARD and not name.startswith("dagster_"):
            yield name, value if isinstance(value, bool | int | float | None) else hide(str(value))


def _settings() -> Settings | None:
    """The settings. Returns None if they are invalid: the code that needs them reports it."""
    try:
        return get_settings()
    except PermanentFailure:
        return None


@cache
def _secrets() -> tuple[str, ...]:
    """The secrets of the settings. For URLs of servers, only the passwords, so that logs can name the servers."""
    settings = _settings()
    if settings is None:
        return ()
    secrets = set()
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            if name in ("database_url", "smtp_url"):
                secrets |= passwords_of(text)
            else:
                secrets.add(text)
    return tuple(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH)


def passwords_of(url: str) -> set[str]:
    """Return the passwords of a URL and of the query, as written and as sent; the whole URL if it cannot be parsed."""
    try:
        address = urlsplit(url)
        written = {address.password or ""}
    except ValueError:
        return {url}
    query = SECRET_FIELD.finditer(f"?{address.query}")
    written |= {f"?{address.query}"[field.end(1) : field.end()] for field in query}
    return written | {unquote(password) for password in written}
