"""The θ API says what ENABLE_IRT_ONLINE_UPDATE it was started with: the sweep of lost updates need not be told."""

from alembic import op

revision = "0043_server_setting"
down_revision = "0042_item_models"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE server_setting (
            name text PRIMARY KEY, value text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now());
        COMMENT ON TABLE server_setting IS
            'What one server is set to, for others that have no such setting themselves.';
        COMMENT ON COLUMN server_setting.name IS
            'ENABLE_IRT_ONLINE_UPDATE of the θ API, or of the session hook that asks it';
        COMMENT ON COLUMN server_setting.value IS 'true or false';
        COMMENT ON COLUMN server_setting.recorded_at IS 'when the θ API was ready, or the hook first asked it';
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE server_setting")
