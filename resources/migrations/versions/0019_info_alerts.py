"""People may be told of what is well, too: alerts of severity info, which nobody has to end."""

from alembic import op

revision = "0019_info_alerts"
down_revision = "0018_item_status"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.alter_column("alert", "severity", comment="error, warning or info")
    op.create_table_comment(
        "alert", "What people are told of: opened once, resolved once; of severity info resolved as it is opened."
    )


def downgrade() -> None:
    op.execute("DELETE FROM alert_delivery WHERE alert_id IN (SELECT alert_id FROM alert WHERE severity = 'info')")
    op.execute("DELETE FROM alert WHERE severity = 'info'")
    op.create_table_comment("alert", "What people are told of: opened once, resolved once.")
    op.alter_column("alert", "severity", comment="error or warning")
