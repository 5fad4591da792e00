"""Queries on fits, publications, decisions, anchors and the state of months are only in `irt_assets/ledger`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEDGER = ROOT / "irt_assets/ledger"
TABLES = (
    "fit_staging",
    "mirt_fit_meta",
    "mirt_item_params",
    "month_impact",
    "item_parameter_publication",
    "item_parameter_current",
    "testlet_sd_publication",
    "month_verdict",
    "publication_step",
    "item_parameter_proposal",
    "movement_proposal",
    "decision",
    "release_decision",
    "standing_decision",
    "anchor_set",
)
ONLY_WRITTEN_THERE = ("calibration_scale",)
"""Tables that any module may read."""
SQL = re.compile(
    rf"\b(?:FROM|JOIN|INTO|UPDATE)\s+({'|'.join(TABLES)})\b"
    rf"|\b(?:INTO|UPDATE|DELETE\s+FROM)\s+({'|'.join(ONLY_WRITTEN_THERE)})\b"
)
EXCEPT = {
    "resources/tables.py": "the views are declared with the tables",
    "irt_assets/scales/scale.py": "a scale and its rules are read and set by the layer below the ledger",
    "irt_assets/intake/max_scores.py": "an import, below the ledger, asks whether an item is published",
}


def statements_in(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and table of each query on a table of the ledger, also in the parts of an f-string."""
    if not any(table in source for table in (*TABLES, *ONLY_WRITTEN_THERE)):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for found in SQL.finditer(node.value):
                yield node.lineno + node.value.count("\n", 0, found.start()), found[1] or found[2]


def product() -> Iterator[Path]:
    for folder in ("irt_assets", "jobs", "services", "resources"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not path.is_relative_to(LEDGER) and not path.is_relative_to(ROOT / "resources/migrations"):
                yield path


def test_tables_of_the_ledger_are_queried_only_in_the_ledger() -> None:
    found = [
        f"{name}:{line}: a query on {table} belongs in irt_assets/ledger, as a function that its callers share"
        for path in product()
        if (name := path.relative_to(ROOT).as_posix()) not in EXCEPT
        for line, table in statements_in(path.read_text("utf-8"))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", EXCEPT)
def test_each_exception_contains_a_query_on_the_ledger(name: str) -> None:
    assert list(statements_in((ROOT / name).read_text("utf-8"))), f"{name} needs no exception any more: take it out"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('q = """SELECT 1\nFROM mirt_fit_meta m"""', [(2, "mirt_fit_meta")]),
        ('q = "SELECT 1 FROM mirt_fit_meta_window"', []),
        ('q = f"SELECT {x} FROM question JOIN anchor_set USING (item_id)"', [(1, "anchor_set")]),
        ('q = "DELETE FROM publication_step"', [(1, "publication_step")]),
        ('q = "SELECT engine FROM calibration_scale"', []),
        ('q = "UPDATE calibration_scale SET engine = %s"', [(1, "calibration_scale")]),
        ("# SELECT 1 FROM anchor_set", []),
    ],
)
def test_queries_on_the_ledger_are_found_in_strings_and_not_in_comments(
    source: str, found: list[tuple[int, str]]
) -> None:
    assert list(statements_in(source)) == found
