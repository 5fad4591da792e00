"""Let issued scores have no θ: scores that come from raw scores, without published values.

Code of before reads and writes scores with θ.
"""

from alembic import op

revision = "0068_scores_without_theta"
down_revision = "0067_decision"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE issued_score ALTER COLUMN theta DROP NOT NULL, ALTER COLUMN theta_se DROP NOT NULL;
        COMMENT ON COLUMN score_table.method IS
            'rule score_by (eap, test-curve, normalised, raw, percent or percentile); or the equating that was chosen';
        COMMENT ON COLUMN score_table.set_hash IS 'hash of the published set; empty: no published values are needed';
        COMMENT ON COLUMN issued_score.theta IS 'ability; null: the score comes from the raw score alone';
        COMMENT ON COLUMN issued_score.theta_se IS
            'standard error of θ, with the errors of the items if scored by θ; null: there is no θ';
        COMMENT ON COLUMN issued_score.pass_probability IS
            'probability that the learner''s true θ or, without θ, true score reaches the pass mark';
        COMMENT ON COLUMN issued_score.set_hash IS
            'hash of the published set; empty: no published values are needed';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        UPDATE issued_score SET theta = 'NaN' WHERE theta IS NULL;
        UPDATE issued_score SET theta_se = 'NaN' WHERE theta_se IS NULL;
        ALTER TABLE issued_score ALTER COLUMN theta SET NOT NULL, ALTER COLUMN theta_se SET NOT NULL;
        """
    )
