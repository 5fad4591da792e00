"""A person decides on a scale's model and priors for the months to come, and every decision is kept."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0024_scale_decision"
down_revision = "0023_erasure"
oldest_code = "0013_abilities_by_window"

UTC = TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "scale_decision",
        sa.Column(
            "decision_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of decision"
        ),
        sa.Column("scale_id", sa.Text(), nullable=False, comment="bank whose items measure one ability"),
        sa.Column("subject", sa.Text(), nullable=False, comment="model, prior_a, prior_b, prior_c or guessing"),
        sa.Column(
            "value",
            sa.Text(),
            nullable=False,
            comment="the model; a prior, such as lognormal(0, 0.5), or none; accepted, of guessing",
        ),
        sa.Column(
            "effective_from",
            UTC,
            nullable=False,
            comment="months that begin then or later, and nights, follow it, until a later decision",
        ),
        sa.Column("decided_by", sa.Text(), nullable=False, comment="who"),
        sa.Column("reason", sa.Text(), nullable=False, comment="why"),
        sa.Column("decided_at", UTC, server_default=sa.text("now()"), nullable=False, comment="when"),
        sa.PrimaryKeyConstraint("decision_id"),
        comment="What a person decided on a scale's model. Append-only.",
    )
    op.create_index("scale_decision_scale", "scale_decision", ["scale_id", "subject", "effective_from"])
    op.alter_column("calibration_scale", "model", comment="rasch, 1pl, 2pl or 3pl, until scale_decision changes it")
    op.alter_column(
        "anchor_set",
        "effective_from",
        comment="months that begin then or later, and nights, are linked to this version; null: all",
    )


def downgrade() -> None:
    op.drop_table("scale_decision")
    op.alter_column("calibration_scale", "model", comment="rasch, 1pl, 2pl or 3pl")
    op.alter_column(
        "anchor_set",
        "effective_from",
        comment="windows that begin from then on are linked to this version; null: from the origin on",
    )
