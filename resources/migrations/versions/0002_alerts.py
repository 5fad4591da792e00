"""Alerts and their delivery; what could not be tested of an invariant; a violation is open once."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

revision = "0002_alerts"
down_revision = "0001"

UTC = TIMESTAMP(timezone=True)
NOW = sa.text("now()")


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column("alert_id", sa.BigInteger(), sa.Identity(always=True), nullable=False, comment="order of opening"),
        sa.Column("key", sa.Text(), nullable=False, comment="what it is about; one alert of a key is open at a time"),
        sa.Column("severity", sa.Text(), nullable=False, comment="error or warning"),
        sa.Column("what", sa.Text(), nullable=False, comment="what happened"),
        sa.Column("partition", sa.Text(), nullable=False, comment="month, week or day; empty where it has none"),
        sa.Column("kind", sa.Text(), nullable=False, comment="what the subjects are: items, learners, months, …"),
        sa.Column("subjects", JSONB(), nullable=False, comment="all of them, a list"),
        sa.Column("fix", sa.Text(), nullable=False, comment="what to do"),
        sa.Column("link", sa.Text(), nullable=False, comment="where to look, below the UI's address"),
        sa.Column("opened_at", UTC, server_default=NOW, nullable=False, comment="when"),
        sa.Column("queued_at", UTC, nullable=True, comment="when it was handed to the channels of that time"),
        sa.Column("resolved_at", UTC, nullable=True, comment="when it was over"),
        sa.PrimaryKeyConstraint("alert_id"),
        comment="What people are told of: opened once, resolved once.",
    )
    op.create_index("alert_open", "alert", ["key"], unique=True, postgresql_where=sa.text("resolved_at IS NULL"))
    op.create_table(
        "alert_delivery",
        sa.Column("alert_id", sa.BigInteger(), nullable=False, comment="alert"),
        sa.Column("event", sa.Text(), nullable=False, comment="opened or resolved"),
        sa.Column("channel", sa.Text(), nullable=False, comment="slack, discord, email, pagerduty or webhook"),
        sa.Column(
            "attempts", sa.Integer(), server_default=sa.text("0"), nullable=False, comment="how often it was tried"
        ),
        sa.Column("next_attempt_at", UTC, server_default=NOW, nullable=False, comment="not tried again before"),
        sa.Column("last_error", sa.Text(), nullable=True, comment="why the last try failed"),
        sa.Column("delivered_at", UTC, nullable=True, comment="when it arrived"),
        sa.PrimaryKeyConstraint("alert_id", "event", "channel"),
        comment="The way of each message to each channel.",
    )
    op.create_index(
        "alert_delivery_due",
        "alert_delivery",
        ["channel", "next_attempt_at"],
        postgresql_where=sa.text("delivered_at IS NULL"),
    )
    op.add_column(
        "invariant_result",
        sa.Column("not_tested", sa.Text(), nullable=True, comment="why it, or a part of it, could not be tested"),
    )
    op.alter_column("invariant_result", "passed", comment="whether it held, as far as it could be tested")
    op.alter_column("invariant_result", "subject", comment="item, learner, month, …; empty: the verdict of the run")
    op.create_table_comment(
        "invariant_result",
        "What the invariants found: a verdict for each run, and every violation once, from when it was opened.",
    )
    op.create_index(
        "invariant_result_open",
        "invariant_result",
        ["invariant", "partition", "subject"],
        unique=True,
        postgresql_where=sa.text("NOT passed AND subject <> '' AND resolved_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_index("invariant_result_open", "invariant_result")
    op.drop_column("invariant_result", "not_tested")
    op.drop_table("alert_delivery")
    op.drop_table("alert")
