"""An answer that changes is seen: the log has revisions, what an answer was before is kept, and changes have a time.

The new columns have constant defaults, so that no row of the log is written again.
"""

from alembic import op

revision = "0040_attempt_corrections"
down_revision = "0039_learner_reports"
oldest_code = "0039_learner_reports"
carried = ("response_log.revision",)
"""Without what was corrected, which stops the way back, a revision says nothing."""


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE response_log ADD COLUMN revision bigint NOT NULL DEFAULT 0;
        COMMENT ON COLUMN response_log.revision IS 'of two rows with one attempt_id the higher one holds';
        COMMENT ON COLUMN response_log.recorded_at IS 'when it reached this database, or was last corrected';
        ALTER TABLE data_change ADD COLUMN changed_at timestamptz NOT NULL DEFAULT '-infinity';
        ALTER TABLE data_change ALTER COLUMN changed_at SET DEFAULT now();
        COMMENT ON COLUMN data_change.changed_at IS 'when, the last time; -infinity: before that was noted';

        CREATE TABLE attempt_correction (
            LIKE response_log INCLUDING COMMENTS,
            correction_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            how text NOT NULL,
            corrected_by text NOT NULL,
            reason text NOT NULL,
            corrected_at timestamptz NOT NULL DEFAULT now()
        );
        COMMENT ON TABLE attempt_correction IS
            'What an answer was before it was corrected or withdrawn: its former row, and who changed it, when and '
            'why.';
        COMMENT ON COLUMN attempt_correction.correction_id IS 'order of correction';
        COMMENT ON COLUMN attempt_correction.how IS
            'import, rescore, withdraw, or double: another row with the id stayed';
        COMMENT ON COLUMN attempt_correction.corrected_by IS
            'who; of an import or a double, the role of the database';
        COMMENT ON COLUMN attempt_correction.reason IS 'why; of an import, the file';
        COMMENT ON COLUMN attempt_correction.corrected_at IS 'when';
        CREATE INDEX attempt_correction_attempt ON attempt_correction (attempt_id);
        CREATE INDEX attempt_correction_at ON attempt_correction (corrected_at);
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE attempt_correction;
        ALTER TABLE data_change DROP COLUMN changed_at;
        ALTER TABLE response_log DROP COLUMN revision;
        COMMENT ON COLUMN response_log.recorded_at IS 'when it reached this database';
        """
    )
