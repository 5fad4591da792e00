"""Policies of adaptive tests, their sessions, exposure of items, and simulations."""

from alembic import op

revision = "0062_adaptive"
down_revision = "0061_scores"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE adaptive_test (
            version BIGINT GENERATED ALWAYS AS IDENTITY,
            test_id TEXT NOT NULL,
            scale_id TEXT NOT NULL,
            policy JSONB,
            undoes BIGINT,
            effective_from TIMESTAMP WITH TIME ZONE NOT NULL,
            decided_by TEXT NOT NULL,
            reason TEXT NOT NULL,
            decided_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (version)
        );
        CREATE INDEX adaptive_test_id ON adaptive_test (test_id, version);
        COMMENT ON TABLE adaptive_test IS
            'Decisions on adaptive tests: each row is a version of the policy of a test. Append-only.';
        COMMENT ON COLUMN adaptive_test.version IS 'number of the version, in order';
        COMMENT ON COLUMN adaptive_test.test_id IS 'test';
        COMMENT ON COLUMN adaptive_test.scale_id IS 'scale';
        COMMENT ON COLUMN adaptive_test.policy IS 'the policy; null: the test is not offered';
        COMMENT ON COLUMN adaptive_test.undoes IS 'version whose decision this one undoes';
        COMMENT ON COLUMN adaptive_test.effective_from IS 'time from which new sessions use this version';
        COMMENT ON COLUMN adaptive_test.decided_by IS 'person who decided';
        COMMENT ON COLUMN adaptive_test.reason IS 'reason';
        COMMENT ON COLUMN adaptive_test.decided_at IS 'time of the decision';
        CREATE TABLE adaptive_session (
            session_id TEXT NOT NULL,
            user_id TEXT NOT NULL,
            test_id TEXT NOT NULL,
            version BIGINT NOT NULL,
            scale_id TEXT NOT NULL,
            scale_version INTEGER NOT NULL,
            set_hash TEXT NOT NULL,
            seed BIGINT NOT NULL,
            start_theta DOUBLE PRECISION,
            start_se DOUBLE PRECISION,
            eligible JSONB NOT NULL,
            unscored JSONB NOT NULL,
            seen JSONB NOT NULL,
            started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (session_id)
        );
        CREATE INDEX adaptive_session_learner ON adaptive_session (user_id);
        CREATE INDEX adaptive_session_started ON adaptive_session (started_at);
        COMMENT ON TABLE adaptive_session IS 'Sessions of adaptive tests: everything that their first request fixed.';
        COMMENT ON COLUMN adaptive_session.session_id IS 'session';
        COMMENT ON COLUMN adaptive_session.user_id IS 'learner';
        COMMENT ON COLUMN adaptive_session.test_id IS 'test; the form_id of the session''s answers';
        COMMENT ON COLUMN adaptive_session.version IS 'version of the policy';
        COMMENT ON COLUMN adaptive_session.scale_id IS 'scale';
        COMMENT ON COLUMN adaptive_session.scale_version IS 'version of the scale''s anchors';
        COMMENT ON COLUMN adaptive_session.set_hash IS 'hash of the published set';
        COMMENT ON COLUMN adaptive_session.seed IS 'seed of the session''s random choices';
        COMMENT ON COLUMN adaptive_session.start_theta IS 'θ from which items are chosen; null: the population';
        COMMENT ON COLUMN adaptive_session.start_se IS 'standard error of start_theta';
        COMMENT ON COLUMN adaptive_session.eligible IS
            'items that are not eligible in an interval of θ: for each interval, 0 or 1';
        COMMENT ON COLUMN adaptive_session.unscored IS 'items drawn for the unscored places, in order';
        COMMENT ON COLUMN adaptive_session.seen IS
            'items of the test that the learner had seen within the look-back before the start';
        COMMENT ON COLUMN adaptive_session.started_at IS
            'time of the first request; the published set of this time is used';
        CREATE TABLE item_exposure (
            day DATE NOT NULL,
            version BIGINT NOT NULL,
            theta_interval INTEGER NOT NULL,
            item_id TEXT NOT NULL,
            sessions INTEGER NOT NULL,
            eligible INTEGER NOT NULL,
            given INTEGER NOT NULL,
            PRIMARY KEY (day, version, theta_interval, item_id)
        );
        COMMENT ON TABLE item_exposure IS
            'How often items of adaptive tests were eligible and given, by day of the session''s start.';
        COMMENT ON COLUMN item_exposure.day IS 'day (UTC)';
        COMMENT ON COLUMN item_exposure.version IS 'version of the policy';
        COMMENT ON COLUMN item_exposure.theta_interval IS 'interval of θ, from 0; 0 if exposure is limited over all θ';
        COMMENT ON COLUMN item_exposure.item_id IS 'item';
        COMMENT ON COLUMN item_exposure.sessions IS 'sessions of the version on this day, in this interval';
        COMMENT ON COLUMN item_exposure.eligible IS 'sessions in which the item was eligible';
        COMMENT ON COLUMN item_exposure.given IS 'sessions in which the item was given';
        CREATE TABLE adaptive_simulation (
            month TEXT NOT NULL,
            version BIGINT NOT NULL,
            test_id TEXT NOT NULL,
            scale_id TEXT NOT NULL,
            set_hash TEXT NOT NULL,
            summary JSONB NOT NULL,
            items JSONB NOT NULL,
            code_version TEXT NOT NULL,
            run_id TEXT,
            made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (month, version)
        );
        COMMENT ON TABLE adaptive_simulation IS
            'Simulations of the adaptive tests in force with the published set at a month''s end.';
        COMMENT ON COLUMN adaptive_simulation.month IS 'calendar month of the window, e.g. 2026-09 (UTC)';
        COMMENT ON COLUMN adaptive_simulation.version IS 'version of the policy';
        COMMENT ON COLUMN adaptive_simulation.test_id IS 'test';
        COMMENT ON COLUMN adaptive_simulation.scale_id IS 'scale';
        COMMENT ON COLUMN adaptive_simulation.set_hash IS 'hash of the published set';
        COMMENT ON COLUMN adaptive_simulation.summary IS
            'precision, length, exposure, content and classification, over all θ and by θ';
        COMMENT ON COLUMN adaptive_simulation.items IS
            'for each item, by interval of θ: tests in which it was eligible, and given';
        COMMENT ON COLUMN adaptive_simulation.code_version IS 'version of this code';
        COMMENT ON COLUMN adaptive_simulation.run_id IS 'Dagster run that made it';
        COMMENT ON COLUMN adaptive_simulation.made_at IS 'time at which it was made';
        COMMENT ON COLUMN form.source IS
            'file: imported; assembled: from a blueprint; log: all sessions of the form in the log agree on it';
        COMMENT ON COLUMN form.recorded_at IS 'time at which it was imported, released or last read from the log';
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE adaptive_test, adaptive_session, item_exposure, adaptive_simulation")
