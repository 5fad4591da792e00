"""Days of features and weeks of KPIs say what they were computed from, so that stale ones can be told."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0004_partition_source"
down_revision = "0003_partitions_by_date"


def upgrade() -> None:
    op.create_table(
        "partition_source",
        sa.Column("asset", sa.Text(), nullable=False, comment="features_topic_daily or weekly_kpi"),
        sa.Column("partition", sa.Text(), nullable=False, comment="its partition key: a day, or the Monday of a week"),
        sa.Column("data_hash", sa.Text(), nullable=False, comment="hash of the answers that were read"),
        sa.Column(
            "computed_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("asset", "partition"),
        comment="What the days of features and the weeks of KPIs were computed from: another hash now means that they "
        "are stale.",
    )


def downgrade() -> None:
    op.drop_table("partition_source")
