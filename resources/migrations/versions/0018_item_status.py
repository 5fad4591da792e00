"""Items are withdrawn from use and restored by a person's decision."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0018_item_status"
down_revision = "0017_undone_decisions"
oldest_code = "0013_abilities_by_window"


def upgrade() -> None:
    op.create_table(
        "item_status",
        sa.Column("status_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of decision"),
        sa.Column("item_id", sa.Text(), nullable=False, comment="item"),
        sa.Column("state", sa.Text(), nullable=False, comment="withdrawn or restored"),
        sa.Column("effective_from", TIMESTAMP(timezone=True), nullable=False, comment="from when on"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why"),
        sa.Column("decided_by", sa.Text(), nullable=False, comment="who"),
        sa.Column(
            "decided_at", TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False, comment="when"
        ),
        sa.PrimaryKeyConstraint("status_id"),
        comment="What a person decided on an item's use. Append-only.",
    )
    op.create_index("item_status_item", "item_status", ["item_id", "effective_from"])
    op.execute("""
        CREATE VIEW item_withdrawal AS
        SELECT item_id, since, until, reason, decided_by, decided_at FROM (
          SELECT *, effective_from AS since, lead(effective_from) OVER (
            PARTITION BY item_id ORDER BY effective_from, status_id) AS until
          FROM item_status) decided
        WHERE state = 'withdrawn' AND (until IS NULL OR until > since)
    """)


def downgrade() -> None:
    op.execute("DROP VIEW item_withdrawal")
    op.drop_table("item_status")
