"""Tables in Dagster's metadata: the columns of the registry's tables, and rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from resources.tables import meaning

HOW_TO_FIX = "how to fix it"
"""Metadata of a failed check: the remedy. Alerts repeat it."""
ITEMS, KNOWN_FROM = "items", "known from"
"""Metadata of a check on items: a table with a row for each item, and its column with the month that reported the item
before."""

LEARNERS = "learners that are wrong"
"""Metadata of a check on learners: a table with a row for each learner, whose id is in the column `learners`."""


TABLE = "dagster/table_name"


def stored_in(table: sa.Table) -> dict[str, Any]:
    """Return the metadata of an asset that writes a table: its name, which the graph completes, and its columns."""
    dialect = postgresql.dialect()
    columns = dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type.compile(dialect),
                description=meaning(column),
                constraints=dg.TableColumnConstraints(
                    nullable=bool(column.nullable), unique=column.primary_key and len(table.primary_key) == 1
                ),
            )
            for column in table.columns
        ]
    )
    return {"dagster/column_schema": columns, TABLE: table.name}


def taken_over(columns_by_asset: Mapping[str, Sequence[str]]) -> dict[str, dg.MetadataValue]:
    """Return the metadata of a materialisation: the columns that it takes over unchanged, by their asset."""
    columns = {name: asset for asset, names in columns_by_asset.items() for name in names}
    deps = {name: [dg.TableColumnDep(dg.AssetKey(asset), name)] for name, asset in columns.items()}
    return {"dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(deps))}


def row_table(columns: Sequence[str], rows: Sequence[Sequence[str | float | bool | None]]) -> dg.TableMetadataValue:
    """Rows as a table that people can read; programs read it by `rows_of`."""
    return dg.MetadataValue.table(
        [dg.TableRecord({name: "" if v is None else v for name, v in zip(columns, row, strict=True)}) for row in rows],
        dg.TableSchema([dg.TableColumn(name) for name in columns]),
    )


def rows_of(metadata: Mapping[str, dg.MetadataValue], name: str) -> list[dict[str, Any]]:
    """The rows of a table in metadata; empty if there is no such table."""
    value = metadata.get(name)
    return [dict(record.data) for record in value.records] if isinstance(value, dg.TableMetadataValue) else []
