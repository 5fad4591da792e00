"""The triggers count changes with the server's own functions, whatever comes first on the search path of who writes."""

from alembic import op

revision = "0038_search_path"
down_revision = "0036_parameters"
oldest_code = "0036_parameters"

FUNCTIONS = ("count_changed_day()", "count_changed_table()")


def upgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function} SET search_path = pg_catalog, pg_temp")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"ALTER FUNCTION {function} RESET search_path")
