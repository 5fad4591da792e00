"""The alert that systemd gave up a unit."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from resources.alerts import unit_failure
from resources.alerts.notifier import Message
from resources.settings import Settings
from tests.helpers.pictures import Picture


class Heard:
    """A channel that keeps what it was given."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, message: Message) -> None:
        self.messages.append(message)


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Heard:
    channel = Heard()
    monkeypatch.setattr(unit_failure, "channels", lambda _: {"slack": channel})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return channel


def program(folder: Path, name: str, says: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\necho '{says}'\n")
    (folder / name).chmod(0o755)


def test_it_names_the_unit_its_result_and_its_last_words(heard: Heard, tmp_path: Path, picture: Picture) -> None:
    program(tmp_path, "systemctl", "watchdog")
    program(tmp_path, "journalctl", "not well: postgresql://irt:geheim@db/irt")
    settings = Settings(_env_file=None, env_name="production")
    assert unit_failure.send_unit_failure(settings, "irt-daemon.service") == {"slack": None}
    assert unit_failure.send_unit_failure(settings, "irt-webserver.service") == {"slack": None}
    first, second = heard.messages
    picture(f"{first.title}\n{first.body}", "failed", machine=re.escape(socket.gethostname()))
    assert first.ident != second.ident


def test_it_is_sent_where_systemd_says_nothing(heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    unit_failure.send_unit_failure(Settings(_env_file=None), "irt-daemon.service")
    assert "systemctl gave no output" in heard.messages[0].title
