"""docs/reference/requirements.md lists every row of the requirements once, and its links and commands exist.

The requirements are not part of the repository. Links and commands are checked without them, too.
"""

from __future__ import annotations

import re
import shlex
from itertools import chain
from pathlib import Path

from tests.helpers.written_commands import ROOT, fault

PAGE = ROOT / "docs" / "reference" / "requirements.md"
STATES = {"done", "otherwise", "partly", "no"}
LINK = re.compile(r"\[([^\]]+)\]\(([^)#]+)[^)]*\)")
COMMAND = re.compile(r"`((?:irt|make|install\.sh) [^`]+)`")
ROW = re.compile(r"^\| ((?:S[0-4]-|D[CS]-|K)\d+) \|", re.MULTILINE)
SECTION_8 = re.compile(r"^## 8\..*?(?=^## )", re.MULTILINE | re.DOTALL)
POINT = re.compile(r"^(\d+)\. ", re.MULTILINE)


def rows() -> list[list[str]]:
    """Return the cells of each row: ids, state, implementation, place."""
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.read_text().splitlines()]
    return [found for found in cells if len(found) == 4 and found[0] not in ("row", "---|---|---|---")]


def ids() -> list[str]:
    return list(chain.from_iterable(cells[0].split(", ") for cells in rows()))


def test_page_lists_every_row_of_the_requirements_once(shared: Path) -> None:
    text = (shared / "REQUIREMENTS.md").read_text()
    section = SECTION_8.search(text)
    required = [*ROW.findall(text), *(f"8.{number}" for number in POINT.findall(section[0]))]
    assert len(required) > 250
    assert sorted(ids()) == sorted(required)


def test_page_lists_no_row_twice() -> None:
    found = ids()
    assert len(found) > 250
    assert [row for row in found if found.count(row) > 1] == []


def faults(state: str, text: str, cell: str) -> list[str]:
    found = [] if state in STATES and text else [f"no state: {state}"]
    links, commands = LINK.findall(cell), COMMAND.findall(cell)
    if not links and not commands:
        found.append("it does not say where")
    for name, target in links:
        path = (PAGE.parent / target).resolve()
        if not path.is_file():
            found.append(f"no file {target}")
        elif name.startswith("test_") and not re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE):
            found.append(f"no test {name} in {target}")
    return [*found, *filter(None, (fault(shlex.split(command)) for command in commands))]


def test_files_tests_and_commands_of_every_row_exist() -> None:
    looked_at = {cells[0]: faults(*cells[1:]) for cells in rows()}
    assert {row: found for row, found in looked_at.items() if found} == {}
