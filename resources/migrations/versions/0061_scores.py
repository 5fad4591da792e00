"""Score tables of forms, and the scores that were handed out.

A downgrade keeps the comments, as no code reads them.
"""

from alembic import op

revision = "0061_scores"
down_revision = "0060_item_analysis"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE score_table (
            table_id BIGINT GENERATED ALWAYS AS IDENTITY,
            scale_id TEXT NOT NULL,
            form_id TEXT NOT NULL,
            month TEXT NOT NULL,
            method TEXT NOT NULL,
            set_hash TEXT NOT NULL,
            spec JSONB NOT NULL,
            scores JSONB NOT NULL,
            table_hash TEXT NOT NULL,
            code_version TEXT NOT NULL,
            run_id TEXT,
            made_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (table_id)
        );
        CREATE INDEX score_table_form ON score_table (scale_id, form_id, month);
        COMMENT ON TABLE score_table IS
            'Score tables of forms: θ, scaled score, percentile and pass of each raw score. Append-only.';
        COMMENT ON COLUMN score_table.table_id IS 'number of the table, in order';
        COMMENT ON COLUMN score_table.scale_id IS 'scale';
        COMMENT ON COLUMN score_table.form_id IS 'form';
        COMMENT ON COLUMN score_table.month IS 'month whose published values and learners the table uses';
        COMMENT ON COLUMN score_table.method IS 'eap, test-curve or normalised; or the equating that was chosen';
        COMMENT ON COLUMN score_table.set_hash IS 'hash of the published set';
        COMMENT ON COLUMN score_table.spec IS
            'rules of the reported scale, pass mark, number of learners, and equating';
        COMMENT ON COLUMN score_table.scores IS
            'for each raw score, from 0: its scores and their errors, and whether it passes';
        COMMENT ON COLUMN score_table.table_hash IS 'hash of the form''s items, the specification and the scores';
        COMMENT ON COLUMN score_table.code_version IS 'version of this code';
        COMMENT ON COLUMN score_table.run_id IS 'Dagster run that made it';
        COMMENT ON COLUMN score_table.made_at IS 'time at which it was made';
        CREATE TABLE issued_score (
            issued_id BIGINT GENERATED ALWAYS AS IDENTITY,
            user_id TEXT NOT NULL,
            scale_id TEXT NOT NULL,
            form_id TEXT NOT NULL,
            session_id TEXT NOT NULL,
            sat_at TIMESTAMP WITH TIME ZONE NOT NULL,
            raw INTEGER,
            theta DOUBLE PRECISION NOT NULL,
            theta_se DOUBLE PRECISION NOT NULL,
            scaled DOUBLE PRECISION NOT NULL,
            scaled_se DOUBLE PRECISION NOT NULL,
            percentile DOUBLE PRECISION,
            passes BOOLEAN,
            pass_probability DOUBLE PRECISION,
            table_id BIGINT,
            set_hash TEXT NOT NULL,
            status TEXT NOT NULL,
            replaces BIGINT,
            decided_by TEXT NOT NULL,
            reason TEXT NOT NULL,
            issued_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
            PRIMARY KEY (issued_id)
        );
        CREATE INDEX issued_score_form ON issued_score (scale_id, form_id, issued_id);
        CREATE INDEX issued_score_learner ON issued_score (user_id, scale_id, issued_id);
        COMMENT ON TABLE issued_score IS
            'Scores that were handed out, by sitting. A newer row replaces an older one, which stays. Append-'
            'only.';
        COMMENT ON COLUMN issued_score.issued_id IS 'number of the row, in order';
        COMMENT ON COLUMN issued_score.user_id IS 'learner';
        COMMENT ON COLUMN issued_score.scale_id IS 'scale';
        COMMENT ON COLUMN issued_score.form_id IS 'form';
        COMMENT ON COLUMN issued_score.session_id IS 'session; empty if the log has no session';
        COMMENT ON COLUMN issued_score.sat_at IS 'time of the sitting''s last answer';
        COMMENT ON COLUMN issued_score.raw IS 'raw score; null: scored by θ';
        COMMENT ON COLUMN issued_score.theta IS 'ability';
        COMMENT ON COLUMN issued_score.theta_se IS
            'standard error of θ, with the errors of the items if scored by θ';
        COMMENT ON COLUMN issued_score.scaled IS 'reported score';
        COMMENT ON COLUMN issued_score.scaled_se IS 'standard error of the reported score';
        COMMENT ON COLUMN issued_score.percentile IS 'percentile rank in the norm group; null: there is no norm group';
        COMMENT ON COLUMN issued_score.passes IS 'whether the learner passes; null: no pass mark';
        COMMENT ON COLUMN issued_score.pass_probability IS
            'probability that the learner''s true θ reaches the pass mark';
        COMMENT ON COLUMN issued_score.table_id IS 'score table; null: scored by θ';
        COMMENT ON COLUMN issued_score.set_hash IS 'hash of the published set';
        COMMENT ON COLUMN issued_score.status IS 'issued, held (not handed out), or invalid (does not count)';
        COMMENT ON COLUMN issued_score.replaces IS 'row that this one replaces';
        COMMENT ON COLUMN issued_score.decided_by IS 'person who decided';
        COMMENT ON COLUMN issued_score.reason IS 'reason';
        COMMENT ON COLUMN issued_score.issued_at IS 'time of the decision';
        COMMENT ON TABLE scale_decision IS
            'Decisions on a scale''s model, priors, movement, guessing, misfit, rules and pass mark, on keys of'
            ' its items, and on score tables of its forms. Append-only.';
        COMMENT ON COLUMN scale_decision.subject IS
            'model, prior_a, prior_b, prior_c, occasions, ability_variance, ability_growth, occasion_variance, '
            'guessing, misfit, the name of a rule, standard, or key: and an item, scores: and a form, or '
            'equating: and a form';
        COMMENT ON COLUMN scale_decision.value IS
            'the model; a prior, such as lognormal(0, 0.5), or none; for a rule of movement, a number or auto; '
            'for guessing, accepted; for misfit, accepted or reference; for a rule, its value as JSON; for a '
            'key, the former key, the new one, and the decision that is undone, as JSON; for score tables, '
            'equating and pass marks, a JSON object';
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE issued_score, score_table")
