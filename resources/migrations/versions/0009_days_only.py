"""Only days of features keep a hash of what they were computed from: that of weeks was read by nobody."""

from alembic import op

revision = "0009_days_only"
down_revision = "0008_dif_rows"


def upgrade() -> None:
    op.execute("DELETE FROM partition_source WHERE asset = 'weekly_kpi'")
    op.create_table_comment(
        "partition_source",
        "What the days of features were computed from: another hash now means that they are stale.",
    )
    op.alter_column("partition_source", "asset", comment="features_topic_daily")
    op.alter_column("partition_source", "partition", comment="its partition key: a day")


def downgrade() -> None:
    """What was deleted is made again by itself."""
