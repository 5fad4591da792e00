"""Abilities say as of which answer they are, and where ability moves the θ API goes on from what it stored."""

from alembic import op

revision = "0051_moving_ability"
down_revision = "0050_scores"
oldest_code = "0039_learner_reports"
carried = ("mirt_ability.as_of", "ability_state")


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
            until timestamptz NOT NULL,
            basis text NOT NULL,
            n_items integer NOT NULL,
            answers text NOT NULL,
            n_attempts bigint NOT NULL,
            recorded_at timestamptz,
            CONSTRAINT ability_state_pkey PRIMARY KEY (user_id, scale_id)
        );
        CREATE INDEX ability_state_until ON ability_state (until);
        COMMENT ON TABLE ability_state IS
            'Where ability moves: what the θ API goes on from when a learner has new answers.';
        COMMENT ON COLUMN ability_state.user_id IS 'learner';
        COMMENT ON COLUMN ability_state.scale_id IS 'bank whose items measure one ability';
        COMMENT ON COLUMN ability_state.state IS
            'the posterior of the answers before a day, and what the errors of items do to it';
        COMMENT ON COLUMN ability_state.until IS 'when that day began, on which the learner answered last';
        COMMENT ON COLUMN ability_state.basis IS
            'hash of what else it rests on: set, rules, item times, and the time from which answers count';
        COMMENT ON COLUMN ability_state.n_items IS 'answers to published items that are in it';
        COMMENT ON COLUMN ability_state.answers IS 'sum of the hashes of these answers';
        COMMENT ON COLUMN ability_state.n_attempts IS 'rows of the learner''s log before that day, with the look-back';
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
