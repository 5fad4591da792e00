"""Abilities say as of which answer they are, and where ability moves the θ API goes on from what it stored."""

from alembic import op

revision = "0051_moving_ability"
down_revision = "0050_scores"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE mirt_ability ADD COLUMN as_of timestamptz;
        COMMENT ON COLUMN mirt_ability.as_of IS
            'the last of them, as of which θ is where ability moves; null: measured before 1.1';
        CREATE TABLE ability_state (
            user_id text NOT NULL,
            scale_id text NOT NULL,
            state bytea NOT NULL,
            basis text NOT NULL,
            n_items integer NOT NULL,
            as_of timestamptz NOT NULL,
            n_attempts bigint NOT NULL,
            recorded_at timestamptz NOT NULL,
            CONSTRAINT ability_state_pkey PRIMARY KEY (user_id, scale_id)
        );
        CREATE INDEX ability_state_as_of ON ability_state (as_of);
        COMMENT ON TABLE ability_state IS
            'Where ability moves: what the θ API goes on from when a learner has new answers.';
        COMMENT ON COLUMN ability_state.user_id IS 'learner';
        COMMENT ON COLUMN ability_state.scale_id IS 'bank whose items measure one ability';
        COMMENT ON COLUMN ability_state.state IS
            'the posterior before the last day with answers, and that day''s own likelihood';
        COMMENT ON COLUMN ability_state.basis IS
            'hash of what else it rests on: set, rules, item times, and the time from which answers count';
        COMMENT ON COLUMN ability_state.n_items IS 'answers to published items that are in it';
        COMMENT ON COLUMN ability_state.as_of IS 'the last of them';
        COMMENT ON COLUMN ability_state.n_attempts IS 'rows of the learner''s log that it rests on';
        COMMENT ON COLUMN ability_state.recorded_at IS 'the latest recorded_at among these';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE ability_state;
        ALTER TABLE mirt_ability DROP COLUMN as_of;
        """
    )
