"""The triggers count changes with the server's own functions, whatever comes first on the search path of who writes."""

from alembic import op

revision = "0037_search_path"
down_revision = "0036_parameters"
oldest_code = "0036_parameters"


def upgrade() -> None:
    op.execute(
        """
        ALTER FUNCTION count_changed_day() SET search_path = pg_catalog, pg_temp;
        ALTER FUNCTION count_changed_table() SET search_path = pg_catalog, pg_temp;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        ALTER FUNCTION count_changed_day() RESET search_path;
        ALTER FUNCTION count_changed_table() RESET search_path;
        """
    )
