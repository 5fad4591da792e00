"""The reference page of the tables: `python -m resources.postgres.reference > docs/reference/tables.md`."""

from __future__ import annotations

import sys

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from resources.tables import METADATA, VIEWS, meaning


def markdown() -> str:
    """Every table with its columns, types, descriptions, units and ranges; then the views."""
    parts = ["# Tables\n\nMade from `resources/tables.py`, which describes every column once. Times are UTC.\n"]
    parts += [_table(table) for table in METADATA.sorted_tables]
    parts.append(f"## Views\n\n{', '.join(f'`{name}`' for name in VIEWS)}: their SQL is in `resources/tables.py`.\n")
    return "\n".join(parts)


def _table(table: sa.Table) -> str:
    lines = [f"## `{table.name}`\n\n{table.comment}\n", "| column | type | | meaning |", "|---|---|---|---|"]
    for column in table.columns:
        text = meaning(column).replace("|", "\\|")
        role = "key" if column.primary_key else "" if column.nullable else "required"
        lines.append(f"| `{column.name}` | {column.type.compile(postgresql.dialect())} | {role} | {text} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
