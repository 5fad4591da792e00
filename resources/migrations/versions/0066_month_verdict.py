"""Keep the results of a month's set gates beside its publication step, and the steps as a view of these rows.

Rows of before have no results: Dagster's event log had them. Such a month has the state of its step until it is judged
again. Code of before writes steps through the view.
"""

from alembic import op

revision = "0066_month_verdict"
down_revision = "0065_begun_files"
oldest_code = "0057_verdict_state"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE publication_step RENAME TO month_verdict;
        ALTER INDEX publication_step_pkey RENAME TO month_verdict_pkey;
        ALTER TABLE month_verdict
            ADD COLUMN snapshot_hash TEXT,
            ADD COLUMN gates JSONB,
            ALTER COLUMN state DROP NOT NULL,
            ALTER COLUMN why SET DEFAULT '',
            ALTER COLUMN stepped_at DROP NOT NULL;
        COMMENT ON TABLE month_verdict IS
            'Verdict on each month of a scale: results of its set gates, and its publication step if it has run.';
        COMMENT ON COLUMN month_verdict.fit_id IS 'linked fit that the publication step judged';
        COMMENT ON COLUMN month_verdict.snapshot_hash IS 'file of the month''s answers when gates were judged last';
        COMMENT ON COLUMN month_verdict.gates IS
            'gate → asset, passed, why, details, and the fit and rules with which it was judged; null: earlier '
            'releases kept no results';
        COMMENT ON COLUMN month_verdict.state IS
            'done, pending (an earlier month is not settled) or held (a set gate failed); null: no step';
        CREATE VIEW publication_step AS
            SELECT month, scale_id, fit_id, state, n_published, n_proposed, n_held, held, why, settled_at, run_id,
                   stepped_at
            FROM month_verdict WHERE state IS NOT NULL;
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP VIEW publication_step;
        DELETE FROM month_verdict WHERE state IS NULL;
        ALTER TABLE month_verdict
            DROP COLUMN snapshot_hash,
            DROP COLUMN gates,
            ALTER COLUMN state SET NOT NULL,
            ALTER COLUMN why DROP DEFAULT,
            ALTER COLUMN stepped_at SET NOT NULL;
        ALTER INDEX month_verdict_pkey RENAME TO publication_step_pkey;
        ALTER TABLE month_verdict RENAME TO publication_step;
        COMMENT ON TABLE publication_step IS 'State of the publication of each month of a scale.';
        COMMENT ON COLUMN publication_step.fit_id IS 'linked fit that was checked';
        COMMENT ON COLUMN publication_step.state IS
            'done, pending (an earlier month is not settled) or held (a set gate failed)';
        """
    )
