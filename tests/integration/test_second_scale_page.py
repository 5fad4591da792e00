"""docs/tutorial/second-scale.md, typed from its first command to its last in a home that has a scale."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from irt_assets.decisions.origin import initialise
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.rooms import LOWERED, SCALE, load_small_world
from tests.helpers.typed import IrtOf
from tests.helpers.written_commands import ROOT, fenced_blocks, logical_lines, simple_commands
from tests.integration.test_own_log_page import assert_shown
from tests.testbed.patience import patient

pytestmark = [pytest.mark.ci, pytest.mark.timeout(patient(600))]

PAGE = ROOT / "docs" / "tutorial" / "second-scale.md"
MONTHS = ("2026-08", "2026-09")


def test_commands_of_the_second_scale_page_make_a_scale_as_printed(
    settings: Settings, database: Database, irt: IrtOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first scale is smaller than the page's, and the demo's second one is missing, so their lines differ."""
    monkeypatch.chdir(tmp_path)
    load_small_world(database, months=MONTHS, now=datetime(2026, 10, 20, tzinfo=UTC))
    initialise(database, SCALE, first_month=settings.irt_first_month, thresholds=LOWERED)
    _, steps = PAGE.read_text("utf-8").split("## 1. ")
    printed = ""
    for language, block in fenced_blocks(steps):
        if language == "":
            for words in (words for line in logical_lines(block) for words in simple_commands(line)):
                done = irt(settings)(*words[1:])
                assert done.code == 0, done.out + done.err
                printed = done.out
        elif language == "python":
            subprocess.run([sys.executable, "-c", block], check=True)
        elif block.startswith("item_id,"):
            assert Path("reading-items.csv").read_text("utf-8").startswith(block)
        else:
            assert_shown(re.sub(r"^(default|vocabulary) .*", "", block, flags=re.MULTILINE), printed, MONTHS)
