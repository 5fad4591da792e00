"""Print the schema of the registry as SQL: `python -m resources.migrations.first_schema`.

A new history of migrations begins with this output. {schema} is a placeholder for the name of the schema.
"""

from typing import Any

import sqlalchemy as sa

from resources.tables import METADATA, TRIGGERS, VIEWS


def schema_as_sql() -> str:
    """The statements that create tables, indexes, comments, views and triggers."""
    statements: list[str] = []

    def note(statement: Any, *_: Any, **__: Any) -> None:
        lines = str(statement.compile(dialect=engine.dialect)).strip().splitlines()
        statements.append("\n".join(line.replace("\t", "    ").rstrip() for line in lines))

    engine = sa.create_mock_engine("postgresql+psycopg://", note, paramstyle="named")  # this style leaves % unescaped
    METADATA.create_all(engine, checkfirst=False)
    statements += [f"CREATE VIEW {name} AS\n{query.strip()}" for name, query in VIEWS.items()]
    return ";\n".join(statements) + ";\n" + TRIGGERS


if __name__ == "__main__":
    print(schema_as_sql(), end="")  # noqa: T201 - for a file
