"""Files of an inbox are known by path, size, time or ETag and hash, and how far each was taken."""

from alembic import op

revision = "0045_inbox"
down_revision = "0044_intake"
oldest_code = "0039_learner_reports"


def upgrade() -> None:
    op.execute(
        """
        CREATE TABLE inbox_file (
            path text PRIMARY KEY, size bigint NOT NULL, version text NOT NULL,
            seen_at timestamptz NOT NULL DEFAULT now(), last_line bigint NOT NULL DEFAULT 0, taken_at timestamptz,
            sha256 text, problem text, options text);
        COMMENT ON TABLE inbox_file IS 'The files of the inbox, and what became of each.';
        COMMENT ON COLUMN inbox_file.path IS 'the file, or the address of the object';
        COMMENT ON COLUMN inbox_file.size IS 'its bytes';
        COMMENT ON COLUMN inbox_file.version IS 'its times, or its ETag: another one once it was written again';
        COMMENT ON COLUMN inbox_file.seen_at IS 'since when it has this size and version';
        COMMENT ON COLUMN inbox_file.last_line IS 'up to this line it was taken';
        COMMENT ON COLUMN inbox_file.taken_at IS 'when all of it was taken; null: it was not yet';
        COMMENT ON COLUMN inbox_file.sha256 IS 'hash of what was taken, unpacked';
        COMMENT ON COLUMN inbox_file.problem IS 'why it was set aside; null: it was not';
        COMMENT ON COLUMN inbox_file.options IS 'version of the options with which it was set aside';
        COMMENT ON COLUMN intake.kind IS 'file, inbox, pull or http; question, learner: a file of these';
        COMMENT ON COLUMN intake_reject.kind IS 'as in intake';
        """
    )


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE inbox_file;
        COMMENT ON COLUMN intake.kind IS 'file or http';
        COMMENT ON COLUMN intake_reject.kind IS 'file or http';
        """
    )
