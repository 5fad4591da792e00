"""The registry's tables as Dagster shows them: a column's type, description, unit and constraints."""

from __future__ import annotations

import dagster as dg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql


def column_schema(table: sa.Table) -> dg.TableSchema:
    """For an asset's `dagster/column_schema` metadata."""
    dialect = postgresql.dialect()
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column.name,
                type=column.type.compile(dialect),
                description=_description(column),
                constraints=dg.TableColumnConstraints(
                    nullable=bool(column.nullable), unique=column.primary_key and len(table.primary_key) == 1
                ),
            )
            for column in table.columns
        ]
    )


def _description(column: sa.Column[object]) -> str:
    limits = [f"{sign} {column.info[key]}" for key, sign in (("ge", "≥"), ("le", "≤")) if key in column.info]
    notes = [*([column.info["unit"]] if "unit" in column.info else []), *limits]
    return (column.comment or "") + (f" ({', '.join(notes)})" if notes else "")
