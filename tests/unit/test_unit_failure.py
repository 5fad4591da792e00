"""The alert that systemd gave up on a unit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from resources.alerts.unit_failure import send_unit_failure
from resources.settings import Settings
from tests.helpers.scripted_server import ReceivedRequests, answering


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReceivedRequests]:
    """Run a webhook that accepts every alert."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with answering((200, "")) as seen:
        yield seen


def settings_of(heard: ReceivedRequests) -> Settings:
    return Settings(_env_file=None, env_name="production", alert_webhook_url=SecretStr(heard.url))


def program(folder: Path, name: str, says: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


def test_alert_contains_the_unit_its_result_and_its_last_log_lines(heard: ReceivedRequests, tmp_path: Path) -> None:
    program(tmp_path, "systemctl", "watchdog")
    program(tmp_path, "journalctl", "not well: postgresql://irt:geheim@db/irt")
    for unit in ("irt-daemon.service", "irt-webserver.service"):
        assert send_unit_failure(settings_of(heard), unit) == {"webhook": None}
    first, second = heard.bodies
    assert "irt-daemon.service failed on" in first["title"]
    assert first["title"].endswith(": watchdog")
    assert "not well" in first["message"]
    assert "geheim" not in str(first)
    assert "systemctl reset-failed irt-daemon.service" in first["message"]
    assert first["id"] != second["id"]


def test_alert_is_sent_if_systemctl_is_missing(
    heard: ReceivedRequests, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    send_unit_failure(settings_of(heard), "irt-daemon.service")
    assert "systemctl gave no output" in heard.bodies[0]["title"]
