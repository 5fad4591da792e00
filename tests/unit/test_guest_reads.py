"""No statement of ours reads the log past the cursor that gives way."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from resources.postgres.guest_reads import reads_log
from tests.testbed.stack_harness import ROOT

LOG = re.compile(r'\b(from|join)\s+"?attempt\b', re.I)
NO_STATEMENTS = {
    "irt_assets/calibration/nightly.py": "Loaded",  # of a log line: "from attempt VIEW"
    "resources/postgres/guest_reads.py": "",
}


def texts(source: str) -> Iterator[str]:
    """The strings of a module, those of f-strings with x in place of their values."""
    if "attempt" not in source:
        return
    inside = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "x" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.value


def test_every_statement_that_reads_the_log_is_known_as_one() -> None:
    found, missed = 0, []
    for room in ("irt_assets", "resources", "jobs", "services"):
        for path in sorted((ROOT / room).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if "migrations" in name:
                continue
            for text in filter(LOG.search, texts(path.read_text("utf-8"))):
                if name in NO_STATEMENTS and text.startswith(NO_STATEMENTS[name]):
                    continue
                found += 1
                missed += [] if reads_log(text) else [f"{name}: {text[:80]}"]
    assert missed == []
    assert found >= 19


@pytest.mark.parametrize(
    "query",
    [
        "SELECT attempt_id FROM response_log",
        "SELECT 1 FROM attempt_correction",
        "CREATE VIEW more AS SELECT * FROM attempt",
        "INSERT INTO learner SELECT user_id FROM attempt",
    ],
)
def test_what_reads_another_table_or_writes_is_left_as_it_is(query: str) -> None:
    assert not reads_log(query)
