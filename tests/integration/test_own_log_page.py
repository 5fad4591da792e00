"""docs/tutorial/own-log.md, typed from its first command to its last: the commands print the page's output.

The months are the last ones, the log is smaller than the page's, and the scale's minimum lower, so numbers differ.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pypdfium2
import pytest

from irt_assets.simulation.scenario import demo_scenario
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import template_copy
from tests.helpers.typed import Irt, IrtOf
from tests.helpers.worlds import not_before_midnight
from tests.helpers.written_commands import ROOT, fenced_blocks, logical_lines, simple_commands
from tests.testbed.patience import patient

pytestmark = [pytest.mark.ci, pytest.mark.timeout(patient(600))]

PAGE = ROOT / "docs" / "tutorial" / "own-log.md"
OF_THE_PAGE = ("2026-07", "2026-08", "2026-09", "2026-10")
SMALLER = {"simulate": ["--learners", "450"], "scale": ["--set", "min_responses=150"]}
"""Command of the page → additional arguments, for a smaller world."""
TOKEN = re.compile(r"(\s+|…|[-−+]?\d[\d,.:_]*|\b(?:no|none|one|two|three|four|five|six)\b)")
NUMBER, COUNT = r"[-−+]?\d[\d,.:_]*", r"\w+"


@pytest.fixture
def home(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Settings]:
    """Settings of an empty home; commands are typed in the folder that holds it."""
    monkeypatch.chdir(tmp_path)
    first = demo_scenario(not_before_midnight(60.0)).months[0]
    with template_copy(postgres, migrated_template, tmp_path / "own", irt_first_month=first, irt_threads=1) as settings:
        yield settings


def test_commands_of_the_own_log_page_lead_from_a_log_to_its_drift_as_printed(home: Settings, irt: IrtOf) -> None:
    ours = dict(zip(OF_THE_PAGE, demo_scenario(datetime.now(UTC)).months[:-1], strict=True))
    text = re.sub("|".join(ours), lambda month: ours[month[0]], PAGE.read_text("utf-8"))
    months = ours.values()
    _, steps = text.split("## 1. A home of its own")  # the tests of the demo cover the earlier command

    printed = ""
    for language, block in fenced_blocks(steps):
        if language == "":
            for words in (words for line in logical_lines(block) for words in simple_commands(line)):
                printed = typed(irt(home), words)
        elif language == "python":
            subprocess.run([sys.executable, "-c", block], check=True)
        elif language == "yaml":
            Path("log.yaml").write_text(block, "utf-8")
        elif language == "csv":
            Path("bad.csv").write_text(block, "utf-8")
        elif block.startswith("file,"):
            assert_shown(block, Path("rejected.csv").read_text("utf-8"), months)
        elif block.startswith("student,"):
            assert_shown(block, Path("log.csv").read_text("utf-8")[:2000], months)
        elif block.startswith("month "):
            assert_shown(block, typed(irt(home), ["irt", "status"]), months)
        elif block.startswith("item "):
            faults = json.loads(Path("simulated/truth.json").read_text("utf-8"))["faults"]
            planted = {fault["kind"]: fault["item_ids"][0] for fault in faults}
            proposed = rows_of_the_report(block)
            assert {planted[kind] for kind in ("drift", "wrong_key", "all_correct")} <= proposed.keys()
            (report,) = Path("reports").glob("drift_window_*.pdf")
            first_page = text_of(report)
            for kind in ("drift", "wrong_key", "all_correct"):
                item = planted[kind]
                assert re.search(rf"^{item}( \(anchor\))? {proposed[item]} ", first_page, re.MULTILINE), first_page
        else:
            assert_shown(block, printed, months)


def typed(irt: Irt, words: list[str]) -> str:
    """Run a command and return its output. `make venv` is skipped."""
    if words == ["make", "venv"]:
        return ""
    done = irt(*words[1:], *SMALLER.get(words[1], []))
    assert done.code == 0, done.out + done.err
    return done.out


def assert_shown(block: str, printed: str, months: Collection[str]) -> None:
    """Assert that all lines of the block are printed in this order. Numbers and line breaks may differ."""
    squeezed, at = " ".join(printed.split()), 0
    block = re.sub(r"(Look at \w+ items: ).*?\.", r"\1", block, flags=re.DOTALL)  # fewer items in a smaller log
    for line in filter(None, map(str.strip, block.splitlines())):
        found = re.compile(pattern(line, months)).search(squeezed, at)
        assert found, f"{line}\nis not in\n{printed}"
        at = found.end()


def pattern(line: str, months: Collection[str]) -> str:
    parts = re.split(rf"((?:{'|'.join(map(re.escape, months))})(?!-\d))", line)  # days are numbers
    return "".join(part if k % 2 else generalised(part) for k, part in enumerate(parts))


def generalised(text: str) -> str:
    made = ""
    for k, part in enumerate(TOKEN.split(text)):
        if not k % 2:
            made += re.escape(part)
        elif part.isspace():
            made += r"\s+"
        elif part in ("…", "none"):
            made += ".*?"
        else:
            made += COUNT if part.isalpha() else NUMBER
    return made


def rows_of_the_report(block: str) -> dict[str, str]:
    """Item → proposed change, as the page shows it."""
    rows = (re.split(r"\s{2,}", line) for line in block.splitlines()[1:])
    return {row[0].removesuffix(" (anchor)"): row[1] for row in rows}


def text_of(report: Path) -> str:
    document = pypdfium2.PdfDocument(report)
    try:
        return document[0].get_textpage().get_text_range().replace("\r\n", "\n")
    finally:
        document.close()
