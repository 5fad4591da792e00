"""Where each pull from another database or a lake table stands."""

from alembic import op

revision = "0046_pull"
down_revision = "0045_inbox"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute("SELECT 1")


def downgrade() -> None:
    op.execute("SELECT 1")
