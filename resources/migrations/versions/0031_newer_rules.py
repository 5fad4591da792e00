"""Rules of a scale that a release before does not know have a column together, which it does not read."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0031_newer_rules"
down_revision = "0030_data_version"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.add_column(
        "calibration_scale",
        sa.Column(
            "newer_rules",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="settings that differ from the defaults, of rules made since there is this column; a release reads "
            "those that it knows",
        ),
    )


def downgrade() -> None:
    op.drop_column("calibration_scale", "newer_rules")
