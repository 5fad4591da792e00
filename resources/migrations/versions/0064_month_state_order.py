"""Number the rows of `month_state` in order, because a clock that is set back puts `since` out of order.

Rows of before are numbered by `since`, which is all that is known of their order.
"""

from alembic import op

revision = "0064_month_state_order"
down_revision = "0063_adaptive_bank"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE month_state ADD COLUMN state_id BIGINT;
        UPDATE month_state SET state_id = n
        FROM (SELECT month, scale_id, since, row_number() OVER (ORDER BY since, month, scale_id) AS n
              FROM month_state) numbered
        WHERE (month_state.month, month_state.scale_id, month_state.since)
              = (numbered.month, numbered.scale_id, numbered.since);
        ALTER TABLE month_state ALTER COLUMN state_id SET NOT NULL;
        ALTER TABLE month_state ALTER COLUMN state_id ADD GENERATED ALWAYS AS IDENTITY;
        SELECT setval(pg_get_serial_sequence('month_state', 'state_id'), coalesce(max(state_id), 0) + 1, false)
        FROM month_state;
        COMMENT ON COLUMN month_state.state_id IS 'number of the row, in order';
        """
    )


def downgrade() -> None:
    op.execute("ALTER TABLE month_state DROP COLUMN state_id")
