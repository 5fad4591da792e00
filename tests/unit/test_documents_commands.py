"""docs/reference/commands-of-the-documents.md lists every shell command of the documents once, and names existing
commands only."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.helpers.written_commands import ROOT, fault, fenced_blocks, logical_lines, simple_commands

PAGE = ROOT / "docs" / "reference" / "commands-of-the-documents.md"
VERDICTS = {"as written", "instead", "not needed", "yours"}
SPAN = re.compile(r"`([^`]+)`")
# Lines of the documents' shell blocks that are no commands: settings, files, responses of a server.
NO_COMMAND = re.compile(
    r"""[A-Z_]+=[^$\s]*$            # a line of an env file, a plain variable
      | [A-Z]\w+=\S*$ | \[\w+\]$    # a line of a unit
      | (-\s)?\w+:(\s|$)            # YAML
      | [{}]$ | "                   # JSON
      | [├└] | /opt/oneiric/settings/$
      | \#include | /opt/oneiric/\S+\s\S+$ | (network|deny)\s   # a profile of AppArmor
      | EOF$""",
    re.VERBOSE,
)
# Programs whose arguments are checked.
OURS = ("irt", "make", "install.sh", "systemctl", "journalctl", "kubectl")
# Units of the system that commands may name.
OTHERS_UNITS = frozenset({"systemd-journald"})


def commands(document: str) -> list[str]:
    """Return the commands of the shell blocks, each as one line without `sudo`; a script is one command."""
    found: list[str] = []
    for language, block in fenced_blocks(document):
        if language != "bash":
            continue
        lines = [" ".join(block.split())] if block.startswith("#!") else logical_lines(block)
        found += [line if line.startswith("sudo -u") else line.removeprefix("sudo ") for line in lines]
    return list(dict.fromkeys(line for line in found if not NO_COMMAND.match(line)))


def sections() -> dict[str, list[tuple[list[str], str, str]]]:
    """Return the rows of each document: commands, verdict, remark."""
    found: dict[str, list[tuple[list[str], str, str]]] = {}
    for part in PAGE.read_text().split("\n## ")[1:]:
        name, _, body = part.partition("\n")
        rows = [re.split(r"(?<!\\)\|", line.strip("|"))[:3] for line in body.splitlines() if line.startswith("| `")]
        found[name] = [
            (SPAN.findall(written.replace("\\|", "|")), verdict.strip(), replacement.replace("\\|", "|").strip())
            for written, verdict, replacement in rows
        ]
    return found


def pattern(written: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, written.split("…"))))


def test_every_command_of_the_documents_is_in_a_single_row(shared: Path) -> None:
    documents = {path.stem: commands(path.read_text()) for path in (shared / "requirements").glob("*.md")}
    described = sections()
    assert set(described) == set(documents)
    assert sum(map(len, documents.values())) > 230
    for name, documented in documents.items():
        written = [(row, one) for row, (spans, _, _) in enumerate(described[name]) for one in spans]
        rows_of = {command: {row for row, one in written if pattern(one).fullmatch(command)} for command in documented}
        assert {command: rows for command, rows in rows_of.items() if len(rows) != 1} == {}, name
        unused = [one for _, one in written if not any(pattern(one).fullmatch(command) for command in documented)]
        assert unused == [], name


def test_commands_marked_as_written_are_accepted_by_our_programs(shared: Path) -> None:
    wrong = []
    for name, rows in sections().items():
        documented = commands((shared / "requirements" / f"{name}.md").read_text())
        kept = [one for spans, verdict, _ in rows if verdict == "as written" for one in spans]
        for command in documented:
            if any(pattern(one).fullmatch(command) for one in kept):
                wrong += faults(command)
    assert wrong == []


def test_commands_that_replace_the_documents_commands_are_accepted_by_our_programs() -> None:
    wrong = []
    for rows in sections().values():
        for spans, verdict, replacement in rows:
            named = [one for one in SPAN.findall(replacement) if one.split()[0] in OURS and one not in OURS]
            assert verdict in VERDICTS, spans
            assert replacement or verdict in ("as written", "not needed"), spans
            assert verdict != "instead" or SPAN.search(replacement), spans
            wrong += [found for one in named if "…" not in one for found in faults(one)]
    assert wrong == []


def faults(command: str) -> list[str]:
    if command.startswith("kubectl"):
        return [found for found in [fault(shlex.split(command.replace("$(", " ").replace(")", " ")))] if found]
    return [found for words in simple_commands(command) if (found := fault(words, others_units=OTHERS_UNITS))]
