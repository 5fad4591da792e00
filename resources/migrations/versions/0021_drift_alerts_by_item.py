"""The alerts on an item are found without reading every alert there ever was."""

from alembic import op

revision = "0021_drift_alerts_by_item"
down_revision = "0020_decisions_by_item"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.create_index("drift_alerts_item", "drift_alerts", ["scale_id", "item_id"])


def downgrade() -> None:
    op.drop_index("drift_alerts_item", "drift_alerts")
