"""Imports of the inbox's files that began and did not end."""

from alembic import op

revision = "0065_begun_files"
down_revision = "0064_month_state_order"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE inbox_file ADD COLUMN begun INTEGER DEFAULT 0 NOT NULL;
        COMMENT ON COLUMN inbox_file.begun IS
            'imports of this version that began and whose process died; with 2, the file is set aside';
        """
    )


def downgrade() -> None:
    op.execute("ALTER TABLE inbox_file DROP COLUMN begun")
