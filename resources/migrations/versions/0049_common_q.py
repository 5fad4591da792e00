"""q of DIF is of the items of all attributes together."""

from alembic import op

revision = "0049_common_q"
down_revision = "0048_group_shift"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute("COMMENT ON COLUMN dif_analysis.q_value IS 'after Benjamini-Hochberg over the items of all attributes'")


def downgrade() -> None:
    """A comment that no code reads."""
