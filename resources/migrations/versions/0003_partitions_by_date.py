"""Daily features and weekly KPIs are replaced day by day and week by week: an index finds a day's, a week's rows."""

from alembic import op

revision = "0003_partitions_by_date"
down_revision = "0002_alerts"


def upgrade() -> None:
    op.create_index("features_topic_daily_date", "features_topic_daily", ["date"])
    op.create_index("weekly_kpi_week", "weekly_kpi", ["week_start"])


def downgrade() -> None:
    op.drop_index("weekly_kpi_week", "weekly_kpi")
    op.drop_index("features_topic_daily_date", "features_topic_daily")
