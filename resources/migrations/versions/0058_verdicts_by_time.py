"""Verdicts have an index by time: those of a day or week are found without reading their month."""

from alembic import op

revision = "0058_verdicts_by_time"
down_revision = "0057_verdict_state"
oldest_code = "0058_verdicts_by_time"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX attempt_verdict_time ON attempt_verdict USING brin (completed_at) WITH (autosummarize = on)"
    )


def downgrade() -> None:
    op.execute("DROP INDEX attempt_verdict_time")
