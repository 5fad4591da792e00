"""Output of the command line: names with control characters, and the first lines of `irt serve`."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from irt_assets.cli import serve
from irt_assets.cli.console import months_table, print_blocks, say
from irt_assets.gates.month_classification import MonthState, State

HOSTILE = "[/x] [red]é\x1b[2J\x1b]0;title\x07 \u202egnp\r한"
SHOWN = r"[/x] [red]é\x1b[2J\x1b]0;title\x07 \u202egnp\r한"


def test_control_characters_in_names_are_printed_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    print_blocks(months_table([MonthState("2026-08", HOSTILE, State.RED, "held")]))
    printed = capsys.readouterr().out
    assert printed.count(SHOWN) == 2
    assert "\x1b" not in printed


class StackInterruptedAtOnce:
    address, services = "http://127.0.0.1:3000", ()

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def wait(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def same_signals() -> Iterator[None]:
    """Restore the handler of SIGTERM after the test."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("same_signals")
def test_serve_prints_the_address_of_the_assets_page_and_how_to_stop(capsys: pytest.CaptureFixture[str]) -> None:
    """The first page of the Dagster UI is empty after the demo, because no daemon started its runs."""
    serve.serve_until_interrupted(StackInterruptedAtOnce())  # type: ignore[arg-type]
    ui, stop, *_ = capsys.readouterr().out.splitlines()
    assert ui.startswith("The Dagster UI is at http://127.0.0.1:3000/asset-groups:")
    assert stop == "Ctrl-C stops everything."
