"""Anchors that come from one fit keep what their errors have in common."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0025_anchor_covariance"
down_revision = "0024_scale_decision"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.add_column(
        "anchor_set",
        sa.Column(
            "cov",
            JSONB(),
            nullable=True,
            comment="covariance of a and b with those of each anchor of the set, {item: [aa, ab, ba, bb]}; null: "
            "independent",
        ),
    )


def downgrade() -> None:
    op.drop_column("anchor_set", "cov")
