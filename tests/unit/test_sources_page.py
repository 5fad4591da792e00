"""docs/reference/sources.md lists exactly the publications that the code and the pages cite."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/sources.md"
SURNAME = r"(?:(?:van der|von|de|De) )?[A-ZÅÉÖÜ][\w\-]*[a-zé](?: Falcón| Proietti)?"
YEARS = r"(?:19|20)\d\d(?:(?:, | and )(?:19|20)\d\d)*"
CITED = re.compile(rf"({SURNAME})((?:,? (?:& |and )?{SURNAME})*)(?: et al\.)?(?:'s?|’s)?,? \(?({YEARS})(?![-–\d/:])")
NO_AUTHORS = re.compile(
    r"All|At|Beyond|From|Make|Simulated|With|In|On|By|Since|Until|Of|The|Version|Debian|R|False"
    r"|January|February|March|April|May|June|July|August|September|October|November|December"
)
"""Words before a year, or before a number that looks like a year, that are not authors."""


@cache
def cited_publications() -> dict[tuple[str, str], str]:
    """Return a citing file by first author and year."""
    named = subprocess.run(
        ["git", "ls-files", "irt_assets", "jobs", "packages", "resources", "services", "docs"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    found = {}
    for name in named:
        if name.endswith((".py", ".md")) and ROOT / name != PAGE:
            text = re.sub(r"^#+ .*", ". ", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
            for match in CITED.finditer(re.sub(r"\s+", " ", text)):
                first, _, years = match.groups()
                if not NO_AUTHORS.fullmatch(first):
                    found |= {(first, year): name for year in re.findall(r"\d{4}", years) if int(year) <= 2024}
    return found


def listed_publications() -> set[tuple[str, str]]:
    entries = re.findall(r"^- \*\*(.+?) (\d{4})\.\*\* .+", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return {(re.split(r", | & ", authors)[0], year) for authors, year in entries}


def test_every_cited_publication_is_listed():
    missing = {key: location for key, location in cited_publications().items() if key not in listed_publications()}
    assert not missing, f"add them to {PAGE.name}, or the word to NO_AUTHORS: {missing}"


def test_every_listed_publication_is_cited():
    assert not listed_publications() - set(cited_publications())


def test_every_publication_is_listed_only_once():
    entries = re.findall(r"^- \*\*(.+?)\.\*\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(entries) == len(set(entries)) > 70
