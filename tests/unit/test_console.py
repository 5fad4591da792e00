"""What the command line prints of names that others chose."""

from __future__ import annotations

import pytest

from irt_assets.cli.console import months_table, print_blocks, say
from irt_assets.gates.month_judged import MonthState, State

HOSTILE = "[/x] [red]é\x1b[2J\x1b]0;title\x07 \u202egnp\r한"
SHOWN = r"[/x] [red]é\x1b[2J\x1b]0;title\x07 \u202egnp\r한"


def test_a_name_is_shown_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(HOSTILE)
    print_blocks(months_table([MonthState("2026-08", HOSTILE, State.RED, "held")]))
    printed = capsys.readouterr().out
    assert printed.count(SHOWN) == 2
    assert "\x1b" not in printed
