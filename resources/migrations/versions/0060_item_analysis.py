"""Forms, item analysis, evidence against keys, and decisions on keys and rules.

A downgrade keeps the comments, as no code reads them.
"""

from alembic import op

revision = "0060_item_analysis"
down_revision = "0059_clearer_comments"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE form (
            form_id text NOT NULL,
            source text NOT NULL,
            recorded_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (form_id));
        COMMENT ON TABLE form IS 'Forms of tests: fixed lists of items in a fixed order.';
        COMMENT ON COLUMN form.form_id IS 'form';
        COMMENT ON COLUMN form.source IS 'file: imported; log: all sessions of the form in the log agree on it';
        COMMENT ON COLUMN form.recorded_at IS 'time at which it was imported or last read from the log';
        CREATE TABLE form_item (
            form_id text NOT NULL,
            item_id text NOT NULL,
            position integer NOT NULL,
            max_score smallint NOT NULL DEFAULT 1,
            scored boolean NOT NULL DEFAULT true,
            PRIMARY KEY (form_id, item_id));
        COMMENT ON TABLE form_item IS 'Items of forms.';
        COMMENT ON COLUMN form_item.form_id IS 'form';
        COMMENT ON COLUMN form_item.item_id IS 'item';
        COMMENT ON COLUMN form_item.position IS 'place of the item in the form, from 1';
        COMMENT ON COLUMN form_item.max_score IS 'maximum score';
        COMMENT ON COLUMN form_item.scored IS 'whether the item counts towards the score of the form';
        CREATE TABLE item_analysis (
            scale_id text NOT NULL,
            period text NOT NULL,
            form_id text NOT NULL,
            item_id text NOT NULL,
            n integer NOT NULL,
            statistics jsonb NOT NULL,
            computed_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (scale_id, period, form_id, item_id));
        COMMENT ON TABLE item_analysis IS
            'Item analysis by classical test theory, for each form and item of a month or a day.';
        COMMENT ON COLUMN item_analysis.scale_id IS 'scale';
        COMMENT ON COLUMN item_analysis.period IS 'month (2026-09) or day (2026-09-14), UTC';
        COMMENT ON COLUMN item_analysis.form_id IS 'form; empty: all answers of the period';
        COMMENT ON COLUMN item_analysis.item_id IS 'item; empty: the row of the form as a whole';
        COMMENT ON COLUMN item_analysis.n IS 'number of learners with a score';
        COMMENT ON COLUMN item_analysis.statistics IS
            'statistics of the item with its options, or of the form; missing: not known';
        COMMENT ON COLUMN item_analysis.computed_at IS 'time of the analysis';
        CREATE TABLE key_evidence (
            item_id text NOT NULL,
            day date NOT NULL,
            key text NOT NULL,
            n integer NOT NULL,
            e_value double precision NOT NULL,
            option text,
            state jsonb NOT NULL,
            PRIMARY KEY (item_id, day));
        COMMENT ON TABLE key_evidence IS
            'Test martingale of each item in a calendar year, as of the end of a day: evidence against its key.';
        COMMENT ON COLUMN key_evidence.item_id IS 'item';
        COMMENT ON COLUMN key_evidence.day IS 'last day (UTC) whose answers count';
        COMMENT ON COLUMN key_evidence.key IS 'key that the evidence is against';
        COMMENT ON COLUMN key_evidence.n IS 'number of answers in the year that count';
        COMMENT ON COLUMN key_evidence.e_value IS
            'evidence that another option is right; a right key reaches 1,000 in a year with probability 0.001 at most';
        COMMENT ON COLUMN key_evidence.option IS 'option for which the evidence is strongest';
        COMMENT ON COLUMN key_evidence.state IS 'state from which the next day''s answers go on';
        COMMENT ON TABLE scale_decision IS
            'Decisions on a scale''s model, priors, movement, guessing, misfit and rules, and on keys of '
            'its items. Append-only.';
        COMMENT ON COLUMN question.meta IS
            'tags (e.g. "anchor"), irt {a, b, c, a_se, b_se, c_se, cov_ab, n, D, model, max_score, block}, '
            'key (an option, a list of right options, true: every answer gets credit, or []: not scored)';
        COMMENT ON COLUMN response_log.mode IS 'live, sandbox, or dropped (the item is not scored)';
        COMMENT ON COLUMN attempt_correction.mode IS 'live, sandbox, or dropped (the item is not scored)';
        COMMENT ON COLUMN scale_decision.subject IS
            'model, prior_a, prior_b, prior_c, occasions, ability_variance, ability_growth, '
            'occasion_variance, guessing, misfit, the name of a rule, or key: and an item';
        COMMENT ON COLUMN scale_decision.value IS
            'the model; a prior, such as lognormal(0, 0.5), or none; for a rule of movement, a number or '
            'auto; for guessing, accepted; for misfit, accepted or reference; for a rule, its value as '
            'JSON; for a key, the former key, the new one, and the decision that is undone, as JSON';
        """
    )


def downgrade() -> None:
    op.execute("DROP TABLE key_evidence, item_analysis, form_item, form")
