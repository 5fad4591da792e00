"""Where answers came from is kept: what each file, and each minute of posts, brought, and which rows were refused."""

from alembic import op

revision = "0044_intake"
down_revision = "0043_server_setting"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE response_log ADD COLUMN sent_at timestamptz;
        COMMENT ON COLUMN response_log.sent_at IS
            'completed_at as it was sent, where the sender''s clock was ahead; null: as it is';
        ALTER TABLE attempt_correction ADD COLUMN sent_at timestamptz;
        COMMENT ON COLUMN attempt_correction.sent_at IS
            'completed_at as it was sent, where the sender''s clock was ahead; null: as it is';
        CREATE TABLE intake (
            source text NOT NULL, kind text NOT NULL, arrived_at timestamptz NOT NULL, writer integer NOT NULL,
            read bigint NOT NULL, accepted bigint NOT NULL, corrected bigint NOT NULL, duplicates bigint NOT NULL,
            clock_ahead bigint NOT NULL, rejected jsonb NOT NULL, latest timestamptz,
            PRIMARY KEY (source, kind, arrived_at, writer));
        CREATE INDEX intake_arrived ON intake (arrived_at);
        COMMENT ON TABLE intake IS 'What came into the log: each import, and each minute of posts.';
        COMMENT ON COLUMN intake.source IS 'the file, or who posted: service (the static token) or a JWT''s sub';
        COMMENT ON COLUMN intake.kind IS 'file or http';
        COMMENT ON COLUMN intake.arrived_at IS 'when; of posts, the minute';
        COMMENT ON COLUMN intake.writer IS 'process of the database that wrote it, so that none waits for another';
        COMMENT ON COLUMN intake.read IS 'rows that came';
        COMMENT ON COLUMN intake.accepted IS 'rows that were new';
        COMMENT ON COLUMN intake.corrected IS 'rows that replaced an answer by a higher revision';
        COMMENT ON COLUMN intake.duplicates IS 'rows that were known';
        COMMENT ON COLUMN intake.clock_ahead IS 'rows accepted whose clock was up to five minutes ahead';
        COMMENT ON COLUMN intake.rejected IS 'rows that were refused, by reason';
        COMMENT ON COLUMN intake.latest IS 'the latest completed_at that came';
        CREATE TABLE intake_reject (
            reject_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source text NOT NULL, kind text NOT NULL,
            arrived_at timestamptz NOT NULL DEFAULT now(), line bigint NOT NULL, reason text NOT NULL,
            value text NOT NULL, "row" text NOT NULL);
        CREATE INDEX intake_reject_source ON intake_reject (source, arrived_at);
        COMMENT ON TABLE intake_reject IS
            'Rows that were refused: at most 10,000 a source and day, for 30 days, without those of erased learners.';
        COMMENT ON COLUMN intake_reject.reject_id IS 'order of refusal';
        COMMENT ON COLUMN intake_reject.source IS 'the file, or who posted';
        COMMENT ON COLUMN intake_reject.kind IS 'file or http';
        COMMENT ON COLUMN intake_reject.arrived_at IS 'when';
        COMMENT ON COLUMN intake_reject.line IS 'line of the file, or place in the post, from 1';
        COMMENT ON COLUMN intake_reject.reason IS 'why it was refused';
        COMMENT ON COLUMN intake_reject.value IS 'the value that is the reason';
        COMMENT ON COLUMN intake_reject."row" IS 'the row as it came';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE intake_reject;
        DROP TABLE intake;
        ALTER TABLE attempt_correction DROP COLUMN sent_at;
        ALTER TABLE response_log DROP COLUMN sent_at;
        """
    )
