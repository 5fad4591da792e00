"""Lists in sentences."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import irt_assets
from irt_assets.common.wording import listed, some_of


@pytest.mark.parametrize(
    ("n", "all_of_them", "said"),
    [
        (0, None, ""),
        (1, None, "i0"),
        (3, None, "i0, i1, i2"),
        (4, None, "i0, i1, i2 and 1 more"),
        (1236, None, "i0, i1, i2 and 1,233 more"),
        (3, 15, "i0, i1, i2 and 12 more"),
    ],
)
def test_the_first_are_named_and_the_rest_is_counted(n: int, all_of_them: int | None, said: str) -> None:
    assert some_of([f"i{k}" for k in range(n)], 3, all_of_them) == said


def test_what_holds_commas_is_kept_apart_by_semicolons() -> None:
    assert some_of(["a (1, 2)", "b", "c"], 2, between="; ") == "a (1, 2); b and 1 more"


def test_a_list_in_prose_ends_with_and() -> None:
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"


NAMES = re.compile(r"irt (?:release|items|lineage)\b[^`\n]*?\{(?!shlex\.)[^}]*(?:item_id|item|reference|anchors?)\)?\}")
"""A command in an f-string with the name of an item in it, unquoted."""


def test_a_command_to_paste_quotes_the_items_that_it_names() -> None:
    """An item's name is any text of an import: `$(…)` or `;` in one would run in the shell it is pasted into."""
    root = Path(irt_assets.__file__).parents[1]
    files = [file for folder in ("irt_assets", "jobs", "services") for file in root.glob(f"{folder}/**/*.py")]
    assert len(files) > 100
    found = [f"{file.name}: {match[0]}" for file in files for match in NAMES.finditer(file.read_text("utf-8"))]
    assert found == []
