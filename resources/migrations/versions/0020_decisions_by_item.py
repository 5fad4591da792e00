"""What was decided on an item is found without reading every decision."""

from alembic import op

revision = "0020_decisions_by_item"
down_revision = "0019_info_alerts"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.create_index("release_decision_item", "release_decision", ["scale_id", "item_id"])


def downgrade() -> None:
    op.drop_index("release_decision_item", "release_decision")
