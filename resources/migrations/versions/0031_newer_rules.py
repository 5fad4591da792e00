"""The first schema, as one file of SQL: the item bank, the answers, and everything that is computed from them.

It has the name of the newest step from before the first release, as it makes what all steps until then had made.
"""

from pathlib import Path

from alembic import op

revision = "0031_newer_rules"
down_revision = None
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    connection = op.get_bind()
    schema = connection.exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    statements = Path(__file__).with_suffix(".sql").read_text("utf-8").replace("{schema}", schema)
    connection.exec_driver_sql(statements, execution_options={"no_parameters": True})
