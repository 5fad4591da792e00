"""The site of the pages: it builds without warnings, loads no external files, and its generated pages are current."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOADED = re.compile(
    r"""<(?:script|img|iframe|link rel="(?:stylesheet|preconnect|icon)")[^>]*(?:src|href)="(https?:)?//"""
)


def test_generated_reference_pages_are_up_to_date() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))
    assert generator["main"](["--check"]) == 0, "what it printed names the pages"


@pytest.mark.ci
def test_site_builds_without_warnings_and_loads_no_external_files(
    tmp_path: Path, require: Callable[[bool, str], None]
) -> None:
    require(find_spec("material") is not None, "MkDocs Material (make venv EXTRAS=docs)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 50
    assert [page.name for page in pages if LOADED.search(page.read_text("utf-8"))] == []
