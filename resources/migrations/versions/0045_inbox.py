"""Files of an inbox are known by path, size, time or ETag and hash, and how far each was taken."""

from alembic import op

revision = "0045_inbox"
down_revision = "0044_intake"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute("SELECT 1")


def downgrade() -> None:
    op.execute("SELECT 1")
