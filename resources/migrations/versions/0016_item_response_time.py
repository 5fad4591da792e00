"""Median response times of items are computed once, and read by months, nights and single learners alike."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0016_item_response_time"
down_revision = "0015_object_folder"
oldest_code = "0013_abilities_by_window"
SOURCE = "What the days of features{} were computed from: another hash now means that they are stale."


def upgrade() -> None:
    op.create_table(
        "item_response_time",
        sa.Column("as_of", TIMESTAMP(timezone=True), nullable=False, comment="answers before this time were counted"),
        sa.Column(
            "since",
            TIMESTAMP(timezone=True),
            nullable=False,
            comment="and from this time on: the window's start less the look-back",
        ),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("median_ms", sa.Double(), nullable=False, comment="median response time"),
        sa.Column("n", sa.BigInteger(), nullable=False, comment="answers with a time"),
        sa.PrimaryKeyConstraint("as_of", "since", "item_id"),
        comment="An item's response times over the live answers of a window and the look-back before it.",
    )
    op.create_table_comment("partition_source", SOURCE.format(" and the item times"))
    op.alter_column("partition_source", "asset", comment="features_topic_daily or item_response_time")
    op.alter_column("partition_source", "partition", comment="a day of features; as_of/since of item times")


def downgrade() -> None:
    op.alter_column("partition_source", "partition", comment="its partition key: a day")
    op.alter_column("partition_source", "asset", comment="features_topic_daily")
    op.create_table_comment("partition_source", SOURCE.format(""))
    op.execute("DELETE FROM partition_source WHERE asset = 'item_response_time'")
    op.drop_table("item_response_time")
