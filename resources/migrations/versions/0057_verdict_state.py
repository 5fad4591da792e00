"""The first schema, as one file of SQL: the item bank, the answers, and everything that is computed from them.

It has the name of the newest step of the history before, as it makes what those steps had made. A home at that step
stays as it is; an earlier one needs the code of `schema_version.COMMIT_OF_FIRST_SCHEMA` first. The file is what
`resources.migrations.first_schema` printed.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import op

from resources.postgres.own_schema import VERSION_TABLE

revision = "0057_verdict_state"
down_revision = None
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    statements = Path(__file__).with_suffix(".sql").read_text("utf-8").replace("{schema}", schema)
    op.add_column(VERSION_TABLE, sa.Column("oldest_code", sa.Text()))
    connection.exec_driver_sql(statements, execution_options={"no_parameters": True})
