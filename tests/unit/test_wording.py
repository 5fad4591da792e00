"""Lists in sentences, and quoting in commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import irt_assets
from irt_assets.common.wording import join_names, some_of


@pytest.mark.parametrize(
    ("n", "all_of_them", "expected"),
    [
        (0, None, ""),
        (1, None, "i0"),
        (3, None, "i0, i1, i2"),
        (4, None, "i0, i1, i2 and 1 more"),
        (1236, None, "i0, i1, i2 and 1,233 more"),
        (3, 15, "i0, i1, i2 and 12 more"),
    ],
)
def test_first_items_of_a_long_list_are_named_and_the_rest_is_counted(
    n: int, all_of_them: int | None, expected: str
) -> None:
    assert some_of([f"i{k}" for k in range(n)], 3, all_of_them) == expected


def test_list_is_separated_by_semicolons_if_requested() -> None:
    assert some_of(["a (1, 2)", "b", "c"], 2, between="; ") == "a (1, 2); b and 1 more"


def test_a_list_in_prose_ends_with_and() -> None:
    assert join_names(["a", "b", "c"]) == "a, b and c"
    assert join_names(["a", "b", "c", "d"], 2) == "a, b and 2 more"


NAMES = re.compile(r"irt (?:release|items|lineage)\b[^`\n]*?\{(?!shlex\.)[^}]*(?:item_id|item|reference|anchors?)\)?\}")
"""Matches a command in an f-string that contains the unquoted name of an item."""


def test_commands_to_paste_quote_names_of_items() -> None:
    """An imported item may have any text as its name, and `$(…)` or `;` in a name would be executed by the shell."""
    root = Path(irt_assets.__file__).parents[1]
    files = [file for folder in ("irt_assets", "jobs", "services") for file in root.glob(f"{folder}/**/*.py")]
    assert len(files) > 100
    found = [f"{file.name}: {match[0]}" for file in files for match in NAMES.finditer(file.read_text("utf-8"))]
    assert found == []
