"""The database knows the folder in which its files lie, so that a second machine does not begin one of its own."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0015_object_folder"
down_revision = "0014_oldest_code"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.create_table(
        "object_folder",
        sa.Column("folder_id", sa.Text(), nullable=False, comment="what its file .folder-id says"),
        sa.Column("path", sa.Text(), nullable=False, comment="where it was when it was recorded"),
        sa.Column("host", sa.Text(), nullable=False, comment="the host that recorded it"),
        sa.Column(
            "recorded_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("folder_id"),
        comment="The folder of snapshots and reports; no row: none yet, or they lie in a bucket.",
    )


def downgrade() -> None:
    op.drop_table("object_folder")
