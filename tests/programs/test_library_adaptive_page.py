"""docs/library/adaptive.md: its program runs. It is not a unit test, because a kernel compiles for 15 s."""

from typing import Any

from tests.helpers.written_commands import ROOT, fenced_blocks


def test_program_of_the_page_simulates_tests_within_the_declared_limits() -> None:
    known: dict[str, Any] = {}
    for language, block in fenced_blocks((ROOT / "docs/library/adaptive.md").read_text("utf-8")):
        if language == "python":
            exec(block, known)
    assert known["step"].position == 2
    assert known["tests"].limits_met.tolist() == [1.0, 1.0]
    assert known["tests"].capitalisation < 1
