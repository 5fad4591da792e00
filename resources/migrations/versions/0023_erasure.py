"""Learners who were erased leave a tombstone, which says why the hash of a snapshot changed."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0023_erasure"
down_revision = "0022_backup"
oldest_code = "0013_abilities_by_window"

UTC = TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "erasure",
        sa.Column("erasure_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of erasure"),
        sa.Column(
            "learner_hash", sa.Text(), nullable=False, comment="sha256 of the salt and the learner's id, hexadecimal"
        ),
        sa.Column("salt", sa.LargeBinary(), nullable=False, comment="random, the same for all"),
        sa.Column("erased_by", sa.Text(), nullable=False, comment="who erased"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why"),
        sa.Column("begun_at", UTC, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.Column("finished_at", UTC, nullable=True, comment="when nothing was left; null: interrupted"),
        sa.Column(
            "removed",
            JSONB(),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
            comment="how many rows of each table and how many files",
        ),
        sa.Column(
            "rewritten",
            JSONB(),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
            comment="snapshots written again: [{old, new (sha256), old_uri, new_uri, old_data, new_data (hash of the "
            "answers; empty: unchanged)}]",
        ),
        sa.PrimaryKeyConstraint("erasure_id"),
        comment="Who was erased, when, by whom and why, without the id. Append-only.",
    )
    op.create_index("erasure_learner", "erasure", ["learner_hash"])


def downgrade() -> None:
    op.drop_table("erasure")
