"""The SD of testlet effects that a month estimated is in force from the month's end on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0029_testlet_sd"
down_revision = "0028_new_misfit"
oldest_code = "0013_abilities_by_window"

UTC = TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "testlet_sd_publication",
        sa.Column(
            "publication_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of publication"
        ),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="scale"),
        sa.Column("sd", sa.Double(), nullable=False, comment="SD of a learner's effects in testlets"),
        sa.Column("se", sa.Double(), nullable=True, comment="its standard error"),
        sa.Column("n_testlets", sa.Integer(), nullable=False, comment="testlets that it was estimated from"),
        sa.Column("testlets", JSONB(), nullable=False, comment="testlet of each item, as the month found them"),
        sa.Column("effective_from", UTC, nullable=False, comment="in force from this time on"),
        sa.Column("month", sa.Text(), nullable=False, comment="month whose fit it comes from"),
        sa.Column("fit_id", sa.Text(), nullable=False, comment="fit it comes from"),
        sa.Column(
            "published_at", UTC, server_default=sa.text("now()"), nullable=False, comment="when it was published"
        ),
        sa.PrimaryKeyConstraint("publication_id"),
        comment="How far answers in one testlet depend on each other, from when on. Append-only.",
    )
    op.create_index("testlet_sd_publication_scale", "testlet_sd_publication", ["scale_id", "effective_from"])


def downgrade() -> None:
    op.drop_table("testlet_sd_publication")
