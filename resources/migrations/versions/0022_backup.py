"""The platform knows when it was last backed up."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0022_backup"
down_revision = "0021_drift_alerts_by_item"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.create_table(
        "backup",
        sa.Column("address", sa.Text(), nullable=False, comment="folder or s3:// address"),
        sa.Column(
            "made_at", TIMESTAMP(timezone=True), nullable=False, comment="the state of the database that it holds"
        ),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="of its files"),
        sa.Column("seconds", sa.Double(), nullable=False, comment="how long it took"),
        sa.PrimaryKeyConstraint("address"),
        comment="Every backup that was made whole; one that is removed later keeps its row.",
    )


def downgrade() -> None:
    op.drop_table("backup")
