"""docs/tutorial/letters.md and essays.md, typed from the first command to the last, each in an empty home."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile

import pypdfium2
import pytest

from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import template_copy
from tests.helpers.typed import IrtOf
from tests.helpers.written_commands import ROOT, fenced_blocks, logical_lines, simple_commands
from tests.integration.test_own_log_page import assert_shown
from tests.testbed.patience import patient

pytestmark = [pytest.mark.ci, pytest.mark.timeout(patient(600))]

PAGES = ROOT / "docs" / "tutorial"
HELD = "2026-10 is held"


@pytest.fixture
def home(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path
) -> Iterator[Settings]:
    """Settings of an empty home; commands are typed in a folder with the two files of the page."""
    monkeypatch.chdir(tmp_path)
    copyfile(shared / "data" / "sat12_raw_choices.csv", "sat12.csv")
    copyfile(shared / "data" / "sat12_key.csv", "key.csv")
    with template_copy(postgres, migrated_template, tmp_path / "own", irt_first_month="2026-10", irt_threads=1) as home:
        yield home


@pytest.mark.parametrize(
    ("page", "mapping", "score"), [("letters.md", "sat12.yaml", "480"), ("essays.md", "exam.yaml", "580")]
)
def test_commands_of_a_page_lead_from_two_files_to_a_letter_as_printed(
    home: Settings, irt: IrtOf, page: str, mapping: str, score: str
) -> None:
    printed, code = "", 0
    for language, block in fenced_blocks((PAGES / page).read_text("utf-8")):
        if language == "":
            for words in (words for line in logical_lines(block) for words in simple_commands(line)):
                if words != ["make", "venv"]:
                    done = irt(home)(*words[1:])
                    printed, code = done.out + done.err, done.code
        elif language == "python":
            subprocess.run([sys.executable, "-c", block], check=True)
        elif language == "yaml":
            Path(mapping).write_text(block, "utf-8")
        elif language == "csv":
            assert_shown(block, Path("exam.csv").read_text("utf-8")[:2000], ("2026-10",))
        elif language == "text":
            assert_shown(block, printed, ("2026-10",))
            assert code == (HELD in block), printed
    letter = pypdfium2.PdfDocument("letter.pdf")
    assert score in "".join(page.get_textpage().get_text_range() for page in letter)
