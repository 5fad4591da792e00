"""What a server says to systemd: read from the socket, as systemd reads it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.service_manager import keep_told, notify

GIVEN_UP_S = 10.0


@pytest.fixture(params=["a file", "an abstract name"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        path = str(tmp_path / "notify")
        listening.bind(path if request.param == "a file" else f"\0{path}")
        listening.settimeout(GIVEN_UP_S)
        monkeypatch.setenv("NOTIFY_SOCKET", path if request.param == "a file" else f"@{path}")
        yield listening


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_a_state_is_one_message(manager: socket.socket) -> None:
    notify("READY=1", "STATUS=well")
    assert heard(manager) == ["READY=1", "STATUS=well"]


def test_ready_is_said_when_it_is_and_the_watchdog_is_fed_only_while_it_is_well(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "100000")
    said = iter(["it starts", "it starts", None, None, *["it hangs"] * 3])

    def probe() -> str | None:
        for fault in said:
            return fault
        threading.Event().wait()  # the thread that asks has said all it was to say
        return None

    keep_told(probe)
    assert heard(manager) == ["READY=1", "WATCHDOG=1"]
    assert heard(manager) == ["WATCHDOG=1", "STATUS=well"]
    for _ in range(3):
        assert heard(manager) == ["STATUS=it hangs"]


def test_what_lives_and_still_warms_up_is_not_ready(manager: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    said = iter(["it warms up", None])
    looks = list[str]()
    keep_told(lambda: looks.append("well"), ready=lambda: next(said))
    assert heard(manager) == ["READY=1", "WATCHDOG=1"]
    assert not looks


def test_without_a_manager_nobody_is_told_and_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    looks = list[str]()
    notify("READY=1")
    keep_told(lambda: looks.append("look"))
    assert not looks


def test_a_manager_that_is_gone_does_not_end_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify("READY=1")
