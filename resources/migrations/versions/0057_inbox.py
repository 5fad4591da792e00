"""A file of the inbox is taken in one transaction, so that no line is noted up to which it was."""

from alembic import op

revision = "0057_inbox"
down_revision = "0053_verdicts"
oldest_code = "0057_inbox"


def upgrade() -> None:
    op.execute("ALTER TABLE inbox_file DROP COLUMN last_line")


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE inbox_file ADD COLUMN last_line bigint NOT NULL DEFAULT 0;
        COMMENT ON COLUMN inbox_file.last_line IS 'up to this line it was taken';
        """
    )
