"""Commands on pages are accepted by the command line and refer to existing objects, and links have targets."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from tests.helpers.written_commands import (
    FENCED,
    ROOT,
    fault,
    fault_of_irt,
    fenced_blocks,
    logical_lines,
    simple_commands,
    without_options_in_brackets,
)

CRON = re.compile(r"^(\S+ ){5}\w+ ")
LINK = re.compile(r"\[[^\]]*\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")
SPAN = re.compile(r"`irt ([^`]+)`")
INCOMPLETE = re.compile(r"Missing|are required|requires an argument|no command ?$|job NAME: no such job")
STARTED_AS_FILE = re.compile(r"python\s+(?:tests|benchmarks)/\S+")
STARTED_AS_MODULE = re.compile(r"python\s+-m\s+((?:tests|benchmarks)(?:\.\w+)+)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
MAX_COLUMNS = 84
# Units that are not ours: of the host, and of previous installations.
OTHERS_UNITS = frozenset({"nginx", "postgresql", "plms-*", "oneiric*", "plms-invariants.timer", "oneiric.service"})


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page's shell blocks as words. Lines of blocks without a language may be no shell and are
    skipped."""
    found: list[list[str]] = []
    for language, block in fenced_blocks(page.read_text()):
        if language in ("", "sh", "bash", "console", "crontab"):
            for line in logical_lines(block):
                if language == "crontab":
                    line = CRON.sub("", line)
                try:
                    found += simple_commands(without_options_in_brackets(line))
                except ValueError:
                    assert not line.startswith(("irt ", "make ", "systemctl ", "kubectl ")), line
    return found


def test_commands_in_blocks_of_pages_are_accepted() -> None:
    faults = {
        page.name: [found for words in commands(page) if (found := fault(words, others_units=OTHERS_UNITS))]
        for page in PAGES
    }
    assert {page: found for page, found in faults.items() if found} == {}


def test_commands_in_sentences_of_pages_exist() -> None:
    """Commands in a sentence may lack required arguments."""
    spans = [(page.name, span) for page in PAGES for span in SPAN.findall(without_blocks(page)) if "|" not in span]
    assert len(spans) > 150
    faults = [(page, fault_of_irt(without_options_in_brackets(span).split())) for page, span in spans]
    assert [(page, found) for page, found in faults if found and not INCOMPLETE.search(found)] == []


def test_programs_of_tests_are_started_as_modules_that_exist() -> None:
    """A program started as a file does not find the package `tests`, which it imports."""
    code = [path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    texts = {str(path): path.read_text() for path in [*PAGES, *code]}
    assert {name: found for name, text in texts.items() if (found := STARTED_AS_FILE.findall(text))} == {}
    modules = {module for text in texts.values() for module in STARTED_AS_MODULE.findall(text)}
    assert len(modules) > 40
    roots = (ROOT, ROOT / "packages/irt-psychometrics")
    files = {module: [root / module.replace(".", "/") for root in roots] for module in modules}
    assert [
        module
        for module, paths in files.items()
        if not any(path.with_suffix(".py").exists() or (path / "__main__.py").exists() for path in paths)
    ] == []


def test_lines_in_blocks_of_pages_are_as_wide_as_a_page_shows() -> None:
    """Longer lines are cut off on the site."""
    wide = [
        (page.name, line)
        for page in PAGES
        for _, block in fenced_blocks(page.read_text())
        for line in block.splitlines()
        if len(line) > MAX_COLUMNS
    ]
    assert wide == []


def test_commands_are_found_on_pages() -> None:
    assert sum(words[0] == "irt" for page in PAGES for words in commands(page)) > 80


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes from the headings of a page."""
    headings = HEADING.findall(without_blocks(page))
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower() for heading in headings]
    return {re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in plain}


def without_blocks(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def is_broken(page: Path, path: str, anchor: str) -> bool:
    target = (page.parent / path).resolve() if path else page
    return not target.exists() or bool(anchor and target.suffix == ".md" and anchor not in anchors(target))


def test_links_on_pages_have_targets() -> None:
    links = [(page, *link) for page in PAGES for link in LINK.findall(without_blocks(page))]
    assert len(links) > 300
    assert [(page.name, path, anchor) for page, path, anchor in links if is_broken(page, path, anchor)] == []


def test_every_room_and_group_has_a_row_in_the_architecture() -> None:
    """Rooms and groups are the layers of the contracts of import-linter."""
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    named = {name for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE) for name in re.findall(r"[\w/]+", row)}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {contract["containers"][0]: contract["layers"] for contract in contracts if "containers" in contract}
    rooms = {room for layer in layers["irt_assets"] for room in layer.split(" | ")}
    groups = {group for layer in layers["irt_psychometrics"] for group in layer.split(" | ")}
    assert {room for room in rooms if not {room, f"irt_assets/{room}"} & named} == set()
    assert groups - named == {"__main__", "sklearn", "_lazy"}


def test_modules_in_the_table_of_questions_exist() -> None:
    """The table names each module relative to `irt_assets`, or with its package."""
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    table = page.partition("### Where each question is answered")[2].partition("\n### ")[0]
    named = re.findall(r"`(\w+/[\w/]+(?:\.py)?)`", table)
    assert len(named) > 25
    assert [name for name in named if not any((ROOT / folder / name).exists() for folder in ("", "irt_assets"))] == []
